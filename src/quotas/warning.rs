//! Telling the operator's webhook that a quota is filling up: once for each threshold, counter and period, by one of all
//! replicas.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{
    rule::Rule,
    subject::{Place, Subject},
};
use crate::{
    shared::{CounterId, Shared},
    types::{Period, Secret},
};

/// Where warnings are sent.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where warnings of quotas are posted as JSON.
    pub url: Secret,
    /// Headers sent with them, for example an `Authorization`.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// How long sending one may take.
    #[serde(default = "timeout")]
    pub timeout: Period,
}

fn timeout() -> Period {
    Period::from_secs(10)
}

/// A threshold that was passed, as the webhook hears of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Warning {
    /// `quota.threshold`.
    pub event: &'static str,
    /// The quota's name.
    pub quota: Arc<str>,
    pub quota_id: Arc<str>,
    /// What the counter is about, by dimension.
    pub scope: BTreeMap<&'static str, String>,
    pub measure: &'static str,
    /// The part of the limit that was reached.
    pub threshold: f64,
    /// In the unit of the measure, money in dollars.
    pub used: String,
    pub limit: String,
    /// Unix milliseconds.
    pub at: u64,
    pub resets_at: u64,
}

/// A counter, and how full it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) counter: CounterId,
    pub(super) subject: &'a Subject<'a>,
    pub(super) place: &'a Place<'a>,
    pub(super) used: u64,
    /// What counts as reached: the limit, too, once it has no room for a call that it could take.
    pub(super) reached: u64,
    pub(super) limit: u64,
    pub(super) resets_in: Duration,
    /// Unix milliseconds.
    pub(super) now: u64,
}

/// What the webhook was told already.
#[derive(Debug)]
pub(super) struct Told {
    webhook: Option<mpsc::Sender<Warning>>,
    /// Counters and thresholds that this replica need not ask the others about, until this time.
    known: Mutex<HashMap<(CounterId, usize), u64>>,
}

/// The most thresholds that are remembered here; beyond, replicas are asked again.
const MOST_KNOWN: usize = 10_000;

/// The only threshold of a quota that warns and names none.
const FULL: [f64; 1] = [1.0];

impl Rule {
    /// Whether somebody wants to know how full it is.
    pub(super) fn is_watched(&self) -> bool {
        !self.enforces() || !self.warn_at.is_empty()
    }

    fn thresholds(&self) -> &[f64] {
        let warns = self.action == super::settings::Action::Warn && self.warn_at.is_empty();
        if warns { &FULL } else { &self.warn_at }
    }

    /// Whether it stands in the file.
    pub(super) fn is_declared(&self) -> bool {
        self.id.starts_with(DECLARED)
    }
}

/// What the ids of quotas in the file begin with.
pub(super) const DECLARED: &str = "declared:";

impl Told {
    pub(super) fn new(webhook: Option<mpsc::Sender<Warning>>) -> Self {
        Self { webhook, known: Mutex::default() }
    }

    /// Tells what has not been told of a counter of `rule`.
    pub(super) async fn look(&self, shared: &Shared, rule: &Arc<Rule>, about: About<'_>) {
        let Some(webhook) = &self.webhook else { return };
        let About { counter, subject, place, used, reached, limit, resets_in, now } = about;
        let resets_at = now.saturating_add(u64::try_from(resets_in.as_millis()).unwrap_or(u64::MAX));
        for (index, threshold) in rule.thresholds().iter().enumerate() {
            if (reached as f64) < *threshold * limit as f64 || !self.is_first_here(counter, index, now, resets_at) {
                continue;
            }
            let name = format!("warned:{counter:?}:{index}");
            if !shared.once(&name, resets_in.max(Duration::from_secs(1))).await {
                continue;
            }
            let warning = Warning {
                event: "quota.threshold",
                quota: rule.name.clone(),
                quota_id: rule.id.clone(),
                scope: rule.scope_of(subject, place),
                measure: rule.measure.as_str(),
                threshold: *threshold,
                used: rule.number(used),
                limit: rule.number(limit),
                at: now,
                resets_at,
            };
            if webhook.try_send(warning).is_err() {
                tracing::warn!(quota = &*rule.name, "a warning was given up: the webhook is too slow");
            }
        }
    }

    fn is_first_here(&self, counter: CounterId, index: usize, now: u64, until: u64) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(&(counter, index)).is_some_and(|told_until| now < *told_until) {
            return false;
        }
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert((counter, index), until.max(now.saturating_add(1_000)));
        true
    }
}
