//! What the operator may set about logs.

use schemars::JsonSchema;
use serde::Deserialize;

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
        Self { format: Format::Auto, level: "info".into(), calls: true }
    }
}
