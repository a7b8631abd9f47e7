//! Counters in Redis, shared by all replicas.
//!
//! A call takes with one script and one round trip ([`take`]). What must be told later waits in a queue ([`account`]) for
//! the keeper ([`keeper`]), the one task that speaks with Redis between calls: it settles, shows that this replica lives,
//! ends those that do not, and when Redis is away looks for it. Meanwhile this replica admits its share of what was left
//! ([`seen`]) and counts by itself; afterwards the keeper tells Redis of it.

mod account;
mod close;
mod connect;
mod keeper;
mod pack;
mod patience;
mod rebuild;
mod scripts;
mod seen;
mod take;
mod tell;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use redis::Cmd;

pub(super) use self::{account::Account, rebuild::Rebuilding};
use self::{
    account::{Accounts, Entry, Epoch},
    connect::{Connector, Link},
    keeper::{Keeper, Notes},
    pack::Pack,
    patience::Patience,
    scripts::{Answer, READ, Script},
    seen::Seen,
};
use super::{
    CounterId, Full, Level, SharedError, Spent, Window,
    history::{History, Past},
    memory::{MAX_COUNTERS, Memory},
    settings::RedisSettings,
};
use crate::{
    telemetry::Metrics,
    types::{Clock, Tasks},
};

/// How long the start waits to see whether Redis is there.
const FIRST_LOOK: Duration = Duration::from_millis(1_500);

/// Who waits for something remembered has better things to do than wait.
const RECALL: Duration = Duration::from_millis(20);

/// Without a sign of life for this long, a replica is dead, and what it held is given back. It gives four of them meanwhile.
pub(super) const LEASE: Duration = Duration::from_secs(20);

/// What keys hold has changed so often, and they are named anew with each: gateways of another layout count apart, and the
/// counters of a new one are rebuilt from the ledger.
const LAYOUT: u32 = 2;

/// Failures in a row after which Redis is taken to be away.
const FAILURES: u32 = 3;

/// How this replica stands with Redis; its number is the metric's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It does not answer.
    Away = 0,
    /// It answers, and its counters are lost.
    Empty = 1,
    /// It is being told what happened without it.
    Joining = 2,
    Up = 3,
}

/// Counters in Redis.
#[derive(Debug)]
pub(super) struct Redis {
    clock: Clock,
    timeout: Duration,
    lease: Duration,
    /// What all keys begin with: a hash tag, so that a cluster has all of them on one node.
    prefix: String,
    epoch_key: Vec<u8>,
    /// Names this process. Its holds are under this name.
    session: String,
    connector: Connector,
    /// For calls; the keeper has its own.
    link: ArcSwapOption<Link>,
    standing: AtomicU8,
    /// Why Redis is away, if it is.
    why: ArcSwapOption<String>,
    /// Since when this replica counts by itself, if it does; in Unix milliseconds.
    alone_since: AtomicU64,
    patience: Patience,
    failures: AtomicU32,
    epoch: ArcSwapOption<Epoch>,
    /// Redis's clock less this process's, in milliseconds.
    offset: AtomicI64,
    /// Until when, by Redis's clock, this replica counts as living. Beyond that nothing is taken.
    lease_ends: AtomicU64,
    replicas: AtomicU32,
    pub(super) history: History,
    /// What this replica counts by itself.
    local: Memory,
    seen: Seen,
    /// Something was counted here that Redis must be told of.
    dirty: AtomicBool,
    /// A rebuilding was given up, and its lock is to be given back.
    left: AtomicBool,
    accounts: Accounts,
    notes: Mutex<Notes>,
    metrics: Arc<Metrics>,
}

impl Redis {
    /// Connects, if Redis is there, and starts the keeper.
    ///
    /// # Errors
    /// When the settings cannot be used. A Redis that is away is no error.
    pub(super) async fn start(
        settings: &RedisSettings,
        lease: Duration,
        clock: Clock,
        tasks: &Tasks,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, SharedError> {
        let prefix = format!("{{{}}}:{LAYOUT}:", settings.prefix);
        let redis = Arc::new(Self {
            timeout: settings.timeout.0,
            lease,
            epoch_key: format!("{prefix}epoch").into_bytes(),
            prefix,
            session: format!("{:016x}", fastrand::u64(..)),
            connector: Connector::new(settings)?,
            link: ArcSwapOption::empty(),
            standing: AtomicU8::new(Standing::Away as u8),
            why: ArcSwapOption::empty(),
            alone_since: AtomicU64::new(clock.unix_millis()),
            patience: Patience::new(clock.clone()),
            failures: AtomicU32::new(0),
            epoch: ArcSwapOption::empty(),
            offset: AtomicI64::new(0),
            lease_ends: AtomicU64::new(0),
            replicas: AtomicU32::new(1),
            history: History::new(Past::Lost),
            local: Memory::new(clock.clone(), MAX_COUNTERS, metrics.quota_counters_shared.clone()),
            seen: Seen::new(),
            dirty: AtomicBool::new(false),
            left: AtomicBool::new(false),
            accounts: Accounts::new(metrics.quota_settlements_waiting.clone()),
            notes: Mutex::default(),
            metrics,
            clock,
        });
        let (keeper, looked) = Keeper::new(redis.clone(), settings.place());
        tasks.spawn(keeper.run(tasks.stopping()));
        let deadline = redis.clock.now() + FIRST_LOOK;
        let _ = redis.clock.timeout_at(deadline, looked).await;
        Ok(redis)
    }

    pub(super) fn standing(&self) -> Standing {
        match self.standing.load(Relaxed) {
            1 => Standing::Empty,
            2 => Standing::Joining,
            3 => Standing::Up,
            _ => Standing::Away,
        }
    }

    /// Why Redis is away, as the log has it, if it is.
    pub(super) fn why_away(&self) -> Option<Arc<String>> {
        self.why.load_full()
    }

    fn stand(&self, standing: Standing) {
        let before = self.standing.swap(standing as u8, Relaxed);
        if before == Standing::Up as u8 && standing != Standing::Up && self.failures.load(Relaxed) == 0 {
            self.alone(self.clock.now());
        }
        self.metrics.redis_up.set(i64::from(standing == Standing::Up));
    }

    /// From the call on that asked at this moment, this replica counts by itself.
    fn alone(&self, asked: Instant) {
        let ago = millis(self.clock.now().saturating_duration_since(asked));
        self.alone_since.store(self.clock.unix_millis().saturating_sub(ago), Relaxed);
    }

    /// How many replicas showed that they live when this one last asked.
    pub(super) fn replicas(&self) -> u32 {
        self.replicas.load(Relaxed).max(1)
    }

    /// A new hold's account.
    ///
    /// # Errors
    /// [`Full`] when as many calls hold something or wait to be settled as may.
    pub(super) fn open(&self) -> Result<Arc<Account>, Full> {
        self.accounts.open()
    }

    /// Redis's time, as far as this process can tell.
    fn server_now(&self) -> u64 {
        self.local.now().steady.saturating_add_signed(self.offset.load(Relaxed))
    }

    /// Notes what a script said of the time.
    fn heard(&self, answer: &Answer) {
        let (theirs, ours) = (answer.now.cast_signed(), self.local.now().steady.cast_signed());
        self.offset.store(theirs.saturating_sub(ours), Relaxed);
        self.patience.heard();
        self.failures.store(0, Relaxed);
    }

    /// Notes that Redis did not answer, or not as it should. After some of these in a row nobody asks any more.
    fn failed(&self, asked: Instant, why: &str) {
        self.metrics.redis_failures.inc();
        let failures = self.failures.fetch_add(1, Relaxed) + 1;
        if failures == 1 && self.standing() == Standing::Up {
            self.alone(asked);
        }
        tracing::debug!("Redis: {why}");
        if failures >= FAILURES && self.standing() == Standing::Up {
            self.stand(Standing::Away);
            self.accounts.wake.notify_one();
        }
    }

    /// Runs a script for a call. `None`: no answer in time, which is noted.
    async fn ask(&self, script: &Script, keys: &[&[u8]], arguments: &[&[u8]]) -> Option<Answer> {
        let link = self.link.load_full()?;
        let mut link = Link::clone(&link);
        let asked = self.clock.now();
        let outcome = self.patience.wait(self.timeout, script.run(&mut link, keys, arguments)).await;
        match outcome {
            Ok(Ok(value)) => {
                let answer = Answer::of(value);
                match &answer {
                    Some(answer) => self.heard(answer),
                    None => self.failed(asked, "an answer that no script of ours gives"),
                }
                answer
            }
            Ok(Err(error)) => {
                self.failed(asked, &connect::say(&error));
                None
            }
            Err(_) => {
                self.failed(asked, "no answer in time");
                None
            }
        }
    }

    pub(super) async fn read(&self, counters: &[(CounterId, Window)]) -> Vec<Level> {
        if self.standing() == Standing::Up {
            let mut pack = Pack::new(64 + counters.len() * 28);
            pack.text(&self.prefix);
            for (id, window) in counters {
                pack.counter(*id, *window);
            }
            if let Some(answer) = self.ask(&READ, &[&self.epoch_key], &[&pack.finish()]).await {
                let level = |index: usize| Level {
                    used: answer.amount(index * 2),
                    resets_in: Duration::from_millis(answer.amount(index * 2 + 1)),
                };
                return (0..counters.len()).map(level).collect();
            }
        }
        let now = self.local.now().steady;
        let mut levels = self.local.read(counters);
        for (level, (id, window)) in levels.iter_mut().zip(counters) {
            level.used = level.used.saturating_add(self.seen.used(*id, *window, now));
        }
        levels
    }

    /// Counted here first, and told to Redis by the keeper.
    pub(super) fn add(&self, amounts: &[(CounterId, Window, u64)]) {
        self.local.add(amounts);
        self.dirty.store(true, Relaxed);
        self.accounts.wake.notify_one();
    }

    /// As [`Redis::add`], each at its moment.
    pub(super) fn add_past(&self, spent: &[Spent]) {
        self.local.add_past(spent);
        self.dirty.store(true, Relaxed);
        self.accounts.wake.notify_one();
    }

    /// Gives back what `account` holds of `counters`.
    pub(super) fn release(&self, account: &Arc<Account>, counters: &[CounterId]) {
        let mut state = account.state();
        let gone = |id: &CounterId| counters.contains(id);
        self.local.end(state.local.extract_if(.., |held| gone(&held.id)), &[]);
        self.local.end(state.mirror.extract_if(.., |held| gone(&held.id)), &[]);
        let mut due = false;
        for record in &mut state.records {
            record.returning.extend(record.entries.extract_if(.., |entry| gone(&entry.id)));
            due |= !record.returning.is_empty();
        }
        if due {
            self.accounts.queue(account, &mut state);
        }
    }

    /// Ends what `account` holds: of each counter `actual` was consumed.
    pub(super) fn end(&self, account: &Arc<Account>, actual: &[(CounterId, u64)]) {
        let mut state = account.state();
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        let here = state.divide(actual);
        if !state.local.is_empty() {
            self.dirty.store(true, Relaxed);
            self.accounts.wake.notify_one();
        }
        self.local.end(state.local.drain(..), &here);
        self.local.end(state.mirror.drain(..), &[]);
        if state.records.is_empty() {
            self.accounts.close(account, &mut state);
        } else {
            self.accounts.queue(account, &mut state);
        }
    }

    /// Whether this is the first replica to say `name` within `ttl`. Alone, each replica may be.
    pub(super) async fn once(&self, name: &str, ttl: Duration) -> bool {
        if self.standing() == Standing::Up {
            let mut command = Cmd::new();
            command.arg("SET").arg(format!("{}o:{name}", self.prefix)).arg("").arg("NX").arg("PX").arg(millis(ttl));
            if let Some(answer) = self.tell(&command).await {
                return answer != redis::Value::Nil;
            }
        }
        self.local.once(name, ttl)
    }

    pub(super) fn remember(&self, key: &str, value: Bytes, ttl: Duration) {
        let mut notes = self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        notes.add(format!("{}r:{key}", self.prefix), value, millis(ttl));
        drop(notes);
        self.accounts.wake.notify_one();
    }

    pub(super) async fn recall(&self, keys: &[String]) -> Vec<Option<Bytes>> {
        let mut found = None;
        if self.standing() == Standing::Up && !keys.is_empty() {
            let mut command = Cmd::new();
            command.arg("MGET");
            for key in keys {
                command.arg(format!("{}r:{key}", self.prefix));
            }
            // Who has less patience than others does not judge for them.
            let deadline = self.clock.now() + RECALL.min(self.timeout);
            found = self.clock.timeout_at(deadline, self.tell(&command)).await.unwrap_or_else(|_| {
                self.metrics.redis_failures.inc();
                None
            });
        }
        match found {
            Some(redis::Value::Array(values)) if values.len() == keys.len() => {
                let value = |value| match value {
                    redis::Value::BulkString(value) => Some(value.into()),
                    _ => None,
                };
                values.into_iter().map(value).collect()
            }
            _ => vec![None; keys.len()],
        }
    }

    /// Runs a command for a call. `None`: no answer in time, which is noted.
    async fn tell(&self, command: &Cmd) -> Option<redis::Value> {
        use redis::aio::ConnectionLike;

        let link = self.link.load_full()?;
        let mut link = Link::clone(&link);
        let asked = self.clock.now();
        match self.patience.wait(self.timeout, link.req_packed_command(command)).await {
            Ok(Ok(value)) => {
                self.patience.heard();
                self.failures.store(0, Relaxed);
                value.extract_error().ok()
            }
            Ok(Err(error)) => {
                self.failed(asked, &connect::say(&error));
                None
            }
            Err(_) => {
                self.failed(asked, "no answer in time");
                None
            }
        }
    }

    /// Names this process among replicas.
    #[cfg(test)]
    pub(super) fn session(&self) -> &str {
        &self.session
    }

    /// Counters that this process keeps.
    pub(super) fn counters(&self) -> usize {
        self.local.len()
    }
}

fn millis(period: Duration) -> u64 {
    u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The width of a rolling window's buckets, as scripts have it.
fn bucket_width(millis: u64) -> u64 {
    millis.max(1).div_ceil(60)
}

/// What was spent, for a script: each with its age.
fn pack_spent(pack: &mut Pack, spent: &[Spent], now: u64) {
    for spent in spent {
        pack.counter(spent.counter, spent.window).number(spent.amount).number(now.saturating_sub(spent.at));
    }
}
