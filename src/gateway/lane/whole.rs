//! Whole answers: what must be known of them, and what the client gets.

use bytes::Bytes;

use super::{Lane, watch::Heard};
use crate::{
    accounting::estimate,
    gateway::{Call, Gateway},
    providers::Operation,
    types::Usage,
    wire::{
        anthropic,
        conversation::{BadReply, BlockKind, Format, Losses, Reply, ReplyOptions, Undo, memory::Recorder},
        openai_chat::{self, ProviderError, Shape, Stated},
        translate,
    },
};

/// Thinking of one answer that is remembered at most, in bytes.
pub(super) const MAX_THINKING: usize = 256 * 1024;

/// An answer that can be committed.
#[derive(Debug)]
pub(in crate::gateway) struct Whole {
    /// In the client's format.
    pub body: Bytes,
    pub reply: openai_chat::Reply,
    pub losses: Losses,
}

/// Why a body with a status of success is no answer.
#[derive(Debug)]
pub(in crate::gateway) enum Unusable {
    Empty,
    Error(Box<ProviderError>),
    Malformed(String),
}

/// Reads a whole answer, and writes it in the client's format if it is in another.
///
/// # Errors
/// [`Unusable`]: it is none.
pub(in crate::gateway) fn read(
    gateway: &Gateway,
    call: &Call,
    lane: Lane,
    undo: &Undo,
    body: Bytes,
) -> Result<Whole, Unusable> {
    if let Some(shape) = shape(lane) {
        let reply = openai_chat::read_reply(shape, &body)?;
        return Ok(Whole { body, reply, losses: Losses::default() });
    }
    if body.trim_ascii().is_empty() {
        return Err(Unusable::Empty);
    }
    if lane.endpoint == Operation::CountTokens {
        return counted(body);
    }
    let mut reply = translate::decode_reply(lane.upstream, &body, undo)?;
    let mut known = known(&reply);
    known.stated.read_terms(&body);
    if lane.is_pass() {
        return Ok(Whole { reply: known, losses: Losses::default(), body: body.clone() });
    }
    remember(gateway, call, &reply);
    if reply.usage.is_none() && lane.client == Format::Anthropic {
        // This format always tells usage.
        reply.usage = Some(estimate::by_length(&call.asked, known.said.as_ref()).0);
    }
    let mut buffer = [0; ulid::ULID_LEN];
    let options = reply_options(gateway, call, call.id.text(&mut buffer));
    let mut losses = Losses::default();
    let encoded = translate::encode_reply(lane.client, &reply, &options, &mut losses);
    Ok(Whole { body: encoded.into(), reply: known, losses })
}

/// How the pass lane of OpenAI's formats reads its answers; `None` for all other lanes.
pub(super) fn shape(lane: Lane) -> Option<Shape> {
    match lane.endpoint {
        Operation::Chat if lane.is_pass() => Some(Shape::Chat),
        Operation::Completion => Some(Shape::Completion),
        Operation::Embedding => Some(Shape::Embedding),
        Operation::Chat | Operation::Messages | Operation::CountTokens => None,
    }
}

/// What a translated answer has that the provider's may lack.
pub(super) fn reply_options<'o>(gateway: &Gateway, call: &Call, id: &'o str) -> ReplyOptions<'o> {
    ReplyOptions {
        request_id: id,
        created: gateway.clock.unix_millis() / 1_000,
        input_estimate: call.asked.quick().max(1),
        stream_usage: call.asked_usage,
        ..ReplyOptions::default()
    }
}

/// Counting consumes nothing.
fn counted(body: Bytes) -> Result<Whole, Unusable> {
    if anthropic::decode_count(&body).is_none() {
        return Err(Unusable::Malformed("it has no `input_tokens`".to_owned()));
    }
    let stated = Stated { usage: Some(Usage::default()), ..Stated::default() };
    let reply = openai_chat::Reply { stated, has_output: true, ..openai_chat::Reply::default() };
    Ok(Whole { body, reply, losses: Losses::default() })
}

/// What the gateway records of a reply.
fn known(reply: &Reply<'_>) -> openai_chat::Reply {
    let mut heard = Heard::default();
    heard.begin(reply.id.as_ref());
    for block in &reply.turn.content.blocks {
        match &block.kind {
            BlockKind::Text { text, .. } => heard.said(text),
            BlockKind::Thinking { text, .. } => heard.thought(text),
            _ => heard.has_output = true,
        }
    }
    heard.stop(reply.format, reply.stop.reason);
    heard.stated.usage = reply.usage;
    let said = heard.stated.usage.is_none().then_some(heard.said);
    openai_chat::Reply {
        stated: heard.stated,
        said,
        has_output: heard.has_output,
        finish_reason: heard.finish_reason.map(str::to_owned),
        model: reply.model.as_ref().map(|model| model.decode().into_owned()),
    }
}

fn remember(gateway: &Gateway, call: &Call, reply: &Reply<'_>) {
    let mut recorder = Recorder::new(MAX_THINKING);
    recorder.observe_turn(&reply.turn);
    let memos = recorder.finish();
    if !memos.is_empty() {
        let owner = gateway.memory.owner(&call.principal.id, &call.headers);
        gateway.memory.remember(&owner, memos, gateway.clock.now());
    }
}

impl From<BadReply> for Unusable {
    fn from(bad: BadReply) -> Self {
        match bad {
            BadReply::Reported(said) => Self::Error(said),
            BadReply::Malformed(bad) if bad.path.is_empty() => Self::Malformed(bad.problem),
            BadReply::Malformed(bad) => Self::Malformed(format!("{} {}", bad.path, bad.problem)),
        }
    }
}

impl From<openai_chat::BadReply> for Unusable {
    fn from(bad: openai_chat::BadReply) -> Self {
        match bad {
            openai_chat::BadReply::Empty => Self::Empty,
            openai_chat::BadReply::Error(said) => Self::Error(Box::new(said)),
            openai_chat::BadReply::NotJson(what) => Self::Malformed(format!("not JSON ({what})")),
            openai_chat::BadReply::WrongShape(what) => Self::Malformed(format!("it has no {what}")),
        }
    }
}

/// The provider's own word for why an answer ended.
pub(super) fn reason_word(format: Format, reason: crate::wire::conversation::StopReason) -> &'static str {
    match format {
        Format::OpenAiChat => openai_chat::convert::reason_word(reason),
        Format::Anthropic => anthropic::reason_word(reason),
    }
}
