//! Single calls as they are given.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{answer::Money, question::cursor};
use crate::{
    store::ledger::{AttemptRow, CallRow, LimitNote, LimitRow, Notes, cursor_after},
    types::{Nanos, Usage, UsageSource},
};

/// Some calls, newest first.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ReceiptPage {
    pub data: Vec<Receipt>,
    /// Ask again with it as `cursor` for the next page; `null` on the last.
    pub next_cursor: Option<String>,
}

/// One call: who made it, what came of it, and what it cost.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Receipt {
    /// What `x-request-id` carried.
    pub id: String,
    /// When it arrived, in UTC.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// The gateway that served it.
    pub instance: Arc<str>,
    pub operation: Arc<str>,
    /// The model as the client named it.
    pub requested_model: String,
    /// The configured model that served it; empty when none was reached.
    pub model: Arc<str>,
    pub project: Arc<str>,
    pub key: ReceiptKey,
    pub end_user: Option<String>,
    pub tags: Vec<Arc<str>>,
    pub workflow: Option<String>,
    pub session: Option<String>,
    pub step: Option<String>,
    /// The client's address.
    pub client: Option<String>,
    pub stream: bool,
    /// The status that the client saw.
    pub status: u16,
    /// How it ended: `ok`, `client_cancel`, `lost`, …
    pub outcome: &'static str,
    /// The code of the error that the client saw.
    pub error_code: Option<String>,
    pub finish_reason: Option<String>,
    /// From arrival to the first real output, in milliseconds.
    pub first_output_ms: Option<u32>,
    pub duration_ms: u32,
    /// What the gateway itself added, in microseconds.
    pub overhead_us: u32,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// What all attempts cost together; `null`: the price of one is not known.
    pub cost: Option<Money>,
    /// What all attempts consumed together.
    pub usage: Usage,
    /// What was sent to providers, in order.
    pub attempts: Vec<ReceiptAttempt>,
    /// What the format of the provider, or of the client, could not express, by its places: as in `x-switchboard-lossy`,
    /// at most 16 of them.
    pub lossy: Vec<String>,
    /// The quotas that the call counted in, and those it did not fit in: at most 16, the latter first. A call that was
    /// lost has none.
    pub limits: Vec<ReceiptLimit>,
}

/// What a call did to one counter of a quota. Amounts are decimal texts, of money in US dollars.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ReceiptLimit {
    /// The quota's name.
    pub quota: Arc<str>,
    /// Of whom the counter is: a value for each word of the quota's scope; of a key its id. Empty for a quota that counts all
    /// calls together, and in receipts of older versions.
    pub subject: BTreeMap<String, String>,
    /// What it counts: `usd`, `tokens`, …
    pub measure: String,
    /// The most there might be, at the time.
    pub limit: String,
    /// How full the counter was with what was set aside, or without it where there was no room; `null`: nothing was to be set
    /// aside, or the counter could not be read.
    pub used: Option<String>,
    /// The most that was set aside for the call.
    pub held: String,
    /// What the call counts as since it has ended.
    pub settled: String,
    /// Whether an attempt, or the rest of an answer, did not fit.
    pub refused: bool,
    /// Whether a quota that refuses nothing (`shadow`, `warn`) would have refused one of them.
    pub would_refuse: bool,
}

/// The key a call was made with.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ReceiptKey {
    pub id: Arc<str>,
    pub name: Arc<str>,
}

/// One dispatch to a provider.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ReceiptAttempt {
    /// From 1.
    pub number: u16,
    /// When it was sent, in UTC.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    pub target: Arc<str>,
    pub provider: Arc<str>,
    pub upstream_model: Arc<str>,
    /// The place of the provider's key in its list, from 1.
    pub provider_key: u32,
    pub outcome: &'static str,
    /// The provider's status, where there was one.
    pub status: Option<u16>,
    /// The provider's own id for the answer.
    pub provider_id: Option<String>,
    pub usage: Usage,
    pub usage_source: UsageSource,
    /// What it cost by the catalogue; `null`: the price is not known.
    pub cost: Option<Money>,
    /// What the provider says it cost.
    pub reported_cost: Option<Money>,
    /// The price that was used: `openai/gpt-5.5@2026-04-01`, `free`, `unknown`.
    pub price: Arc<str>,
    pub service_tier: Option<String>,
    /// From dispatch to the first real output, in milliseconds.
    pub first_token_ms: Option<u32>,
    pub duration_ms: u32,
}

impl ReceiptPage {
    /// The first `limit` of `calls`, of which one more was asked for.
    pub(super) fn new(mut calls: Vec<CallRow>, limit: u32, print: &str) -> Self {
        let is_last = calls.len() <= limit as usize;
        calls.truncate(limit as usize);
        let next = calls.last().filter(|_| !is_last).map(|call| cursor(print, &cursor_after(call)));
        Self { data: calls.iter().map(Receipt::from).collect(), next_cursor: next }
    }
}

impl From<&CallRow> for Receipt {
    fn from(call: &CallRow) -> Self {
        let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        let (who, notes) = (&call.who, call.notes.as_deref());
        let lossy = notes.and_then(|notes| notes.lossy.as_deref());
        Self {
            id: call.id.to_string(),
            at: utc(call.at),
            instance: call.instance.clone(),
            operation: call.operation.clone(),
            requested_model: call.requested.to_string(),
            model: call.model.clone(),
            project: who.project.clone(),
            key: ReceiptKey { id: who.key_id.clone(), name: who.key_name.clone() },
            end_user: text(&who.end_user),
            tags: who.tags.clone(),
            workflow: text(&who.workflow),
            session: text(&who.session),
            step: text(&who.step),
            client: text(&call.client),
            stream: call.stream,
            status: call.status,
            outcome: call.outcome.as_str(),
            error_code: text(&call.error_code),
            finish_reason: text(&call.finish_reason),
            first_output_ms: call.first_output_ms,
            duration_ms: call.duration_ms,
            overhead_us: call.overhead_us,
            bytes_in: call.bytes_in,
            bytes_out: call.bytes_out,
            cost: call.cost().map(Money::from),
            usage: call.usage(),
            attempts: call.attempts.iter().map(ReceiptAttempt::from).collect(),
            lossy: lossy.map(|places| places.split(", ").map(str::to_owned).collect()).unwrap_or_default(),
            limits: notes.map(ReceiptLimit::all).unwrap_or_default(),
        }
    }
}

impl ReceiptLimit {
    fn all(notes: &Notes) -> Vec<Self> {
        // Rows of older versions say less.
        let about = notes.about.iter().map(Some).chain(std::iter::repeat(None));
        notes.limits.iter().zip(about).map(|(limit, about)| Self::new(limit, about)).collect()
    }

    fn new(limit: &LimitRow, about: Option<&LimitNote>) -> Self {
        let number = |amount: u64| match &*limit.measure {
            "usd" => Nanos(i64::try_from(amount).unwrap_or(i64::MAX)).to_string(),
            _ => amount.to_string(),
        };
        Self {
            quota: limit.quota.clone(),
            subject: about
                .into_iter()
                .flat_map(|about| &about.subject)
                .map(|(word, value)| (word.to_string(), value.to_string()))
                .collect(),
            measure: limit.measure.to_string(),
            limit: number(limit.limit),
            used: limit.used.map(number),
            held: number(limit.held),
            settled: number(limit.settled),
            refused: limit.refused,
            would_refuse: about.is_some_and(|about| about.would_refuse),
        }
    }
}

impl From<&AttemptRow> for ReceiptAttempt {
    fn from(attempt: &AttemptRow) -> Self {
        let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        Self {
            number: attempt.number,
            at: utc(attempt.at),
            target: attempt.target.clone(),
            provider: attempt.provider.clone(),
            upstream_model: attempt.upstream_model.clone(),
            provider_key: u32::from(attempt.provider_key) + 1,
            outcome: attempt.outcome.as_str(),
            status: attempt.status,
            provider_id: text(&attempt.provider_id),
            usage: attempt.usage,
            usage_source: attempt.usage_source,
            cost: attempt.cost.map(Money::from),
            reported_cost: attempt.reported_cost.map(Money::from),
            price: attempt.price.clone(),
            service_tier: text(&attempt.service_tier),
            first_token_ms: attempt.first_token_ms,
            duration_ms: attempt.duration_ms,
        }
    }
}

/// To the millisecond, which is what the ledger has.
fn utc(millis: i64) -> String {
    Timestamp::from_millisecond(millis).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
