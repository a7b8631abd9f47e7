//! Writing tools, the choice among them, and the form of the output.

use super::{encode::Options, tool_name::write_name};
use crate::wire::conversation::{
    Losses, OutputFormat, Raw, Request, Text, Tool, ToolChoice, ToolKind, Wrote,
    schema::{Dialect, holds},
    write_list, write_word,
};

pub(super) fn note_tools(request: &Request<'_>, options: &Options<'_>, losses: &mut Losses) {
    for (index, tool) in request.tools.iter().enumerate() {
        if let ToolKind::Server { kind } = &tool.kind
            && !(options.web_search && is_web_search(kind))
        {
            losses.note(format_args!("tools[{index}]"), "a tool of another provider");
            continue;
        }
        if tool.strict == Some(true) && !is_strict(tool) {
            losses.note(format_args!("tools[{index}].strict"), "the model cannot be held to this schema");
        }
        for extra in tool.extras.iter().filter(|extra| **extra != "user_location") {
            losses.note(format_args!("tools[{index}].{}", extra.decode()), "this provider has no such parameter");
        }
    }
}

fn is_web_search(kind: &Text<'_>) -> bool {
    kind.spelling().starts_with(b"web_search_")
}

/// Anthropic's web search is a tool; here it is a parameter.
pub(super) fn write_web_search(out: &mut Vec<u8>, request: &Request<'_>) -> Wrote {
    let is_search = |tool: &&Tool<'_>| matches!(&tool.kind, ToolKind::Server { kind } if is_web_search(kind));
    let Some(tool) = request.tools.iter().find(is_search) else { return Wrote::Nothing };
    out.push(b'{');
    if let Some(place) = tool.native.value().get("user_location") {
        let known = ["city", "country", "region", "timezone"];
        let members = known.iter().filter_map(|name| Some((name, place.get(name).filter(|value| !value.is_null())?)));
        out.extend_from_slice(b"\"user_location\":{\"type\":\"approximate\",\"approximate\":{");
        for (index, (name, value)) in members.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_word(out, name);
            out.push(b':');
            out.extend_from_slice(value.raw);
        }
        out.extend_from_slice(b"}}");
    }
    out.push(b'}');
    Wrote::Value
}

pub(super) fn write_tools(out: &mut Vec<u8>, request: &Request<'_>) -> Wrote {
    let functions = request.tools.iter().filter(|tool| !matches!(tool.kind, ToolKind::Server { .. }));
    let functions: Vec<&Tool<'_>> = functions.collect();
    if functions.is_empty() {
        return Wrote::Nothing;
    }
    write_list(out, functions, |tool, out| {
        out.extend_from_slice(b"{\"type\":\"function\",\"function\":{\"name\":");
        write_name(out, &tool.name);
        if let Some(description) = &tool.description {
            out.extend_from_slice(b",\"description\":");
            description.write(out);
        }
        if let ToolKind::Function { schema: Some(schema) } = &tool.kind {
            out.extend_from_slice(b",\"parameters\":");
            schema.write(out);
        }
        if is_strict(tool) {
            out.extend_from_slice(b",\"strict\":true");
        }
        out.extend_from_slice(b"}}");
    });
    Wrote::Value
}

/// Whether the provider can hold the model to a tool's schema, as the client wants.
fn is_strict(tool: &Tool<'_>) -> bool {
    let held = |schema: &Raw<'_>| holds(schema, Dialect::OpenAiStrict);
    let schema = matches!(&tool.kind, ToolKind::Function { schema } if schema.as_ref().is_some_and(held));
    tool.strict == Some(true) && schema
}

pub(super) fn write_choice(out: &mut Vec<u8>, request: &Request<'_>) -> Wrote {
    match &request.tool_choice {
        None => return Wrote::Nothing,
        Some(ToolChoice::Auto) => write_word(out, "auto"),
        Some(ToolChoice::None) => write_word(out, "none"),
        Some(ToolChoice::Any | ToolChoice::Among { .. }) => write_word(out, "required"),
        Some(ToolChoice::Tool(name)) => {
            out.extend_from_slice(b"{\"type\":\"function\",\"function\":{\"name\":");
            write_name(out, name);
            out.extend_from_slice(b"}}");
        }
    }
    Wrote::Value
}

pub(super) fn write_output(out: &mut Vec<u8>, request: &Request<'_>, options: &Options<'_>) -> Wrote {
    match &request.output {
        None => return Wrote::Nothing,
        Some(OutputFormat::JsonSchema { name, schema, .. }) if options.json_schema => {
            out.extend_from_slice(b"{\"type\":\"json_schema\",\"json_schema\":{\"name\":");
            name.as_ref().unwrap_or(&Text::literal("answer")).write(out);
            out.extend_from_slice(b",\"schema\":");
            schema.write(out);
            if holds(schema, Dialect::OpenAiStrict) {
                out.extend_from_slice(b",\"strict\":true");
            }
            out.extend_from_slice(b"}}");
        }
        Some(_) => out.extend_from_slice(b"{\"type\":\"json_object\"}"),
    }
    Wrote::Value
}
