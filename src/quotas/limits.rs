//! What an answer says of the quotas it counted in: the customary `x-ratelimit-*` headers, from the tightest of each kind.

use std::{sync::Arc, time::Duration};

use super::{rule::Rule, settings::Measure};

/// How much is left of one kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub limit: u64,
    pub remaining: u64,
    pub resets_in: Duration,
}

/// The tightest quota of each kind that headers have a name for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    pub requests: Option<RateLimit>,
    pub tokens: Option<RateLimit>,
    pub input_tokens: Option<RateLimit>,
    pub output_tokens: Option<RateLimit>,
}

impl RateLimits {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Each with the word that headers name it by.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, RateLimit)> {
        [
            ("requests", self.requests),
            ("tokens", self.tokens),
            ("input-tokens", self.input_tokens),
            ("output-tokens", self.output_tokens),
        ]
        .into_iter()
        .filter_map(|(word, limit)| Some((word, limit?)))
    }

    /// These, and of the kinds that are missing those of `other`.
    pub(super) fn or(self, other: &Self) -> Self {
        Self {
            requests: self.requests.or(other.requests),
            tokens: self.tokens.or(other.tokens),
            input_tokens: self.input_tokens.or(other.input_tokens),
            output_tokens: self.output_tokens.or(other.output_tokens),
        }
    }

    /// Takes a quota into account that is of one of the kinds, and holds calls to it.
    pub(super) fn add(&mut self, rule: &Arc<Rule>, used: u64, resets_in: Duration, unix_millis: u64) {
        let slot = match rule.measure {
            Measure::Requests => &mut self.requests,
            Measure::Tokens => &mut self.tokens,
            Measure::InputTokens => &mut self.input_tokens,
            Measure::OutputTokens => &mut self.output_tokens,
            Measure::Usd | Measure::Concurrent => return,
        };
        if !rule.enforces() {
            return;
        }
        let limit = rule.limit_at(unix_millis);
        let found = RateLimit { limit, remaining: limit.saturating_sub(used), resets_in };
        // The one of which the smallest part is left; of equals the one that takes longest.
        let tighter = |known: &RateLimit| {
            let (a, b) = (
                u128::from(found.remaining) * u128::from(known.limit.max(1)),
                u128::from(known.remaining) * u128::from(found.limit.max(1)),
            );
            a < b || a == b && found.resets_in > known.resets_in
        };
        if slot.as_ref().is_none_or(tighter) {
            *slot = Some(found);
        }
    }
}
