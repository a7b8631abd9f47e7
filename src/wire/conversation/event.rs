//! A streamed reply as events. Blocks have indices of their own; several may be open at once, because some providers
//! interleave tool calls. What a target wants in sequence, its encoder puts in sequence.

use super::{
    reply::{Stop, Tier},
    text::{Raw, Text},
};
use crate::{types::Usage, wire::openai_chat::ProviderError};

/// One step of a streamed reply. Borrows from the frame it was read from.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The first event, once.
    Start {
        id: Option<Text<'a>>,
        model: Option<Text<'a>>,
        tier: Option<Tier>,
    },
    BlockStart {
        index: usize,
        kind: StreamBlock<'a>,
    },
    BlockDelta {
        index: usize,
        delta: Delta<'a>,
    },
    BlockStop {
        index: usize,
    },
    /// What was consumed so far; each report replaces the one before.
    Usage(Usage),
    /// Why the reply ended. Token counts may follow.
    Stop(Stop<'a>),
    /// The last event of a reply that came to its end.
    End,
    /// The last event of a reply that did not.
    Error(ProviderError),
    /// Nothing happened, and the provider said so.
    Ping,
    /// Something of the source's format that has no counterpart; named for the list of losses.
    Extension {
        name: &'static str,
    },
}

#[derive(Clone, Debug)]
pub enum StreamBlock<'a> {
    Text,
    Refusal,
    Thinking,
    RedactedThinking {
        data: Text<'a>,
    },
    ToolUse {
        id: Text<'a>,
        name: Text<'a>,
    },
    /// A block that only the source's format has, with its opening as it came.
    Other {
        kind: Text<'a>,
        native: Raw<'a>,
    },
}

#[derive(Clone, Debug)]
pub enum Delta<'a> {
    Text(Text<'a>),
    Thinking(Text<'a>),
    Signature(Text<'a>),
    /// A piece of the JSON text of a call's arguments.
    Json(Text<'a>),
    /// Where a statement was found, in Anthropic's form.
    Citation(Raw<'a>),
    /// A web page that the text cites.
    Page {
        url: Text<'a>,
        title: Text<'a>,
    },
    /// A delta that only the source's format has, as it came.
    Other {
        native: Raw<'a>,
    },
}
