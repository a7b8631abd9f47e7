//! What the operator may set about the ledger.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::types::{Period, Size};

/// The journal and the writer that ships it to the database.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The most that the journal may take on the disk, what dead gateways left included.
    pub max_journal: Size,
    /// The most memory that rows may take that wait for the database.
    pub max_memory: Size,
    /// What happens to new calls when neither the journal nor memory has room for their rows.
    pub when_full: WhenFull,
    /// How long rows gather before they are written to the database.
    pub linger: Period,
    /// How long calls and attempts are kept. Left out: for good. Sums by hour stay in any case.
    pub retention: Option<Period>,
}

/// What happens to new calls when their rows cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// They are answered 503.
    Refuse,
    /// They are served, and rows that are lost are counted and logged.
    Serve,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_journal: Size::mib(1024),
            max_memory: Size::mib(64),
            when_full: WhenFull::Refuse,
            linger: Period::from_millis(150),
            retention: None,
        }
    }
}
