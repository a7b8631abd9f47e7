//! A whole reply in the neutral form.

use super::{
    fields::{BadField, Rest},
    request::{Format, Turn},
    text::{Raw, Text},
};
use crate::{types::Usage, wire::openai_chat::ProviderError};

/// What a provider answered. Borrows from the body it was read from.
#[derive(Clone, Debug)]
pub struct Reply<'a> {
    pub format: Format,
    pub id: Option<Text<'a>>,
    pub model: Option<Text<'a>>,
    pub turn: Turn<'a>,
    pub stop: Stop<'a>,
    pub usage: Option<Usage>,
    /// The service tier that it was made in.
    pub tier: Option<Tier>,
    /// Further alternatives, as they came.
    pub others: Vec<Raw<'a>>,
    /// The members around the first alternative (OpenAI's `choices[0]`); empty in formats that have none.
    pub choice_rest: Rest<'a>,
    pub rest: Rest<'a>,
}

/// A service tier, under the names that each format has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Standard,
    Priority,
}

/// Why a reply ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stop<'a> {
    pub reason: StopReason,
    /// Which of the stop sequences it was.
    pub sequence: Option<Text<'a>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopReason {
    #[default]
    EndTurn,
    MaxTokens,
    StopSequence,
    ToolUse,
    /// The model declined, or a filter cut it off.
    Refusal,
    /// A long turn of server tools was paused; sent back as it is, it goes on.
    Pause,
    /// The conversation no longer fits the model.
    ContextWindow,
    /// A word not known here.
    Other,
}

impl StopReason {
    /// The reason a client has to see: a reply with calls ends for the sake of its calls, whatever its provider says,
    /// and one without cannot.
    pub fn with_calls(self, any: bool) -> Self {
        match self {
            Self::EndTurn | Self::StopSequence | Self::Other if any => Self::ToolUse,
            Self::ToolUse if !any => Self::EndTurn,
            reason => reason,
        }
    }
}

/// Why a body that came with a status of success is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadReply {
    /// It is not what its format says.
    Malformed(BadField),
    /// It is an error report.
    Reported(Box<ProviderError>),
}

impl From<BadField> for BadReply {
    fn from(bad: BadField) -> Self {
        Self::Malformed(bad)
    }
}

/// What a client's reply has that the provider's may not.
#[derive(Clone, Debug)]
pub struct ReplyOptions<'o> {
    /// The gateway's id of the call; ids that a provider left out are made from it.
    pub request_id: &'o str,
    /// The model's name to show; unset shows the provider's.
    pub model: Option<&'o str>,
    /// Unix time in seconds.
    pub created: u64,
    /// Tokens of input, as estimated before the call: a stream of Anthropic's begins with them.
    pub input_estimate: u64,
    /// Whether a stream of OpenAI's ends with token counts.
    pub stream_usage: bool,
    /// Whether replies of OpenAI's format carry signed thinking as `thinking_blocks`, as LiteLLM does.
    pub thinking_blocks: bool,
    /// How much of a stream may be held back to put it in order, in bytes.
    pub max_held: usize,
}

impl Default for ReplyOptions<'_> {
    fn default() -> Self {
        Self {
            request_id: "",
            model: None,
            created: 0,
            input_estimate: 1,
            stream_usage: false,
            thinking_blocks: true,
            max_held: 8 << 20,
        }
    }
}
