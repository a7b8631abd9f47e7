//! Why a quota let a call not through, and what its client hears.

use std::{sync::Arc, time::Duration};

use http::StatusCode;

use super::{rule::Rule, settings::Measure};
use crate::{
    error::Error,
    shared::{self, CounterId},
};

/// A quota that a call does not fit in.
#[derive(Clone, Debug)]
pub struct Refused {
    pub rule: Arc<Rule>,
    /// Which of its counters.
    pub(super) counter: CounterId,
    pub why: Why,
}

/// Why it does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is no room now.
    Short {
        used: u64,
        limit: u64,
        amount: u64,
        /// When there will be; `None`: never.
        retry_after: Option<Duration>,
        resets_in: Duration,
    },
    /// What it costs is unknown, and the quota is of money.
    Unpriced,
    /// The counters cannot be reached, and the quota is closed then.
    Unavailable,
    /// As many calls hold quotas as there are places.
    Full,
}

impl Refused {
    pub(super) fn new(
        rule: Arc<Rule>,
        counter: CounterId,
        refusal: shared::Refusal,
        amount: u64,
        unix_millis: u64,
    ) -> Self {
        let why = match refusal {
            shared::Refusal::Unavailable { .. } => Why::Unavailable,
            shared::Refusal::Short { level, retry_after, .. } => Why::Short {
                used: level.used,
                limit: rule.limit_at(unix_millis),
                amount,
                retry_after,
                resets_in: level.resets_in,
            },
        };
        Self { rule, counter, why }
    }

    pub(super) fn unpriced(rule: Arc<Rule>, counter: CounterId) -> Self {
        Self { rule, counter, why: Why::Unpriced }
    }

    pub(super) fn full(rule: Arc<Rule>, counter: CounterId) -> Self {
        Self { rule, counter, why: Why::Full }
    }

    /// Whether another target may fit where this one does not: one that is counted elsewhere, or costs less.
    pub fn depends_on_place(&self) -> bool {
        match self.why {
            Why::Short { .. } => self.rule.is_of_place() || self.rule.measure == Measure::Usd,
            Why::Unpriced => true,
            Why::Unavailable => self.rule.is_of_place(),
            Why::Full => false,
        }
    }

    /// The error for the client. It names the quota and says how much there is of what, and when to come back.
    pub fn error(&self) -> Error {
        let name = &self.rule.name;
        match self.why {
            Why::Short { used, limit, amount, retry_after, resets_in } => {
                self.short(used, limit, amount, retry_after, resets_in)
            }
            Why::Unpriced => {
                let message = format!(
                    "What this model costs is not known, and the quota `{name}` is of money. Ask whoever runs this \
                     gateway to set its price, or `prices.ceiling`."
                );
                Error::client(StatusCode::FORBIDDEN, "price_unknown", message)
            }
            Why::Unavailable => {
                let message = format!(
                    "The counters of the quota `{name}` cannot be reached now, and it is closed for as long. Try again \
                     in a moment."
                );
                Error::gateway(StatusCode::SERVICE_UNAVAILABLE, "quota_unavailable", message)
                    .with_retry_after(Duration::from_secs(2))
            }
            Why::Full => Error::full(),
        }
    }

    fn short(&self, used: u64, limit: u64, amount: u64, retry_after: Option<Duration>, resets_in: Duration) -> Error {
        let (rule, name) = (&self.rule, &self.rule.name);
        let (of, window) = (rule.shown(limit), rule.shown_window());
        let message = match (rule.measure, retry_after) {
            (Measure::Usd, _) => format!(
                "The budget `{name}` is exhausted: {of}{window}, of which {} are spent or set aside, and this call may \
                 cost {}.",
                rule.shown(used),
                rule.shown(amount)
            ),
            (Measure::Concurrent, _) => format!("The quota `{name}` allows {of}, and as many are under way."),
            (_, None) => format!(
                "This call needs {}, more than the quota `{name}` allows at all: {of}{window}. Make it smaller, or set \
                 a lower output limit.",
                rule.shown(amount)
            ),
            (_, Some(_)) => format!(
                "The quota `{name}` allows {of}{window}. {used} are used, and this call needs {amount}. Try again \
                 later."
            ),
        };
        let code = match rule.measure {
            Measure::Usd => "insufficient_quota",
            Measure::Concurrent => "concurrency_limit_exceeded",
            _ => "rate_limit_exceeded",
        };
        let mut error = Error::client(StatusCode::TOO_MANY_REQUESTS, code, message);
        // An exhausted budget, or a call that never fits, is not worth a client's patience; a rate is.
        error.retryable = rule.measure != Measure::Usd && retry_after.is_some() && !is_long(retry_after);
        error.retry_after = Some(retry_after.unwrap_or(resets_in).max(Duration::from_millis(1)));
        error
    }
}

/// Whether a client's SDK, which sleeps before it tries again, should rather tell its user.
fn is_long(wait: Option<Duration>) -> bool {
    wait.is_some_and(|wait| wait > Duration::from_secs(120))
}
