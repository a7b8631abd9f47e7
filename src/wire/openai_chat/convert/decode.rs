//! Reading requests for chat completions.

use super::{message::read_message, part::read_cache};
use crate::wire::{
    anthropic::thinking_setting,
    conversation::{
        BadField, Content, Fields, Format, OutputFormat, Path, Raw, Reasoning, Request, Sampling, Text, Thinking, Tool,
        ToolChoice, ToolKind, Turn, WebSearch, document,
    },
    json::{Kind, Value},
};

/// Reads a request. Errors name the field at fault by its path.
pub fn decode_request(body: &[u8]) -> Result<Request<'_>, BadField> {
    let root = &Path::ROOT;
    let mut fields = Fields::read(document(body)?, root)?;
    let options = fields.some("stream_options");
    let max_completion_tokens = fields.count("max_completion_tokens", root)?;
    let max_tokens = fields.count("max_tokens", root)?;
    let safety_identifier = fields.text("safety_identifier", root)?;
    let user = fields.text("user", root)?;
    Ok(Request {
        format: Format::OpenAiChat,
        model: fields.need_text("model", root)?,
        system: Content::default(),
        turns: read_turns(&mut fields)?,
        tools: read_tools(&mut fields)?,
        tool_choice: read_choice(&mut fields)?,
        parallel_tools: fields.flag("parallel_tool_calls", root)?,
        output: read_output(&mut fields)?,
        sampling: Sampling {
            temperature: fields.number("temperature", root)?,
            top_p: fields.number("top_p", root)?,
            top_k: fields.number("top_k", root)?,
        },
        reasoning: read_reasoning(&mut fields)?,
        max_tokens: max_completion_tokens.or(max_tokens),
        stop: read_stop(&mut fields)?,
        service_tier: fields.text("service_tier", root)?,
        user: user.or(safety_identifier),
        cache: fields.object("cache_control", root)?,
        web_search: match fields.some("web_search_options") {
            Some(search) => Some(read_web_search(search, &root.name("web_search_options"))?),
            None => None,
        },
        stream: fields.flag("stream", root)?.unwrap_or(false),
        stream_usage: match options {
            Some(options) => {
                let path = &root.name("stream_options");
                Fields::read(options, path)?.flag("include_usage", path)?.unwrap_or(false)
            }
            None => false,
        },
        choices: fields.count("n", root)?.unwrap_or(1),
        size: body.len(),
        unhoused: Vec::new(),
        rest: fields.rest(),
    })
}

fn read_turns<'a>(fields: &mut Fields<'a>) -> Result<Vec<Turn<'a>>, BadField> {
    let root = &Path::ROOT;
    let path = &root.name("messages");
    let list = fields.list("messages", root)?.ok_or_else(|| path.bad("is missing"))?;
    let mut function_id = None;
    let messages = list.items().enumerate();
    messages.map(|(index, message)| read_message(message, &path.index(index), index, &mut function_id)).collect()
}

/// The tools, and the functions of old clients.
fn read_tools<'a>(fields: &mut Fields<'a>) -> Result<Vec<Tool<'a>>, BadField> {
    let root = &Path::ROOT;
    let mut tools = Vec::new();
    if let Some(list) = fields.list("tools", root)? {
        let path = &root.name("tools");
        for (index, tool) in list.items().enumerate() {
            tools.push(read_tool(tool, &path.index(index))?);
        }
    }
    if let Some(list) = fields.list("functions", root)? {
        let path = &root.name("functions");
        for (index, function) in list.items().enumerate() {
            let path = &path.index(index);
            tools.push(read_function(Fields::read(function, path)?, path, None, Raw::of(function))?);
        }
    }
    Ok(tools)
}

fn read_tool<'a>(value: Value<'a>, path: &Path<'_>) -> Result<Tool<'a>, BadField> {
    let mut fields = Fields::read(value, path)?;
    let kind = fields.text("type", path)?.unwrap_or(Text::literal("function"));
    let cache = read_cache(&mut fields, path)?;
    match &*kind.decode() {
        "function" => {
            let path = &path.name("function");
            let function = fields.take("function").ok_or_else(|| path.bad("is missing"))?;
            read_function(Fields::read(function, path)?, path, cache, Raw::of(value))
        }
        "custom" => {
            let path = &path.name("custom");
            let custom = fields.take("custom").ok_or_else(|| path.bad("is missing"))?;
            let mut custom = Fields::read(custom, path)?;
            Ok(Tool {
                name: custom.need_text("name", path)?,
                description: custom.text("description", path)?,
                kind: ToolKind::FreeText,
                strict: None,
                cache,
                extras: Vec::new(),
                native: Raw::of(value),
            })
        }
        _ => Ok(Tool {
            name: kind.clone(),
            description: None,
            kind: ToolKind::Server { kind },
            strict: None,
            cache,
            extras: Vec::new(),
            native: Raw::of(value),
        }),
    }
}

fn read_function<'a>(
    mut fields: Fields<'a>,
    path: &Path<'_>,
    cache: Option<Raw<'a>>,
    native: Raw<'a>,
) -> Result<Tool<'a>, BadField> {
    let schema = match fields.some("parameters") {
        Some(schema) if schema.kind == Kind::Object => Some(Raw::of(schema)),
        Some(_) => return Err(path.name("parameters").bad("must be an object")),
        None => None,
    };
    Ok(Tool {
        name: fields.need_text("name", path)?,
        description: fields.text("description", path)?,
        kind: ToolKind::Function { schema },
        strict: fields.flag("strict", path)?,
        cache: read_cache(&mut fields, path)?.or(cache),
        extras: Vec::new(),
        native,
    })
}

/// `tool_choice`, or `function_call` of old clients.
fn read_choice<'a>(fields: &mut Fields<'a>) -> Result<Option<ToolChoice<'a>>, BadField> {
    let root = &Path::ROOT;
    let old = fields.some("function_call").map(|value| (value, root.name("function_call")));
    let Some((value, path)) = fields.some("tool_choice").map(|value| (value, root.name("tool_choice"))).or(old) else {
        return Ok(None);
    };
    if let Some(word) = Text::of(value) {
        return Ok(Some(match &*word.decode() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" | "any" => ToolChoice::Any,
            _ => return Err(path.bad("must be `none`, `auto`, `required` or an object")),
        }));
    }
    let mut fields = Fields::read(value, &path)?;
    fields.text("type", &path)?;
    for member in ["function", "custom"] {
        if let Some(named) = fields.some(member) {
            let path = &path.name(member);
            return Ok(Some(ToolChoice::Tool(Fields::read(named, path)?.need_text("name", path)?)));
        }
    }
    if let Some(allowed) = fields.some("allowed_tools") {
        return read_allowed(allowed, &path.name("allowed_tools")).map(Some);
    }
    Ok(Some(ToolChoice::Tool(fields.need_text("name", &path)?)))
}

fn read_allowed<'a>(value: Value<'a>, path: &Path<'_>) -> Result<ToolChoice<'a>, BadField> {
    let mut fields = Fields::read(value, path)?;
    let required = fields.text("mode", path)?.is_some_and(|mode| mode == "required");
    let list = fields.list("tools", path)?.ok_or_else(|| path.name("tools").bad("is missing"))?;
    let mut names = Vec::new();
    for (index, tool) in list.items().enumerate() {
        let named = ["function", "custom"].iter().find_map(|member| tool.get(member)).unwrap_or(tool);
        let name = named.get("name").and_then(Text::of);
        names.push(name.ok_or_else(|| path.name("tools").index(index).bad("must name a tool"))?);
    }
    Ok(ToolChoice::Among { names, required })
}

fn read_output<'a>(fields: &mut Fields<'a>) -> Result<Option<OutputFormat<'a>>, BadField> {
    let root = &Path::ROOT;
    let path = &root.name("response_format");
    let Some(value) = fields.some("response_format") else { return Ok(None) };
    let mut fields = Fields::read(value, path)?;
    match &*fields.need_text("type", path)?.decode() {
        "text" => Ok(None),
        "json_object" => Ok(Some(OutputFormat::JsonObject)),
        "json_schema" => {
            let path = &path.name("json_schema");
            let value = fields.take("json_schema").ok_or_else(|| path.bad("is missing"))?;
            let mut fields = Fields::read(value, path)?;
            let name = fields.text("name", path)?;
            let description = fields.text("description", path)?;
            let strict = fields.flag("strict", path)?;
            Ok(Some(match fields.some("schema") {
                Some(schema) if schema.kind == Kind::Object => {
                    OutputFormat::JsonSchema { name, description, schema: Raw::of(schema), strict }
                }
                Some(_) => return Err(path.name("schema").bad("must be an object")),
                None => OutputFormat::JsonObject,
            }))
        }
        _ => Err(path.name("type").bad("must be `text`, `json_object` or `json_schema`")),
    }
}

/// `reasoning_effort`; OpenRouter's `reasoning`; Anthropic's `thinking`, which clients of gateways send.
fn read_reasoning<'a>(fields: &mut Fields<'a>) -> Result<Reasoning<'a>, BadField> {
    let root = &Path::ROOT;
    let mut reasoning = Reasoning { thinking: None, effort: fields.text("reasoning_effort", root)? };
    if let Some(value) = fields.some("reasoning") {
        let path = &root.name("reasoning");
        let mut fields = Fields::read(value, path)?;
        reasoning.effort = fields.text("effort", path)?.or(reasoning.effort);
        reasoning.thinking = fields.count("max_tokens", path)?.map(Thinking::Budget);
        match fields.flag("enabled", path)? {
            Some(false) => reasoning.thinking = Some(Thinking::Disabled),
            Some(true) if reasoning.thinking.is_none() => reasoning.thinking = Some(Thinking::Adaptive),
            _ => {}
        }
    }
    if let Some(value) = fields.some("thinking") {
        reasoning.thinking = thinking_setting(value, &root.name("thinking"))?.or(reasoning.thinking);
    }
    Ok(reasoning)
}

fn read_stop<'a>(fields: &mut Fields<'a>) -> Result<Vec<Text<'a>>, BadField> {
    let path = &Path::ROOT.name("stop");
    let Some(value) = fields.some("stop") else { return Ok(Vec::new()) };
    if let Some(text) = Text::of(value) {
        return Ok(vec![text]);
    }
    if value.kind != Kind::Array {
        return Err(path.bad("must be a string or a list of strings"));
    }
    let texts = value.items().enumerate();
    texts.map(|(index, item)| Text::of(item).ok_or_else(|| path.index(index).bad("must be a string"))).collect()
}

fn read_web_search<'a>(value: Value<'a>, path: &Path<'_>) -> Result<WebSearch<'a>, BadField> {
    let mut fields = Fields::read(value, path)?;
    let mut place = Vec::new();
    let path = &path.name("user_location");
    let mut location = match fields.some("user_location") {
        Some(location) => Fields::read(location, path)?,
        None => return Ok(WebSearch { place }),
    };
    if let Some(approximate) = location.some("approximate") {
        let path = &path.name("approximate");
        let mut location = Fields::read(approximate, path)?;
        for name in ["city", "country", "region", "timezone"] {
            place.extend(location.text(name, path)?.map(|text| (name, text)));
        }
    }
    Ok(WebSearch { place })
}
