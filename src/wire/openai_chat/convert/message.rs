//! Reading messages, in requests and in replies.

use super::part::{read_cache, read_content};
use crate::wire::{
    conversation::{
        BadField, Block, BlockKind, Content, Fields, Input, Issuer, Path, Raw, Role, Text, ToolResult, ToolUse, Turn,
    },
    json::{Kind, Value},
};

/// Where the reasoning of an assistant's message may stand, the most exact first. Only the first found is read; the
/// others say the same with less and stay in the rest.
pub(super) const REASONING: &[&str] = &["thinking_blocks", "reasoning_details", "reasoning_content", "reasoning"];

/// Reads a message of a request. `index` tells it apart from the others, for calls that have no id of their own;
/// `function_id` is the id of the last such call.
pub(super) fn read_message<'a>(
    value: Value<'a>,
    path: &Path<'_>,
    index: usize,
    function_id: &mut Option<Text<'a>>,
) -> Result<Turn<'a>, BadField> {
    let mut fields = Fields::read(value, path)?;
    let role = match &*fields.need_text("role", path)?.decode() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => return read_assistant(fields, path, index, function_id),
        "tool" => return read_result(fields, path, None),
        "function" => {
            let id = function_id.clone().unwrap_or_else(|| Text::new(&format!("call_{index}")));
            return read_result(fields, path, Some(id));
        }
        _ => {
            return Err(path
                .name("role")
                .bad("must be `system`, `developer`, `user`, `assistant`, `tool` or `function`"));
        }
    };
    let content = read_content(fields.take("content"), &path.name("content"))?;
    if content.blocks.is_empty() && fields.peek("content").is_none_or(|content| content.is_null()) {
        return Err(path.name("content").bad("is missing"));
    }
    let cache = read_cache(&mut fields, path)?;
    Ok(Turn { role, content, cache, rest: fields.rest() })
}

/// A tool's message is one result; its content is the result's.
fn read_result<'a>(mut fields: Fields<'a>, path: &Path<'_>, id: Option<Text<'a>>) -> Result<Turn<'a>, BadField> {
    let id = match id {
        Some(id) => id,
        None => fields.need_text("tool_call_id", path)?,
    };
    let content = read_content(fields.take("content"), &path.name("content"))?;
    let is_error = fields.flag("is_error", path)?;
    let cache = read_cache(&mut fields, path)?;
    let block = Block::new(BlockKind::ToolResult(ToolResult { id, content, is_error }));
    let content = Content { blocks: vec![block], plain: false };
    Ok(Turn { role: Role::Tool, content, cache, rest: fields.rest() })
}

/// An assistant's message: its reasoning, its content, its refusal and its calls, in this order.
pub(super) fn read_assistant<'a>(
    mut fields: Fields<'a>,
    path: &Path<'_>,
    index: usize,
    function_id: &mut Option<Text<'a>>,
) -> Result<Turn<'a>, BadField> {
    let mut blocks = read_reasoning(&mut fields, path)?;
    let content = read_content(fields.take("content"), &path.name("content"))?;
    blocks.extend(content.blocks);
    if let Some(text) = fields.text("refusal", path)? {
        blocks.push(Block::new(BlockKind::Refusal { text }));
    }
    let calls_path = &path.name("tool_calls");
    if let Some(calls) = fields.list("tool_calls", path)? {
        for (position, call) in calls.items().enumerate() {
            blocks.push(read_call(call, &calls_path.index(position))?);
        }
    }
    if let Some(call) = fields.some("function_call") {
        let path = &path.name("function_call");
        let mut call = Fields::read(call, path)?;
        let id = Text::new(&format!("call_{index}"));
        *function_id = Some(id.clone());
        let name = call.need_text("name", path)?;
        let input = Input::Spelt(call.text("arguments", path)?.unwrap_or_default());
        blocks.push(Block::new(BlockKind::ToolUse(ToolUse { id, name, input })));
    }
    let cache = read_cache(&mut fields, path)?;
    Ok(Turn { role: Role::Assistant, content: Content { blocks, plain: content.plain }, cache, rest: fields.rest() })
}

fn read_call<'a>(value: Value<'a>, path: &Path<'_>) -> Result<Block<'a>, BadField> {
    let mut fields = Fields::read(value, path)?;
    let id = fields.need_text("id", path)?;
    let is_custom = fields.text("type", path)?.is_some_and(|kind| kind == "custom");
    let member = if is_custom { "custom" } else { "function" };
    let path = &path.name(member);
    let body = fields.take(member).ok_or_else(|| path.bad("is missing"))?;
    let mut body = Fields::read(body, path)?;
    let name = body.need_text("name", path)?;
    let input = if is_custom {
        Input::Free(body.need_text("input", path)?)
    } else {
        match body.some("arguments") {
            // Some servers answer with the arguments as an object.
            Some(object) if object.kind == Kind::Object => Input::Json(Raw::of(object)),
            Some(text) => Input::Spelt(Text::of(text).ok_or_else(|| path.name("arguments").bad("must be a string"))?),
            None => Input::Spelt(Text::default()),
        }
    };
    Ok(Block { kind: BlockKind::ToolUse(ToolUse { id, name, input }), cache: None, rest: fields.rest() })
}

fn read_reasoning<'a>(fields: &mut Fields<'a>, path: &Path<'_>) -> Result<Vec<Block<'a>>, BadField> {
    let present = |name: &&&str| fields.peek(name).is_some_and(|value| !value.is_empty());
    let Some(name) = REASONING.iter().find(present) else { return Ok(Vec::new()) };
    let path = &path.name(name);
    let Some(value) = fields.take(name) else { return Ok(Vec::new()) };
    match (*name, value.kind) {
        ("thinking_blocks", Kind::Array) => {
            let items = value.items().enumerate();
            let blocks = items.map(|(index, block)| crate::wire::anthropic::read_block(block, &path.index(index)));
            let blocks: Vec<Block<'a>> = blocks.collect::<Result<_, _>>()?;
            // Kinds not known here stay where they are.
            Ok(blocks.into_iter().filter(Block::is_thinking).collect())
        }
        ("reasoning_details", Kind::Array) => {
            Ok(value.items().filter_map(|detail| read_detail(detail, path).ok().flatten()).collect())
        }
        (_, Kind::String) => {
            let text = Text::of(value).unwrap_or_default();
            Ok(vec![Block::new(BlockKind::Thinking { text, signature: None, issuer: Issuer::Unsigned })])
        }
        _ => Ok(Vec::new()),
    }
}

/// One of OpenRouter's `reasoning_details`.
fn read_detail<'a>(detail: Value<'a>, path: &Path<'_>) -> Result<Option<Block<'a>>, BadField> {
    let mut fields = Fields::read(detail, path)?;
    let is_anthropic = fields.text("format", path)?.is_some_and(|format| format == "anthropic-claude-v1");
    let issuer = if is_anthropic { Issuer::Anthropic } else { Issuer::Foreign };
    let kind = match &*fields.need_text("type", path)?.decode() {
        "reasoning.encrypted" => BlockKind::RedactedThinking { data: fields.need_text("data", path)?, issuer },
        "reasoning.text" | "reasoning.summary" => {
            let signature = fields.text("signature", path)?.filter(|signature| !signature.is_empty());
            let issuer = if signature.is_some() { issuer } else { Issuer::Unsigned };
            let text = match fields.text("text", path)? {
                Some(text) => text,
                None => fields.text("summary", path)?.unwrap_or_default(),
            };
            BlockKind::Thinking { text, signature, issuer }
        }
        _ => return Ok(None),
    };
    Ok(Some(Block::new(kind)))
}
