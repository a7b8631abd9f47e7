//! The quotas of one call: what was set aside for it, at which counters, and what becomes of that.
//!
//! Before each attempt [`Account::enter`] sets aside what the call may consume if that attempt succeeds, on top of what
//! earlier attempts have consumed: at every counter at once, or nothing at all. At the end [`Account::settle`] turns it
//! into what was really consumed. An account that is dropped gives everything back.
//!
//! An attempt counts in the period of the calendar in which it was let through, however long it takes, and a call as a
//! request in that of its first attempt.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    Concern, Level, RateLimits,
    refused::{Refused, Why},
    rule::Rule,
    settings::{Measure, WhenDown},
    subject::{Place, Subject},
    touched::{self, Touched},
};
use crate::{
    shared::{self, CounterId, Hold, Shared, Take},
    store::ledger::{LimitNote, LimitRow},
    types::Nanos,
};

/// What one attempt consumes: as estimated before it, as counted after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumed {
    pub input: u64,
    pub output: u64,
    /// `None`: its price is unknown.
    pub cost: Option<Nanos>,
}

/// What is set aside for an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// If it succeeds.
    pub estimate: Consumed,
    /// What each attempt before it has consumed; its number is how many there are.
    pub spent: &'a [Consumed],
}

/// The quotas of one call.
#[derive(Debug)]
pub struct Account {
    concern: Concern,
    /// Nobody can say what was consumed before this process: quotas that are open then do without.
    blind: bool,
    hold: Hold,
    entries: SmallVec<[Entry; 4]>,
    /// What was set aside later, for an answer that turned out longer.
    grants: Vec<Hold>,
    /// What was set aside for the attempt that is running, and its place among all of them.
    estimate: Consumed,
    attempt: u16,
    /// What the last quota that had no room says of itself.
    refused: Option<RateLimits>,
    touched: Touched,
}

/// One counter that the call counts in.
#[derive(Debug)]
struct Entry {
    rule: Arc<Rule>,
    counter: CounterId,
    window: shared::Window,
    /// The attempts that count here; `None`: all of them.
    attempts: Option<SmallVec<[u16; 4]>>,
    /// The most there may be, and the most that was set aside, for the receipt.
    limit: u64,
    most: u64,
    used: Option<u64>,
    /// Whose counter it is, and whether a rule that refuses nothing would have refused.
    about: LimitNote,
}

impl Account {
    pub(super) fn new(concern: Concern, hold: Hold, blind: bool) -> Self {
        Self {
            concern,
            blind,
            hold,
            entries: SmallVec::new(),
            grants: Vec::new(),
            estimate: Consumed::default(),
            attempt: 0,
            refused: None,
            touched: Touched::default(),
        }
    }

    /// Sets aside what an attempt at `place` may consume. The rules named in `exempt` only count.
    ///
    /// # Errors
    /// [`Refused`], and nothing was taken. Places among concurrent calls at a target that was left are given back all the
    /// same.
    pub async fn enter(
        &mut self,
        subject: &Subject<'_>,
        place: &Place<'_>,
        demand: Demand<'_>,
        exempt: &[Arc<str>],
        unix_millis: u64,
    ) -> Result<(), Refused> {
        let attempt = u16::try_from(demand.spent.len()).unwrap_or(u16::MAX);
        let mut wanted: SmallVec<[Entry; 4]> = SmallVec::new();
        for rule in self.concern.rules() {
            let (window, period) = rule.window_at(unix_millis);
            // An attempt that is made in another period counts there alone.
            let of_some = rule.is_of_place() || rule.is_calendar();
            let limit = rule.limit_at(unix_millis);
            rule.counters(subject, Some(place), period, |counter, values| {
                let (rule, attempts) = (rule.clone(), of_some.then(SmallVec::new));
                let about = LimitNote { subject: rule.worded(values), would_refuse: false };
                wanted.push(Entry { rule, counter, window, attempts, limit, most: 0, used: None, about });
            });
        }
        self.leave(&wanted);
        let (mut takes, mut of) = (SmallVec::<[Take; 8]>::new(), SmallVec::<[usize; 8]>::new());
        for (index, entry) in wanted.iter_mut().enumerate() {
            let known = self.entries.iter().find(|known| known.counter == entry.counter);
            let enforced = entry.rule.enforces() && !exempt.contains(&entry.rule.id);
            let Some(needed) = entry.needed(known, &demand) else {
                if enforced {
                    let refused = Refused::unpriced(entry.rule.clone(), entry.counter);
                    let about = std::mem::take(&mut entry.about);
                    return Err(self.refuse(refused, about, unix_millis));
                }
                entry.about.would_refuse = !entry.rule.enforces();
                continue;
            };
            let amount = needed.saturating_sub(self.hold.held(entry.counter));
            if amount == 0 {
                continue;
            }
            let limit = if enforced { entry.limit } else { u64::MAX };
            takes.push(entry.take(amount, limit, self.blind));
            of.push(index);
        }
        if !takes.is_empty()
            && let Err(refusal) = self.hold.take(&takes).await
        {
            let index = place_of(&refusal).min(of.len() - 1);
            let Entry { rule, counter, about, .. } = wanted.swap_remove(of[index]);
            let refused = Refused::new(rule, counter, refusal, takes[index].amount, unix_millis);
            return Err(self.refuse(refused, about, unix_millis));
        }
        (self.estimate, self.attempt) = (demand.estimate, attempt);
        self.join(wanted, attempt);
        for entry in &mut self.entries {
            entry.most = entry.most.max(self.hold.held(entry.counter));
            entry.see(&self.hold);
        }
        Ok(())
    }

    /// Remembers what headers and the receipt will say of a quota that had no room.
    fn refuse(&mut self, refused: Refused, about: LimitNote, unix_millis: u64) -> Refused {
        if let Why::Short { used, resets_in, retry_after, .. } = refused.why {
            let mut limits = RateLimits::default();
            limits.add(&refused.rule, used, retry_after.unwrap_or(resets_in), unix_millis);
            self.refused = Some(limits);
        }
        self.touched.refuse(&refused, about, unix_millis);
        refused
    }

    /// Remembers that there was no room for the rest of an answer.
    pub fn refused_more(&mut self, refused: &Refused, unix_millis: u64) {
        // The call counts there already, and that says whose counter it is.
        self.touched.refuse(refused, LimitNote::default(), unix_millis);
    }

    /// Gives back places among concurrent calls at targets that are left.
    fn leave(&mut self, wanted: &[Entry]) {
        let left: SmallVec<[CounterId; 4]> = self
            .entries
            .iter()
            .filter(|entry| entry.rule.measure == Measure::Concurrent)
            .map(|entry| entry.counter)
            .filter(|counter| wanted.iter().all(|wanted| wanted.counter != *counter))
            .collect();
        if !left.is_empty() {
            self.hold.release(&left);
        }
    }

    fn join(&mut self, wanted: SmallVec<[Entry; 4]>, attempt: u16) {
        for mut entry in wanted {
            match self.entries.iter_mut().find(|known| known.counter == entry.counter) {
                Some(known) => {
                    known.attempts.iter_mut().for_each(|attempts| attempts.push(attempt));
                    known.about.would_refuse |= entry.about.would_refuse;
                }
                None => {
                    entry.attempts.iter_mut().for_each(|attempts| attempts.push(attempt));
                    self.entries.push(entry);
                }
            }
        }
    }

    /// What was set aside for the output of the attempt that is running, in tokens.
    pub fn output_set_aside(&self) -> u64 {
        self.estimate.output
    }

    /// Begins to set aside more for the output of the running attempt, which turns out longer: `more` on top of what
    /// there is. `None` when no quota cares. The future owns what it takes; [`Account::granted`] adds it. If it is
    /// dropped, nothing was taken.
    pub fn extend(
        &mut self,
        more: Consumed,
        shared: &Shared,
        unix_millis: u64,
    ) -> Option<impl Future<Output = Result<Hold, Refused>> + Send + use<>> {
        let mut of = SmallVec::<[(Arc<Rule>, CounterId); 4]>::new();
        let mut takes = SmallVec::<[Take; 4]>::new();
        for entry in self.entries.iter().filter(|entry| entry.counts(self.attempt)) {
            let amount = match entry.rule.measure {
                Measure::Requests | Measure::Concurrent | Measure::InputTokens => 0,
                Measure::Tokens | Measure::OutputTokens => more.output,
                Measure::Usd => more.cost.map_or(0, nanos),
            };
            // In a period that has begun since, the call's share is of the one it began in.
            if amount > 0 {
                let limit = if entry.rule.enforces() { entry.rule.limit_at(unix_millis) } else { u64::MAX };
                takes.push(entry.take(amount, limit, self.blind));
                of.push((entry.rule.clone(), entry.counter));
            }
        }
        if takes.is_empty() {
            return None;
        }
        let hold = shared.hold();
        Some(async move {
            let (first, its_counter) = of[0].clone();
            let mut hold = hold.map_err(|_| Refused::full(first, its_counter))?;
            match hold.take(&takes).await {
                Ok(()) => Ok(hold),
                Err(refusal) => {
                    let index = place_of(&refusal).min(of.len() - 1);
                    let (rule, counter) = of[index].clone();
                    Err(Refused::new(rule, counter, refusal, takes[index].amount, unix_millis))
                }
            }
        })
    }

    /// Adds what [`Account::extend`] has set aside.
    pub fn granted(&mut self, hold: Hold, more: Consumed) {
        for entry in &mut self.entries {
            entry.most = entry.most.saturating_add(hold.held(entry.counter));
            entry.see(&hold);
        }
        self.grants.push(hold);
        self.estimate.output = self.estimate.output.saturating_add(more.output);
    }

    /// The answer has ended: its place among concurrent calls is free at once, whatever else is still counted.
    pub fn ended(&mut self) {
        let slots: SmallVec<[CounterId; 4]> = self
            .entries
            .iter()
            .filter(|entry| entry.rule.measure == Measure::Concurrent)
            .map(|entry| entry.counter)
            .collect();
        if !slots.is_empty() {
            self.hold.release(&slots);
        }
    }

    /// The end: what each attempt has consumed. A call without an attempt has consumed nothing, not even a request. Says
    /// what the call did to its quotas.
    pub fn settle(self, shared: &Shared, attempts: &[Consumed]) -> Vec<(LimitRow, LimitNote)> {
        let actual: SmallVec<[(CounterId, u64); 8]> =
            self.entries.iter().map(|entry| (entry.counter, entry.consumed(attempts))).collect();
        // Where nothing was to be expected, nothing is held that could be settled.
        let unheld = self.entries.iter().zip(&actual);
        let unheld = unheld.filter(|(entry, (_, amount))| *amount > 0 && self.hold.held(entry.counter) == 0);
        let unheld: SmallVec<[(CounterId, shared::Window, u64); 2]> =
            unheld.map(|(entry, (counter, amount))| (*counter, entry.window, *amount)).collect();
        if !unheld.is_empty() {
            shared.add(&unheld);
        }
        self.hold.settle(&actual);
        // What was set aside later is part of what has just been counted.
        drop(self.grants);
        // What the call did to its quotas, for its receipt.
        let rows = self.entries.into_iter().zip(&actual).map(|(entry, (counter, settled))| {
            (*counter, touched::row(&entry.rule, entry.limit, entry.used, entry.most, *settled), entry.about)
        });
        self.touched.rows(rows)
    }

    /// How full the tightest counters of requests and of tokens are, as seen when the running attempt began.
    pub fn rate_limits(&self, unix_millis: u64) -> RateLimits {
        let mut limits = RateLimits::default();
        for (rule, level) in self.levels() {
            limits.add(rule, level.used, level.resets_in, unix_millis);
        }
        match &self.refused {
            Some(refused) if self.entries.is_empty() => limits.or(refused),
            _ => limits,
        }
    }

    /// Each counter's rule, and how full the counter was after what this call set aside.
    pub fn levels(&self) -> impl Iterator<Item = (&Arc<Rule>, Level)> {
        self.hold.levels().iter().filter_map(|(counter, level)| {
            let entry = self.entries.iter().find(|entry| entry.counter == *counter)?;
            let own = self.hold.held(*counter);
            Some((&entry.rule, Level { used: level.used, own, resets_in: level.resets_in, counter: *counter }))
        })
    }
}

impl Entry {
    fn take(&self, amount: u64, limit: u64, blind: bool) -> Take {
        let is_open = self.rule.when_down == WhenDown::Open;
        Take {
            counter: self.counter,
            window: self.window,
            amount,
            limit,
            when_down: match self.rule.enforces() && !is_open {
                true => shared::WhenDown::Closed,
                false => shared::WhenDown::Open,
            },
            needs_history: self.rule.enforces() && self.rule.needs_history() && !(blind && is_open),
        }
    }

    /// What must be held here for the next attempt. `known` is the entry that the call has at this counter already.
    /// `None`: nobody knows, because the price is unknown.
    fn needed(&self, known: Option<&Self>, demand: &Demand<'_>) -> Option<u64> {
        if self.rule.measure == Measure::Concurrent {
            return Some(1);
        }
        // A call is one request, wherever its further attempts go and whenever they are made.
        if self.rule.measure == Measure::Requests && !self.rule.is_of_place() && !demand.spent.is_empty() {
            return Some(known.map_or(0, |known| known.consumed(demand.spent)));
        }
        let before = match (known, &self.attempts) {
            (Some(known), _) => known.consumed(demand.spent),
            (None, None) => self.consumed(demand.spent),
            (None, Some(_)) => 0,
        };
        let estimate = &demand.estimate;
        let next = match self.rule.measure {
            Measure::Requests | Measure::Concurrent => 1,
            Measure::Tokens => estimate.input.saturating_add(estimate.output),
            Measure::InputTokens => estimate.input,
            Measure::OutputTokens => estimate.output,
            // What costs nothing passes a quota of money that has nothing left.
            Measure::Usd => match estimate.cost? {
                Nanos::ZERO => return Some(0),
                cost => nanos(cost).max(1),
            },
        };
        Some(before.saturating_add(next))
    }

    /// Notes how full the counter was when `hold` last took of it.
    fn see(&mut self, hold: &Hold) {
        let Some((_, level)) = hold.levels().iter().find(|(of, _)| *of == self.counter) else { return };
        self.used = Some(level.used);
        self.about.would_refuse |= level.used > self.limit && !self.rule.enforces();
    }

    /// Whether an attempt counts here.
    fn counts(&self, attempt: u16) -> bool {
        self.attempts.as_ref().is_none_or(|here| here.contains(&attempt))
    }

    /// What `attempts` have consumed of what is counted here.
    fn consumed(&self, attempts: &[Consumed]) -> u64 {
        let of = |consumed: &Consumed| match self.rule.measure {
            Measure::Requests => 1,
            Measure::Concurrent => 0,
            Measure::Tokens => consumed.input.saturating_add(consumed.output),
            Measure::InputTokens => consumed.input,
            Measure::OutputTokens => consumed.output,
            Measure::Usd => consumed.cost.map_or(0, nanos),
        };
        match &self.attempts {
            _ if self.rule.measure == Measure::Requests && !self.rule.is_of_place() => {
                u64::from(!attempts.is_empty() && self.counts(0))
            }
            None => attempts.iter().map(of).fold(0, u64::saturating_add),
            Some(here) => {
                here.iter().filter_map(|number| attempts.get(usize::from(*number))).map(of).fold(0, u64::saturating_add)
            }
        }
    }
}

/// Which of the takes was refused.
fn place_of(refusal: &shared::Refusal) -> usize {
    match refusal {
        shared::Refusal::Short { index, .. } | shared::Refusal::Unavailable { index } => *index,
    }
}

/// Nano-dollars as an amount of a counter.
fn nanos(cost: Nanos) -> u64 {
    u64::try_from(cost.0).unwrap_or(0)
}
