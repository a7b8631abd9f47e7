//! What the keeper tells Redis: what has ended, what lives although Redis does not know of it, and what was spent without it.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use redis::Cmd;

use super::{
    Account, Entry,
    account::{Epoch, Record},
    close::Closing,
    keeper::Keeper,
    pack::Pack,
    pack_spent,
    scripts::{ADD, Answer, CLOSE, OK, OTHER_EPOCH, REGISTER, SETTLE},
};
use crate::shared::{CounterId, Spent, Window};

/// Holds settled by one run of the script. Redis serves nobody else meanwhile: with ten counters each, a millisecond.
const AT_ONCE: usize = 64;

/// What was spent, told by one run.
const SPENT_AT_ONCE: usize = 200;

/// Why the keeper could not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Untold {
    /// No answer.
    Away,
    /// Redis has another epoch, or none.
    OtherEpoch,
}

/// What was taken out of this replica's own counters and must reach Redis once.
#[derive(Debug)]
pub(super) struct Push {
    batch: String,
    spent: Vec<Spent>,
}

/// What one line of a settlement is about.
struct Line {
    account: usize,
    record: u64,
    ends: bool,
    returned: usize,
    /// Whether it was known what is in the record.
    sure: bool,
}

impl Keeper {
    /// Tells what has ended. Says whether something had to be put off, because a lost command may still arrive.
    pub(super) async fn settle(&mut self) -> Result<bool, Untold> {
        let mut put_off = false;
        // What is put back meanwhile waits for the next time.
        let mut rounds = self.redis.accounts.waiting().div_ceil(AT_ONCE);
        while rounds > 0 {
            rounds -= 1;
            let accounts = self.redis.accounts.next(AT_ONCE);
            match self.settle_some(&accounts).await {
                Ok(again) => {
                    put_off |= !again.is_empty();
                    self.redis.accounts.put_back(again);
                }
                Err(untold) => {
                    self.redis.accounts.put_back(accounts);
                    return Err(untold);
                }
            }
        }
        Ok(put_off)
    }

    async fn settle_some(&mut self, accounts: &[Arc<Account>]) -> Result<Vec<Arc<Account>>, Untold> {
        let Some(epoch) = self.redis.epoch.load_full() else { return Err(Untold::OtherEpoch) };
        let (mut closing, mut closed, mut lines) = (Closing::default(), Vec::new(), Vec::with_capacity(accounts.len()));
        let mut pack = self.settlement(&epoch, accounts.len());
        for (index, account) in accounts.iter().enumerate() {
            let mut state = account.state();
            let ended = state.ended;
            for record in state.records.iter_mut().filter(|record| record.is_due(ended)) {
                if ended && record.is_plain(&epoch) && !closing.is_full() {
                    closing.add(record);
                    closed.push(Line { account: index, record: record.number, ends: true, returned: 0, sure: true });
                } else {
                    lines.push(write_line(&mut pack, index, record, ended));
                }
            }
            // Everything may have been told before, by a line for something else.
            if ended && state.records.is_empty() {
                self.redis.accounts.close(account, &mut state);
            }
        }
        if !closing.is_empty() {
            let changes = closing.pack(&self.redis.prefix, &self.redis.session, &epoch);
            if self.ask_for(&CLOSE, &changes).await?.number(0) == 1 {
                closed.iter().for_each(|line| self.told(&accounts[line.account], line));
            } else {
                // Some are not there: each is told of by itself.
                for line in closed {
                    let mut state = accounts[line.account].state();
                    let ended = state.ended;
                    lines.extend(
                        state.record(line.record).map(|record| write_line(&mut pack, line.account, record, ended)),
                    );
                }
            }
        }
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.ask_for(&SETTLE, &pack.finish()).await?;
        let mut again: Vec<Arc<Account>> = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let Some(account) = accounts.get(line.account) else { continue };
            if answer.number(index) == 0 {
                self.told(account, line);
            } else if !again.iter().any(|other| Arc::ptr_eq(other, account)) {
                again.push(account.clone());
            }
        }
        Ok(again)
    }

    /// The head of what ends one by one.
    fn settlement(&self, epoch: &Epoch, accounts: usize) -> Pack {
        let mut pack = Pack::new(256 * accounts);
        pack.text(&self.redis.prefix).text(&self.redis.session).text(epoch.as_bytes());
        pack
    }

    fn told(&self, account: &Account, line: &Line) {
        let mut state = account.state();
        if line.ends {
            state.records.retain(|record| record.number != line.record);
        } else if let Some(record) = state.record(line.record) {
            record.returning.drain(..line.returned.min(record.returning.len()));
            record.sure = line.sure;
        }
        if state.ended && state.records.is_empty() {
            self.redis.accounts.close(account, &mut state);
        }
    }

    /// Registers what lives and Redis does not know: what was taken here, and what it has lost. With `all`, this replica
    /// was taken for dead, and Redis may have lost any.
    pub(super) async fn register(&mut self, epoch: &Epoch, all: bool) -> Result<(), Untold> {
        let accounts = self.redis.accounts.all();
        for some in accounts.chunks(AT_ONCE) {
            let mut pack = Pack::new(128 * some.len());
            pack.text(&self.redis.prefix).text(&self.redis.session).text(epoch.as_bytes());
            let mut registered = Vec::new();
            for account in some {
                let mut state = account.state();
                if state.ended {
                    continue;
                }
                self.hand_over(&mut state);
                for record in state.records.iter().filter(|record| !record.doubtful) {
                    if all || record.epoch.as_ref() != Some(epoch) {
                        pack.hold(record.number).list(record.entries.iter().map(Entry::parts));
                        registered.push((account, record.number));
                    }
                }
            }
            if registered.is_empty() {
                continue;
            }
            self.ask_for(&REGISTER, &pack.finish()).await?;
            for (account, number) in registered {
                if let Some(record) = account.state().record(number) {
                    record.epoch = Some(epoch.clone());
                    // Redis may have had it, or it counts from now.
                    record.sure = false;
                }
            }
        }
        Ok(())
    }

    /// What a hold has taken here becomes a record, which Redis will be told of.
    fn hand_over(&self, state: &mut super::account::State) {
        if state.local.is_empty() {
            return;
        }
        let now = self.redis.local.now().steady;
        let entries: Vec<Entry> = state.local.iter().map(Entry::held).collect();
        for entry in &entries {
            self.redis.seen.add(entry.id, entry.amount, now);
        }
        self.redis.local.end(state.local.drain(..), &[]);
        state.records.push(Record::new(self.redis.accounts.number(), None, entries));
    }

    /// Tells what was spent here: all of it, and once.
    pub(super) async fn push(&mut self) -> Result<(), Untold> {
        loop {
            if self.pushes.is_empty() {
                let spent = self.redis.local.take_spent();
                let now = self.redis.local.now().steady;
                for entry in &spent {
                    self.redis.seen.add(entry.counter, entry.amount, now);
                }
                for some in spent.chunks(SPENT_AT_ONCE) {
                    let batch = format!("{}-{}", self.redis.session, self.redis.accounts.number());
                    self.pushes.push_back(Push { batch, spent: some.to_vec() });
                }
            }
            let Some(push) = self.pushes.front() else { return Ok(()) };
            let Some(epoch) = self.redis.epoch.load_full() else { return Err(Untold::OtherEpoch) };
            let mut pack = Pack::new(64 + push.spent.len() * 48);
            pack.text(&self.redis.prefix).text(epoch.as_bytes()).text(&push.batch);
            pack_spent(&mut pack, &push.spent, self.redis.local.now().steady);
            self.ask_for(&ADD, &pack.finish()).await?;
            self.pushes.pop_front();
        }
    }

    /// Redis has lost its counters, and the ledger will be asked for what it knows: calls that have ended are in it. What
    /// was spent within windows that nobody rebuilds is still told.
    pub(super) fn forget_what_the_ledger_knows(&mut self) {
        self.redis.local.forget_what_the_ledger_knows();
        for account in self.redis.accounts.all() {
            let mut state = account.state();
            if state.ended {
                for record in &mut state.records {
                    record.actual.retain(|entry| !entry.history);
                }
            }
        }
    }

    /// Writes what others may want to know.
    pub(super) async fn remember(&mut self) {
        loop {
            let notes = self.redis.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).some();
            let Some(link) = self.link.as_mut().filter(|_| !notes.is_empty()) else { return };
            let mut pipeline = redis::pipe();
            for (key, value, ttl) in &notes {
                let mut command = Cmd::new();
                command.arg("SET").arg(key).arg(&value[..]).arg("PX").arg(*ttl);
                pipeline.add_command(command).ignore();
            }
            // Who does not find a note does without.
            let written = pipeline.query_async::<()>(link);
            if self.redis.clock.timeout_at(self.redis.clock.now() + super::keeper::PATIENCE, written).await.is_err() {
                return;
            }
        }
    }

    /// Runs a script for the keeper.
    pub(super) async fn ask_for(&mut self, script: &super::Script, arguments: &[u8]) -> Result<Answer, Untold> {
        let redis = self.redis.clone();
        let Some(link) = &mut self.link else { return Err(Untold::Away) };
        let keys = [&*redis.epoch_key];
        let answer = match redis.patience.wait(super::keeper::PATIENCE, script.run(link, &keys, &[arguments])).await {
            Ok(Ok(value)) => Answer::of(value),
            Ok(Err(error)) => {
                self.why = super::connect::say(&error);
                None
            }
            Err(_) => {
                "no answer in time".clone_into(&mut self.why);
                None
            }
        };
        match answer {
            Some(answer) if answer.status == OTHER_EPOCH => Err(Untold::OtherEpoch),
            Some(answer) if answer.status == OK => {
                let (theirs, ours) = (answer.now.cast_signed(), redis.local.now().steady.cast_signed());
                redis.offset.store(theirs.saturating_sub(ours), Relaxed);
                Ok(answer)
            }
            _ => {
                redis.metrics.redis_failures.inc();
                Err(Untold::Away)
            }
        }
    }
}

fn write_line(pack: &mut Pack, account: usize, record: &mut Record, ended: bool) -> Line {
    // Until the answer is there, what is given back may have been given back or not.
    let sure = std::mem::replace(&mut record.sure, false);
    let ends = ended || record.doubtful;
    pack.hold(record.number).text(record.epoch.as_deref().unwrap_or_default());
    pack.number(record.until).number(u64::from(ends));
    let none: &[Entry] = &[];
    let told = match (record.doubtful, ends) {
        (true, _) => none,
        (false, true) => &record.actual,
        (false, false) => &record.returning,
    };
    let parts: Vec<(CounterId, Window, u64)> = told.iter().map(Entry::parts).collect();
    pack.list(parts.into_iter());
    Line { account, record: record.number, ends, returned: record.returning.len(), sure }
}
