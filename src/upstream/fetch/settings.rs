//! What the operator may set about fetching.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::types::{Period, Size};

/// Fetching what clients name by URL, for providers that have to be sent the bytes. Only public addresses are reached.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FetchSettings {
    /// Whether anything is fetched at all. Otherwise such calls are refused, or go to a target that takes URLs.
    pub enabled: bool,
    /// The largest file.
    pub max_size: Size,
    /// The most that the files of one call may have together.
    pub max_total: Size,
    /// The most files of one call.
    pub max_files: usize,
    /// How long all files of one call may take together.
    pub timeout: Period,
    /// Files being fetched at once over the whole gateway; others wait for their turn.
    pub max_concurrent: usize,
    /// The ports that may be connected to.
    pub ports: Vec<u16>,
    /// Hosts of your own network that may be reached although their addresses are not public, on any port.
    pub allow_hosts: Vec<String>,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            max_size: Size::mib(20),
            max_total: Size::mib(40),
            max_files: 20,
            timeout: Period::from_secs(15),
            max_concurrent: 32,
            ports: vec![80, 443],
            allow_hosts: Vec::new(),
        }
    }
}
