//! A failed attempt: what it says about the target's health, whether the call may go on elsewhere, and what the client
//! hears if it may not. One table decides all three.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{Call, Gateway, Refusal, headers};
use crate::{
    accounting::Charge,
    error::Error,
    quotas::Refused,
    routing::{Outcome as Health, Reason},
    telemetry::Outcome,
    upstream::SendError,
    wire::openai_chat::{ErrorClass, ProviderError, Said, Stated},
};

/// An attempt that gave no answer to commit.
#[derive(Debug)]
pub(super) struct Failure {
    pub outcome: Outcome,
    /// What it means for the target and its key.
    pub health: Health,
    pub next: Next,
    /// The provider's own answer, if it gave one.
    pub provider: Option<Box<ProviderAnswer>>,
    /// What it consumed, as far as it was heard.
    pub heard: Option<Box<Heard>>,
    /// What the client hears if this was the last attempt.
    pub error: Error,
}

/// What came of an answer that failed.
#[derive(Debug)]
pub(super) struct Heard {
    pub stated: Stated,
    pub said: Option<Said>,
}

/// What a provider said when it refused, ready to be passed on.
#[derive(Debug)]
pub struct ProviderAnswer {
    /// For the client.
    pub status: StatusCode,
    /// The provider's own.
    pub said: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Where a call may go after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nowhere: it would fail everywhere, or its time is up.
    Nowhere,
    /// To another model that is listed for this very reason, and to nothing else.
    Fallback(Reason),
    /// To another target or key; then to a fallback. Not to the same key.
    Elsewhere(Reason),
    /// To another target; then to a fallback. This one would refuse it with any key.
    Past(Reason),
    /// As `Elsewhere`, and at last to the same target again.
    Anywhere(Reason),
    /// To the same target at once: only its connection was gone.
    Again(Reason),
    /// To the same target, which is asked otherwise from now on.
    Reworded(Reason),
}

/// A call whose attempts all failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub failure: Failure,
    pub target: Option<Arc<str>>,
}

impl Failed {
    /// Shutdown has no patience left, and nothing has been committed yet.
    pub(super) fn shutting_down() -> Self {
        let message = "The gateway is shutting down. Send the request again: another one will take it.";
        let error = Error::gateway(StatusCode::SERVICE_UNAVAILABLE, "gateway_shutting_down", message)
            .with_retry_after(Duration::from_secs(1));
        let (outcome, health, next) = (Outcome::RefusedByGateway, Health::NoFault, Next::Nowhere);
        Self { failure: Failure { outcome, health, next, provider: None, heard: None, error }, target: None }
    }

    /// Settles the charge and turns the failure into the answer for the client.
    pub(super) fn refuse(self, gateway: &Gateway, call: &Call, mut charge: Charge) -> Refusal {
        let Failure { outcome, provider, error, .. } = self.failure;
        let mut limits = HeaderMap::new();
        headers::show_limits(&mut limits, &mut charge, call.operation.format(), gateway.clock.unix_millis());
        let attempts = charge.attempts();
        let status = provider.as_ref().map_or(error.status, |answer| answer.status);
        charge.settle_error(outcome, error.code, status.as_u16());
        Refusal { error, provider, target: self.target, attempts, limits, settled: true }
    }
}

impl Failure {
    /// No response head came.
    pub(super) fn send(provider: &str, error: &SendError) -> Self {
        let (outcome, reason, status, code) = match error {
            SendError::Connect(_) => (Outcome::Connect, Reason::Default, 502, "upstream_unreachable"),
            SendError::ConnectTimeout(_) => (Outcome::TimeoutConnect, Reason::Timeout, 504, "upstream_timeout"),
            SendError::Lost(_) | SendError::Stale(_) => (Outcome::Cut, Reason::Default, 502, "upstream_cut"),
            SendError::NotHttp(_) => (Outcome::Malformed, Reason::Default, 502, "upstream_malformed"),
        };
        let what = match error {
            SendError::Connect(_) => "cannot be reached",
            SendError::ConnectTimeout(_) => "could not be connected to in time",
            SendError::Lost(_) | SendError::Stale(_) => "closed the connection before it answered",
            SendError::NotHttp(_) => "sent something that is not HTTP",
        };
        // The cause names addresses and certificates of the operator's network: it is for the log.
        let mut failure = Self::of_target(outcome, reason, status, code, format!("The provider `{provider}` {what}."))
            .because(error.to_string());
        if matches!(error, SendError::Stale(_)) {
            failure.health = Health::NoFault;
            failure.next = Next::Again(reason);
        }
        failure
    }

    /// A deadline passed.
    pub(super) fn timeout(provider: &str, outcome: Outcome, limit: Duration) -> Self {
        let what = match outcome {
            Outcome::TimeoutFirstOutput => "gave no output within its `first_output` deadline",
            Outcome::TimeoutBetweenChunks => "fell silent for longer than its `between_chunks` deadline",
            _ => "did not finish within the `total` deadline",
        };
        let message = format!("The provider `{provider}` {what} of {} ms.", limit.as_millis());
        let mut failure = Self::of_target(outcome, Reason::Timeout, 504, "upstream_timeout", message);
        if outcome == Outcome::TimeoutTotal {
            failure.next = Next::Nowhere;
        }
        failure
    }

    /// The answer broke off before anything was committed.
    pub(super) fn cut(provider: &str, cause: String) -> Self {
        let message = format!("The provider `{provider}` broke its answer off before it was complete.");
        Self::of_target(Outcome::Cut, Reason::Default, 502, "upstream_cut", message).because(cause)
    }

    /// A success without content.
    pub(super) fn empty(provider: &str) -> Self {
        let message = format!("The provider `{provider}` answered 200 without any output.");
        Self::of_target(Outcome::Empty, Reason::Default, 502, "upstream_empty", message)
    }

    /// A success that is not of the format it should be.
    pub(super) fn malformed(provider: &str, what: &str) -> Self {
        let message = format!("The provider `{provider}` sent an answer that cannot be used: {what}.");
        Self::of_target(Outcome::Malformed, Reason::Default, 502, "upstream_malformed", message)
    }

    /// The request cannot be made into one for this provider.
    pub(super) fn request(error: Error) -> Self {
        let (outcome, health, next) = (Outcome::BadRequest, Health::NoFault, Next::Nowhere);
        Self { outcome, health, next, provider: None, heard: None, error }
    }

    /// The request cannot be made into one for this provider, but perhaps into one for another.
    pub(super) fn elsewhere(error: Error) -> Self {
        Self { next: Next::Past(Reason::Default), ..Self::request(error) }
    }

    /// A quota let it not through.
    pub(super) fn quota(refused: &Refused) -> Self {
        let (outcome, health) = (Outcome::RefusedByGateway, Health::NoFault);
        Self { outcome, health, next: Next::Nowhere, provider: None, heard: None, error: refused.error() }
    }

    /// The provider refused, by status or by an error inside a 200.
    pub(super) fn refused(
        provider: &str,
        said: &ProviderError,
        retry_after: Option<Duration>,
        answer: Option<Box<ProviderAnswer>>,
    ) -> Self {
        let rules = Rules::of(said.class, said.status, retry_after);
        let status = answer.as_ref().map_or(rules.status, |answer| answer.status);
        let mut error =
            Error::upstream(status, rules.code, format!("The provider `{provider}` says: {}", said.message));
        error.quotes_provider = true;
        error.retryable = matches!(rules.next, Next::Anywhere(_));
        error.retry_after = retry_after;
        error.param = said.param.clone().map(Into::into);
        let Rules { outcome, health, next, .. } = rules;
        Self { outcome, health, next, provider: answer, heard: None, error }
    }

    fn of_target(outcome: Outcome, reason: Reason, status: u16, code: &'static str, message: String) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        let error = Error::upstream(status, code, message);
        let (health, next) = (Health::Failure, Next::Anywhere(reason));
        Self { outcome, health, next, provider: None, heard: None, error }
    }

    /// With what the provider stated, and said, before it failed.
    pub(super) fn after(mut self, stated: Stated, said: Option<Said>) -> Self {
        self.heard = Some(Box::new(Heard { stated, said }));
        self
    }

    fn because(mut self, cause: String) -> Self {
        self.error = self.error.with_cause(cause);
        self
    }
}

/// The table: what each class of refusal means.
struct Rules {
    outcome: Outcome,
    health: Health,
    next: Next,
    /// For the client, when the provider's own status was a success.
    status: StatusCode,
    code: &'static str,
}

impl Rules {
    fn of(class: ErrorClass, status: Option<u16>, retry_after: Option<Duration>) -> Self {
        let rule = |outcome, health, next, status, code| Self { outcome, health, next, status, code };
        let limited = Health::RateLimited { retry_after };
        if status == Some(409) {
            return Self::permanent(status);
        }
        match class {
            ErrorClass::RateLimited => rule(
                Outcome::RateLimited,
                limited,
                Next::Anywhere(Reason::RateLimit),
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_exceeded",
            ),
            // Waiting does not bring money back; another key may have some.
            ErrorClass::QuotaExhausted => rule(
                Outcome::RateLimited,
                Health::KeyRefused,
                Next::Elsewhere(Reason::RateLimit),
                StatusCode::TOO_MANY_REQUESTS,
                "insufficient_quota",
            ),
            ErrorClass::Authentication => rule(
                Outcome::Auth,
                Health::KeyRefused,
                Next::Elsewhere(Reason::Default),
                StatusCode::UNAUTHORIZED,
                "upstream_key_refused",
            ),
            ErrorClass::Permission => rule(
                Outcome::Auth,
                Health::KeyRefused,
                Next::Elsewhere(Reason::Default),
                StatusCode::FORBIDDEN,
                "upstream_key_refused",
            ),
            ErrorClass::ContextLength => rule(
                Outcome::ContextLength,
                Health::NoFault,
                Next::Fallback(Reason::ContextLength),
                StatusCode::BAD_REQUEST,
                "context_length_exceeded",
            ),
            ErrorClass::ContentPolicy => rule(
                Outcome::ContentPolicy,
                Health::NoFault,
                Next::Fallback(Reason::ContentPolicy),
                StatusCode::BAD_REQUEST,
                "content_policy_violation",
            ),
            ErrorClass::BadRequest | ErrorClass::NotFound | ErrorClass::TooLarge => Self::permanent(status),
            ErrorClass::Unknown if status.is_some_and(|status| status < 500) => Self::permanent(status),
            ErrorClass::Timeout => rule(
                Outcome::UpstreamError,
                Health::Failure,
                Next::Anywhere(Reason::Timeout),
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_timeout",
            ),
            ErrorClass::Overloaded | ErrorClass::Server | ErrorClass::Unknown => {
                // A provider that says when to come back is limiting, whatever the status.
                let health = if retry_after.is_some() { limited } else { Health::Failure };
                let next = Next::Anywhere(Reason::Default);
                rule(Outcome::UpstreamError, health, next, StatusCode::BAD_GATEWAY, "upstream_error")
            }
        }
    }

    /// The request itself is at fault, as far as the provider is concerned: nobody's health suffers.
    fn permanent(status: Option<u16>) -> Self {
        // A conflict is the one that may pass by itself.
        let next = if status == Some(409) { Next::Anywhere(Reason::Default) } else { Next::Nowhere };
        let status = StatusCode::BAD_REQUEST;
        Self { outcome: Outcome::BadRequest, health: Health::NoFault, next, status, code: "upstream_refused" }
    }
}
