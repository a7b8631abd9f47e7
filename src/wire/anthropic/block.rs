//! Content blocks as Anthropic writes them, in requests and in replies.

use crate::wire::{
    conversation::{
        BadField, Block, BlockKind, Content, Fields, Input, Issuer, Path, Place, Raw, Rest, Source, Text, ToolResult,
        ToolUse, UNSIGNED, Wrote, write_list, write_object, write_word,
    },
    json::{Kind, Value, push_quoted},
};

/// How deep blocks nest: a tool result holds a document made of blocks.
const MAX_NESTING: usize = 4;

/// How citations of web pages that another provider found are told from Anthropic's own.
const MADE_CITATION: &[u8] = br#""encrypted_index":"""#;

/// Reads a message's, the system's or a tool result's content: a string or a list of blocks.
pub(super) fn read_content<'a>(value: Value<'a>, path: &Path<'_>, depth: usize) -> Result<Content<'a>, BadField> {
    match value.kind {
        Kind::String => Ok(Content::plain(Text::of(value).unwrap_or_default())),
        Kind::Array => {
            let blocks = value.items().enumerate().map(|(index, item)| read_block(item, &path.index(index), depth));
            Ok(Content { blocks: blocks.collect::<Result<_, _>>()?, plain: false })
        }
        _ => Err(path.bad("must be a string or a list of content blocks")),
    }
}

/// Reads one block. `depth` counts the blocks around it.
pub(super) fn read_block<'a>(value: Value<'a>, path: &Path<'_>, depth: usize) -> Result<Block<'a>, BadField> {
    if depth > MAX_NESTING {
        return Err(path.bad("is nested too deeply in other content blocks"));
    }
    let mut fields = Fields::read(value, path)?;
    let kind = fields.need_text("type", path)?;
    let kind = match &*kind.decode() {
        "text" => BlockKind::Text {
            text: fields.need_text("text", path)?,
            citations: fields.list("citations", path)?.map(Raw::of),
        },
        "image" => BlockKind::Image(read_source(&mut fields, path, depth)?),
        "document" => BlockKind::Document {
            source: read_source(&mut fields, path, depth)?,
            title: fields.text("title", path)?,
            context: fields.text("context", path)?,
        },
        "thinking" => {
            let signature = fields.text("signature", path)?;
            let issuer = Issuer::of_signature(signature.as_ref());
            BlockKind::Thinking { text: fields.need_text("thinking", path)?, signature, issuer }
        }
        "redacted_thinking" => {
            BlockKind::RedactedThinking { data: fields.need_text("data", path)?, issuer: Issuer::Anthropic }
        }
        "tool_use" => BlockKind::ToolUse(ToolUse {
            id: fields.need_text("id", path)?,
            name: fields.need_text("name", path)?,
            input: read_input(&mut fields, path)?,
        }),
        "tool_result" => BlockKind::ToolResult(ToolResult {
            id: fields.need_text("tool_use_id", path)?,
            content: match fields.some("content") {
                Some(content) => read_content(content, &path.name("content"), depth + 1)?,
                None => Content::default(),
            },
            is_error: fields.flag("is_error", path)?,
        }),
        _ => return Ok(Block::new(BlockKind::Other { words: words(&fields, value), kind, native: Raw::of(value) })),
    };
    let cache = fields.object("cache_control", path)?;
    Ok(Block { kind, cache, rest: fields.rest() })
}

fn read_input<'a>(fields: &mut Fields<'a>, path: &Path<'_>) -> Result<Input<'a>, BadField> {
    match fields.take("input") {
        Some(input) if input.kind == Kind::Object => Ok(Input::Json(Raw::of(input))),
        Some(_) => Err(path.name("input").bad("must be an object")),
        None => Err(path.name("input").bad("is missing")),
    }
}

fn read_source<'a>(fields: &mut Fields<'a>, path: &Path<'_>, depth: usize) -> Result<Source<'a>, BadField> {
    let path = &path.name("source");
    let value = fields.take("source").ok_or_else(|| path.bad("is missing"))?;
    let mut fields = Fields::read(value, path)?;
    let kind = fields.need_text("type", path)?;
    let place = match &*kind.decode() {
        "base64" => {
            Place::Base64 { media_type: fields.need_text("media_type", path)?, data: fields.need_text("data", path)? }
        }
        "url" => Place::Url(fields.need_text("url", path)?),
        "file" => Place::File(fields.need_text("file_id", path)?),
        "text" => Place::Text(fields.need_text("data", path)?),
        "content" => {
            let path = &path.name("content");
            let content = fields.take("content").ok_or_else(|| path.bad("is missing"))?;
            Place::Blocks(read_content(content, path, depth + 1)?.blocks)
        }
        _ => Place::Unknown,
    };
    Ok(Source { place, native: Some(Raw::of(value)) })
}

/// What of a block without a counterpart can be said in plain text: a search result's title, source and text, the name of a
/// tool that was found, and the summary that stands for a conversation's beginning.
fn words<'a>(fields: &Fields<'a>, block: Value<'a>) -> Option<Text<'a>> {
    match &*Text::of(fields.peek("type")?)?.decode() {
        "search_result" => {}
        "tool_reference" => return block.get("tool_name").and_then(Text::of),
        "compaction" => return block.get("content").and_then(Text::of),
        _ => return None,
    }
    let mut words = String::new();
    for name in ["title", "source"] {
        if let Some(text) = block.get(name).and_then(|value| value.as_str()) {
            words.push_str(&text);
            words.push('\n');
        }
    }
    for text in block.get("content")?.items().filter_map(|item| item.get("text")?.as_str()) {
        words.push('\n');
        words.push_str(&text);
    }
    Some(Text::new(&words))
}

/// For whom blocks are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum For {
    /// The provider, and they were read from this format: with the members they had, in their order.
    Same,
    /// The provider.
    Provider,
    /// The client, or a memory: ids stay as they are.
    Client,
}

/// Writes content in the shape it came in.
pub(super) fn write_content(out: &mut Vec<u8>, content: &Content<'_>, whom: For) {
    match (content.plain, content.blocks.as_slice()) {
        (true, [Block { kind: BlockKind::Text { text, citations: None }, cache: None, .. }]) => text.write(out),
        (true, []) => out.extend_from_slice(b"\"\""),
        (_, blocks) => write_list(out, blocks, |block, out| write_block(out, block, whom, block.cache.as_ref())),
    }
}

/// Writes one block. `cache`: the cache mark to write.
pub(in crate::wire) fn write_block(out: &mut Vec<u8>, block: &Block<'_>, whom: For, cache: Option<&Raw<'_>>) {
    let empty = Rest::default();
    let rest = if whom == For::Same { &block.rest } else { &empty };
    let (kind, names): (&str, &[&str]) = match &block.kind {
        BlockKind::Text { .. } | BlockKind::Refusal { .. } => ("text", &["type", "text", "citations"]),
        BlockKind::Image(_) | BlockKind::Audio(_) => ("image", &["type", "source"]),
        BlockKind::Document { .. } => ("document", &["type", "source", "title", "context"]),
        BlockKind::Thinking { .. } => ("thinking", &["type", "thinking", "signature"]),
        BlockKind::RedactedThinking { .. } => ("redacted_thinking", &["type", "data"]),
        BlockKind::ToolUse(_) => ("tool_use", &["type", "id", "name", "input"]),
        BlockKind::ToolResult(_) => ("tool_result", &["type", "tool_use_id", "content", "is_error"]),
        BlockKind::Other { words: Some(words), .. } if whom == For::Provider => {
            return write_block(out, &Block::text(words.as_borrowed()), whom, cache);
        }
        BlockKind::Other { native, .. } => return native.write(out),
    };
    let names = [names, &["cache_control"]].concat();
    write_object(out, rest, &names, |name, out| match name {
        "type" => {
            write_word(out, kind);
            Wrote::Value
        }
        "cache_control" => written(cache, out, Raw::write),
        _ => write_member(out, &block.kind, name, whom),
    });
}

fn write_member(out: &mut Vec<u8>, kind: &BlockKind<'_>, name: &str, whom: For) -> Wrote {
    match (kind, name) {
        (BlockKind::Text { text, .. } | BlockKind::Refusal { text }, "text") => text.write(out),
        (BlockKind::Text { citations: Some(citations), .. }, "citations") => {
            // Citations that were made here lack what the provider would check.
            if whom != For::Client && memchr::memmem::find(citations.bytes(), MADE_CITATION).is_some() {
                return Wrote::Nothing;
            }
            citations.write(out);
        }
        (BlockKind::Image(source) | BlockKind::Audio(source) | BlockKind::Document { source, .. }, "source") => {
            write_source(out, source, whom);
        }
        (BlockKind::Document { title, .. }, "title") => return written(title.as_ref(), out, Text::write),
        (BlockKind::Document { context, .. }, "context") => return written(context.as_ref(), out, Text::write),
        (BlockKind::Thinking { text, .. }, "thinking") => text.write(out),
        (BlockKind::Thinking { signature, .. }, "signature") => match signature {
            Some(signature) => signature.write(out),
            None => write_word(out, UNSIGNED),
        },
        (BlockKind::RedactedThinking { data, .. }, "data") => data.write(out),
        (BlockKind::ToolUse(call), "id") => write_id(out, &call.id, whom),
        (BlockKind::ToolUse(call), "name") => call.name.write(out),
        (BlockKind::ToolUse(call), "input") => write_input(out, &call.input),
        (BlockKind::ToolResult(result), "tool_use_id") => write_id(out, &result.id, whom),
        (BlockKind::ToolResult(result), "content") if whom == For::Provider && !result.content.plain => {
            let said: Vec<&Block<'_>> =
                result.content.blocks.iter().filter(|block| obstacle(block).is_none() && !is_empty(block)).collect();
            if said.is_empty() {
                return Wrote::Nothing;
            }
            write_list(out, said, |block, out| write_block(out, block, whom, block.cache.as_ref()));
        }
        (BlockKind::ToolResult(result), "content") if !result.content.blocks.is_empty() => {
            write_content(out, &result.content, whom);
        }
        (BlockKind::ToolResult(result), "is_error") => match result.is_error {
            Some(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
            None => return Wrote::Nothing,
        },
        _ => return Wrote::Nothing,
    }
    Wrote::Value
}

fn write_source(out: &mut Vec<u8>, source: &Source<'_>, whom: For) {
    if let Some(native) = source.native.as_ref().filter(|_| whom == For::Same) {
        return native.write(out);
    }
    let (kind, members): (&str, &[(&str, &Text<'_>)]) = match &source.place {
        Place::Base64 { media_type, data } => ("base64", &[("media_type", media_type), ("data", data)]),
        Place::Url(url) => ("url", &[("url", url)]),
        Place::File(id) => ("file", &[("file_id", id)]),
        Place::Text(text) => ("text", &[("media_type", &Text::literal("text/plain")), ("data", text)]),
        Place::Blocks(_) | Place::Unknown => ("content", &[]),
    };
    write_object(out, &Rest::default(), &["type", "media_type", "data", "url", "file_id", "content"], |name, out| {
        match (name, &source.place) {
            ("type", _) => write_word(out, kind),
            ("content", Place::Blocks(blocks)) => {
                write_list(out, blocks, |block, out| write_block(out, block, whom, block.cache.as_ref()));
            }
            _ => match members.iter().find(|(member, _)| *member == name) {
                Some((_, text)) => text.write(out),
                None => return Wrote::Nothing,
            },
        }
        Wrote::Value
    });
}

/// The arguments of a call as an object. Text that is not one is put into an object of one member, `arguments` (or
/// `input` for a custom tool), for the format knows objects only.
fn write_input(out: &mut Vec<u8>, input: &Input<'_>) {
    match input {
        Input::Json(json) => json.write(out),
        Input::Spelt(text) => match arguments(text) {
            Some(json) => out.extend_from_slice(&json),
            None => {
                out.extend_from_slice(b"{\"arguments\":");
                text.write(out);
                out.push(b'}');
            }
        },
        Input::Free(text) => {
            out.extend_from_slice(b"{\"input\":");
            text.write(out);
            out.push(b'}');
        }
    }
}

/// The JSON object that a text spells; none at all means no arguments.
pub(super) fn arguments(text: &Text<'_>) -> Option<Vec<u8>> {
    let decoded = text.decode();
    if decoded.trim().is_empty() {
        return Some(b"{}".to_vec());
    }
    let value = Value::parse(decoded.as_bytes()).ok()?;
    (value.kind == Kind::Object).then(|| value.raw.to_vec())
}

/// Writes the id of a call. Anthropic takes letters, digits, `_` and `-` only; other providers make ids such as
/// `functions.search:0`. Every other byte becomes `_` and two hexadecimal digits, so that ids that differ stay apart
/// and the same id is written the same everywhere.
fn write_id(out: &mut Vec<u8>, id: &Text<'_>, whom: For) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if whom == For::Client || id.spelling().iter().all(|byte| plain(*byte)) {
        return id.write(out);
    }
    let mut safe = String::new();
    for byte in id.decode().bytes() {
        if plain(byte) {
            safe.push(char::from(byte));
        } else {
            safe.push_str(&format!("_{byte:02x}"));
        }
    }
    push_quoted(out, &safe);
}

/// A citation of a web page that another provider found.
pub(in crate::wire) fn write_page(out: &mut Vec<u8>, url: &Text<'_>, title: &Text<'_>) {
    out.extend_from_slice(b"{\"type\":\"web_search_result_location\",\"url\":");
    url.write(out);
    out.extend_from_slice(b",\"title\":");
    title.write(out);
    out.extend_from_slice(b",\"cited_text\":\"\",");
    out.extend_from_slice(MADE_CITATION);
    out.push(b'}');
}

/// Why thinking is left out.
pub(super) const FOREIGN: &str = "thinking that another provider has made, or nobody has signed";

/// Why a block of another format cannot be said here, if it cannot.
pub(super) fn obstacle(block: &Block<'_>) -> Option<&'static str> {
    match &block.kind {
        BlockKind::Audio(_) => Some("sound is not taken"),
        BlockKind::Other { words: None, .. } => Some("a kind of content that this provider does not know"),
        BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } if is_foreign(block) => Some(FOREIGN),
        BlockKind::Image(source) | BlockKind::Document { source, .. } => match &source.place {
            // Anthropic's own ids begin like this, and clients of other formats may well use them.
            Place::File(id) if !id.spelling().starts_with(b"file_") => Some("a file of another provider"),
            Place::Unknown => Some("a source that this provider does not know"),
            _ => None,
        },
        _ => None,
    }
}

/// Whether it says nothing: such texts are refused.
pub(super) fn is_empty(block: &Block<'_>) -> bool {
    matches!(&block.kind, BlockKind::Text { text, .. } | BlockKind::Refusal { text } if text.is_blank())
}

/// Whether it is thinking that Anthropic would refuse.
pub(super) fn is_foreign(block: &Block<'_>) -> bool {
    block.is_thinking() && !is_own_thinking(block)
}

pub(super) fn is_own_thinking(block: &Block<'_>) -> bool {
    match &block.kind {
        BlockKind::Thinking { issuer, .. } | BlockKind::RedactedThinking { issuer, .. } => *issuer == Issuer::Anthropic,
        _ => false,
    }
}

/// Writes a value if there is one.
pub(super) fn written<T>(value: Option<&T>, out: &mut Vec<u8>, write: impl FnOnce(&T, &mut Vec<u8>)) -> Wrote {
    match value {
        Some(value) => {
            write(value, out);
            Wrote::Value
        }
        None => Wrote::Nothing,
    }
}
