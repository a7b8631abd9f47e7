//! Whole chat completions.

use super::{
    message::read_assistant,
    reply_message::{page_of, write_reply_message},
    same_message::write_same,
};
use crate::{
    types::Usage,
    wire::{
        conversation::{
            BadReply, Block, BlockKind, Fields, Format, Losses, Path, Raw, Reply, ReplyOptions, Rest, Stop, StopReason,
            Text, Tier, Turn, Undo, Wrote, document, write_list, write_number, write_object, write_word,
        },
        json::{Kind, Value, push_quoted},
        openai_chat::{classify, read_usage},
    },
};

/// Reads a reply. Of several alternatives the first is the turn. `undo` comes with the encoded request.
pub fn decode_reply<'a>(body: &'a [u8], undo: &Undo) -> Result<Reply<'a>, BadReply> {
    let root = &Path::ROOT;
    let value = document(body)?;
    if value.kind != Kind::Object {
        return Err(BadReply::Reported(Box::new(classify(200, body))));
    }
    let mut fields = Fields::read(value, root)?;
    if fields.peek("error").is_some_and(|error| !error.is_empty()) {
        return Err(BadReply::Reported(Box::new(classify(200, body))));
    }
    let path = &root.name("choices");
    let list = fields.list("choices", root)?.ok_or_else(|| path.bad("is missing"))?;
    let number = |choice: &Value<'_>| choice.get("index").and_then(|index| index.as_u64()).unwrap_or(0);
    let Some((at, first)) = list.items().enumerate().min_by_key(|(_, choice)| number(choice)) else {
        return Err(path.index(0).bad("is missing").into());
    };
    let others = list.items().enumerate().filter(move |(index, _)| *index != at).map(|(_, choice)| choice);
    let path = &path.index(at);
    let mut choice = Fields::read(first, path)?;
    let reason = choice.text("finish_reason", path)?;
    let message_path = &path.name("message");
    let message = choice.take("message").ok_or_else(|| message_path.bad("is missing"))?;
    let mut message = Fields::read(message, message_path)?;
    message.take("role");
    let annotations = message.some("annotations");
    let mut turn = read_assistant(message, message_path, 0, &mut None)?;
    for block in &mut turn.content.blocks {
        if let BlockKind::ToolUse(call) = &mut block.kind {
            call.name = undo.name(std::mem::take(&mut call.name));
        }
    }
    if let Some(annotations) = annotations {
        cite(&mut turn, annotations);
    }
    let usage = fields.some("usage").and_then(|usage| read_usage(usage.raw));
    let tier = fields.peek("service_tier").and_then(Text::of);
    // How vLLM and SGLang tell which stop sequence it was.
    let stopped_by = choice.peek("stop_reason").and_then(Text::of);
    Ok(Reply {
        format: Format::OpenAiChat,
        id: fields.text("id", root)?,
        model: fields.text("model", root)?,
        turn,
        stop: stopped(reason.map_or(StopReason::EndTurn, |word| read_reason(&word.decode())), stopped_by),
        usage,
        tier: tier.and_then(|tier| read_tier(&tier)),
        others: others.map(Raw::of).collect(),
        choice_rest: choice.rest(),
        rest: fields.rest(),
    })
}

/// Annotations become citations of the text they stand beside, in Anthropic's form.
fn cite(turn: &mut Turn<'_>, annotations: Value<'_>) {
    let text = turn.content.blocks.iter_mut().rev().find_map(|block| match &mut block.kind {
        BlockKind::Text { citations, .. } => Some(citations),
        _ => None,
    });
    let pages: Vec<_> = annotations.items().filter_map(|item| page_of(item.get("url_citation")?)).collect();
    let Some(citations) = text.filter(|_| !pages.is_empty()) else { return };
    let mut list = Vec::new();
    write_list(&mut list, pages, |(url, title), out| crate::wire::anthropic::write_page(out, &url, &title));
    *citations = Some(Raw::made(list));
}

/// Why a reply ended, with the stop sequence that a server names beside it.
pub(super) fn stopped<'a>(reason: StopReason, by: Option<Text<'a>>) -> Stop<'a> {
    match by.filter(|by| !by.is_empty()) {
        Some(by) if reason == StopReason::EndTurn => Stop { reason: StopReason::StopSequence, sequence: Some(by) },
        _ => Stop { reason, sequence: None },
    }
}

/// The service tier under this format's name. `flex` and `scale` have no counterpart.
pub(super) fn read_tier(word: &Text<'_>) -> Option<Tier> {
    match &*word.decode() {
        "default" => Some(Tier::Standard),
        "priority" => Some(Tier::Priority),
        _ => None,
    }
}

pub(super) fn tier_word(tier: Tier) -> &'static str {
    match tier {
        Tier::Standard => "default",
        Tier::Priority => "priority",
    }
}

pub(super) fn read_reason(word: &str) -> StopReason {
    match word {
        "stop" | "eos" | "end_turn" => StopReason::EndTurn,
        "length" => StopReason::MaxTokens,
        "tool_calls" | "function_call" => StopReason::ToolUse,
        "content_filter" => StopReason::Refusal,
        _ => StopReason::Other,
    }
}

/// The reason to show. The format knows no paused turns: one with calls is over for their sake.
pub(super) fn final_reason(reason: StopReason, called: bool) -> StopReason {
    let reason = if reason == StopReason::Pause { StopReason::EndTurn } else { reason };
    reason.with_calls(called)
}

/// The word for why a reply ended.
pub fn reason_word(reason: StopReason) -> &'static str {
    match reason {
        StopReason::EndTurn | StopReason::StopSequence | StopReason::Pause | StopReason::Other => "stop",
        StopReason::MaxTokens | StopReason::ContextWindow => "length",
        StopReason::ToolUse => "tool_calls",
        StopReason::Refusal => "content_filter",
    }
}

/// Writes a reply for a client of this format.
pub fn encode_reply(reply: &Reply<'_>, options: &ReplyOptions<'_>, losses: &mut Losses) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    if reply.format == Format::OpenAiChat {
        write_same_reply(&mut out, reply, options);
        return out;
    }
    for (name, value) in reply.rest.unknown().filter(|(_, value)| !value.is_empty()) {
        // `stop_details` says nothing that the reason does not.
        if !matches!(&*name.decode(), "type" | "role" | "stop_details") && !value.is_empty() {
            losses.note(name.decode(), "the client's format has no such member");
        }
    }
    if reply.stop.reason == StopReason::Pause {
        losses.note("stop_reason", "the client's format knows no paused turns");
    }
    let called = reply.turn.content.blocks.iter().any(Block::is_tool_use);
    let reason = final_reason(reply.stop.reason, called);
    let names = &["id", "object", "created", "model", "choices", "service_tier", "usage"];
    write_object(&mut out, &Rest::default(), names, |name, out| {
        match name {
            "id" => write_id(out, reply.id.as_ref(), options.request_id),
            "object" => write_word(out, "chat.completion"),
            "created" => write_number(out, options.created),
            "model" => write_model(out, reply.model.as_ref(), options.model),
            "choices" => {
                out.extend_from_slice(b"[{\"index\":0,\"message\":");
                write_reply_message(out, &reply.turn, options.thinking_blocks, losses);
                out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":");
                write_word(out, reason_word(reason));
                out.extend_from_slice(b"}]");
            }
            "service_tier" => match reply.tier {
                Some(tier) => write_word(out, tier_word(tier)),
                None => return Wrote::Nothing,
            },
            _ => match &reply.usage {
                Some(usage) => write_usage(out, usage),
                None => return Wrote::Nothing,
            },
        }
        Wrote::Value
    });
    out
}

fn write_same_reply(out: &mut Vec<u8>, reply: &Reply<'_>, options: &ReplyOptions<'_>) {
    write_object(out, &reply.rest, &[], |name, out| match (name, options.model) {
        ("choices", _) => {
            out.push(b'[');
            write_object(out, &reply.choice_rest, &[], |name, out| match name {
                "message" => {
                    write_same(out, &reply.turn);
                    Wrote::Value
                }
                _ => Wrote::Same,
            });
            for other in &reply.others {
                out.push(b',');
                other.write(out);
            }
            out.push(b']');
            Wrote::Value
        }
        ("model", Some(model)) => {
            push_quoted(out, model);
            Wrote::Value
        }
        _ => Wrote::Same,
    });
}

pub(super) fn write_id(out: &mut Vec<u8>, id: Option<&Text<'_>>, request_id: &str) {
    match id.filter(|id| !id.is_empty()) {
        Some(id) => id.write(out),
        None => push_quoted(out, &format!("chatcmpl-{request_id}")),
    }
}

pub(super) fn write_model(out: &mut Vec<u8>, model: Option<&Text<'_>>, shown: Option<&str>) {
    match (shown, model) {
        (Some(model), _) => push_quoted(out, model),
        (None, Some(model)) if !model.is_empty() => model.write(out),
        (None, _) => write_word(out, "unknown"),
    }
}

/// Writes a `usage` object: cached and audio input are part of the prompt, reasoning and audio of the completion.
pub(in crate::wire::openai_chat) fn write_usage(out: &mut Vec<u8>, usage: &Usage) {
    let (input, output) = (usage.total_input(), usage.total_output());
    let mut member = |head: &str, count: u64| {
        out.extend_from_slice(head.as_bytes());
        write_number(out, count);
    };
    member("{\"prompt_tokens\":", input);
    member(",\"completion_tokens\":", output);
    member(",\"total_tokens\":", input.saturating_add(output));
    member(",\"prompt_tokens_details\":{\"cached_tokens\":", usage.cache_read);
    member(",\"cache_write_tokens\":", usage.cache_write);
    member(",\"audio_tokens\":", usage.audio_input);
    member("},\"completion_tokens_details\":{\"reasoning_tokens\":", usage.reasoning);
    member(",\"audio_tokens\":", usage.audio_output);
    out.extend_from_slice(b"}}");
}
