//! Who we call. A provider is data: where its API is, how a call to it is signed, and where it departs from OpenAI.

mod betas;
mod build;
pub mod settings;
pub mod vendor;
pub mod vendors;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, uri};

pub use betas::{Betas, Governed};
pub use build::{BadProvider, MOCK};

use crate::{
    types::{Period, Secret},
    wire::{conversation::Format, openai_chat::convert::ReasoningField},
};

/// One provider account, resolved: nothing optional is left open.
#[derive(Debug)]
pub struct Provider {
    /// The operator's name for it; the `provider` label of metrics.
    pub name: Arc<str>,
    /// The name of its vendor's row, which prices are found by.
    pub kind: &'static str,
    /// The region that it serves from, where prices depend on it.
    pub region: Option<Arc<str>>,
    /// Scheme and authority of its API.
    pub origin: Origin,
    /// The path its API begins with, for example `/v1`; no slash at the end.
    pub prefix: String,
    pub formats: Formats,
    /// Its keys, at least one. A provider without keys has one key that signs nothing.
    pub keys: Vec<Arc<ProviderKey>>,
    /// Headers sent with every call.
    pub headers: HeaderMap,
    /// Client headers passed on, beside the usual ones.
    pub forward_headers: Vec<HeaderName>,
    pub quirks: Quirks,
    /// Of Anthropic's format.
    pub betas: Betas,
}

/// Which wire formats a provider speaks. At least one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formats {
    /// OpenAI's, below the provider's prefix.
    pub openai: bool,
    /// Anthropic's messages, below this path; no slash at the end.
    pub messages: Option<String>,
}

/// Where connections go, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    pub scheme: uri::Scheme,
    pub authority: uri::Authority,
}

/// One key of a provider, ready to be sent.
#[derive(Debug)]
pub struct ProviderKey {
    /// Its place in the provider's list, from 0: what logs and metrics call it.
    pub index: usize,
    /// The header that signs a call, its value marked sensitive. `None`: calls are not signed.
    pub header: Option<(HeaderName, HeaderValue)>,
    /// For taking the key out of what is shown to a client; see [`ProviderKey::conceal`].
    pub secret: Option<Secret>,
}

/// Where a provider departs from OpenAI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// Ask for usage in streams with `stream_options.include_usage`.
    pub ask_usage: bool,
    /// Knows `stream_options` at all; otherwise not even the client's are sent.
    pub takes_stream_options: bool,
    /// In chat calls; `/completions` knows `max_tokens` alone, everywhere.
    pub max_tokens: settings::MaxTokensField,
    /// How reasoning of earlier turns is sent back in chat calls.
    pub reasoning: ReasoningField,
    /// Takes `cache_control` on content parts of chat calls.
    pub cache_control: bool,
    /// Takes `top_k` in chat calls.
    pub top_k: bool,
    /// Fetches what is named by URL by itself.
    pub takes_urls: bool,
}

/// Deadlines of a call, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    pub connect: Duration,
    pub first_output: Duration,
    pub between_chunks: Duration,
    pub total: Duration,
}

impl Deadlines {
    /// These, but for what `timeout` says.
    #[must_use]
    pub fn with(self, timeout: settings::Timeout) -> Self {
        let or = |period: Option<Period>, outer: Duration| period.map_or(outer, |period| period.0);
        Self {
            connect: or(timeout.connect, self.connect),
            first_output: or(timeout.first_output, self.first_output),
            between_chunks: or(timeout.between_chunks, self.between_chunks),
            total: or(timeout.total, self.total),
        }
    }
}

/// What a client asks for: the endpoint, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Chat,
    Completion,
    Embedding,
    /// Anthropic's `POST /v1/messages`.
    Messages,
    /// Anthropic's `POST /v1/messages/count_tokens`.
    CountTokens,
}

impl Operation {
    pub const ALL: [Self; 5] = [Self::Chat, Self::Completion, Self::Embedding, Self::Messages, Self::CountTokens];

    /// The path below a provider's prefix.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completion => "/completions",
            Self::Embedding => "/embeddings",
            Self::Messages => "/messages",
            Self::CountTokens => "/messages/count_tokens",
        }
    }

    /// The format in which a client of this endpoint speaks and is answered.
    pub fn format(self) -> Format {
        match self {
            Self::Chat | Self::Completion | Self::Embedding => Format::OpenAiChat,
            Self::Messages | Self::CountTokens => Format::Anthropic,
        }
    }

    /// The value of the `operation` label: OpenTelemetry's `gen_ai.operation.name`.
    pub fn label(self) -> &'static str {
        match self {
            // OpenTelemetry names what is done, not in which format.
            Self::Chat | Self::Messages => "chat",
            Self::Completion => "text_completion",
            Self::Embedding => "embeddings",
            Self::CountTokens => "count_tokens",
        }
    }

    /// Whether the API can stream its answer.
    pub fn streams(self) -> bool {
        !matches!(self, Self::Embedding | Self::CountTokens)
    }
}

impl ProviderKey {
    /// Takes the key out of what a provider said before anybody else hears it: some repeat a key that they refuse.
    /// Placeholders that are too short to be keys are left alone, because they are ordinary words.
    pub fn conceal(&self, said: Bytes) -> Bytes {
        const SHORTEST_KEY: usize = 8;
        const INSTEAD: &[u8] = b"[key]";
        let Some(secret) = &self.secret else { return said };
        let key = secret.expose().trim().as_bytes();
        if key.len() < SHORTEST_KEY || memchr::memmem::find(&said, key).is_none() {
            return said;
        }
        let mut concealed = Vec::with_capacity(said.len());
        let mut from = 0;
        for at in memchr::memmem::find_iter(&said, key) {
            concealed.extend_from_slice(&said[from..at]);
            concealed.extend_from_slice(INSTEAD);
            from = at + key.len();
        }
        concealed.extend_from_slice(&said[from..]);
        concealed.into()
    }
}

impl Provider {
    /// The address of `operation` at this provider.
    ///
    /// # Errors
    /// Only if `prefix` is not a path, which building the provider has excluded.
    pub fn uri(&self, operation: Operation) -> Result<Uri, http::Error> {
        let prefix = match operation.format() {
            Format::OpenAiChat => &self.prefix,
            Format::Anthropic => self.formats.messages.as_ref().unwrap_or(&self.prefix),
        };
        Uri::builder()
            .scheme(self.origin.scheme.clone())
            .authority(self.origin.authority.clone())
            .path_and_query(format!("{prefix}{}", operation.path()))
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_out_of_what_its_provider_says() {
        let key = |secret: &str| ProviderKey { index: 0, header: None, secret: Some(Secret::new(secret)) };
        let cases = [
            ("sk-canary-1", "wrong key sk-canary-1 (sk-canary-1)", "wrong key [key] ([key])"),
            ("sk-canary-1", "sk-canary-1", "[key]"),
            (" sk-canary-1\n", "<sk-canary-1>", "<[key]>"),
            ("sk-canary-1", "nothing of the kind", "nothing of the kind"),
            ("none", "none of these models exist", "none of these models exist"),
            ("", "nothing", "nothing"),
        ];
        for (secret, said, heard) in cases {
            assert_eq!(key(secret).conceal(Bytes::copy_from_slice(said.as_bytes())), heard, "{secret}");
        }
    }
}
