//! Filling counters from the ledger, which is the truth: at the start of a gateway that keeps them in memory, when Redis
//! was emptied, and for a rule that is new and counts what came before it.
//!
//! A rule's sums are asked for by its dimensions, and its names are matched here, so that a counter found this way is the
//! one that calls count in. What is spent within a rolling window is asked for in parts, so that it also leaves the window
//! in parts.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{
    Quotas,
    rule::Rule,
    settings::{Dimension, Measure},
    subject::{Place, Subject},
};
use crate::{
    shared::{CounterId, SharedError, Spent, Window},
    store::{
        Db, StoreError, keys,
        ledger::{self, AttemptRow, CallRow, SpentQuestion},
    },
    types::Nanos,
};

/// The parts in which a rolling window is asked for.
const PARTS: u64 = 12;
const MINUTE: u64 = 60_000;
/// How often replicas say again that their counters hold what came before.
pub const SAY: Duration = Duration::from_secs(600);
/// Keys read at a time.
const PAGE: u32 = 500;

/// Why counters could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("the ledger cannot be read: {0}")]
    Ledger(#[from] StoreError),
    #[error("{0}")]
    Shared(#[from] SharedError),
}

/// Names of keys by their ids, because rules may be written with either.
pub(super) type KeyNames = HashMap<String, String>;

impl Quotas {
    /// Fills the counters that have lost their history, if this process is the one to do it. Says how many were filled;
    /// `None`: another replica is at it. Rows of calls that have settled should be in the store before.
    ///
    /// # Errors
    /// When the ledger or the counters do not answer; then nothing is known, and it should be tried again.
    pub async fn rebuild(&self, db: &Db) -> Result<Option<usize>, HistoryError> {
        let rebuilt = self.try_to_rebuild(db).await;
        self.inner.blind.store(rebuilt.is_err(), Relaxed);
        rebuilt
    }

    async fn try_to_rebuild(&self, db: &Db) -> Result<Option<usize>, HistoryError> {
        let Some(mut rebuild) = self.inner.shared.begin_rebuild().await else { return Ok(None) };
        let rules = self.rules();
        let now = self.inner.clock.unix_millis();
        let names = key_names(db, &rules).await?;
        // Asked whole before anything is put: what is put beside what was counted meanwhile must not be put again.
        let mut sums = Vec::with_capacity(rules.len());
        // Where one process counts alone, what a new rule's counters were given is still there.
        let has_it = |rule: &Rule| self.inner.shared.counts_alone() && rule.is_filled() && !rule.needs_history();
        for rule in rules.iter().filter(|rule| !has_it(rule)) {
            // Calls that need history wait for it; others count by themselves until it is there.
            let until = if rule.needs_history() { now.saturating_add(1) } else { now.min(rebuild.counted_since()) };
            sums.push((rule, spent(db, rule, &names, now, until).await?));
        }
        let mut filled = 0;
        for (rule, spent) in sums {
            filled += spent.iter().map(|spent| spent.counter).collect::<HashSet<_>>().len();
            match rule.needs_history() {
                true => rebuild.put(&spent).await?,
                false => rebuild.put_before(&spent).await?,
            }
            rule.filled();
        }
        // Before others may go on: they must not fill again what is filled.
        self.say_filled().await;
        rebuild.finish().await?;
        Ok(Some(filled))
    }

    /// Ends when there is a rule whose counters do not know what came before it.
    pub async fn rule_is_new(&self) {
        self.inner.renewed.notified().await;
    }

    /// It is still: filling its counters has failed.
    pub fn rule_stays_new(&self) {
        self.inner.renewed.notify_one();
    }

    /// Says of all counters that hold what came before that they do. A gateway that starts while others count, or after
    /// they have, must not add it again.
    pub async fn say_filled(&self) {
        let now = self.inner.clock.unix_millis();
        for rule in self.rules().iter().filter(|rule| rule.is_filled() && rule.since(now).is_some()) {
            self.inner.shared.renew(&rule.fill_name(), rule.fill_kept(now)).await;
        }
    }

    /// Fills the counters of rules that have come in force since they were last filled, unless a replica has them in force
    /// already. Of replicas that share counters, one does it. `false`: they cannot be asked, so nobody knows.
    ///
    /// # Errors
    /// When the ledger does not answer; then it should be tried again.
    pub async fn fill_new(&self, db: &Db) -> Result<bool, HistoryError> {
        if !self.inner.shared.is_up() {
            return Ok(false);
        }
        let new: Vec<Arc<Rule>> = self.rules().into_iter().filter(|rule| !rule.is_filled()).collect();
        let now = self.inner.clock.unix_millis();
        let names = key_names(db, &new).await?;
        for rule in new {
            let spent = spent(db, &rule, &names, now, rule.in_force_since()).await?;
            match self.inner.shared.claim(&rule.fill_name(), rule.fill_kept(now)).await {
                Some(true) => self.inner.shared.add_past(&spent),
                Some(false) => {}
                None => return Ok(false),
            }
            rule.filled();
        }
        self.say_filled().await;
        Ok(true)
    }

    /// Counts calls whose gateway died while they were under way: what it had set aside for them has been given back, and
    /// what they consumed was counted nowhere.
    pub fn count_lost(&self, rows: &[CallRow]) {
        let now = self.inner.clock.unix_millis();
        let mut amounts: Vec<(CounterId, Window, u64)> = Vec::new();
        for row in rows {
            let subject = Subject {
                project: &row.who.project,
                key: &row.who.key_id,
                key_name: &row.who.key_name,
                end_user: row.who.end_user.as_deref(),
                session: row.who.session.as_deref(),
                tags: &row.who.tags,
            };
            let at = u64::try_from(row.at).unwrap_or(0);
            for rule in self.inner.rules.load().concerning(&subject).rules() {
                let (window, period) = rule.window_at(at);
                let is_over = match window {
                    Window::Period { ends } => ends <= now,
                    Window::Rolling { millis } => at.saturating_add(millis) <= now,
                    Window::Slots => true,
                };
                for (index, attempt) in row.attempts.iter().enumerate().filter(|_| !is_over) {
                    let place = Place { model: &row.model, provider: &attempt.provider, target: &attempt.target };
                    let amount = rule.amount_of_attempt(attempt, index);
                    rule.counters(&subject, Some(&place), period, |counter, _| amounts.push((counter, window, amount)));
                }
            }
        }
        self.inner.shared.add(&amounts);
    }
}

/// What was spent before `until` of every counter of a rule, as it stands at `now`.
async fn spent(db: &Db, rule: &Rule, names: &KeyNames, now: u64, until: u64) -> Result<Vec<Spent>, StoreError> {
    let Some(since) = rule.since(now) else { return Ok(Vec::new()) };
    let (window, period) = rule.window_at(now);
    let parts = match window {
        Window::Rolling { millis } if millis > MINUTE => PARTS,
        _ => 1,
    };
    let mut found: HashMap<(CounterId, u64), u64> = HashMap::new();
    let length = until.saturating_sub(since);
    for part in 0..parts {
        let (from, to) = (since + length / parts * part, since + length / parts * (part + 1));
        let to = if part + 1 == parts { until } else { to };
        if to <= from {
            continue;
        }
        for row in ledger::spent(db, &rule.question(from, to)).await? {
            let amount = rule.amount_of(&row);
            if let Some(values) = rule.values_of(&row.values, names).filter(|_| amount > 0) {
                let sum = found.entry((rule.counter_of(&values, period), to)).or_default();
                *sum = sum.saturating_add(amount);
            }
        }
    }
    Ok(found.into_iter().map(|((counter, at), amount)| Spent { counter, window, amount, at }).collect())
}

/// The names of all stored keys, if a rule may be about one by its name.
pub(super) async fn key_names(db: &Db, rules: &[Arc<Rule>]) -> Result<KeyNames, StoreError> {
    let mut names = KeyNames::new();
    if !rules.iter().any(|rule| rule.filters.iter().any(|(dimension, _)| *dimension == Dimension::Key)) {
        return Ok(names);
    }
    let mut after: Option<String> = None;
    loop {
        let page = keys::list(db, &keys::KeyFilter::default(), after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(names) };
        after = Some(last.id.clone());
        names.extend(page.into_iter().map(|key| (key.id, key.name)));
    }
}

impl Rule {
    /// Its dimensions, those it only filters by included.
    fn dimensions(&self) -> Vec<Dimension> {
        let filtered = self.filters.iter().map(|(dimension, _)| *dimension);
        let mut all: Vec<Dimension> = self.scope.iter().copied().chain(filtered).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(super) fn question(&self, since: u64, until: u64) -> SpentQuestion {
        let millis = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
        let named = self.filters.iter().filter(|(dimension, _)| *dimension != Dimension::Key);
        let filters = named.filter_map(|(dimension, filter)| Some((*dimension, filter.names()?)));
        let filters = filters
            .flat_map(|(dimension, names)| names.into_iter().map(move |name| (dimension.of_ledger(), name.to_owned())));
        SpentQuestion {
            since_ms: millis(since),
            until_ms: Some(millis(until)),
            by: self.dimensions().into_iter().map(Dimension::of_ledger).collect(),
            filters: filters.collect(),
            // What was refused is in the ledger, too, and has consumed nothing.
            sent_only: self.measure == Measure::Requests,
        }
    }

    /// The values of its scope in a row of the answer, if the row is about calls that it concerns.
    pub(super) fn values_of<'r>(&self, row: &'r [String], names: &KeyNames) -> Option<Vec<&'r str>> {
        let dimensions = self.dimensions();
        let value = |wanted: &Dimension| {
            let place = dimensions.iter().position(|dimension| dimension == wanted)?;
            row.get(place).map(String::as_str).filter(|value| !value.is_empty())
        };
        let passes = self.filters.iter().all(|(dimension, filter)| {
            let Some(value) = value(dimension) else { return false };
            let declared = value.strip_prefix(super::warning::DECLARED);
            let name = (*dimension == Dimension::Key)
                .then(|| declared.or_else(|| names.get(value).map(String::as_str)))
                .flatten();
            filter.takes(value) || name.is_some_and(|name| filter.takes(name))
        });
        if passes { self.scope.iter().map(value).collect() } else { None }
    }

    /// What an attempt of a call counts as; it is the call's `index`th.
    fn amount_of_attempt(&self, attempt: &AttemptRow, index: usize) -> u64 {
        let (input, output) = (attempt.usage.total_input(), attempt.usage.total_output());
        match self.measure {
            Measure::Requests => u64::from(index == 0 || self.is_of_place()),
            Measure::Tokens => input.saturating_add(output),
            Measure::InputTokens => input,
            Measure::OutputTokens => output,
            Measure::Usd => attempt.cost.map_or(0, |cost| u64::try_from(cost.0).unwrap_or(0)),
            Measure::Concurrent => 0,
        }
    }

    pub(super) fn amount_of(&self, row: &ledger::Spent) -> u64 {
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        let Nanos(cost) = row.cost;
        match self.measure {
            Measure::Requests if self.is_of_place() => count(row.attempts),
            Measure::Requests => count(row.calls),
            Measure::Tokens => count(row.input).saturating_add(count(row.output)),
            Measure::InputTokens => count(row.input),
            Measure::OutputTokens => count(row.output),
            Measure::Usd => count(cost),
            Measure::Concurrent => 0,
        }
    }
}

impl Dimension {
    fn of_ledger(self) -> ledger::Dimension {
        match self {
            Self::Project => ledger::Dimension::Project,
            Self::Key => ledger::Dimension::Key,
            Self::EndUser => ledger::Dimension::EndUser,
            Self::Model => ledger::Dimension::Model,
            Self::Provider => ledger::Dimension::Provider,
            Self::Target => ledger::Dimension::Target,
            Self::Tag => ledger::Dimension::Tag,
            Self::Session => ledger::Dimension::Session,
        }
    }
}
