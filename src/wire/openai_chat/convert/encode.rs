//! Writing a request for a server that speaks chat completions.

use sha2::{Digest, Sha256};

use super::{
    parameters::{BesideTools, Parameters, Sampled, has_functions},
    part::Mark,
    same_message::write_same,
    tool_name::short_names,
    tools::{note_tools, write_choice, write_output, write_tools, write_web_search},
    write_message::{Style, write_system, write_turn},
};
use crate::wire::{
    conversation::{
        Block, Encoded, Format, Losses, OutputFormat, Raw, Request, Rest, Text, Undo, Wrote,
        schema::{Dialect, holds},
        write_list, write_number, write_object, write_word,
    },
    json::push_quoted,
};

/// What is known about the target of a request. Servers differ in what they take; what one refuses is left out.
#[derive(Clone, Debug)]
pub struct Options<'o> {
    /// The model's name at the provider.
    pub model: &'o str,
    /// `max_completion_tokens`, or `max_tokens` for servers that know only the old name.
    pub max_tokens_name: &'static str,
    /// `system`, or `developer` where models want that.
    pub system_role: &'static str,
    /// Whether `reasoning_effort` is taken.
    pub reasoning_effort: bool,
    /// Whether it takes the effort `max`; else the highest is `xhigh`.
    pub max_effort: bool,
    /// Whether it takes the effort `xhigh`; else the highest is `high`.
    pub xhigh_effort: bool,
    /// Whether the effort `none` tells it not to reason.
    pub effort_off: bool,
    pub beside_tools: BesideTools,
    pub sampling: Sampled,
    /// How reasoning of earlier turns is sent back.
    pub reasoning: ReasoningField,
    pub cache_marks: CacheMarks,
    /// Whether images may be named by URL; else the gateway fetches them.
    pub image_urls: bool,
    /// Whether a tool's message may hold images.
    pub tool_images: bool,
    /// Whether `response_format` takes a schema; else it asks for any JSON object.
    pub json_schema: bool,
    pub top_k: bool,
    /// Whether `web_search_options` is taken.
    pub web_search: bool,
    pub user: bool,
    pub service_tier: bool,
    pub parallel_tool_calls: bool,
    /// The most stop sequences that are taken.
    pub max_stops: usize,
}

/// How a server takes reasoning back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningField {
    /// Not at all.
    None,
    /// In this member of the message. `required`: messages with tool calls must have it, empty if need be (DeepSeek).
    Named { name: &'static str, required: bool },
}

/// How a server takes cache marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMarks {
    /// Not at all: it caches by itself.
    None,
    /// As `cache_control` on content parts (OpenRouter and other gateways).
    CacheControl,
    /// As `prompt_cache_breakpoint` on content parts (OpenAI, from GPT-5.6 on).
    Breakpoint,
}

impl Default for Options<'_> {
    /// A current model of OpenAI's.
    fn default() -> Self {
        Self {
            model: "",
            max_tokens_name: "max_completion_tokens",
            system_role: "system",
            reasoning_effort: true,
            max_effort: false,
            xhigh_effort: true,
            effort_off: false,
            beside_tools: BesideTools::Anything,
            sampling: Sampled::Always,
            reasoning: ReasoningField::None,
            cache_marks: CacheMarks::None,
            image_urls: true,
            tool_images: false,
            json_schema: true,
            top_k: false,
            web_search: false,
            user: true,
            service_tier: true,
            parallel_tool_calls: true,
            max_stops: 4,
        }
    }
}

/// Writes a request. The same request and options always give the same bytes.
pub fn encode_request(request: &Request<'_>, options: &Options<'_>) -> Encoded {
    let mut losses = Losses::default();
    let mut body = Vec::with_capacity(request.size + request.size / 8 + 512);
    let mut names = Vec::new();
    if request.format == Format::OpenAiChat {
        write_object(&mut body, &request.rest, &[], |name, out| match name {
            "model" => write_model(out, request, options),
            "messages" => {
                write_list(out, &request.turns, |turn, out| write_same(out, turn));
                Wrote::Value
            }
            _ => Wrote::Same,
        });
    } else {
        note_unknown(request, options, &mut losses);
        let parameters = Parameters::settle(request, options, &mut losses);
        names = short_names(request);
        write_object(&mut body, &Rest::default(), MEMBERS, |name, out| {
            write_member(out, name, request, &parameters, options, &mut losses)
        });
    }
    Encoded { body: body.into(), losses, undo: Undo { json_tool: false, names } }
}

const MEMBERS: &[&str] = &[
    "model",
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "reasoning_effort",
    "response_format",
    "web_search_options",
    "user",
    "service_tier",
    "stream",
    "stream_options",
];

fn write_model(out: &mut Vec<u8>, request: &Request<'_>, options: &Options<'_>) -> Wrote {
    if options.model.is_empty() {
        request.model.write(out);
    } else {
        push_quoted(out, options.model);
    }
    Wrote::Value
}

fn write_member(
    out: &mut Vec<u8>,
    name: &str,
    request: &Request<'_>,
    parameters: &Parameters<'_>,
    options: &Options<'_>,
    losses: &mut Losses,
) -> Wrote {
    let copy = |raw: &Option<Raw<'_>>, out: &mut Vec<u8>| match raw {
        Some(raw) => {
            raw.write(out);
            Wrote::Value
        }
        None => Wrote::Nothing,
    };
    match name {
        "model" => return write_model(out, request, options),
        "messages" => write_messages(out, request, options, losses),
        "tools" => return write_tools(out, request),
        "tool_choice" if has_functions(request) => return write_choice(out, request),
        "parallel_tool_calls" if has_functions(request) && options.parallel_tool_calls => {
            match request.parallel_tools {
                Some(false) => out.extend_from_slice(b"false"),
                _ => return Wrote::Nothing,
            }
        }
        name if name == options.max_tokens_name => match request.max_tokens {
            Some(tokens) => write_number(out, tokens),
            None => return Wrote::Nothing,
        },
        "temperature" => return copy(&parameters.temperature, out),
        "top_p" => return copy(&parameters.top_p, out),
        "top_k" if options.top_k => return copy(&request.sampling.top_k, out),
        "stop" if !request.stop.is_empty() && options.max_stops > 0 => {
            write_list(out, request.stop.iter().take(options.max_stops), Text::write);
        }
        "reasoning_effort" => match &parameters.effort {
            Some(effort) => effort.write(out),
            None => return Wrote::Nothing,
        },
        "response_format" => return write_output(out, request, options),
        "web_search_options" if options.web_search => return write_web_search(out, request),
        "user" if options.user => match &request.user {
            Some(user) => write_user(out, user),
            None => return Wrote::Nothing,
        },
        "service_tier" if options.service_tier => match request.service_tier.as_ref().and_then(service_tier) {
            Some(tier) => write_word(out, tier),
            None => return Wrote::Nothing,
        },
        "stream" if request.stream => out.extend_from_slice(b"true"),
        "stream_options" if request.stream => out.extend_from_slice(b"{\"include_usage\":true}"),
        _ => return Wrote::Nothing,
    }
    Wrote::Value
}

/// OpenAI takes 64 characters, and Claude Code's name of its user is a document. Nobody is to read it, only to tell one
/// from another: a longer one is sent as its hash.
fn write_user(out: &mut Vec<u8>, user: &Text<'_>) {
    const LONGEST: usize = 64;
    let name = user.decode();
    if name.chars().count() <= LONGEST {
        return user.write(out);
    }
    let hash = Sha256::digest(name.as_bytes());
    let digits: String = hash.iter().take(24).map(|byte| format!("{byte:02x}")).collect();
    push_quoted(out, &format!("user_{digits}"));
}

fn write_messages(out: &mut Vec<u8>, request: &Request<'_>, options: &Options<'_>, losses: &mut Losses) {
    let style = Style {
        mark: match options.cache_marks {
            CacheMarks::None => None,
            CacheMarks::CacheControl => Some(Mark::CacheControl),
            CacheMarks::Breakpoint => Some(Mark::Breakpoint),
        },
        reasoning: match options.reasoning {
            ReasoningField::None => None,
            ReasoningField::Named { name, required } => Some((name, required)),
        },
        image_urls: options.image_urls,
        tool_images: options.tool_images,
        system_role: options.system_role,
    };
    out.push(b'[');
    match &request.output {
        Some(OutputFormat::JsonSchema { schema, .. }) if !options.json_schema => {
            let mut system = request.system.clone();
            system.blocks.push(Block::text(in_words(schema)));
            write_system(out, &system, &style);
        }
        _ => write_system(out, &request.system, &style),
    }
    for (index, turn) in request.turns.iter().enumerate() {
        write_turn(out, turn, index, &style, losses);
    }
    out.push(b']');
}

/// A schema for a model that cannot be held to it, and is told of it instead.
fn in_words(schema: &Raw<'_>) -> Text<'static> {
    let schema = String::from_utf8_lossy(schema.bytes());
    Text::new(&format!("Answer with a single JSON object and nothing else. It follows this JSON Schema:\n{schema}"))
}

/// What of the client's format has no home here.
fn note_unknown(request: &Request<'_>, options: &Options<'_>, losses: &mut Losses) {
    for (name, _) in request.rest.unknown().filter(|(_, value)| !value.is_empty()) {
        losses.note(name.decode(), "this provider has no such parameter");
    }
    for path in &request.unhoused {
        losses.note(path, "this provider has no such parameter");
    }
    let cached = |blocks: &[crate::wire::conversation::Block<'_>]| blocks.iter().any(|block| block.cache.is_some());
    let marked = request.cache.is_some()
        || cached(&request.system.blocks)
        || request.turns.iter().any(|turn| turn.cache.is_some() || cached(&turn.content.blocks))
        || request.tools.iter().any(|tool| tool.cache.is_some());
    if marked && options.cache_marks == CacheMarks::None {
        losses.note("cache_control", "this provider caches by itself");
    }
    if request.stop.len() > options.max_stops {
        losses.note("stop_sequences", "more stop sequences than this provider takes");
    }
    if request.sampling.top_k.is_some() && !options.top_k {
        losses.note("top_k", "this provider has no such parameter");
    }
    if request.user.is_some() && !options.user {
        losses.note("metadata.user_id", "this provider has no such parameter");
    }
    if request.service_tier.is_some() && !options.service_tier {
        losses.note("service_tier", "this provider has no such parameter");
    }
    if request.parallel_tools == Some(false) && !options.parallel_tool_calls {
        losses.note("tool_choice.disable_parallel_tool_use", "this provider has no such parameter");
    }
    match &request.output {
        Some(OutputFormat::JsonSchema { .. }) if !options.json_schema => {
            losses.note("output_config.format", "the model is told of the schema, and not held to it");
        }
        Some(OutputFormat::JsonSchema { schema, .. }) if !holds(schema, Dialect::OpenAiStrict) => {
            losses.note("output_config.format", "the model cannot be held to this schema, and is told of it only");
        }
        _ => {}
    }
    note_tools(request, options, losses);
}

fn service_tier(tier: &Text<'_>) -> Option<&'static str> {
    match &*tier.decode() {
        "auto" => Some("auto"),
        "standard_only" => Some("default"),
        _ => None,
    }
}
