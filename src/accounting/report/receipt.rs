//! Single calls as they are given.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{answer::Money, question::cursor};
use crate::{
    store::ledger::{AttemptRow, CallRow, cursor_after},
    types::{Usage, UsageSource},
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
        let who = &call.who;
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
