//! Whole replies of `POST /v1/messages`.

use super::{
    block::{For, write_block, write_content},
    decode::read_reply_content,
    error::classify,
    usage::{UsageReport, read_tier, write_usage},
};
use crate::{
    types::Usage,
    wire::{
        conversation::{
            BadReply, Block, BlockKind, Content, Fields, Format, Input, JSON_TOOL, Losses, Path, Reply, ReplyOptions,
            Rest, Role, Stop, StopReason, Text, Turn, Undo, Wrote, document, write_list, write_object, write_word,
        },
        json::push_quoted,
    },
};

/// Reads a reply. `undo` comes with the encoded request.
pub fn decode_reply<'a>(body: &'a [u8], undo: &Undo) -> Result<Reply<'a>, BadReply> {
    let root = &Path::ROOT;
    let mut fields = Fields::read(document(body)?, root)?;
    if fields.peek("type").is_some_and(|kind| kind.raw == b"\"error\"") || fields.peek("error").is_some() {
        return Err(BadReply::Reported(Box::new(classify(200, body))));
    }
    let path = &root.name("content");
    let list = fields.list("content", root)?.ok_or_else(|| path.bad("is missing"))?;
    let mut content = read_reply_content(list, path)?;
    let reason = fields.text("stop_reason", root)?;
    let mut stop = Stop {
        reason: reason.as_ref().map_or(StopReason::EndTurn, |reason| read_reason(&reason.decode())),
        sequence: fields.text("stop_sequence", root)?,
    };
    if undo.json_tool {
        unwrap_json(&mut content);
        stop.reason = stop.reason.with_calls(content.blocks.iter().any(Block::is_tool_use));
    }
    let (mut report, mut tier) = (UsageReport::default(), None);
    if let Some(usage) = fields.some("usage") {
        report.add(usage);
        tier = read_tier(usage);
    }
    Ok(Reply {
        format: Format::Anthropic,
        id: fields.text("id", root)?,
        model: fields.text("model", root)?,
        turn: Turn { role: Role::Assistant, content, cache: None, rest: Rest::default() },
        stop,
        usage: report.usage(),
        tier,
        others: Vec::new(),
        choice_rest: Rest::default(),
        rest: fields.rest(),
    })
}

/// The calls of the tool for JSON output become text.
fn unwrap_json(content: &mut Content<'_>) {
    for block in &mut content.blocks {
        if let BlockKind::ToolUse(call) = &block.kind
            && call.name == JSON_TOOL
            && let Input::Json(json) = &call.input
        {
            *block = Block::text(Text::new(&String::from_utf8_lossy(json.bytes())));
        }
    }
}

pub(super) fn read_reason(word: &str) -> StopReason {
    match word {
        "end_turn" => StopReason::EndTurn,
        "max_tokens" => StopReason::MaxTokens,
        "stop_sequence" => StopReason::StopSequence,
        "tool_use" => StopReason::ToolUse,
        "refusal" => StopReason::Refusal,
        "pause_turn" => StopReason::Pause,
        "model_context_window_exceeded" => StopReason::ContextWindow,
        _ => StopReason::Other,
    }
}

/// The word for why a reply ended.
pub fn reason_word(reason: StopReason) -> &'static str {
    match reason {
        StopReason::EndTurn | StopReason::Other => "end_turn",
        StopReason::MaxTokens => "max_tokens",
        StopReason::StopSequence => "stop_sequence",
        StopReason::ToolUse => "tool_use",
        StopReason::Refusal => "refusal",
        StopReason::Pause => "pause_turn",
        StopReason::ContextWindow => "model_context_window_exceeded",
    }
}

/// Writes a reply for a client of this format.
pub fn encode_reply(reply: &Reply<'_>, options: &ReplyOptions<'_>, losses: &mut Losses) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    if reply.format == Format::Anthropic {
        write_object(&mut out, &reply.rest, &[], |name, out| match (name, options.model) {
            ("content", _) => {
                write_content(out, &reply.turn.content, For::Same);
                Wrote::Value
            }
            ("model", Some(model)) => {
                push_quoted(out, model);
                Wrote::Value
            }
            _ => Wrote::Same,
        });
        return out;
    }
    if !reply.others.is_empty() {
        losses.note("choices", "one answer at a time");
    }
    let blocks = said(&reply.turn, losses);
    let refused = reply.turn.content.blocks.iter().any(|block| matches!(block.kind, BlockKind::Refusal { .. }));
    let called = blocks.iter().any(|block| block.is_tool_use());
    let reason = if refused { StopReason::Refusal } else { reply.stop.reason.with_calls(called) };
    let names = &["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"];
    write_object(&mut out, &Rest::default(), names, |name, out| {
        match name {
            "id" => write_id(out, reply.id.as_ref(), options),
            "type" => write_word(out, "message"),
            "role" => write_word(out, "assistant"),
            "model" => write_model(out, reply.model.as_ref(), options),
            "content" => write_list(out, &blocks, |block, out| write_block(out, block, For::Client, None)),
            "stop_reason" => write_word(out, reason_word(reason)),
            "stop_sequence" => match &reply.stop.sequence {
                Some(sequence) => sequence.write(out),
                None => out.extend_from_slice(b"null"),
            },
            _ => write_usage(out, &reply.usage.unwrap_or(estimate(options)), reply.tier),
        }
        Wrote::Value
    });
    out
}

/// What of a reply of another format can be said here.
fn said<'t>(turn: &'t Turn<'_>, losses: &mut Losses) -> Vec<&'t Block<'t>> {
    let mut blocks = Vec::new();
    for (position, block) in turn.content.blocks.iter().enumerate() {
        match &block.kind {
            BlockKind::Text { text, .. } if text.is_empty() => {}
            BlockKind::Audio(_) | BlockKind::Other { .. } => {
                losses.note(format_args!("content[{position}]"), "a kind of content that the client's format lacks");
            }
            _ => blocks.push(block),
        }
    }
    if turn.rest.unknown().any(|(member, value)| *member == *"audio" && !value.is_empty()) {
        losses.note("audio", "the client's format has no such member");
    }
    blocks
}

pub(super) fn estimate(options: &ReplyOptions<'_>) -> Usage {
    Usage { input: options.input_estimate.max(1), ..Usage::default() }
}

pub(super) fn write_id(out: &mut Vec<u8>, id: Option<&Text<'_>>, options: &ReplyOptions<'_>) {
    match id.filter(|id| !id.is_empty()) {
        Some(id) => id.write(out),
        None => push_quoted(out, &format!("msg_{}", options.request_id)),
    }
}

pub(super) fn write_model(out: &mut Vec<u8>, model: Option<&Text<'_>>, options: &ReplyOptions<'_>) {
    match (options.model, model) {
        (Some(model), _) => push_quoted(out, model),
        (None, Some(model)) if !model.is_empty() => model.write(out),
        (None, _) => write_word(out, "unknown"),
    }
}

/// Reads the reply of `/v1/messages/count_tokens`: tokens of input.
pub fn decode_count(body: &[u8]) -> Option<u64> {
    crate::wire::json::Value::parse(body).ok()?.get("input_tokens")?.as_u64()
}

/// Writes the reply of `/v1/messages/count_tokens`.
pub fn encode_count(input_tokens: u64) -> Vec<u8> {
    format!("{{\"input_tokens\":{input_tokens}}}").into_bytes()
}
