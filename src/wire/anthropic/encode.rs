//! Writing a request for Anthropic.

use std::collections::HashSet;

use super::{
    block::{For, arguments, write_block, write_content, written},
    options::Options,
    parameters::{Json, Parameters, is_forced},
};
use crate::wire::{
    conversation::{
        Block, BlockKind, Encoded, Fields, Format, Input, Issuer, JSON_TOOL, Losses, Path, Place, Raw, Request, Rest,
        Role, Text, Thinking, Tool, ToolChoice, ToolKind, Turn, Undo, WebSearch, Wrote,
        schema::{Dialect, holds},
        write_list, write_number, write_object, write_word,
    },
    json::{Value, push_quoted},
};

/// Writes a request. The same request and options always give the same bytes.
pub fn encode_request(request: &Request<'_>, options: &Options<'_>) -> Encoded {
    let mut losses = Losses::default();
    let mut body = Vec::with_capacity(4096);
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
    "context_management",
    "mcp_servers",
    "container",
    "inference_geo",
    "speed",
];

/// Members of Anthropic's own that clients of other formats may send; the provider judges them.
const PASSED: &[&str] = &["context_management", "mcp_servers", "container", "inference_geo", "speed"];

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

const FOREIGN: &str = "thinking that another provider has made, or nobody has signed";

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

/// Whether it is thinking that Anthropic would refuse.
fn is_foreign(block: &Block<'_>) -> bool {
    block.is_thinking() && !is_own_thinking(block)
}

pub(super) fn is_own_thinking(block: &Block<'_>) -> bool {
    match &block.kind {
        BlockKind::Thinking { issuer, .. } | BlockKind::RedactedThinking { issuer, .. } => *issuer == Issuer::Anthropic,
        _ => false,
    }
}

/// Where the blocks of a request of another format go.
struct Layout<'r> {
    system: Vec<Placed<'r>>,
    messages: Vec<(Role, Vec<Placed<'r>>)>,
    tools: Vec<&'r Tool<'r>>,
    /// Tools that the conversation has calls of and the request does not define.
    undefined: Vec<&'r Text<'r>>,
}

struct Placed<'r> {
    block: &'r Block<'r>,
    cache: Option<&'r Raw<'r>>,
}

impl<'r> Layout<'r> {
    fn of(request: &'r Request<'_>, options: &Options<'_>, parameters: &Parameters<'_>, losses: &mut Losses) -> Self {
        let mut layout = Self { system: Vec::new(), messages: Vec::new(), tools: Vec::new(), undefined: Vec::new() };
        for (position, block) in request.system.blocks.iter().enumerate() {
            place(&mut layout.system, block, block.cache.as_ref(), losses, || format!("system[{position}]"));
        }
        for (index, turn) in request.turns.iter().enumerate() {
            layout.add_turn(turn, index, options, losses);
        }
        layout.messages.retain(|(_, blocks)| !blocks.is_empty());
        if layout.messages.is_empty() && !layout.system.is_empty() {
            losses.note("messages", "a conversation begins with the user's turn, so the instructions are sent as one");
            layout.messages.push((Role::User, std::mem::take(&mut layout.system)));
        }
        layout.add_tools(request, options, parameters, losses);
        layout
    }

    fn add_turn(&mut self, turn: &'r Turn<'_>, index: usize, options: &Options<'_>, losses: &mut Losses) {
        let role = match turn.role {
            Role::User | Role::Tool => Role::User,
            Role::Assistant => Role::Assistant,
            Role::System | Role::Developer => {
                let after_user = self.messages.last().is_some_and(|(role, _)| *role == Role::User);
                if options.system_turns && after_user {
                    Role::System
                } else {
                    if !self.messages.is_empty() {
                        losses.note(format_args!("messages[{index}]"), "moved before the conversation");
                    }
                    return self.add_blocks(None, turn, index, losses);
                }
            }
        };
        // Messages that follow one another in the same role are one turn: results of parallel calls above all.
        if self.messages.last().is_none_or(|(last, _)| *last != role) {
            self.messages.push((role, Vec::new()));
        }
        self.add_blocks(Some(role), turn, index, losses);
    }

    fn add_blocks(&mut self, role: Option<Role>, turn: &'r Turn<'_>, index: usize, losses: &mut Losses) {
        let list = match (role, self.messages.last_mut()) {
            (Some(_), Some((_, blocks))) => blocks,
            _ => &mut self.system,
        };
        let last = turn.content.blocks.iter().rposition(|block| !block.is_thinking());
        for (position, block) in turn.content.blocks.iter().enumerate() {
            let cache = block.cache.as_ref().or(turn.cache.as_ref().filter(|_| Some(position) == last));
            place(list, block, cache, losses, || format!("messages[{index}].content[{position}]"));
        }
        let name = turn.rest.unknown().find(|(name, value)| **name == *"name" && !value.is_null());
        // The name in a function's message says what its call says.
        if name.is_some() && turn.role != Role::Tool {
            losses.note(format_args!("messages[{index}].name"), "messages have no names");
        }
    }

    fn add_tools(
        &mut self,
        request: &'r Request<'_>,
        options: &Options<'_>,
        parameters: &Parameters<'_>,
        losses: &mut Losses,
    ) {
        let among = match &parameters.choice {
            Some(ToolChoice::Among { names, .. }) => Some(names),
            _ => None,
        };
        let allowed = |tool: &&Tool<'_>| among.is_none_or(|names| names.contains(&tool.name));
        self.tools = request.tools.iter().filter(allowed).collect();
        for (index, tool) in request.tools.iter().enumerate() {
            match &tool.kind {
                ToolKind::FreeText => losses.note(
                    format_args!("tools[{index}]"),
                    "a tool that takes free text becomes a function of one argument, `input`",
                ),
                ToolKind::Server { .. } => {
                    losses.note(format_args!("tools[{index}]"), "a tool of another provider");
                    self.tools.retain(|kept| !std::ptr::eq(*kept, tool));
                }
                ToolKind::Function { .. } if tool.strict == Some(true) && !is_strict(tool, options) => {
                    losses.note(format_args!("tools[{index}].strict"), "the model cannot be held to this schema");
                }
                ToolKind::Function { .. } => {}
            }
        }
        if !self.tools.is_empty() {
            return;
        }
        let mut seen = HashSet::new();
        let calls = request.turns.iter().flat_map(|turn| &turn.content.blocks);
        for block in calls {
            if let BlockKind::ToolUse(call) = &block.kind
                && seen.insert(call.name.decode())
            {
                self.undefined.push(&call.name);
            }
        }
    }
}

/// Puts a block in its place, unless there is none for it.
fn place<'r>(
    list: &mut Vec<Placed<'r>>,
    block: &'r Block<'_>,
    cache: Option<&'r Raw<'_>>,
    losses: &mut Losses,
    path: impl Fn() -> String,
) {
    let why = match &block.kind {
        BlockKind::Text { text, .. } | BlockKind::Refusal { text } if text.is_blank() => return,
        BlockKind::Audio(_) => Some("sound is not taken"),
        BlockKind::Other { words: None, .. } => Some("a kind of content that this provider does not know"),
        BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } if is_foreign(block) => Some(FOREIGN),
        BlockKind::Image(source) | BlockKind::Document { source, .. } => match &source.place {
            // Anthropic's own ids begin like this, and clients of other formats may well use them.
            Place::File(id) if !id.spelling().starts_with(b"file_") => Some("a file of another provider"),
            Place::Unknown => Some("a source that this provider does not know"),
            _ => None,
        },
        BlockKind::ToolUse(call) => {
            if matches!(&call.input, Input::Spelt(text) if arguments(text).is_none()) {
                losses.note(path(), "arguments that are no JSON object are wrapped in one");
            }
            None
        }
        _ => None,
    };
    match why {
        Some(why) => losses.note(path(), why),
        None => list.push(Placed { block, cache }),
    }
}

fn write_placed(blocks: &[Placed<'_>], out: &mut Vec<u8>) {
    write_list(out, blocks, |placed, out| write_block(out, placed.block, For::Provider, placed.cache));
}

/// What of the client's format has no home here.
fn note_unknown(request: &Request<'_>, losses: &mut Losses) {
    for (name, value) in request.rest.unknown() {
        let name = name.decode();
        if !value.is_empty() && !PASSED.contains(&&*name) {
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
        "thinking" => return write_thinking(out, parameters.thinking),
        "output_config" => return write_output_config(out, parameters),
        "temperature" => return written(parameters.temperature.as_ref(), out, Raw::write),
        "top_p" => return written(parameters.top_p.as_ref(), out, Raw::write),
        "top_k" => return written(parameters.top_k.as_ref(), out, Raw::write),
        "stop_sequences" => {
            let stops: Vec<_> = request.stop.iter().filter(|stop| !stop.is_blank()).collect();
            if stops.is_empty() {
                return Wrote::Nothing;
            }
            write_list(out, stops, |stop, out| stop.write(out));
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
        _ => match request.rest.unknown().find(|(member, _)| **member == *name) {
            Some((_, value)) if PASSED.contains(&name) => out.extend_from_slice(value.raw),
            _ => return Wrote::Nothing,
        },
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

fn write_tools(
    out: &mut Vec<u8>,
    request: &Request<'_>,
    options: &Options<'_>,
    parameters: &Parameters<'_>,
    layout: &Layout<'_>,
) -> Wrote {
    let begin = out.len();
    out.push(b'[');
    let separate = |out: &mut Vec<u8>| {
        if out.len() > begin + 1 {
            out.push(b',');
        }
    };
    for tool in &layout.tools {
        separate(out);
        write_tool(out, tool, options);
    }
    for name in &layout.undefined {
        separate(out);
        out.extend_from_slice(b"{\"name\":");
        name.write(out);
        out.extend_from_slice(b",\"input_schema\":{\"type\":\"object\"}}");
    }
    if let Some(search) = &request.web_search {
        separate(out);
        write_web_search(out, search);
    }
    if let Json::Tool(schema) = &parameters.json {
        separate(out);
        out.extend_from_slice(b"{\"name\":");
        write_word(out, JSON_TOOL);
        out.extend_from_slice(
            b",\"description\":\"Gives the final answer in the form that is asked for.\",\"input_schema\":",
        );
        write_schema(out, *schema);
        out.push(b'}');
    }
    if out.len() == begin + 1 {
        out.truncate(begin);
        return Wrote::Nothing;
    }
    out.push(b']');
    Wrote::Value
}

fn write_tool(out: &mut Vec<u8>, tool: &Tool<'_>, options: &Options<'_>) {
    let names = &["name", "description", "input_schema", "strict", "cache_control"];
    write_object(out, &Rest::default(), names, |name, out| {
        match name {
            "name" => tool.name.write(out),
            "description" => return written(tool.description.as_ref(), out, Text::write),
            "input_schema" => match &tool.kind {
                ToolKind::Function { schema } => write_schema(out, schema.as_ref()),
                ToolKind::FreeText | ToolKind::Server { .. } => out.extend_from_slice(
                    b"{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\"}},\"required\":[\"input\"]}",
                ),
            },
            "strict" if is_strict(tool, options) => out.extend_from_slice(b"true"),
            "cache_control" => return written(tool.cache.as_ref(), out, Raw::write),
            _ => return Wrote::Nothing,
        }
        Wrote::Value
    });
}

/// Whether the provider can hold the model to a tool's schema, as the client wants.
fn is_strict(tool: &Tool<'_>, options: &Options<'_>) -> bool {
    let held = |schema: &Raw<'_>| holds(schema, Dialect::Anthropic);
    let schema = matches!(&tool.kind, ToolKind::Function { schema } if schema.as_ref().is_none_or(held));
    tool.strict == Some(true) && options.json_schema && schema
}

/// A schema of an object says so: `type` is the one member that is demanded.
fn write_schema(out: &mut Vec<u8>, schema: Option<&Raw<'_>>) {
    match schema {
        None => out.extend_from_slice(b"{\"type\":\"object\",\"properties\":{}}"),
        Some(schema) if schema.value().get("type").is_some() => schema.write(out),
        Some(schema) => {
            out.extend_from_slice(b"{\"type\":\"object\"");
            let members = schema.bytes().get(1..).unwrap_or_default();
            if !members.trim_ascii_start().starts_with(b"}") {
                out.push(b',');
            }
            out.extend_from_slice(members);
        }
    }
}

fn write_web_search(out: &mut Vec<u8>, search: &WebSearch<'_>) {
    out.extend_from_slice(b"{\"type\":\"web_search_20250305\",\"name\":\"web_search\"");
    if !search.place.is_empty() {
        out.extend_from_slice(b",\"user_location\":{\"type\":\"approximate\"");
        for (name, text) in &search.place {
            out.push(b',');
            write_word(out, name);
            out.push(b':');
            text.write(out);
        }
        out.push(b'}');
    }
    out.push(b'}');
}

fn write_choice(out: &mut Vec<u8>, request: &Request<'_>, parameters: &Parameters<'_>, layout: &Layout<'_>) -> Wrote {
    let single = request.parallel_tools == Some(false);
    let json_only = matches!(parameters.json, Json::Tool(_));
    if layout.tools.is_empty() && !json_only {
        if layout.undefined.is_empty() {
            return Wrote::Nothing;
        }
        out.extend_from_slice(b"{\"type\":\"none\"}");
        return Wrote::Value;
    }
    let (kind, name) = match &parameters.choice {
        // The tools of the request may be called before the answer is given, so any of them will do.
        _ if json_only && !layout.tools.is_empty() => ("any", None),
        _ if json_only => ("tool", Some(Text::literal(JSON_TOOL))),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Tool(name)) => ("tool", Some(name.as_borrowed())),
        Some(choice) if is_forced(choice) => ("any", None),
        Some(_) => ("auto", None),
        None if single => ("auto", None),
        None => return Wrote::Nothing,
    };
    out.extend_from_slice(b"{\"type\":");
    write_word(out, kind);
    if let Some(name) = name {
        out.extend_from_slice(b",\"name\":");
        name.write(out);
    }
    if single && kind != "none" {
        out.extend_from_slice(b",\"disable_parallel_tool_use\":true");
    }
    out.push(b'}');
    Wrote::Value
}

fn write_thinking(out: &mut Vec<u8>, thinking: Option<Thinking>) -> Wrote {
    match thinking {
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
