//! What the operator may set about logs.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::types::Size;

/// Logs: where a line of text per call and per event goes, and how it looks.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `text` for people, `json` for machines, `auto`: text on a terminal, JSON elsewhere.
    pub format: Format,
    /// The least severe event that is logged: `error`, `warn`, `info`, `debug`, `trace`; or a filter such as
    /// `info,switchboard::routing=debug`.
    pub level: String,
    /// Whether each call leaves a line.
    pub calls: bool,
    /// Where what calls say and are answered goes. Left out: nowhere.
    pub content: Option<ContentSettings>,
}

/// What calls say and are answered: a line of JSON for each, beside the log. It holds whatever people write; who may read the
/// file is for the operator to see to.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentSettings {
    /// `stdout`, or a file that lines are added to.
    pub to: PathBuf,
    /// How much of a request and how much of an answer is kept, each.
    #[serde(default = "max_bytes")]
    pub max_bytes: Size,
    /// Of which keys, where neither they nor their projects choose.
    #[serde(default)]
    pub keys: ContentKeys,
}

/// Whether keys that have not chosen are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContentKeys {
    /// Only those that say so, or whose projects do.
    #[default]
    OptIn,
    /// All but those that say no, or whose projects do.
    OptOut,
}

fn max_bytes() -> Size {
    Size::kib(64)
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Auto,
    Text,
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self { format: Format::Auto, level: "info".into(), calls: true, content: None }
    }
}
