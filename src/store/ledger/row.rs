//! What the ledger says of a call: one row, and one for each attempt that was dispatched.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::types::{Nanos, Outcome, Usage, UsageSource};

/// A call that has ended, whatever its end. Its id is the gateway's own, so writing it twice is harmless. Texts are
/// shared: most of them are the same for every call on a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRow {
    /// A ULID: sorts by arrival.
    pub id: Arc<str>,
    /// Arrival, Unix milliseconds.
    pub at: i64,
    /// Which gateway served it: the name of the instance.
    pub instance: Arc<str>,
    /// `chat`, `text_completion`, `embeddings`.
    pub operation: Arc<str>,
    /// The model as the client named it.
    pub requested: Box<str>,
    /// The configured model that served it; empty when none was reached.
    pub model: Arc<str>,
    pub who: Who,
    pub client: Option<Box<str>>,
    pub stream: bool,
    /// The status the client saw.
    pub status: u16,
    pub outcome: Outcome,
    /// The code of the error the client saw.
    pub error_code: Option<Box<str>>,
    pub finish_reason: Option<Box<str>>,
    /// From arrival to the first real output, in milliseconds.
    pub first_output_ms: Option<u32>,
    pub duration_ms: u32,
    /// What the gateway itself added, in microseconds.
    pub overhead_us: u32,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Every dispatch, in order. The call's cost and usage are their sums.
    pub attempts: Vec<AttemptRow>,
}

/// On whose behalf. What a client says of itself is cut to a bounded length before it gets here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Who {
    /// The id of the project; `default` for keys that belong to none.
    pub project: Arc<str>,
    pub key_id: Arc<str>,
    pub key_name: Arc<str>,
    pub end_user: Option<Box<str>>,
    /// In order, without duplicates.
    pub tags: Vec<Arc<str>>,
    pub workflow: Option<Box<str>>,
    pub session: Option<Box<str>>,
    pub step: Option<Box<str>>,
}

/// One dispatch to a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// From 1, within the call.
    pub number: u16,
    /// When bytes went upstream, Unix milliseconds.
    pub at: i64,
    /// The target's name, `provider/model`.
    pub target: Arc<str>,
    pub provider: Arc<str>,
    pub upstream_model: Arc<str>,
    /// The place of the provider's key in its list, from 0.
    pub provider_key: u16,
    pub outcome: Outcome,
    /// The provider's status, where there was one.
    pub status: Option<u16>,
    /// The provider's own id for the answer. Data, never a key: it repeats, or is missing.
    pub provider_id: Option<Box<str>>,
    pub usage: Usage,
    pub usage_source: UsageSource,
    /// What it cost by the catalogue. `None`: the price is unknown.
    pub cost: Option<Nanos>,
    /// What the provider says it cost.
    pub reported_cost: Option<Nanos>,
    /// The price that was used: its name in the catalogue and the day it is valid from; `free`; `unknown`.
    pub price: Arc<str>,
    /// The service tier the provider says it served.
    pub service_tier: Option<Box<str>>,
    /// From dispatch to the first real output, in milliseconds.
    pub first_token_ms: Option<u32>,
    pub duration_ms: u32,
}

impl CallRow {
    /// What all attempts cost together. `None` if the price of one that consumed something is unknown.
    pub fn cost(&self) -> Option<Nanos> {
        self.attempts.iter().map(|attempt| attempt.cost).sum()
    }

    /// What all attempts consumed.
    pub fn usage(&self) -> Usage {
        let mut sum = Usage::default();
        self.attempts.iter().for_each(|attempt| sum += attempt.usage);
        sum
    }
}
