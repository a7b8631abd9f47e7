//! A quota as people write it: in the configuration, through the admin API, on the command line.

mod written;

use std::{collections::BTreeMap, fmt, str::FromStr};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::{Period, Zone};

/// How much of something may be used in which time, and what happens beyond it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaSettings {
    /// A name for people: in errors, headers, metrics and webhooks. Left out: put together from what the quota says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is counted apart: a word, or several for each combination of them. `global` counts everything together.
    pub scope: Scope,
    /// Which ones it is about: a name or a pattern with one `*`, or several; with more than one dimension, by dimension.
    /// Left out: each one that turns up has the quota for itself.
    #[serde(default, rename = "match", skip_serializing_if = "Match::is_everything")]
    pub matching: Match,
    /// What is counted.
    pub measure: Measure,
    /// The most there may be of it. Dollars have up to nine decimals, everything else is whole.
    pub limit: Amount,
    /// In which time: a rolling span (`1s`, `1m`, `24h`), or an hour, day, week or month of the calendar
    /// (`month`, `{ month: Europe/Berlin }`). Concurrent calls have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowSettings>,
    /// What becomes of a call that does not fit.
    #[serde(default, skip_serializing_if = "Action::is_default")]
    pub action: Action,
    /// Parts of the limit at which the webhook is told, once in each period: `[0.8, 1]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warn_at: Vec<f64>,
    /// What becomes of a stream that turns out longer than was set aside for it when there is no more to set aside.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mid_stream: MidStream,
    /// What holds while the counters that replicas share cannot be reached.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_down: WhenDown,
    /// Another limit for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raise: Option<Raise>,
}

/// Another limit for a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Raise {
    /// The limit until then.
    pub to: Amount,
    /// When it ends, for example `2027-01-01T00:00:00Z`.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub until: Timestamp,
}

/// What a quota counts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Projects, by id.
    Project,
    /// Keys, by id or name.
    Key,
    /// End users, as the application names them.
    EndUser,
    /// The configured models that serve a call.
    Model,
    /// Providers, by the operator's name for them.
    Provider,
    /// Targets: `provider/model`.
    Target,
    /// Tags of the key and of the call.
    Tag,
    /// Sessions, as the application names them.
    Session,
}

/// Dimensions in order, each once; none is `global`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope(pub Vec<Dimension>);

/// Names and patterns, by dimension.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Match {
    #[default]
    Everything,
    /// Of the one dimension that the scope has.
    Names(Vec<String>),
    ByDimension(BTreeMap<Dimension, Vec<String>>),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Calls; where the scope has a model, a provider or a target, attempts there.
    Requests,
    /// Tokens of input and output.
    Tokens,
    InputTokens,
    OutputTokens,
    /// US dollars.
    Usd,
    /// Calls at the same time.
    Concurrent,
}

/// A decimal number as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Amount(String);

/// In which time.
#[derive(Clone, Debug, PartialEq)]
pub enum WindowSettings {
    /// The time just past, and how it was written.
    Rolling(Period, String),
    /// A stretch of the calendar in a time zone.
    Calendar(Span, Zone),
}

/// A stretch of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    Hour,
    Day,
    /// From Monday to Sunday.
    Week,
    Month,
}

/// What becomes of a call that does not fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// It is refused with 429.
    #[default]
    Reject,
    /// It is let through; the webhook is told.
    Warn,
    /// It is let through; a metric says how many would have been refused.
    Shadow,
    /// It is served by this model instead.
    Downgrade(String),
}

/// What becomes of a stream that no more can be set aside for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MidStream {
    /// It goes on to its end, and is counted whole.
    #[default]
    Finish,
    /// It ends there, as if the model had reached its output limit.
    Cut,
}

/// What holds while the shared counters cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenDown {
    /// Each replica goes on with its share of what was left.
    #[default]
    Open,
    /// Calls are refused with 503.
    Closed,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Action {
    fn is_default(&self) -> bool {
        *self == Self::Reject
    }
}

impl Dimension {
    pub const ALL: [Self; 8] =
        [Self::Project, Self::Key, Self::EndUser, Self::Model, Self::Provider, Self::Target, Self::Tag, Self::Session];

    /// The word in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Key => "key",
            Self::EndUser => "end_user",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Target => "target",
            Self::Tag => "tag",
            Self::Session => "session",
        }
    }

    /// Whether its value is known only once it is known where a call goes.
    pub const fn is_of_place(self) -> bool {
        matches!(self, Self::Model | Self::Provider | Self::Target)
    }
}

impl Measure {
    /// The word in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Usd => "usd",
            Self::Concurrent => "concurrent",
        }
    }
}

impl Span {
    pub const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// The word in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|span| span.as_str() == word)
    }
}

impl Amount {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Amount {
    fn from(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Match {
    fn is_everything(&self) -> bool {
        *self == Self::Everything
    }
}

impl FromStr for WindowSettings {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(span) = Span::from_word(text.trim()) {
            return Ok(Self::Calendar(span, Zone::UTC));
        }
        text.parse().map(|period| Self::Rolling(period, text.trim().to_owned())).map_err(|_| {
            format!(
                "`{}` is no window; write a span such as 1m or 24h, or hour, day, week or month of UTC",
                text.chars().take(40).collect::<String>().escape_debug()
            )
        })
    }
}

impl fmt::Display for WindowSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rolling(_, written) => f.write_str(written),
            Self::Calendar(span, zone) if *zone == Zone::UTC => f.write_str(span.as_str()),
            Self::Calendar(span, zone) => write!(f, "{} of {zone}", span.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_was_written_is_given_back() {
        let all = [
            json!({ "scope": "global", "measure": "usd", "limit": 500, "window": "month" }),
            json!({ "scope": "key", "measure": "requests", "limit": 600, "window": "1m" }),
            json!({
                "name": "research", "scope": "project", "match": "research", "measure": "usd", "limit": 12.5,
                "window": { "month": "Europe/Berlin" }, "action": { "downgrade": "small" }, "warn_at": [0.8, 1.0],
                "mid_stream": "cut", "when_down": "closed", "raise": { "to": 20, "until": "2027-01-01T00:00:00Z" },
            }),
            json!({
                "scope": ["key", "model"], "match": { "key": ["a", "b"], "model": "gpt-*" }, "measure": "concurrent",
                "limit": 4, "action": "shadow",
            }),
            json!({ "scope": "tag", "match": ["x", "y"], "measure": "usd", "limit": "0.10", "window": "24h" }),
        ];
        for written in all {
            let read: QuotaSettings = serde_json::from_value(written.clone()).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), written);
        }
    }

    #[test]
    fn what_cannot_be_is_not_read() {
        let base = json!({ "scope": "key", "measure": "requests", "limit": 600, "window": "1m" });
        let with = |name: &str, value: Value| {
            let mut changed = base.clone();
            changed[name] = value;
            serde_json::from_value::<QuotaSettings>(changed).map(drop).map_err(|error| error.to_string())
        };
        let cases = [
            ("scope", json!("team"), "global, project, key"),
            ("scope", json!(["global", "key"]), "no other"),
            ("scope", json!([]), "global, project, key"),
            ("scope", json!(["model", "key", "model"]), "`model` stands in the scope twice"),
            ("match", json!(7), "a name"),
            ("match", json!({ "team": "a" }), "by dimension"),
            ("measure", json!("dollars"), "unknown variant"),
            ("limit", json!(true), "a number"),
            ("window", json!("fortnight"), "no window"),
            ("window", json!({ "month": "Mars/Olympus" }), "no time zone"),
            ("window", json!({}), "one of hour"),
            ("window", json!({ "day": "UTC", "month": "UTC" }), "one of hour"),
            ("action", json!("explode"), "unknown variant"),
            ("raise", json!({ "to": 1 }), "until"),
            ("colour", json!("red"), "unknown field"),
        ];
        for (name, value, reason) in cases {
            let error = with(name, value.clone()).unwrap_err();
            assert!(error.contains(reason), "{name}: {value}: {error}");
        }
    }
}
