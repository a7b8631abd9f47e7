//! What the operator may set about callers: keys declared in the file, the admin key, and the guard against guessing.

use std::net::SocketAddr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::labels::DEFAULT_PROJECT;
use crate::types::Secret;

/// The guard against key guessing.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Wrong keys per minute that one client address may present before it is answered 429.
    #[schemars(range(min = 1))]
    pub wrong_keys_per_minute: u32,
}

/// A key declared in the file. The file is its only truth: the key store and its commands do not know it.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySettings {
    /// A name for people: shown in logs and listings. Unique.
    pub name: String,
    /// The key that clients present; any text of at least 16 characters without spaces.
    pub value: Secret,
    /// The id of the project its calls are booked on.
    #[serde(default = "project")]
    pub project: String,
    /// What its calls are sorted by, beside the project.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The models it may use, by name or pattern (`gpt-5.5`, `openai/*`, `*`). An empty list means none.
    #[serde(default)]
    pub models: Vec<String>,
    /// The operations it may use: `chat`, `completions`, `embeddings`, `messages`, `count_tokens`, `models`, or `*`. An
    /// empty list means none.
    #[serde(default = "all")]
    pub endpoints: Vec<String>,
    /// The addresses and ranges it may be used from (`192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`), or `*`. An empty list
    /// means none.
    #[serde(default = "all")]
    pub addresses: Vec<String>,
    /// The most output tokens that a call may ask for: more is lowered to it, and a call that says nothing asks for it.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u32>,
    /// Whether what its calls say and are answered is logged, where `log.content` logs anything. Left out: as its project says.
    #[serde(default)]
    pub log_content: Option<bool>,
    /// When it stops working, for example `2027-01-01T00:00:00Z`.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub expires: Option<Timestamp>,
    /// `false` refuses it without removing it.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// A project declared in the file, in place of a stored one of its id. The file is its only truth.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectSettings {
    /// A name for people. Left out: the id.
    #[serde(default)]
    pub name: Option<String>,
    /// For people to sort projects by; calls do not carry them.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The models that its keys may use, by name or pattern. An empty list means none.
    #[serde(default)]
    pub models: Vec<String>,
    /// The operations that its keys may use, as for a key.
    #[serde(default = "all")]
    pub endpoints: Vec<String>,
    /// The addresses and ranges that its keys may be used from, as for a key.
    #[serde(default = "all")]
    pub addresses: Vec<String>,
    /// Whether what calls of its keys say and are answered is logged. `false` binds its keys. Left out: as `log.content` says.
    #[serde(default)]
    pub log_content: Option<bool>,
    /// `true`: its keys may do nothing.
    #[serde(default)]
    pub archived: bool,
}

/// The admin API.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// The key of the admin API. Left out: that in `SWITCHBOARD_ADMIN_KEY`, or one that is made at the first start.
    pub key: Option<Secret>,
    /// An address of its own for the admin API, which is then not served at `listen`.
    #[schemars(with = "Option<String>", extend("format" = "socket-address"))]
    pub listen: Option<SocketAddr>,
}

fn project() -> String {
    DEFAULT_PROJECT.to_owned()
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

fn yes() -> bool {
    true
}

impl Default for Settings {
    fn default() -> Self {
        Self { wrong_keys_per_minute: 30 }
    }
}
