//! Lanes: how a call reaches a provider and how its answer comes back, chosen anew for each attempt.
//!
//! * The *pass lane*: the provider speaks the client's format. Bytes pass as they came, but for a few named edits, and
//!   what must be known of the answer is read from a copy.
//! * The *translate lane*: it does not. The request is read into the neutral conversation and written in the provider's
//!   format, and the answer comes back the same way, event by event. What cannot be said is declared.
//!
//! The client's envelope is never consumed, so that a fallback in another lane starts from the client's own bytes.

mod gpt;
mod shown;
mod target;
mod translated;
mod watch;
mod whole;

pub(super) use shown::{error_event, keepalive, refusal, status_in_band};
pub(super) use translated::{Translated, prepared, unread};
pub(super) use watch::{Closed, Watch};
pub(super) use whole::{Unusable, Whole, read};

use http::HeaderValue;

use crate::{
    providers::{Operation, Provider},
    wire::{
        Pieces,
        conversation::{Format, Losses, Undo},
    },
};

/// How one attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane {
    /// What the client speaks and hears.
    pub client: Format,
    /// What the provider speaks.
    pub upstream: Format,
    /// Which of the provider's endpoints is called.
    pub endpoint: Operation,
}

/// A request for one provider.
#[derive(Debug)]
pub(super) struct Prepared {
    pub body: Pieces,
    /// What of the request could not be said.
    pub losses: Losses,
    /// What was done to the request that its answer must not show.
    pub undo: Undo,
    /// Whether the answer is held to a schema by a parameter that this model may not know.
    pub tries_schema: bool,
    /// The value of `anthropic-beta`.
    pub beta: Option<HeaderValue>,
}

impl Lane {
    /// The lane of a call to `provider`: the pass lane wherever there is one. `None`: the provider has no such endpoint,
    /// nor one that the call could be translated for.
    pub fn of(operation: Operation, provider: &Provider) -> Option<Self> {
        let formats = &provider.formats;
        let (client, messages) = (operation.format(), formats.messages.is_some());
        let (upstream, endpoint) = match operation {
            Operation::Chat if !formats.openai => (Format::Anthropic, Operation::Messages),
            Operation::Messages if !messages => (Format::OpenAiChat, Operation::Chat),
            Operation::Messages | Operation::CountTokens if messages => (Format::Anthropic, operation),
            Operation::Chat | Operation::Completion | Operation::Embedding if formats.openai => {
                (Format::OpenAiChat, operation)
            }
            _ => return None,
        };
        Some(Self { client, upstream, endpoint })
    }

    /// Whether bytes pass as they came.
    pub fn is_pass(self) -> bool {
        self.client == self.upstream
    }
}

impl Prepared {
    /// A request of the pass lane: nothing is to be undone.
    pub fn passed(body: Pieces, losses: Losses, beta: Option<HeaderValue>) -> Self {
        Self { body, losses, undo: Undo::default(), tries_schema: false, beta }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::settings::{ProviderSettings, WireFormat};

    fn provider(kind: &str, base_url: Option<&str>, formats: Option<&[WireFormat]>) -> Provider {
        let settings = ProviderSettings {
            kind: Some(kind.into()),
            base_url: base_url.map(Into::into),
            formats: formats.map(<[_]>::to_vec),
            ..ProviderSettings::default()
        };
        Provider::build("p", &settings, None).unwrap()
    }

    fn address(operation: Operation, provider: &Provider) -> Option<(bool, String)> {
        let lane = Lane::of(operation, provider)?;
        Some((lane.is_pass(), provider.uri(lane.endpoint).unwrap().to_string()))
    }

    #[test]
    fn the_pass_lane_is_taken_wherever_there_is_one() {
        use Operation::{Chat, CountTokens, Embedding, Messages};
        const BOTH: &[WireFormat] = &[WireFormat::OpenaiChat, WireFormat::Anthropic];
        let cases = [
            (Chat, "openai", None, None, Some((true, "https://api.openai.com/v1/chat/completions"))),
            (Messages, "openai", None, None, Some((false, "https://api.openai.com/v1/chat/completions"))),
            (CountTokens, "openai", None, None, None),
            (Chat, "anthropic", None, None, Some((false, "https://api.anthropic.com/v1/messages"))),
            (Messages, "anthropic", None, None, Some((true, "https://api.anthropic.com/v1/messages"))),
            (CountTokens, "anthropic", None, None, Some((true, "https://api.anthropic.com/v1/messages/count_tokens"))),
            (Embedding, "anthropic", None, None, None),
            (Messages, "deepseek", None, None, Some((true, "https://api.deepseek.com/anthropic/v1/messages"))),
            (Chat, "deepseek", None, None, Some((true, "https://api.deepseek.com/chat/completions"))),
            (Messages, "zai", None, None, Some((true, "https://api.z.ai/api/anthropic/v1/messages"))),
            (Messages, "openrouter", None, None, Some((true, "https://openrouter.ai/api/v1/messages"))),
            (Messages, "anthropic", Some("http://h"), None, Some((true, "http://h/v1/messages"))),
            (Messages, "anthropic", Some("http://h/x/v1"), None, Some((true, "http://h/x/v1/messages"))),
            (Messages, "openai_compatible", Some("http://h/v1"), None, Some((false, "http://h/v1/chat/completions"))),
            (Messages, "openai_compatible", Some("http://h/v1"), Some(BOTH), Some((true, "http://h/v1/messages"))),
            (Messages, "vllm", Some("http://h/v1"), Some(&BOTH[..1]), Some((false, "http://h/v1/chat/completions"))),
        ];
        for (operation, kind, base_url, formats, expected) in cases {
            let found = address(operation, &provider(kind, base_url, formats));
            assert_eq!(found, expected.map(|(pass, url)| (pass, url.to_owned())), "{operation:?} {kind} {base_url:?}");
        }
    }
}
