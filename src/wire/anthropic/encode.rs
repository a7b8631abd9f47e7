//! Writing a request for Anthropic.

use super::{
    block::{FOREIGN, For, is_foreign, write_block, write_content, written},
    layout::{Layout, Placed},
    options::Options,
    parameters::{Json, Parameters},
    tools::{write_choice, write_tools},
};
use crate::wire::{
    conversation::{
        Block, BlockKind, Encoded, Fields, Format, Losses, Path, Raw, Request, Rest, Role, Text, Thinking, Turn, Undo,
        Wrote, write_list, write_number, write_object, write_word,
    },
    json::{Value, push_quoted},
};

/// Writes a request. The same request and options always give the same bytes.
pub fn encode_request(request: &Request<'_>, options: &Options<'_>) -> Encoded {
    let mut losses = Losses::default();
    let mut body = Vec::with_capacity(request.size + request.size / 8 + 512);
    if request.format == Format::Anthropic {
        write_same(&mut body, request, options, &mut losses);
        return Encoded { body: body.into(), losses, undo: Undo::default() };
    }
    let parameters = Parameters::settle(request, options, &mut losses);
    let layout = Layout::of(request, options, &parameters, &mut losses);
    note_unknown(request, &mut losses);
    write_object(&mut body, &Rest::default(), MEMBERS, |name, out| {
        write_member(out, name, request, options, &parameters, &layout)
    });
    let undo = Undo { json_tool: matches!(parameters.json, Json::Tool(_)), ..Undo::default() };
    Encoded { body: body.into(), losses, undo }
}

/// Writes the request that asks how many tokens of input this one has: what counts, and nothing that is refused there.
pub fn encode_count_request(request: &Request<'_>, options: &Options<'_>) -> Encoded {
    let mut whole = encode_request(request, options);
    let mut body = Vec::with_capacity(whole.body.len());
    if let Ok(fields) =
        Value::parse(&whole.body).map_err(drop).and_then(|value| Fields::read(value, &Path::ROOT).map_err(drop))
    {
        let rest = fields.rest();
        write_object(&mut body, &Rest::default(), COUNTED, |name, out| match rest.get(name) {
            Some(value) => {
                out.extend_from_slice(value.raw);
                Wrote::Value
            }
            None => Wrote::Nothing,
        });
    }
    whole.body = body.into();
    whole
}

/// What `/v1/messages/count_tokens` takes.
const COUNTED: &[&str] = &[
    "model",
    "tools",
    "tool_choice",
    "system",
    "messages",
    "thinking",
    "output_config",
    "cache_control",
    "context_management",
    "mcp_servers",
];

/// In the order of the prompt's prefix: what changes least comes first.
const MEMBERS: &[&str] = &[
    "model",
    "max_tokens",
    "tools",
    "tool_choice",
    "system",
    "messages",
    "thinking",
    "output_config",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "metadata",
    "service_tier",
    "cache_control",
    "stream",
];

/// A request that was read from this format: its own members in their order. Only the model changes, and thinking
/// that the provider would reject is left out.
fn write_same(body: &mut Vec<u8>, request: &Request<'_>, options: &Options<'_>, losses: &mut Losses) {
    write_object(body, &request.rest, &[], |name, out| match name {
        "model" if !options.model.is_empty() => {
            push_quoted(out, options.model);
            Wrote::Value
        }
        "model" => {
            request.model.write(out);
            Wrote::Value
        }
        "system" if !request.system.blocks.is_empty() => {
            write_content(out, &request.system, For::Same);
            Wrote::Value
        }
        "messages" => {
            let turns = request.turns.iter().enumerate().filter(|(index, turn)| is_left(turn, *index, losses));
            // Which turns are left is settled before the first is written.
            let turns: Vec<&Turn<'_>> = turns.map(|(_, turn)| turn).collect();
            write_list(out, turns, write_turn);
            Wrote::Value
        }
        _ => Wrote::Same,
    });
}

/// Whether anything of a turn is left without foreign thinking; notes what is not.
fn is_left(turn: &Turn<'_>, index: usize, losses: &mut Losses) -> bool {
    let mut left = turn.content.blocks.is_empty();
    for (position, block) in turn.content.blocks.iter().enumerate() {
        if is_foreign(block) {
            losses.note(format_args!("messages[{index}].content[{position}]"), FOREIGN);
        } else {
            left = true;
        }
    }
    left
}

fn write_turn(turn: &Turn<'_>, out: &mut Vec<u8>) {
    write_object(out, &turn.rest, &["role", "content"], |name, out| match name {
        "content" if turn.content.plain => {
            write_content(out, &turn.content, For::Same);
            Wrote::Value
        }
        "content" => {
            let blocks = turn.content.blocks.iter().filter(|block| !is_foreign(block));
            write_list(out, blocks, |block, out| write_block(out, block, For::Same, block.cache.as_ref()));
            Wrote::Value
        }
        _ => Wrote::Same,
    });
}

fn write_placed(blocks: &[Placed<'_>], out: &mut Vec<u8>) {
    write_list(out, blocks, |placed, out| write_block(out, placed.block, For::Provider, placed.cache));
}

/// What of the client's format has no home here.
fn note_unknown(request: &Request<'_>, losses: &mut Losses) {
    for (name, value) in request.rest.unknown() {
        let name = name.decode();
        if !value.is_empty() {
            losses.note(name, "this provider has no such parameter");
        }
    }
    if request.choices > 1 {
        losses.note("n", "one answer at a time");
    }
    for (index, stop) in request.stop.iter().enumerate() {
        if stop.is_blank() {
            losses.note(format_args!("stop[{index}]"), "a stop sequence has more than whitespace");
        }
    }
    if request.user.as_ref().is_some_and(|user| user.len() > MAX_USER) {
        losses.note("user", "longer than this provider takes");
    }
    if let Some(tier) = &request.service_tier
        && service_tier(tier).is_none()
    {
        losses.note("service_tier", "this provider has no such tier");
    }
}

/// The longest `metadata.user_id`, in bytes.
const MAX_USER: usize = 256;

fn service_tier(tier: &Text<'_>) -> Option<&'static str> {
    match &*tier.decode() {
        "auto" | "priority" | "fast" => Some("auto"),
        "default" | "standard" | "standard_only" => Some("standard_only"),
        _ => None,
    }
}

fn write_member(
    out: &mut Vec<u8>,
    name: &str,
    request: &Request<'_>,
    options: &Options<'_>,
    parameters: &Parameters<'_>,
    layout: &Layout<'_>,
) -> Wrote {
    match name {
        "model" if options.model.is_empty() => request.model.write(out),
        "model" => push_quoted(out, options.model),
        "max_tokens" => write_number(out, parameters.max_tokens),
        "tools" => return write_tools(out, request, options, parameters, layout),
        "tool_choice" => return write_choice(out, request, parameters, layout),
        "system" => return write_system(out, parameters, layout),
        "messages" => write_list(out, &layout.messages, |(role, blocks), out| {
            out.extend_from_slice(match role {
                Role::Assistant => b"{\"role\":\"assistant\",\"content\":",
                Role::System => b"{\"role\":\"system\",\"content\":",
                _ => b"{\"role\":\"user\",\"content\":",
            });
            write_placed(blocks, out);
            out.push(b'}');
        }),
        "thinking" => return write_thinking(out, parameters, options),
        "output_config" => return write_output_config(out, parameters),
        "temperature" => return written(parameters.temperature.as_ref(), out, Raw::write),
        "top_p" => return written(parameters.top_p.as_ref(), out, Raw::write),
        "top_k" => return written(parameters.top_k.as_ref(), out, Raw::write),
        "stop_sequences" => {
            let stops: Vec<_> = request.stop.iter().filter(|stop| !stop.is_blank()).collect();
            if stops.is_empty() {
                return Wrote::Nothing;
            }
            write_list(out, stops, Text::write);
        }
        "metadata" => match request.user.as_ref().filter(|user| user.len() <= MAX_USER) {
            Some(user) => {
                out.extend_from_slice(b"{\"user_id\":");
                user.write(out);
                out.push(b'}');
            }
            None => return Wrote::Nothing,
        },
        "service_tier" => match request.service_tier.as_ref().and_then(service_tier) {
            Some(tier) => write_word(out, tier),
            None => return Wrote::Nothing,
        },
        "cache_control" => return written(request.cache.as_ref(), out, Raw::write),
        "stream" if request.stream => out.extend_from_slice(b"true"),
        _ => return Wrote::Nothing,
    }
    Wrote::Value
}

fn write_system(out: &mut Vec<u8>, parameters: &Parameters<'_>, layout: &Layout<'_>) -> Wrote {
    let words = Block::text(Text::literal("Answer with a single JSON object and nothing else."));
    let mut blocks: Vec<Placed<'_>> =
        layout.system.iter().map(|placed| Placed { block: placed.block, cache: placed.cache }).collect();
    if matches!(parameters.json, Json::Words) {
        blocks.push(Placed { block: &words, cache: None });
    }
    match blocks.as_slice() {
        [] => return Wrote::Nothing,
        [Placed { block: Block { kind: BlockKind::Text { text, .. }, .. }, cache: None }] => text.write(out),
        blocks => write_placed(blocks, out),
    }
    Wrote::Value
}

fn write_thinking(out: &mut Vec<u8>, parameters: &Parameters<'_>, options: &Options<'_>) -> Wrote {
    match parameters.thinking {
        // Such models think adaptively when nothing is said, so saying it changes nothing else. Saying that they think is
        // refused where a tool is forced.
        None | Some(Thinking::Adaptive) if options.drop_unfitting && !parameters.is_forced() => out.extend_from_slice(
            b"{\"type\":\"adaptive\",\"block_binding\":{\"prefix_mismatch_behavior\":\"drop_block\"}}",
        ),
        None => return Wrote::Nothing,
        Some(Thinking::Disabled) => out.extend_from_slice(b"{\"type\":\"disabled\"}"),
        Some(Thinking::Adaptive) => out.extend_from_slice(b"{\"type\":\"adaptive\"}"),
        Some(Thinking::Budget(budget)) => {
            out.extend_from_slice(b"{\"type\":\"enabled\",\"budget_tokens\":");
            write_number(out, budget);
            out.push(b'}');
        }
    }
    Wrote::Value
}

fn write_output_config(out: &mut Vec<u8>, parameters: &Parameters<'_>) -> Wrote {
    let schema = match parameters.json {
        Json::Native(schema) => Some(schema),
        _ => None,
    };
    if schema.is_none() && parameters.effort.is_none() {
        return Wrote::Nothing;
    }
    write_object(out, &Rest::default(), &["effort", "format"], |name, out| match (name, schema) {
        ("effort", _) => written(parameters.effort.as_ref(), out, Text::write),
        (_, Some(schema)) => {
            out.extend_from_slice(b"{\"type\":\"json_schema\",\"schema\":");
            schema.write(out);
            out.push(b'}');
            Wrote::Value
        }
        (_, None) => Wrote::Nothing,
    });
    Wrote::Value
}
