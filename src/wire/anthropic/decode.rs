//! Reading Anthropic's requests (`POST /v1/messages` and `/v1/messages/count_tokens`).

use super::block::{read_block, read_content};
use crate::wire::{
    conversation::{
        BadField, Content, Fields, Format, OutputFormat, Path, Raw, Reasoning, Request, Role, Sampling, Text, Thinking,
        Tool, ToolChoice, ToolKind, Turn, document,
    },
    json::{Kind, Value},
};

/// Reads a request. Errors name the field at fault by its path.
pub fn decode_request(body: &[u8]) -> Result<Request<'_>, BadField> {
    let root = &Path::ROOT;
    let mut fields = Fields::read(document(body)?, root)?;
    let tool_choice = fields.some("tool_choice");
    let mut unhoused = Vec::new();
    let output = read_output(&mut fields, root, &mut unhoused)?;
    if let Some(thinking) = fields.peek("thinking") {
        let members = thinking.members().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.text());
        let unknown = members.filter(|name| !matches!(&**name, "type" | "budget_tokens"));
        unhoused.extend(unknown.map(|name| format!("thinking.{name}")));
    }
    Ok(Request {
        format: Format::Anthropic,
        model: fields.need_text("model", root)?,
        system: match fields.some("system") {
            Some(system) => read_system(system, &root.name("system"))?,
            None => Content::default(),
        },
        turns: read_turns(&mut fields)?,
        tools: read_tools(&mut fields)?,
        tool_choice: match tool_choice {
            Some(choice) => Some(read_choice(choice, &root.name("tool_choice"))?),
            None => None,
        },
        parallel_tools: match tool_choice {
            Some(choice) => read_parallel(choice, &root.name("tool_choice"))?,
            None => None,
        },
        reasoning: Reasoning { thinking: read_thinking(&mut fields, root)?, effort: output.1 },
        output: output.0,
        sampling: Sampling {
            temperature: fields.number("temperature", root)?,
            top_p: fields.number("top_p", root)?,
            top_k: fields.number("top_k", root)?,
        },
        max_tokens: fields.count("max_tokens", root)?,
        stop: read_stop(&mut fields)?,
        service_tier: fields.text("service_tier", root)?,
        user: match fields.some("metadata") {
            Some(metadata) => {
                let mut metadata = Fields::read(metadata, &root.name("metadata"))?;
                let user = metadata.text("user_id", &root.name("metadata"))?;
                let rest = metadata.rest();
                let unknown = rest.unknown().filter(|(_, value)| !value.is_empty());
                unhoused.extend(unknown.map(|(name, _)| format!("metadata.{}", name.decode())));
                user
            }
            None => None,
        },
        cache: fields.object("cache_control", root)?,
        web_search: None,
        stream: fields.flag("stream", root)?.unwrap_or(false),
        stream_usage: true,
        choices: 1,
        size: body.len(),
        unhoused,
        rest: fields.rest(),
    })
}

/// The system's blocks are texts.
fn read_system<'a>(value: Value<'a>, path: &Path<'_>) -> Result<Content<'a>, BadField> {
    read_content(value, path, 0)
}

fn read_turns<'a>(fields: &mut Fields<'a>) -> Result<Vec<Turn<'a>>, BadField> {
    let root = &Path::ROOT;
    let path = &root.name("messages");
    let list = fields.list("messages", root)?.ok_or_else(|| path.bad("is missing"))?;
    list.items().enumerate().map(|(index, message)| read_turn(message, &path.index(index))).collect()
}

pub(super) fn read_turn<'a>(message: Value<'a>, path: &Path<'_>) -> Result<Turn<'a>, BadField> {
    let mut fields = Fields::read(message, path)?;
    let role = match &*fields.need_text("role", path)?.decode() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(path.name("role").bad("must be `user`, `assistant` or `system`")),
    };
    let content = fields.take("content").ok_or_else(|| path.name("content").bad("is missing"))?;
    let content = read_content(content, &path.name("content"), 0)?;
    Ok(Turn { role, content, cache: None, rest: fields.rest() })
}

fn read_tools<'a>(fields: &mut Fields<'a>) -> Result<Vec<Tool<'a>>, BadField> {
    let root = &Path::ROOT;
    let path = &root.name("tools");
    let Some(list) = fields.list("tools", root)? else { return Ok(Vec::new()) };
    list.items().enumerate().map(|(index, tool)| read_tool(tool, &path.index(index))).collect()
}

fn read_tool<'a>(value: Value<'a>, path: &Path<'_>) -> Result<Tool<'a>, BadField> {
    let mut fields = Fields::read(value, path)?;
    let kind = fields.text("type", path)?.filter(|kind| *kind != "custom");
    // A toolset of an MCP server has no name of its own.
    let name = if kind.is_some() { fields.text("name", path)? } else { Some(fields.need_text("name", path)?) };
    let kind = match kind {
        Some(kind) => ToolKind::Server { kind },
        None => match fields.take("input_schema") {
            Some(schema) if schema.kind == Kind::Object => ToolKind::Function { schema: Some(Raw::of(schema)) },
            Some(_) => return Err(path.name("input_schema").bad("must be an object")),
            None => return Err(path.name("input_schema").bad("is missing")),
        },
    };
    Ok(Tool {
        name: name.unwrap_or_default(),
        description: fields.text("description", path)?,
        kind,
        strict: fields.flag("strict", path)?,
        cache: fields.object("cache_control", path)?,
        extras: fields.rest().unknown().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.clone()).collect(),
        native: Raw::of(value),
    })
}

fn read_choice<'a>(value: Value<'a>, path: &Path<'_>) -> Result<ToolChoice<'a>, BadField> {
    let mut fields = Fields::read(value, path)?;
    match &*fields.need_text("type", path)?.decode() {
        "auto" => Ok(ToolChoice::Auto),
        "any" => Ok(ToolChoice::Any),
        "none" => Ok(ToolChoice::None),
        "tool" => Ok(ToolChoice::Tool(fields.need_text("name", path)?)),
        _ => Err(path.name("type").bad("must be `auto`, `any`, `tool` or `none`")),
    }
}

fn read_parallel(choice: Value<'_>, path: &Path<'_>) -> Result<Option<bool>, BadField> {
    let is_disabled = Fields::read(choice, path)?.flag("disable_parallel_tool_use", path)?;
    Ok(is_disabled.map(|disabled| !disabled))
}

/// The output's format and the effort. `output_format` is where betas had the format.
fn read_output<'a>(
    fields: &mut Fields<'a>,
    root: &Path<'_>,
    unhoused: &mut Vec<String>,
) -> Result<(Option<OutputFormat<'a>>, Option<Text<'a>>), BadField> {
    let mut format = fields.some("output_format").map(|format| (format, "output_format"));
    let mut effort = None;
    if let Some(config) = fields.some("output_config") {
        let path = &root.name("output_config");
        let mut fields = Fields::read(config, path)?;
        effort = fields.text("effort", path)?;
        format = fields.some("format").map(|format| (format, "output_config.format")).or(format);
        let rest = fields.rest();
        let unknown = rest.unknown().filter(|(_, value)| !value.is_empty());
        unhoused.extend(unknown.map(|(name, _)| format!("output_config.{}", name.decode())));
    }
    let Some((format, name)) = format else { return Ok((None, effort)) };
    let path = &root.name(name);
    let mut fields = Fields::read(format, path)?;
    if fields.need_text("type", path)? != "json_schema" {
        return Err(path.name("type").bad("must be `json_schema`"));
    }
    let schema = fields.raw("schema").ok_or_else(|| path.name("schema").bad("is missing"))?;
    Ok((Some(OutputFormat::JsonSchema { name: None, description: None, schema, strict: None }), effort))
}

fn read_thinking(fields: &mut Fields<'_>, root: &Path<'_>) -> Result<Option<Thinking>, BadField> {
    match fields.some("thinking") {
        Some(thinking) => thinking_setting(thinking, &root.name("thinking")),
        None => Ok(None),
    }
}

/// Reads Anthropic's `thinking` parameter, which clients of other formats send as well.
pub(in crate::wire) fn thinking_setting(value: Value<'_>, path: &Path<'_>) -> Result<Option<Thinking>, BadField> {
    let mut fields = Fields::read(value, path)?;
    Ok(match &*fields.need_text("type", path)?.decode() {
        "enabled" => match fields.count("budget_tokens", path)? {
            Some(budget) => Some(Thinking::Budget(budget)),
            None => Some(Thinking::Adaptive),
        },
        "adaptive" => Some(Thinking::Adaptive),
        "disabled" | "between_tools" => Some(Thinking::Disabled),
        _ => None,
    })
}

fn read_stop<'a>(fields: &mut Fields<'a>) -> Result<Vec<Text<'a>>, BadField> {
    let root = &Path::ROOT;
    let path = &root.name("stop_sequences");
    let Some(list) = fields.list("stop_sequences", root)? else { return Ok(Vec::new()) };
    let texts = list.items().enumerate();
    texts.map(|(index, item)| Text::of(item).ok_or_else(|| path.index(index).bad("must be a string"))).collect()
}

/// Reads the blocks of a reply's `content`.
pub(super) fn read_reply_content<'a>(list: Value<'a>, path: &Path<'_>) -> Result<Content<'a>, BadField> {
    let blocks = list.items().enumerate().map(|(index, item)| read_block(item, &path.index(index), 0));
    Ok(Content { blocks: blocks.collect::<Result<_, _>>()?, plain: false })
}
