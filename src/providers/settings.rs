//! What the operator may set about a provider.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::types::Secret;

/// One provider account: which vendor, where, and with which keys.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderSettings {
    /// The vendor, by its name in the table of vendors, or `openai_compatible`, or `mock` (the built-in one). Unset:
    /// the provider's own name.
    pub kind: Option<String>,
    /// Where its API begins, version prefix included, for example `http://127.0.0.1:8000/v1`. Unset: the vendor's own.
    pub base_url: Option<String>,
    /// Its key. Unset, with no `api_keys`: the vendor's usual environment variable.
    pub api_key: Option<Secret>,
    /// Several keys: calls are balanced over them, and a dead or limited one is rested on its own.
    pub api_keys: Vec<Secret>,
    /// The region that it serves from, where prices depend on it: `eu`, `us`.
    pub region: Option<String>,
    /// Headers sent with every call, for example an organisation id.
    pub headers: BTreeMap<String, Secret>,
    /// Request headers of clients that are passed on to this provider, beside the usual ones.
    pub forward_headers: Vec<String>,
    /// Deadlines for this provider; what is unset comes from the top-level `timeout`.
    pub timeout: Timeout,
    /// Which HTTP version is spoken.
    pub http: HttpVersion,
    /// A PEM file of certificate authorities to trust instead of the built-in ones.
    pub ca_file: Option<PathBuf>,
    /// Whether usage is asked for in streams (`stream_options.include_usage`). Unset: as the vendor needs it.
    pub ask_usage: Option<bool>,
    /// The formats it speaks. Unset: those of its vendor. A call in another format is translated.
    pub formats: Option<Vec<WireFormat>>,
    /// Whether it fetches by itself what calls name by URL: images, and documents in Anthropic's format. Unset: as the
    /// vendor does. Otherwise the gateway fetches them for translated calls.
    pub takes_urls: Option<bool>,
    /// Which of Anthropic's betas it takes, in Anthropic's format.
    pub betas: BetaSettings,
    /// Which spelling of the output cap the provider understands. Unset: as the vendor needs it.
    pub max_tokens_field: Option<MaxTokensField>,
}

/// Which betas a backend of Anthropic's format takes. A word of `anthropic-beta` that it does not take is dropped
/// together with what it gates in the request, and both are named in `x-switchboard-lossy`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BetaSettings {
    /// Those that are taken, with or without their date, or with a `*` at the end. Unset: as the vendor does; Anthropic
    /// itself takes all.
    pub allow: Option<Vec<String>>,
    /// Those that are not, whatever `allow` says.
    pub deny: Vec<String>,
    /// What a beta gates, for those that the gateway does not know: its name without a date, and places in a request.
    pub gates: BTreeMap<String, Vec<String>>,
}

/// A wire format of conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WireFormat {
    /// OpenAI's chat completions; with it, completions and embeddings.
    OpenaiChat,
    /// Anthropic's messages.
    Anthropic,
}

/// Four deadlines of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeout {
    /// To open a connection (TCP and TLS).
    pub connect: Option<crate::types::Period>,
    /// From sending a streamed call to its first real output.
    pub first_output: Option<crate::types::Period>,
    /// Between two events of a stream, or two pieces of a whole answer.
    pub between_chunks: Option<crate::types::Period>,
    /// For the whole call, all attempts included.
    pub total: Option<crate::types::Period>,
}

/// The HTTP version spoken to a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HttpVersion {
    /// HTTP/2 where TLS negotiates it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only, also without TLS (prior knowledge).
    Http2,
}

/// The spelling of the output cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    /// Both are understood: whichever the client sent is passed on.
    Both,
    MaxTokens,
    MaxCompletionTokens,
}

impl Timeout {
    /// `self` where it says something, `outer` elsewhere.
    #[must_use]
    pub fn or(self, outer: Self) -> Self {
        Self {
            connect: self.connect.or(outer.connect),
            first_output: self.first_output.or(outer.first_output),
            between_chunks: self.between_chunks.or(outer.between_chunks),
            total: self.total.or(outer.total),
        }
    }
}
