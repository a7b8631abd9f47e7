//! The keeper: the one task that speaks with Redis between calls, and decides how this replica stands with it.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    Redis, Standing,
    account::Epoch,
    connect::{Link, say},
    pack::Pack,
    scripts::{Answer, BEAT},
    tell::{Push, Untold},
};
use crate::shared::history::Past;

/// How long the keeper waits for an answer; calls wait less.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How often a Redis that is away is looked for, and one that has lost its counters is asked for an epoch.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Answers of which one must be in time: on a machine without a moment to spare, one or another is not.
const LOOKS: usize = 3;

/// What is put off, because a lost command may still arrive, is tried again after this.
const AGAIN: Duration = Duration::from_millis(20);

/// How long the end of the process waits for what must still be told.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The end of dead replicas: as many runs of the script in a row.
const RUNS: usize = 16;

#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) redis: Arc<Redis>,
    /// Where Redis is, for the log.
    place: String,
    pub(super) link: Option<Link>,
    pub(super) pushes: VecDeque<Push>,
    /// Why Redis is away.
    pub(super) why: String,
    looked: Option<oneshot::Sender<()>>,
    looked_at: bool,
    /// How this replica stood with Redis when that was last said.
    said: Option<Standing>,
    beat_at: Instant,
}

/// What the epoch key says, and whether this replica was known.
struct Beat {
    epoch: Option<Epoch>,
    rebuilding: bool,
    known: bool,
}

impl Keeper {
    /// The keeper, and a future that ends when it has looked for Redis once.
    pub(super) fn new(redis: Arc<Redis>, place: String) -> (Self, oneshot::Receiver<()>) {
        let (sender, looked) = oneshot::channel();
        let beat_at = redis.clock.now();
        let (link, pushes, why) = (None, VecDeque::new(), String::new());
        (Self { redis, place, link, pushes, why, looked: Some(sender), looked_at: false, said: None, beat_at }, looked)
    }

    /// Keeps until it is told to stop, and then says the last words.
    pub(super) async fn run(mut self, stopping: CancellationToken) {
        while !stopping.is_cancelled() {
            let pause = self.turn().await;
            self.looked.take().map(|looked| looked.send(()));
            let clock = self.redis.clock.clone();
            tokio::select! {
                () = stopping.cancelled() => {}
                () = clock.sleep(pause) => {}
                () = self.redis.accounts.wake.notified(), if self.redis.standing() == Standing::Up => {}
            }
        }
        let deadline = self.redis.clock.now() + LAST_WORDS;
        let clock = self.redis.clock.clone();
        let _ = clock.timeout_at(deadline, self.leave()).await;
    }

    /// Does what is to be done, and says after which time there may be more.
    async fn turn(&mut self) -> Duration {
        if self.redis.left.swap(false, Relaxed) {
            let _ = self.redis.rebuild("leave", "").await;
        }
        let done = match self.redis.standing() {
            Standing::Away => self.look().await,
            Standing::Empty | Standing::Joining => self.ask().await,
            Standing::Up => self.serve().await,
        };
        match done {
            Ok(pause) => pause,
            Err(untold) => self.fell(untold),
        }
    }

    /// Looks for a Redis that is away.
    async fn look(&mut self) -> Result<Duration, Untold> {
        if self.said == Some(Standing::Up) {
            self.say(Standing::Away);
            self.redis.mirror_slots();
        }
        self.redis.link.store(None);
        self.link = None;
        let clock = self.redis.clock.clone();
        let deadline = clock.now() + 2 * PATIENCE;
        let opened = clock.timeout_at(deadline, async {
            Ok::<_, redis::RedisError>((self.redis.connector.open().await?, self.redis.connector.open().await?))
        });
        match opened.await {
            Ok(Ok((one, other))) => {
                self.link = Some(one);
                self.redis.link.store(Some(Arc::new(other)));
            }
            Ok(Err(error)) => {
                self.why = say(&error);
                return Err(Untold::Away);
            }
            Err(_) => {
                "no connection in time".clone_into(&mut self.why);
                return Err(Untold::Away);
            }
        }
        // The first time the script may have to be sent. What counts is how long the next take: calls would wait as long.
        self.beat(self.redis.lease).await?;
        for _ in 0..LOOKS {
            let before = clock.now();
            let beat = self.beat(self.redis.lease).await?;
            if clock.now().saturating_duration_since(before) <= self.redis.timeout {
                let pause = self.stand_by(beat).await?;
                self.look_at_the_server().await;
                return Ok(pause);
            }
        }
        "it answers too slowly".clone_into(&mut self.why);
        Err(Untold::Away)
    }

    /// Says once what of the server's own settings endangers counters. Who may not ask is not told.
    async fn look_at_the_server(&mut self) {
        let Some(link) = self.link.as_mut().filter(|_| !std::mem::replace(&mut self.looked_at, true)) else { return };
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg("maxmemory-policy");
        let clock = self.redis.clock.clone();
        let asked = clock.timeout_at(clock.now() + PATIENCE, command.query_async::<Vec<String>>(link)).await;
        if let Ok(Ok(answer)) = asked
            && let Some(policy) = evicts(&answer)
        {
            tracing::warn!(
                "Redis ({}) may evict counters (`maxmemory-policy` is {policy}), and a limit would then begin again: set \
                 it to noeviction",
                self.place
            );
        }
    }

    /// Asks a Redis that answers how it is.
    async fn ask(&mut self) -> Result<Duration, Untold> {
        let beat = self.beat(self.redis.lease).await?;
        self.stand_by(beat).await
    }

    /// Joins the others, if there is an epoch.
    async fn stand_by(&mut self, beat: Beat) -> Result<Duration, Untold> {
        let Some(epoch) = beat.epoch else {
            // Calls that ended while Redis was away are in the ledger, from which its counters will be rebuilt.
            if self.redis.epoch.swap(None).is_some() || self.redis.standing() == Standing::Away {
                self.forget_what_the_ledger_knows();
            }
            self.redis.stand(Standing::Empty);
            self.say(Standing::Empty);
            self.redis.history.set(if beat.rebuilding { Past::Rebuilding } else { Past::Lost });
            return Ok(ASK_EVERY);
        };
        if self.redis.epoch.load().as_ref().is_none_or(|known| **known != epoch) {
            self.other_epoch();
        }
        self.redis.stand(Standing::Joining);
        self.redis.epoch.store(Some(Arc::new(epoch.clone())));
        self.register(&epoch, !beat.known).await?;
        self.push().await?;
        self.redis.unmirror_slots();
        self.redis.failures.store(0, Relaxed);
        self.redis.stand(Standing::Up);
        self.redis.history.set(Past::Known);
        self.say(Standing::Up);
        // Calls that took here in the last moment are told of as well.
        self.redis.dirty.store(true, Relaxed);
        self.beat_at = self.redis.clock.now() + self.redis.lease / 4;
        Ok(Duration::ZERO)
    }

    /// The counters that this replica knew are gone, and others are there.
    fn other_epoch(&mut self) {
        if self.redis.epoch.swap(None).is_some() {
            self.forget_what_the_ledger_knows();
        }
    }

    /// Everything that is to be told.
    async fn serve(&mut self) -> Result<Duration, Untold> {
        if self.redis.clock.now() >= self.beat_at {
            let beat = self.beat(self.redis.lease).await?;
            let same = self.redis.epoch.load().as_ref().map(|epoch| Epoch::clone(epoch)) == beat.epoch;
            if !same || !beat.known {
                return self.stand_by(beat).await;
            }
        }
        let put_off = self.settle().await?;
        if self.redis.dirty.swap(false, Relaxed) {
            if let Some(epoch) = self.redis.epoch.load_full() {
                self.register(&epoch, false).await?;
            }
            self.push().await?;
        }
        self.remember().await;
        let until_beat = self.beat_at.saturating_duration_since(self.redis.clock.now());
        Ok(if put_off { AGAIN } else { until_beat })
    }

    /// Something could not be told.
    fn fell(&mut self, untold: Untold) -> Duration {
        self.redis.dirty.store(true, Relaxed);
        match untold {
            Untold::OtherEpoch => {
                self.redis.stand(Standing::Joining);
                Duration::ZERO
            }
            Untold::Away => {
                let was_up = self.said == Some(Standing::Up);
                self.redis.stand(Standing::Away);
                self.say(Standing::Away);
                if was_up {
                    self.redis.mirror_slots();
                }
                if !self.redis.history.is_known() {
                    self.redis.history.set(Past::Lost);
                }
                LOOK_EVERY
            }
        }
    }

    /// Shows that this replica lives, and ends those that do not.
    async fn beat(&mut self, lease: Duration) -> Result<Beat, Untold> {
        let mut known = None;
        let mut answer: Option<Answer> = None;
        for _ in 0..RUNS {
            let mut pack = Pack::new(96);
            let lease = if lease.is_zero() { 0 } else { super::millis(lease) };
            pack.text(&self.redis.prefix).text(&self.redis.session).number(lease);
            let heard = self.ask_for(&BEAT, &pack.finish()).await?;
            known.get_or_insert(heard.number(2) == 1);
            let more = heard.number(5) == 1;
            self.redis.metrics.quota_holds_returned.inc_by(heard.amount(4));
            answer = Some(heard);
            if !more {
                break;
            }
        }
        let Some(answer) = answer else { return Err(Untold::Away) };
        self.beat_at = self.redis.clock.now() + self.redis.lease / 4;
        self.redis.lease_ends.store(answer.now.saturating_add(super::millis(lease)), Relaxed);
        self.redis.replicas.store(u32::try_from(answer.number(3)).unwrap_or(1).max(1), Relaxed);
        self.redis.metrics.redis_replicas.set(answer.number(3));
        let text = |index: usize| std::str::from_utf8(answer.text(index)).unwrap_or_default();
        Ok(Beat {
            epoch: Some(text(0)).filter(|epoch| !epoch.is_empty()).map(Into::into),
            rebuilding: !text(1).is_empty(),
            known: known.unwrap_or_default(),
        })
    }

    /// Tells what is left, and that this replica goes.
    async fn leave(&mut self) {
        if self.redis.standing() != Standing::Up {
            return;
        }
        while self.redis.accounts.are_waiting() || self.redis.dirty.swap(false, Relaxed) {
            let Ok(put_off) = self.settle().await else { return };
            if self.push().await.is_err() {
                return;
            }
            if put_off {
                self.redis.clock.sleep(AGAIN).await;
            }
        }
        self.remember().await;
        // What is held still is given back when the lease ends.
        if self.redis.accounts.all().is_empty() {
            let _ = self.beat(Duration::ZERO).await;
        }
    }

    /// One line for each change.
    fn say(&mut self, standing: Standing) {
        if self.said.replace(standing) == Some(standing) {
            return;
        }
        let why = (standing == Standing::Away).then(|| Arc::new(self.why.clone()));
        self.redis.why.store(why);
        let place = &self.place;
        match standing {
            Standing::Away => tracing::warn!(
                "Redis ({place}) is away: {}. Quotas go on with this gateway's share of what was left",
                self.why
            ),
            Standing::Empty => tracing::warn!(
                "Redis ({place}) has no counters: it is new, or was flushed. They are rebuilt from the ledger"
            ),
            Standing::Joining => {}
            Standing::Up => tracing::info!("Redis ({place}) counts for {} gateways", self.redis.replicas()),
        }
    }
}

/// The policy, if it is one that may take counters away.
fn evicts(answer: &[String]) -> Option<&str> {
    match answer {
        [_, policy] if policy != "noeviction" => Some(policy),
        _ => None,
    }
}

/// What replicas may want to know; of too much, the oldest is forgotten.
#[derive(Debug, Default)]
pub(super) struct Notes {
    waiting: VecDeque<(String, Bytes, u64)>,
    /// Of all values that wait.
    bytes: usize,
}

impl Notes {
    const MOST: usize = 10_000;
    const MOST_BYTES: usize = 16 * 1024 * 1024;

    /// What is written at once: the next sign of life waits for it.
    const AT_ONCE: usize = 256;
    const BYTES_AT_ONCE: usize = 512 * 1024;

    pub(super) fn add(&mut self, key: String, value: Bytes, ttl: u64) {
        self.bytes += value.len();
        self.waiting.push_back((key, value, ttl));
        while self.waiting.len() > Self::MOST || self.bytes > Self::MOST_BYTES {
            let Some((_, forgotten, _)) = self.waiting.pop_front() else { return };
            self.bytes -= forgotten.len();
        }
    }

    pub(super) fn some(&mut self) -> Vec<(String, Bytes, u64)> {
        let (mut some, mut bytes) = (Vec::new(), 0);
        while some.len() < Self::AT_ONCE && bytes < Self::BYTES_AT_ONCE {
            let Some(note) = self.waiting.pop_front() else { break };
            bytes += note.1.len();
            some.push(note);
        }
        self.bytes -= bytes;
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_policy_that_takes_counters_away_is_warned_of() {
        let answer = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(evicts(&answer(&["maxmemory-policy", "allkeys-lru"])), Some("allkeys-lru"));
        assert_eq!(evicts(&answer(&["maxmemory-policy", "noeviction"])), None);
        assert_eq!(evicts(&answer(&[])), None);
    }

    #[test]
    fn of_too_many_notes_the_oldest_are_forgotten() {
        let mut notes = Notes::default();
        for number in 0..Notes::MOST + 5 {
            notes.add(number.to_string(), Bytes::new(), 1);
        }
        assert_eq!(notes.waiting.len(), Notes::MOST);
        assert_eq!(notes.some()[0].0, "5");
        let large = Bytes::from(vec![0; 1 << 20]);
        for number in 0..20 {
            notes.add(format!("large {number}"), large.clone(), 1);
        }
        assert_eq!((notes.waiting.len(), notes.bytes), (16, Notes::MOST_BYTES));
        assert_eq!(notes.some()[0].0, "large 4");
        while !notes.some().is_empty() {}
        assert_eq!(notes.bytes, 0);
    }
}
