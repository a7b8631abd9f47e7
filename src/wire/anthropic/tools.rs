//! Writing tools and the choice among them.

use super::{
    block::written,
    layout::Layout,
    options::Options,
    parameters::{Json, Parameters, is_forced},
};
use crate::wire::conversation::{
    JSON_TOOL, Raw, Request, Rest, Text, Tool, ToolChoice, ToolKind, WebSearch, Wrote,
    schema::{Dialect, holds},
    write_object, write_word,
};

pub(super) fn write_tools(
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
pub(super) fn is_strict(tool: &Tool<'_>, options: &Options<'_>) -> bool {
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

pub(super) fn write_choice(
    out: &mut Vec<u8>,
    request: &Request<'_>,
    parameters: &Parameters<'_>,
    layout: &Layout<'_>,
) -> Wrote {
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
