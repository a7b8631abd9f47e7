//! What the operator may set about routing: models, targets, fallbacks, retries and health.

use std::{borrow::Cow, fmt};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};

use crate::{providers::settings::Timeout, types::Period};

/// One model as clients name it: where its calls go.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// How a target is chosen. Unset: `weighted` if any target has a weight, else `ordered`.
    pub strategy: Option<Strategy>,
    /// Where calls may go, as `provider/model`.
    pub targets: Vec<TargetSettings>,
    /// Other models to turn to when every target has failed, by reason.
    pub fallbacks: Fallbacks,
    /// What happens to a call that its target's format cannot express in full; what is unset comes from the top level.
    pub lossy: Option<Lossy>,
    /// Deadlines; what is unset comes from the provider, then from the top level.
    pub timeout: Timeout,
    /// Members set where the client did not, for every target.
    pub defaults: Map<String, Value>,
    /// Numeric members lowered to this where the client asked for more; set where it asked for nothing.
    pub ceilings: Map<String, Value>,
    /// Members set whatever the client sent; `null` removes the member.
    pub overrides: Map<String, Value>,
}

/// What happens to a call that its target's format cannot express in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lossy {
    /// It is made, and what is lost is named in the answer's `x-switchboard-lossy`.
    #[default]
    Declare,
    /// It is refused by that target; if by all of them, with a 400 that names what would be lost.
    Strict,
}

/// How a target is chosen among those that are well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The first that is well, in the order written.
    Ordered,
    /// At random in proportion to `weight`; the rest in a random order as reserves.
    Weighted,
}

/// One place where a model's calls may go. A bare string is its `model`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetSettings {
    pub model: String,
    pub weight: Option<f64>,
    pub timeout: Timeout,
    pub params: Params,
}

/// The long form of a target.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Target")]
struct TargetLong {
    /// `provider/model`, the provider by its name in `providers`.
    model: String,
    /// Its share of calls under `weighted`, relative to the other targets'. Default 1; 0 makes it a reserve.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    weight: Option<f64>,
    /// Deadlines for this target alone.
    #[serde(default)]
    timeout: Timeout,
    /// Members set where the client did not.
    #[serde(default)]
    defaults: Map<String, Value>,
    /// Numeric members lowered to this where the client asked for more; set where it asked for nothing.
    #[serde(default)]
    ceilings: Map<String, Value>,
    /// Members set whatever the client sent; `null` removes the member.
    #[serde(default)]
    overrides: Map<String, Value>,
}

/// Changes to request bodies. `max_tokens` and `max_completion_tokens` are one parameter in two spellings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    /// Members set where the client did not.
    pub defaults: Map<String, Value>,
    /// Numeric members lowered to this where the client asked for more; set where it asked for nothing.
    pub ceilings: Map<String, Value>,
    /// Members set whatever the client sent; `null` removes the member.
    pub overrides: Map<String, Value>,
}

/// Models to turn to, by the reason of the last failure; a reason without a list of its own uses `default`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fallbacks {
    /// After any failure that another model may not share.
    pub default: Vec<String>,
    /// After a rate limit or an exhausted quota.
    pub rate_limit: Option<Vec<String>>,
    /// After a deadline passed.
    pub timeout: Option<Vec<String>>,
    /// After the prompt was too long. Not followed to `default`: a request that is too long is the client's to know.
    pub context_length: Option<Vec<String>>,
    /// After a content filter refused. Not followed to `default`.
    pub content_policy: Option<Vec<String>>,
}

/// Retries: how often and how fast a failed call is tried again.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySettings {
    /// Upstream calls that one client call may cause, the first and all fallbacks included.
    #[schemars(range(min = 1))]
    pub max_attempts: u16,
    /// The share of all calls that retries of a target already tried may add.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_share: f64,
    /// The backoff before the second try of the same target; doubled for each further one, with full jitter.
    pub base: Period,
    /// The longest backoff.
    pub max: Period,
    /// The longest `Retry-After` that is waited for; longer ones go to the client.
    pub max_retry_after: Period,
}

/// Health: when a target or a key is rested, and for how long.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthSettings {
    /// Failures in a row that rest a target.
    #[schemars(range(min = 1))]
    pub consecutive_failures: u32,
    /// The share of failures within `window` that rests a target, once there were `min_calls`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub failure_ratio: f64,
    pub window: Period,
    #[schemars(range(min = 1))]
    pub min_calls: u32,
    /// The first rest; doubled each time a probe fails.
    pub rest: Period,
    /// The longest rest that is not a provider's own `Retry-After`.
    pub max_rest: Period,
    /// How long a provider key that was refused (401, 403) or has no money left (402) is avoided.
    pub dead_key_rest: Period,
    /// How long a call may wait for the first target to end its rest when all of them are resting.
    pub max_wait: Period,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            max_attempts: 4,
            max_share: 0.2,
            base: Period::from_millis(250),
            max: Period::from_secs(8),
            max_retry_after: Period::from_secs(10),
        }
    }
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_ratio: 0.5,
            window: Period::from_secs(30),
            min_calls: 20,
            rest: Period::from_secs(5),
            max_rest: Period::from_secs(60),
            dead_key_rest: Period::from_secs(300),
            max_wait: Period::from_secs(2),
        }
    }
}

impl<'de> Deserialize<'de> for TargetSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = TargetSettings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`provider/model`, or a mapping with `model`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TargetSettings, E> {
                Ok(TargetSettings { model: text.to_owned(), ..TargetSettings::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TargetSettings, A::Error> {
                let long = TargetLong::deserialize(MapAccessDeserializer::new(map))?;
                let params = Params { defaults: long.defaults, ceilings: long.ceilings, overrides: long.overrides };
                Ok(TargetSettings { model: long.model, weight: long.weight, timeout: long.timeout, params })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for TargetSettings {
    fn schema_name() -> Cow<'static, str> {
        "TargetOrName".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let long = generator.subschema_for::<TargetLong>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, long] })
    }
}
