//! One dispatch to a provider: the unit in which money is spent.
//!
//! What an attempt consumed is what the provider states. Some state the input at the beginning of a stream and the output
//! at its end; of a stream that broke off in between, what was said is counted here, as the output. Where a provider
//! states nothing:
//!
//! * Nothing, if nothing was sent or the provider refused before it worked: no connection, a refused key, a rate limit,
//!   a request it does not take, a prompt that is too long or not allowed. A connection that had been idle and turned
//!   out to be closed counts as not sent.
//! * Otherwise the input, and as much output as was seen, counted here: after a 5xx, a broken connection, a deadline, an
//!   empty answer, a client that hung up, or a success without token counts. Whether the provider charges for it is its
//!   business; the row says that the figure is ours.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::estimate::{self, Asked};
use crate::{
    catalog::{Price, Terms},
    store::ledger::AttemptRow,
    telemetry::{Outcome, TargetMetrics},
    types::{Nanos, Usage, UsageSource},
    wire::openai_chat::{Said, Stated},
};

/// Where an attempt goes.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The target's label.
    pub target: Arc<str>,
    /// The operator's name for the provider.
    pub provider: Arc<str>,
    /// The model's name at the provider.
    pub upstream_model: Arc<str>,
    pub price: Price,
    /// The region it is served from, where the price depends on it.
    pub region: Option<Arc<str>>,
    /// The place of the provider's key in its list.
    pub key: usize,
    pub metrics: Arc<TargetMetrics>,
}

/// What is known of one attempt.
#[derive(Debug)]
pub struct AttemptRecord {
    pub to: Destination,
    /// When bytes went upstream, Unix milliseconds.
    pub at: u64,
    pub started: Instant,
    /// `None` while it runs.
    pub outcome: Option<Outcome>,
    /// The provider's status, where there was one.
    pub status: Option<u16>,
    /// From sending to the first real output of a stream.
    pub first_token: Option<Duration>,
    /// From sending to the end.
    pub took: Duration,
    /// The connection had been idle and was found closed.
    pub unsent: bool,
    pub stated: Stated,
    /// What was said, where no usage is stated.
    pub said: Option<Box<Said>>,
    /// What was counted here, once it was.
    pub counted: Option<(Usage, UsageSource)>,
}

impl AttemptRecord {
    pub(super) fn new(to: Destination, at: u64, started: Instant) -> Self {
        Self {
            to,
            at,
            started,
            outcome: None,
            status: None,
            first_token: None,
            took: Duration::ZERO,
            unsent: false,
            stated: Stated::default(),
            said: None,
            counted: None,
        }
    }

    /// Whether its tokens have to be counted here.
    pub(super) fn is_uncounted(&self) -> bool {
        let is_stated = self.stated.usage.is_some() && !self.stated.usage_is_early;
        !is_stated && self.counted.is_none() && !self.consumed_nothing()
    }

    /// What it consumed, as far as is known by now.
    pub(super) fn consumed(&self, asked: &Asked) -> (Usage, UsageSource) {
        match (self.stated.usage, self.counted) {
            (Some(usage), counted) if self.stated.usage_is_early => {
                with_output(usage, counted.unwrap_or_else(|| estimate::by_length(asked, self.said.as_deref())))
            }
            (Some(usage), _) => (usage, UsageSource::Reported),
            (None, _) if self.consumed_nothing() => (Usage::default(), UsageSource::None),
            (None, Some(counted)) => counted,
            (None, None) => estimate::by_length(asked, self.said.as_deref()),
        }
    }

    /// What this usage costs here. `None`: nobody knows.
    pub(super) fn cost(&self, usage: &Usage) -> Option<Nanos> {
        if *usage == Usage::default() {
            return Some(Nanos::ZERO);
        }
        self.to.price.cost(usage, &self.terms())
    }

    /// What the stated usage costs. `None` if there is none, or its price is unknown.
    pub(super) fn stated_cost(&self, stated: &Stated) -> Option<Nanos> {
        let tier = stated.service_tier.as_deref();
        self.to.price.cost(&stated.usage?, &Terms { service_tier: tier, ..self.terms() })
    }

    /// Its row, as things stand: while it runs, nobody knows how it will end.
    pub(super) fn row(&self, number: usize, asked: &Asked) -> AttemptRow {
        let (usage, usage_source) = self.consumed(asked);
        AttemptRow {
            number: u16::try_from(number).unwrap_or(u16::MAX),
            at: i64::try_from(self.at).unwrap_or(i64::MAX),
            target: self.place(usage_source),
            provider: self.to.provider.clone(),
            upstream_model: self.to.upstream_model.clone(),
            provider_key: u16::try_from(self.to.key).unwrap_or(u16::MAX),
            outcome: self.outcome.unwrap_or(Outcome::Lost),
            status: self.status,
            provider_id: self.stated.id.clone(),
            usage,
            usage_source,
            cost: self.cost(&usage),
            reported_cost: self.stated.cost,
            price: self.to.price.name(self.terms().at_ms),
            service_tier: self.stated.service_tier.clone(),
            first_token_ms: self.first_token.map(millis),
            duration_ms: millis(self.took),
        }
    }

    /// The target's name. That of a pattern says which model it was there, unless the provider refused before it worked:
    /// clients invent names, and sums have a line for each.
    fn place(&self, usage_source: UsageSource) -> Arc<str> {
        match usage_source != UsageSource::None && self.to.target.contains('*') {
            true => format!("{}/{}", self.to.provider, self.to.upstream_model).into(),
            false => self.to.target.clone(),
        }
    }

    fn terms(&self) -> Terms<'_> {
        Terms {
            service_tier: self.stated.service_tier.as_deref(),
            region: self.to.region.as_deref(),
            at_ms: i64::try_from(self.at).unwrap_or(i64::MAX),
            ..Terms::default()
        }
    }

    /// Whether the provider did not refuse before it worked.
    pub(super) fn was_worked_on(&self) -> bool {
        self.stated.usage.is_some() || !self.consumed_nothing()
    }

    fn consumed_nothing(&self) -> bool {
        let is_refusal = match self.outcome {
            Some(
                Outcome::Connect
                | Outcome::TimeoutConnect
                | Outcome::RateLimited
                | Outcome::Auth
                | Outcome::BadRequest
                | Outcome::ContextLength
                | Outcome::ContentPolicy,
            ) => true,
            _ => self.unsent,
        };
        is_refusal && self.said.as_ref().is_none_or(|said| said.is_empty())
    }
}

/// What a provider stated before it had said everything, with the output that was counted here if that is more.
fn with_output(stated: Usage, (counted, source): (Usage, UsageSource)) -> (Usage, UsageSource) {
    if counted.total_output() <= stated.total_output() {
        return (stated, UsageSource::Reported);
    }
    let missing = counted.total_output() - stated.total_output();
    let (output, reasoning) = (stated.output.max(counted.output), stated.reasoning.max(counted.reasoning));
    let text = stated.output.saturating_add(missing).min(output);
    let thought = stated.reasoning.saturating_add(missing - (text - stated.output)).min(reasoning);
    (Usage { output: text, reasoning: thought, ..stated }, source)
}

/// Whole milliseconds, rounded down.
pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
