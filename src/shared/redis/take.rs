//! Taking: in Redis, with one script, or here, when Redis is away.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use smallvec::SmallVec;

use super::{
    Account, Entry, Redis, Standing,
    account::{Epoch, Record},
    bucket_width, millis,
    pack::Pack,
    scripts::{Answer, GONE, LATE, OK, OTHER_EPOCH, SHORT, TAKE},
};
use crate::shared::{CounterId, Level, Refusal, Take, WhenDown, Window, history::Past, memory::note_level};

/// When there may be room again after an outage, if a share has none and the limit would have.
const AFTER_OUTAGE: Duration = Duration::from_secs(5);

/// The shortest time in which a script may still come, in milliseconds: a process short of CPU sends it late, and many at once.
/// What comes later than its caller waited is given back when this is over.
const LEAST_PATIENCE: u64 = 3_000;

/// So often a take is sent that comes too late, and this long apart when this replica has not shown that it lives.
const TRIES: usize = 3;
const LIFE_SIGN: Duration = Duration::from_millis(10);

/// What became of a take.
enum There {
    Answered(Result<(), Refusal>),
    /// It came when its caller might have gone, and did nothing.
    Late,
    /// No answer, or none of use.
    Nothing,
}

/// The record that a take goes into, and what it was before.
struct Place {
    number: u64,
    grows: bool,
    until: u64,
}

impl Redis {
    /// Takes all of `takes` on top of what `account` holds, or nothing.
    pub(in crate::shared) async fn take(
        &self,
        account: &Arc<Account>,
        levels: &mut Vec<(CounterId, Level)>,
        takes: &[Take],
    ) -> Result<(), Refusal> {
        let merged = merged(takes);
        let asked = if merged.is_empty() { takes } else { &merged };
        self.take_asked(account, levels, asked).await.map_err(|refusal| {
            // A refusal names the take of the caller's.
            let original = |index: usize| {
                let id = asked.get(index).map(|take| take.counter);
                takes.iter().position(|take| Some(take.counter) == id).unwrap_or(index)
            };
            match refusal {
                Refusal::Short { index, level, retry_after } => {
                    Refusal::Short { index: original(index), level, retry_after }
                }
                Refusal::Unavailable { index } => Refusal::Unavailable { index: original(index) },
            }
        })
    }

    async fn take_asked(
        &self,
        account: &Arc<Account>,
        levels: &mut Vec<(CounterId, Level)>,
        takes: &[Take],
    ) -> Result<(), Refusal> {
        if self.standing() == Standing::Up
            && let Some(answer) = self.take_there(account, levels, takes).await
        {
            return answer;
        }
        let closed = || takes.iter().position(|take| take.when_down == WhenDown::Closed);
        if self.standing() == Standing::Away
            && let Some(index) = closed()
        {
            return Err(Refusal::Unavailable { index });
        }
        // Redis is there, but not what was in it; or this process has just begun and has never seen it.
        let needy = |take: &Take| take.needs_history || take.when_down == WhenDown::Closed;
        if let Some(index) = takes.iter().position(needy)
            && !self.history.is_known()
        {
            if !self.history.known(&self.clock).await {
                return Err(Refusal::Unavailable { index });
            }
            if self.standing() == Standing::Up
                && let Some(answer) = self.take_there(account, levels, takes).await
            {
                return answer;
            }
        }
        match closed() {
            Some(index) => Err(Refusal::Unavailable { index }),
            None => self.take_here(account, levels, takes),
        }
    }

    /// Asks Redis. `None`: it has not answered, or what it answered is no answer.
    async fn take_there(
        &self,
        account: &Arc<Account>,
        levels: &mut Vec<(CounterId, Level)>,
        takes: &[Take],
    ) -> Option<Result<(), Refusal>> {
        for _ in 0..TRIES {
            match self.try_there(account, levels, takes).await {
                There::Answered(answer) => return Some(answer),
                There::Late => {}
                There::Nothing => return None,
            }
            // This process has no time to spare, and Redis has nothing against it. If it is taken for dead, the keeper says
            // otherwise now.
            self.accounts.wake.notify_one();
            if self.server_now() >= self.lease_ends.load(Relaxed) {
                self.clock.sleep(LIFE_SIGN).await;
            }
        }
        None
    }

    async fn try_there(&self, account: &Arc<Account>, levels: &mut Vec<(CounterId, Level)>, takes: &[Take]) -> There {
        let Some(epoch) = self.epoch.load_full() else { return There::Nothing };
        // A script that comes too late does nothing: its caller has long gone another way. Nor does it when this replica
        // may be taken for dead.
        let patience = millis(self.timeout).saturating_mul(2).max(LEAST_PATIENCE);
        let best_before = self.server_now().saturating_add(patience).min(self.lease_ends.load(Relaxed));
        let place = self.place(account, &epoch, takes, best_before);
        let mut head = Pack::new(96);
        head.text(&self.prefix).text(&self.session).text(epoch.as_bytes()).number(best_before);
        head.hold(place.number).number(u64::from(place.grows));
        let mut wanted = Pack::new(8 + takes.len() * 40);
        for take in takes {
            wanted.counter(take.counter, take.window).number(take.amount).limit(take.limit);
        }
        let answer = self.ask(&TAKE, &[&self.epoch_key], &[&head.finish(), &wanted.finish()]).await;
        self.placed(account, &place, &epoch, takes, answer.as_ref());
        let Some(answer) = answer else { return There::Nothing };
        match answer.status {
            OK => {
                let now = self.local.now().steady;
                for (index, take) in takes.iter().enumerate() {
                    let level = Level { used: answer.amount(index), resets_in: resets_in(take.window, answer.now) };
                    self.seen.note(take.counter, level.used, now);
                    note_level(levels, take.counter, level);
                }
                There::Answered(Ok(()))
            }
            SHORT => {
                let index = usize::try_from(answer.number(0)).unwrap_or(usize::MAX);
                if index >= takes.len() {
                    return There::Nothing;
                }
                let wait = u64::try_from(answer.number(3)).ok().map(Duration::from_millis);
                let resets_in = Duration::from_millis(answer.amount(2));
                let level = Level { used: answer.amount(1), resets_in };
                self.seen.note(takes[index].counter, level.used, self.local.now().steady);
                There::Answered(Err(Refusal::Short { index, level, retry_after: wait }))
            }
            LATE => There::Late,
            // The keeper finds out what is wrong; this call goes on without.
            OTHER_EPOCH | GONE => {
                self.accounts.wake.notify_one();
                self.stand(Standing::Joining);
                if answer.status == OTHER_EPOCH {
                    self.history.set(Past::Rebuilding);
                }
                There::Nothing
            }
            _ => There::Nothing,
        }
    }

    /// Chooses the record for a take, and notes that it is uncertain until the answer is there.
    fn place(&self, account: &Arc<Account>, epoch: &Epoch, takes: &[Take], best_before: u64) -> Place {
        let mut state = account.state();
        let usable = |record: &&mut Record| {
            let returning = |take: &Take| record.returning.iter().any(|entry| entry.id == take.counter);
            !record.doubtful && record.epoch.as_ref() == Some(epoch) && !takes.iter().any(returning)
        };
        if let Some(record) = state.records.iter_mut().find(usable) {
            let until = record.until;
            record.until = best_before.max(until);
            return Place { number: record.number, grows: true, until };
        }
        let number = self.accounts.number();
        let mut record = Record::new(number, Some(epoch.clone()), Vec::with_capacity(takes.len()));
        record.until = best_before;
        record.doubtful = true;
        state.records.push(record);
        self.accounts.list(account, &mut state);
        Place { number, grows: false, until: 0 }
    }

    /// Notes what has become of a take.
    fn placed(&self, account: &Arc<Account>, place: &Place, epoch: &Epoch, takes: &[Take], answer: Option<&Answer>) {
        let mut state = account.state();
        let Some(answer) = answer else {
            // It may have run. A new record is given back as soon as nothing can arrive any more; one that has grown is
            // ended by what Redis knows of it.
            if !place.grows {
                self.accounts.queue(account, &mut state);
            }
            return;
        };
        if answer.status == OK {
            if let Some(record) = state.record(place.number) {
                record.until = place.until;
                record.doubtful = false;
                record.epoch = Some(epoch.clone());
                record.sure |= !place.grows;
                record.entries.extend(takes.iter().map(|take| Entry::of(take, answer.now)));
            }
        } else if place.grows {
            if let Some(record) = state.record(place.number) {
                record.until = place.until;
                if answer.status == GONE {
                    record.epoch = None;
                }
            }
        } else {
            state.records.retain(|record| record.number != place.number);
        }
    }

    /// Takes this replica's share, without Redis.
    fn take_here(
        &self,
        account: &Arc<Account>,
        levels: &mut Vec<(CounterId, Level)>,
        takes: &[Take],
    ) -> Result<(), Refusal> {
        let (now, replicas) = (self.local.now().steady, u64::from(self.replicas()));
        let shares: SmallVec<[Take; 12]> = takes.iter().map(|take| self.seen.share(take, replicas, now)).collect();
        let there = |take: &Take| self.seen.used(take.counter, take.window, now);
        let mut state = account.state();
        let mut here = Vec::with_capacity(takes.len());
        match self.local.take(&mut state.local, &mut here, &shares) {
            Ok(()) => {
                self.accounts.list(account, &mut state);
                self.metrics.quota_takes_alone.inc();
                for (id, level) in here {
                    let there = takes.iter().find(|take| take.counter == id).map_or(0, there);
                    note_level(levels, id, Level { used: level.used.saturating_add(there), ..level });
                }
                // Redis is back already, or was never away, and will want to know.
                self.dirty.store(true, Relaxed);
                if self.standing() == Standing::Up {
                    self.accounts.wake.notify_one();
                }
                Ok(())
            }
            Err(Refusal::Short { index, level, retry_after }) => {
                let take = &takes[index];
                let used = level.used.saturating_add(there(take));
                let never = take.amount > take.limit;
                let retry_after = if never { None } else { Some(retry_after.unwrap_or(AFTER_OUTAGE)) };
                Err(Refusal::Short { index, level: Level { used, ..level }, retry_after })
            }
            Err(refusal) => Err(refusal),
        }
    }
}

/// How long it takes until a counter is as before a take at `now`.
fn resets_in(window: Window, now: u64) -> Duration {
    Duration::from_millis(match window {
        Window::Rolling { millis } => {
            let width = bucket_width(millis);
            ((now / width + 1) * width - 1).saturating_add(millis).saturating_sub(now)
        }
        Window::Period { ends } => ends.saturating_sub(now),
        Window::Slots => 0,
    })
}

/// One take for each counter, where there are several of one; nothing where there are not.
fn merged(takes: &[Take]) -> SmallVec<[Take; 12]> {
    let again = |(index, take): (usize, &Take)| takes[..index].iter().any(|other| other.counter == take.counter);
    let mut merged: SmallVec<[Take; 12]> = SmallVec::new();
    if !takes.iter().enumerate().any(again) {
        return merged;
    }
    for take in takes {
        match merged.iter_mut().find(|other| other.counter == take.counter) {
            Some(other) => {
                other.amount = other.amount.saturating_add(take.amount);
                other.limit = other.limit.min(take.limit);
                other.needs_history |= take.needs_history;
                if take.when_down == WhenDown::Closed {
                    other.when_down = WhenDown::Closed;
                }
            }
            None => merged.push(*take),
        }
    }
    merged
}

impl Redis {
    /// Counts the slots that calls hold in Redis here as well: a share of slots is one of all that this replica has.
    pub(super) fn mirror_slots(&self) {
        for account in self.accounts.all() {
            let mut state = account.state();
            if state.ended || !state.mirror.is_empty() {
                continue;
            }
            let entries = state.records.iter().filter(|record| !record.doubtful).flat_map(|record| &record.entries);
            let slots: Vec<Take> = entries
                .filter(|entry| entry.window == Window::Slots)
                .map(|entry| Take {
                    counter: entry.id,
                    window: entry.window,
                    amount: entry.amount,
                    limit: u64::MAX,
                    when_down: WhenDown::Open,
                    needs_history: false,
                })
                .collect();
            if !slots.is_empty() {
                let _ = self.local.take(&mut state.mirror, &mut Vec::new(), &slots);
            }
        }
    }

    /// Redis counts them again.
    pub(super) fn unmirror_slots(&self) {
        for account in self.accounts.all() {
            let mirror = std::mem::take(&mut account.state().mirror);
            self.local.end(mirror, &[]);
        }
    }
}
