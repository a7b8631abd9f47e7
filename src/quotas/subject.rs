//! Whom a call concerns, in the words of quotas.

use std::sync::Arc;

/// On whose behalf a call is made.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The id of the key's project.
    pub project: &'a str,
    /// The key's id.
    pub key: &'a str,
    pub key_name: &'a str,
    pub end_user: Option<&'a str>,
    pub session: Option<&'a str>,
    /// Of the key and of the call, each once.
    pub tags: &'a [Arc<str>],
}

/// Where an attempt goes.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The configured model, in full where it is a pattern.
    pub model: &'a str,
    /// The operator's name for the provider.
    pub provider: &'a str,
    /// `provider/model`.
    pub target: &'a str,
}
