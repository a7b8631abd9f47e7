//! What a request is for, and the wire format it speaks.

use http::HeaderMap;
use percent_encoding::percent_decode_str;

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    OpenAi,
    Anthropic,
}

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Completions,
    Embeddings,
    Messages,
    CountTokens,
    Models(Format),
    Model(Format, String),
}

impl Format {
    /// The format of a request, whether or not there is an endpoint for it. Where paths are the same in both, the
    /// header that Anthropic's API requires tells them apart.
    pub(super) fn of(path: &str, headers: &HeaderMap) -> Self {
        match Endpoint::find(path, headers) {
            Some(endpoint) => endpoint.format(),
            None => by_header(headers),
        }
    }
}

impl Endpoint {
    /// Finds the endpoint by the end of the path, so that any prefix works as a base URL.
    pub(super) fn find(path: &str, headers: &HeaderMap) -> Option<Self> {
        let path = path.trim_end_matches('/');
        let posts = [
            ("/chat/completions", Self::Chat),
            ("/completions", Self::Completions),
            ("/embeddings", Self::Embeddings),
            ("/messages", Self::Messages),
            ("/messages/count_tokens", Self::CountTokens),
        ];
        if let Some((_, endpoint)) = posts.into_iter().find(|(end, _)| path.ends_with(end)) {
            return Some(endpoint);
        }
        if path.ends_with("/models") {
            return Some(Self::Models(by_header(headers)));
        }
        let (_, model) = path.split_once("/models/")?;
        Some(Self::Model(by_header(headers), percent_decode_str(model).decode_utf8_lossy().into_owned()))
    }

    /// Whether it takes a request body.
    pub(super) fn is_post(&self) -> bool {
        !matches!(self, Self::Models(_) | Self::Model(..))
    }

    pub(super) fn format(&self) -> Format {
        match self {
            Self::Chat | Self::Completions | Self::Embeddings => Format::OpenAi,
            Self::Messages | Self::CountTokens => Format::Anthropic,
            Self::Models(format) | Self::Model(format, _) => *format,
        }
    }
}

fn by_header(headers: &HeaderMap) -> Format {
    if headers.contains_key("anthropic-version") { Format::Anthropic } else { Format::OpenAi }
}
