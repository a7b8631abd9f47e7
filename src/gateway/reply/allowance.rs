//! What a stream may still say: what was set aside for its output, and asking for more while it goes on.
//!
//! Only a call whose provider was told of no cap has an allowance. When three quarters of it are used, as much again is
//! asked for; each time it doubles, so a stream of any length asks a few times. Where there is no more, the quota says
//! whether the stream goes on to its end, or ends with its allowance.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    accounting::Charge,
    catalog::{Price, Terms},
    gateway::{Call, Gateway, set_aside::output_cap},
    quotas::{Consumed, Refused, settings::MidStream},
    routing::Candidate,
    shared::Hold,
    types::Usage,
};

/// How many bytes of an answer are taken for a token.
const BYTES: u64 = 4;
/// The least that is asked for, in tokens.
const LEAST: u64 = 256;

/// The allowance of one stream.
pub(super) struct Allowance {
    gateway: Arc<Gateway>,
    price: Price,
    region: Option<Arc<str>>,
    /// The service tier that was asked for.
    tier: Option<Box<str>>,
    input: u64,
    /// What is set aside for the output, in tokens.
    output: u64,
    /// As much of the answer may pass before anything has to be done, in bytes.
    until: u64,
    asking: Option<(Consumed, Asking)>,
    /// There is no more: the stream ends with its allowance.
    is_last: bool,
}

type Asking = Pin<Box<dyn Future<Output = Result<Hold, Refused>> + Send>>;

/// What becomes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    GoOn,
    /// Its length is nobody's concern any more.
    Free,
    /// It has to end here.
    Cut,
}

impl Allowance {
    /// `None`: no quota cares how long the stream gets, or its provider cares for that.
    pub(super) fn of(gateway: &Arc<Gateway>, call: &Call, candidate: &Candidate, charge: &mut Charge) -> Option<Self> {
        let input = charge.input_at_most();
        let (account, _) = charge.account()?;
        if output_cap(call, candidate).is_some() {
            return None;
        }
        let output = account.output_set_aside();
        Some(Self {
            gateway: gateway.clone(),
            price: call.snapshot.outlet(&candidate.target).prices.of(&candidate.upstream_model),
            region: candidate.target.provider.region.clone(),
            tier: call.envelope.get("service_tier").and_then(|tier| tier.as_str()).map(Into::into),
            input,
            output,
            until: output.saturating_mul(BYTES) / 4 * 3,
            asking: None,
            is_last: false,
        })
    }

    /// Whether a stream that has said so many bytes may not go on before it was looked at. Every frame asks this.
    pub(super) fn is_used(&self, spoken: u64) -> bool {
        spoken >= self.until && self.asking.is_none()
    }

    /// Whether an answer is awaited.
    pub(super) fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// Looks at a stream that has said so many bytes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, spoken: u64, charge: &mut Charge) -> Verdict {
        if self.is_last {
            return if spoken >= self.until { Verdict::Cut } else { Verdict::GoOn };
        }
        if self.asking.is_none() {
            let more = self.more();
            let Some((account, _)) = charge.account() else { return Verdict::Free };
            let now = self.gateway.clock.unix_millis();
            let Some(asking) = account.extend(more, self.gateway.quotas.shared(), now) else { return Verdict::Free };
            self.asking = Some((more, Box::pin(asking)));
        }
        let Some((more, asking)) = &mut self.asking else { return Verdict::GoOn };
        let (more, Poll::Ready(answer)) = (*more, asking.as_mut().poll(cx)) else { return Verdict::GoOn };
        self.asking = None;
        if let (Err(refused), Some((account, _))) = (&answer, charge.account()) {
            account.refused_more(refused, self.gateway.clock.unix_millis());
        }
        match answer {
            Ok(hold) => {
                self.output = self.output.saturating_add(more.output);
                self.until = self.output.saturating_mul(BYTES) / 4 * 3;
                if let Some((account, _)) = charge.account() {
                    account.granted(hold, more);
                }
                Verdict::GoOn
            }
            Err(refused) if refused.rule.mid_stream == MidStream::Cut => {
                self.is_last = true;
                self.until = self.output.saturating_mul(BYTES);
                self.poll(cx, spoken, charge)
            }
            Err(_) => Verdict::Free,
        }
    }

    /// As much again as there is.
    fn more(&self) -> Consumed {
        let output = self.output.max(LEAST);
        let at_ms = i64::try_from(self.gateway.clock.unix_millis()).unwrap_or(i64::MAX);
        let terms = Terms { region: self.region.as_deref(), at_ms, ..Terms::default() };
        let cost = |output| {
            let usage = Usage { input: self.input, output, ..Usage::default() };
            // As before the attempt: what the tier costs, if it has a price of its own.
            let of_tier = Terms { service_tier: self.tier.as_deref(), ..terms };
            self.price.cost(&usage, &of_tier).or_else(|| self.price.cost(&usage, &terms))
        };
        let (before, after) = (cost(self.output), cost(self.output.saturating_add(output)));
        let cost = before.zip(after).map(|(before, after)| crate::types::Nanos(after.0.saturating_sub(before.0)));
        Consumed { input: 0, output, cost }
    }
}

impl std::fmt::Debug for Allowance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Allowance").field("output", &self.output).field("until", &self.until).finish_non_exhaustive()
    }
}
