//! How a call or an attempt ended, in the words of metrics, logs and the ledger.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// How a call or one attempt of it ended. A call that ended badly is never counted as `ok`, whatever status its
/// client had already been sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// A whole answer, sent to its end.
    Ok,
    /// The client hung up.
    ClientCancel,
    /// A 5xx or another error the provider reports without a class of its own.
    UpstreamError,
    /// The provider said 429.
    RateLimited,
    /// No connection to the provider in time.
    TimeoutConnect,
    /// No real output in time.
    TimeoutFirstOutput,
    /// The stream fell silent for too long.
    TimeoutBetweenChunks,
    /// The call as a whole took too long.
    TimeoutTotal,
    /// The provider could not be reached: refused, reset, unresolved, or TLS failed.
    Connect,
    /// A 200 with nothing in it.
    Empty,
    /// An answer that could not be read.
    Malformed,
    /// The provider's stream ended before it was complete.
    Cut,
    /// The provider refused its key.
    Auth,
    /// The request was wrong, as the provider or the gateway saw it.
    BadRequest,
    /// The prompt is longer than the model can take.
    ContextLength,
    /// The provider's content filter refused.
    ContentPolicy,
    /// The gateway refused: unknown key, no access, no room, a limit.
    RefusedByGateway,
    /// The gateway's own fault.
    Internal,
    /// Nobody knows: the gateway died while it ran. Found in the journal at the next start.
    Lost,
}

impl Outcome {
    /// Every outcome, in the order of their numbers.
    pub const ALL: [Self; 19] = [
        Self::Ok,
        Self::ClientCancel,
        Self::UpstreamError,
        Self::RateLimited,
        Self::TimeoutConnect,
        Self::TimeoutFirstOutput,
        Self::TimeoutBetweenChunks,
        Self::TimeoutTotal,
        Self::Connect,
        Self::Empty,
        Self::Malformed,
        Self::Cut,
        Self::Auth,
        Self::BadRequest,
        Self::ContextLength,
        Self::ContentPolicy,
        Self::RefusedByGateway,
        Self::Internal,
        Self::Lost,
    ];

    /// The word used as a label and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientCancel => "client_cancel",
            Self::UpstreamError => "upstream_error",
            Self::RateLimited => "rate_limited",
            Self::TimeoutConnect => "timeout_connect",
            Self::TimeoutFirstOutput => "timeout_first_output",
            Self::TimeoutBetweenChunks => "timeout_between_chunks",
            Self::TimeoutTotal => "timeout_total",
            Self::Connect => "connect",
            Self::Empty => "empty",
            Self::Malformed => "malformed",
            Self::Cut => "cut",
            Self::Auth => "auth",
            Self::BadRequest => "bad_request",
            Self::ContextLength => "context_length",
            Self::ContentPolicy => "content_policy",
            Self::RefusedByGateway => "refused_by_gateway",
            Self::Internal => "internal",
            Self::Lost => "lost",
        }
    }

    /// Whether a provider failed, as far as the outcome tells; not the client, and not the gateway.
    pub const fn is_providers_fault(self) -> bool {
        !matches!(self, Self::Ok | Self::ClientCancel | Self::RefusedByGateway | Self::Internal | Self::Lost)
    }

    /// The outcome of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }

    /// Its place in [`Outcome::ALL`], for tables with a slot per outcome.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::from_word(&word).ok_or_else(|| D::Error::custom("not a word for how a call ended"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_outcome_has_its_own_slot_and_its_own_word() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), index, "{outcome:?}");
            assert_eq!(Outcome::from_word(outcome.as_str()), Some(outcome));
        }
        let words: HashSet<_> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
        assert_eq!(words.len(), Outcome::ALL.len());
    }
}
