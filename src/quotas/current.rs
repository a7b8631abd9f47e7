//! How much of quotas is used now, for people who ask: as the counters have it, which hold calls to it, and as the ledger
//! does, for those who cannot see the counters.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Quotas, history, rule::Rule, settings::Dimension};
use crate::{
    shared::Window,
    store::{
        Db, StoreError,
        ledger::{self, SpentQuestion},
    },
};

/// The most counters of one quota that are looked at for what it names.
const MOST: usize = 100;

/// One counter of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// What it counts: the values of the quota's scope, in order.
    pub values: Vec<String>,
    pub used: u64,
    /// The most there may be now.
    pub limit: u64,
    /// Until a period of the calendar ends, or all of a rolling window is free again. `None`: nothing is counted in time,
    /// or nobody knows.
    pub resets_in: Option<Duration>,
}

impl Quotas {
    /// How full the counters of rules are for these values of their scopes, with what is set aside for calls under way.
    /// `None` for a rule that does not know yet what came before it.
    pub async fn current(&self, asked: &[(Arc<Rule>, Vec<Vec<String>>)]) -> Vec<Option<Vec<Current>>> {
        let now = self.inner.clock.unix_millis();
        let mut counters = Vec::new();
        for (rule, subjects) in asked {
            let (window, period) = rule.window_at(now);
            counters.extend(subjects.iter().map(|values| {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                (rule.counter_of(&values, period), window)
            }));
        }
        let mut levels = self.inner.shared.read(&counters).await.into_iter();
        let answer = |(rule, subjects): &(Arc<Rule>, Vec<Vec<String>>)| {
            let current = subjects.iter().zip(levels.by_ref()).map(|(values, level)| Current {
                values: values.clone(),
                used: level.used,
                limit: rule.limit_at(now),
                resets_in: rule.resets_in(now, level.resets_in),
            });
            let current: Vec<Current> = current.collect();
            (rule.is_filled() || !rule.needs_history()).then_some(current)
        };
        asked.iter().map(answer).collect()
    }
}

impl Rule {
    /// What is counted apart.
    pub fn scope(&self) -> &[Dimension] {
        &self.scope
    }

    /// The values of its scope, by what it names; `None` where it has a counter for each one that turns up. `expand` says
    /// what a name may stand for.
    pub fn named(&self, expand: impl Fn(Dimension, &str) -> Vec<String>) -> Option<Vec<Vec<String>>> {
        let mut all: Vec<Vec<String>> = vec![Vec::new()];
        for dimension in &self.scope {
            let (_, filter) = self.filters.iter().find(|(filtered, _)| filtered == dimension)?;
            let values: Vec<String> = filter.names()?.into_iter().flat_map(|name| expand(*dimension, name)).collect();
            let longer = all.iter().flat_map(|begun| {
                values.iter().map(|value| begun.iter().cloned().chain([value.clone()]).collect::<Vec<String>>())
            });
            all = longer.take(MOST).collect();
        }
        Some(all)
    }

    /// Names of keys that it is about.
    pub fn key_names(&self) -> Vec<&str> {
        let filter = self.filters.iter().find(|(dimension, _)| *dimension == Dimension::Key);
        filter.and_then(|(_, filter)| filter.names()).unwrap_or_default()
    }

    /// A counter's subject, in words.
    pub fn subject(&self, values: &[String]) -> BTreeMap<&'static str, String> {
        self.scope.iter().map(|dimension| dimension.as_str()).zip(values.iter().cloned()).collect()
    }

    /// A period of the calendar ends whether or not anything was used in it.
    fn resets_in(&self, now: u64, of_counter: Duration) -> Option<Duration> {
        match self.window_at(now).0 {
            Window::Period { ends } => Some(Duration::from_millis(ends.saturating_sub(now))),
            Window::Rolling { .. } => Some(of_counter),
            Window::Slots => None,
        }
    }
}

/// What calls that have ended came to, as the ledger has it. What several rules ask is asked once.
#[derive(Debug)]
pub struct Spending<'d> {
    db: &'d Db,
    now: u64,
    names: history::KeyNames,
    asked: Vec<(SpentQuestion, Vec<ledger::Spent>)>,
}

impl<'d> Spending<'d> {
    /// As of `now` (Unix milliseconds), for some or all of `rules`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn of(db: &'d Db, rules: &[Arc<Rule>], now: u64) -> Result<Self, StoreError> {
        let names = history::key_names(db, rules).await?;
        Ok(Self { db, now, names, asked: Vec::new() })
    }

    /// What counts now at each counter of a rule at which anything does, the most first. `None` for a rule that counts
    /// what is under way: of that the ledger knows nothing.
    ///
    /// # Errors
    /// When the store cannot be read, or there are more counters than it can list.
    pub async fn spent(&mut self, rule: &Rule) -> Result<Option<Vec<Current>>, StoreError> {
        let Some(since) = rule.since(self.now) else { return Ok(None) };
        let question = rule.question(since, self.now.saturating_add(1));
        let known = self.asked.iter().position(|(known, _)| *known == question);
        let place = match known {
            Some(place) => place,
            None => {
                let rows = ledger::spent(self.db, &question).await?;
                self.asked.push((question, rows));
                self.asked.len() - 1
            }
        };
        let mut sums: BTreeMap<Vec<&str>, u64> = BTreeMap::new();
        for row in &self.asked[place].1 {
            let amount = rule.amount_of(row);
            if let Some(values) = rule.values_of(&row.values, &self.names).filter(|_| amount > 0) {
                let sum = sums.entry(values).or_default();
                *sum = sum.saturating_add(amount);
            }
        }
        let limit = rule.limit_at(self.now);
        let resets_in = match rule.window_at(self.now).0 {
            Window::Period { ends } => Some(Duration::from_millis(ends.saturating_sub(self.now))),
            Window::Rolling { .. } | Window::Slots => None,
        };
        let current = sums.into_iter().map(|(values, used)| Current {
            values: values.into_iter().map(str::to_owned).collect(),
            used,
            limit,
            resets_in,
        });
        let mut current: Vec<Current> = current.collect();
        current.sort_by_key(|one| std::cmp::Reverse(one.used));
        Ok(Some(current))
    }
}
