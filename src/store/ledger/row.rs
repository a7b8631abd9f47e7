//! What the ledger says of a call: one row, and one for each attempt that was dispatched.

use std::{borrow::Cow, sync::Arc};

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
    /// What there is to say of some calls only. It is the last member and is not written where there is nothing, because
    /// the journal's records end with it: what is added belongs at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<Box<Notes>>,
}

/// What most calls have nothing of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Notes {
    /// What could not be said in the other side's format, by its places, as clients are told.
    pub lossy: Option<Box<str>>,
    /// The quotas it counted in, and those it did not fit in.
    pub limits: Vec<LimitRow>,
    /// What else there is to say of each of `limits`, in their order; empty where there is nothing, and in the rows of older
    /// versions. It is not in [`LimitRow`], because the journal's records can only grow at their end.
    pub about: Vec<LimitNote>,
}

/// Of whom a counter was, and what its quota would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitNote {
    /// What the counter counted apart: a value for each word of the quota's scope (`key`, `model`), in its order.
    pub subject: Vec<(Cow<'static, str>, Box<str>)>,
    /// The quota refuses nothing, and there was no room: it would have refused an attempt, or the rest of an answer.
    pub would_refuse: bool,
}

/// What a call did to one counter of a quota. Amounts are in the counter's unit: nano-dollars, or pieces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRow {
    /// The quota's name.
    pub quota: Arc<str>,
    /// What it counts: `usd`, `tokens`.
    pub measure: Cow<'static, str>,
    pub limit: u64,
    /// How full the counter was with what was set aside, or when there was no room. `None`: nothing was to be set aside,
    /// or nobody could say.
    pub used: Option<u64>,
    /// The most that was set aside for the call.
    pub held: u64,
    /// What the call counts as after its end.
    pub settled: u64,
    /// There was no room for an attempt, or for the rest of an answer.
    pub refused: bool,
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

impl Notes {
    /// The most limits that are kept of a call.
    pub const MAX_LIMITS: usize = 16;

    /// These, boxed, unless there are none. `about` is of as many as `limits` are, or of fewer.
    pub fn new(lossy: Option<Box<str>>, limits: Vec<LimitRow>, mut about: Vec<LimitNote>) -> Option<Box<Self>> {
        about.truncate(limits.len());
        if about.iter().all(|note| *note == LimitNote::default()) {
            about = Vec::new();
        }
        (lossy.is_some() || !limits.is_empty()).then(|| Box::new(Self { lossy, limits, about }))
    }
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
