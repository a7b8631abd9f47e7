//! Sums as they are given.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::question::{UsageQuestion, cursor};
use crate::{
    store::ledger::{Bucket, Sums, UsageGroup, UsagePage, UsageQuery},
    types::{Nanos, Usage, Zone},
};

/// Sums over a stretch of time.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UsageReport {
    /// The beginning of the stretch.
    #[schemars(extend("format" = "date-time"))]
    pub from: String,
    /// Its end, which is not included.
    #[schemars(extend("format" = "date-time"))]
    pub to: String,
    /// The zone whose days and months are meant.
    pub tz: Zone,
    /// `hour`, `day`, `month`; `null`: the stretch is one.
    pub bucket: Option<&'static str>,
    pub group_by: Vec<&'static str>,
    /// By time, then by group. Groups without calls are left out.
    pub data: Vec<UsageItem>,
    /// Ask again with it as `cursor` for the next page; `null` on the last.
    pub next_cursor: Option<String>,
}

/// The sums of one group in one bucket of time.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UsageItem {
    /// When the bucket begins, in the zone; `null` where time is not divided.
    #[schemars(extend("format" = "date-time"))]
    pub start: Option<String>,
    /// The value of each name in `group_by`.
    pub group: BTreeMap<&'static str, String>,
    /// Calls. One with several attempts counts once, at its last attempt.
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
    /// What was sent to providers.
    pub attempts: u64,
    /// Attempts that failed, whatever became of their calls.
    pub failed_attempts: u64,
    /// Attempts without a known price: what they cost is missing from `cost`.
    pub unpriced_attempts: u64,
    /// Attempts whose usage was counted or estimated here.
    pub estimated_attempts: u64,
    /// What the attempts cost by the catalogue of prices.
    pub cost: Money,
    /// What the providers say they cost, where they say so.
    pub reported_cost: Money,
    /// Tokens and other units, each counted in one member only.
    pub usage: Usage,
}

/// An exact amount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Money {
    /// US dollars as a decimal text: `0.000375`.
    #[schemars(regex(pattern = r"^-?[0-9]+\.[0-9]{2,9}$"))]
    pub usd: String,
    /// The same in nano-dollars.
    pub nanos: i64,
}

impl UsageReport {
    pub(super) fn new(question: &UsageQuestion, query: &UsageQuery, page: UsagePage, print: &str) -> Self {
        let UsagePage { groups, next } = page;
        let group_by: Vec<&'static str> = query.by.iter().map(|dimension| dimension.as_str()).collect();
        let zone = &question.zone;
        let item = |group: UsageGroup| {
            let start = query.bucket.map(|_| local(group.start, zone));
            UsageItem::new(start, group_by.iter().copied().zip(group.values).collect(), &group.sums)
        };
        Self {
            from: local(query.from, zone),
            to: local(query.to, zone),
            tz: zone.clone(),
            bucket: query.bucket.map(Bucket::as_str),
            data: groups.into_iter().map(item).collect(),
            group_by,
            next_cursor: next.map(|next| cursor(print, &next)),
        }
    }

    /// The sums of all items.
    pub fn total(&self) -> UsageItem {
        let mut total = UsageItem::new(None, BTreeMap::new(), &Sums::default());
        for item in &self.data {
            total.add(item);
        }
        total
    }
}

impl UsageItem {
    fn new(start: Option<String>, group: BTreeMap<&'static str, String>, sums: &Sums) -> Self {
        Self {
            start,
            group,
            calls: sums.calls.unsigned_abs(),
            errors: sums.errors.unsigned_abs(),
            attempts: sums.attempts.unsigned_abs(),
            failed_attempts: sums.failed_attempts.unsigned_abs(),
            unpriced_attempts: sums.unpriced.unsigned_abs(),
            estimated_attempts: sums.estimated.unsigned_abs(),
            cost: sums.cost.into(),
            reported_cost: sums.reported_cost.into(),
            usage: sums.usage,
        }
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.attempts += other.attempts;
        self.failed_attempts += other.failed_attempts;
        self.unpriced_attempts += other.unpriced_attempts;
        self.estimated_attempts += other.estimated_attempts;
        self.cost = (Nanos(self.cost.nanos) + Nanos(other.cost.nanos)).into();
        self.reported_cost = (Nanos(self.reported_cost.nanos) + Nanos(other.reported_cost.nanos)).into();
        self.usage += other.usage;
    }
}

impl From<Nanos> for Money {
    fn from(amount: Nanos) -> Self {
        Self { usd: amount.to_string(), nanos: amount.0 }
    }
}

/// A time in a zone, as RFC 3339 has it.
fn local(millis: i64, zone: &Zone) -> String {
    let at = Timestamp::from_millisecond(millis).unwrap_or_default().to_zoned(zone.0.clone());
    at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}
