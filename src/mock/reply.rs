//! The answer to a request, in the wire format of its endpoint. It is built from the request and a script, and knows
//! nothing of sockets or clocks.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    anthropic,
    ask::Ask,
    behaviour::Behaviour,
    endpoint::{Endpoint, Format},
    failure::Failure,
    openai,
    player::{Player, Stop},
    record::Billed,
};

/// An answer, ready to be sent or played.
pub(super) enum Reply {
    /// A body that is complete, and whether it is an event stream.
    Whole(Bytes, bool),
    Chat(openai::ChatStream),
    Completion(openai::CompletionStream),
    Embeddings(openai::List),
    Message(anthropic::Stream),
}

/// What the answer to a request starts from.
pub(super) struct Asked<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) ask: &'a Ask<'a>,
    pub(super) script: &'a Arc<Behaviour>,
    /// The request's number.
    pub(super) number: u64,
    /// The time in Unix seconds.
    pub(super) created: u64,
}

impl Asked<'_> {
    /// Whether the answer is a stream.
    pub(super) fn is_stream(&self) -> bool {
        (self.ask.stream.unwrap_or(false) || self.script.stream_always) && !self.script.ignore_stream
    }

    /// Whether an error takes the place of an answer that began well.
    pub(super) fn is_error(&self) -> bool {
        self.script.error_first && self.is_stream() || self.script.error_in_200
    }
}

impl Reply {
    /// The answer to what was asked, and what it is billed for.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub(super) fn new(asked: &Asked<'_>) -> Result<(Self, Option<Billed>), Failure> {
        match asked.endpoint.format() {
            Format::OpenAi => openai::reply(asked),
            Format::Anthropic => anthropic::reply(asked),
        }
    }

    /// A whole body, with what the script does to it.
    pub(super) fn whole(body: Bytes, script: &Behaviour) -> Self {
        let body = if script.invalid_json {
            body.slice(..body.len() / 2)
        } else if script.trailing_garbage {
            [&body[..], b"\n{\"garbage\":"].concat().into()
        } else {
            body
        };
        Self::Whole(body, false)
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Whole(_, true) | Self::Chat(_) | Self::Completion(_) | Self::Message(_))
    }

    /// Sends it through `player`.
    pub(super) async fn play(&self, player: &mut Player) -> Result<(), Stop> {
        match self {
            Self::Whole(body, _) => player.whole(body).await,
            Self::Chat(stream) => stream.play(player).await,
            Self::Completion(stream) => stream.play(player).await,
            Self::Embeddings(list) => list.play(player).await,
            Self::Message(stream) => stream.play(player).await,
        }
    }

    /// The event that tells of an error within this answer.
    pub(super) fn error_event(&self, script: &Behaviour) -> Vec<u8> {
        match self {
            Self::Message(_) => anthropic::error_event(script),
            _ => openai::error_event(script),
        }
    }
}
