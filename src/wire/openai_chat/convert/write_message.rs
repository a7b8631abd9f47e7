//! Writing the messages of a request of another format.

use super::{
    part::{Mark, write_parts},
    tool_name::write_name,
};
use crate::wire::{
    conversation::{
        Block, BlockKind, Content, Input, Issuer, Losses, Place, Rest, Role, Text, ToolResult, ToolUse, Turn, Wrote,
        write_list, write_object, write_word,
    },
    json::push_quoted,
};

/// How the messages of a request of another format are written.
pub(super) struct Style {
    pub(super) mark: Option<Mark>,
    /// The member for reasoning, and whether calls must have it.
    pub(super) reasoning: Option<(&'static str, bool)>,
    pub(super) image_urls: bool,
    pub(super) tool_images: bool,
    pub(super) system_role: &'static str,
}

/// Writes the messages that one turn becomes, each with a comma before it if it is not the first.
pub(super) fn write_turn(out: &mut Vec<u8>, turn: &Turn<'_>, index: usize, style: &Style, losses: &mut Losses) {
    turn.rest.note(format_args!("messages[{index}]"), &[], losses);
    for (position, block) in turn.content.blocks.iter().enumerate() {
        block.rest.note(format_args!("messages[{index}].content[{position}]"), &[], losses);
    }
    match turn.role {
        Role::System | Role::Developer => write_system(out, &turn.content, style),
        Role::Assistant => write_assistant(out, turn, index, style, losses),
        Role::User | Role::Tool => write_user(out, turn, index, style, losses),
    }
}

/// The instructions are one message: some servers take no more than one, and it has to be the first.
pub(super) fn write_system(out: &mut Vec<u8>, content: &Content<'_>, style: &Style) {
    let blocks: Vec<&Block<'_>> = content.blocks.iter().filter(|block| block_text(block).is_some()).collect();
    if blocks.is_empty() {
        return;
    }
    begin(out, style.system_role);
    write_texts(out, &blocks, "\\n\\n", style.mark);
    out.push(b'}');
}

fn begin(out: &mut Vec<u8>, role: &str) {
    if out.last() == Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(b"{\"role\":");
    write_word(out, role);
    out.extend_from_slice(b",\"content\":");
}

/// Texts as a bare string, which every server takes; as parts if a cache mark has to be kept.
fn write_texts(out: &mut Vec<u8>, blocks: &[&Block<'_>], between: &'static str, mark: Option<Mark>) {
    if mark.is_some() && blocks.iter().any(|block| block.cache.is_some()) {
        return write_parts(out, blocks.iter().copied(), false, mark);
    }
    out.push(b'"');
    for (index, text) in blocks.iter().filter_map(|block| block_text(block)).enumerate() {
        if index > 0 {
            out.extend_from_slice(between.as_bytes());
        }
        out.extend_from_slice(text.spelling());
    }
    out.push(b'"');
}

fn block_text<'b>(block: &'b Block<'_>) -> Option<&'b Text<'b>> {
    match &block.kind {
        BlockKind::Text { text, .. } | BlockKind::Refusal { text } => Some(text),
        BlockKind::Other { words, .. } => words.as_ref(),
        _ => None,
    }
}

/// Results become messages of their own, right behind the calls they answer; then follows what else the user said.
fn write_user(out: &mut Vec<u8>, turn: &Turn<'_>, index: usize, style: &Style, losses: &mut Losses) {
    let mut said: Vec<Block<'_>> = Vec::new();
    let mut attached: Vec<Block<'_>> = Vec::new();
    for (position, block) in turn.content.blocks.iter().enumerate() {
        let path = || format!("messages[{index}].content[{position}]");
        match &block.kind {
            BlockKind::ToolResult(result) => write_result(out, result, block, &path(), style, &mut attached, losses),
            _ => collect(&mut said, block, &path(), style, losses),
        }
    }
    attached.extend(said);
    match attached.as_slice() {
        [] => {}
        [block @ Block { kind: BlockKind::Text { text, .. }, .. }] if style.mark.is_none() || block.cache.is_none() => {
            begin(out, "user");
            text.write(out);
            out.push(b'}');
        }
        blocks => {
            begin(out, "user");
            write_parts(out, blocks, false, style.mark);
            out.push(b'}');
        }
    }
}

/// Notes or keeps one block for a user's message.
fn collect<'b>(list: &mut Vec<Block<'b>>, block: &Block<'b>, path: &str, style: &Style, losses: &mut Losses) {
    let why = match &block.kind {
        BlockKind::Image(source) | BlockKind::Document { source, .. } => match &source.place {
            Place::Blocks(blocks) => {
                list.extend(heading(block, true));
                blocks.iter().for_each(|block| collect(list, block, path, style, losses));
                return;
            }
            Place::File(id) if !id.spelling().starts_with(b"file-") => Some("a file of another provider"),
            Place::Url(_) if matches!(block.kind, BlockKind::Document { .. }) || !style.image_urls => {
                Some("named by a URL that was not fetched")
            }
            Place::Unknown => Some("a source that this provider does not know"),
            _ => None,
        },
        BlockKind::Other { words: None, .. } => Some("a kind of content that this provider does not know"),
        BlockKind::Other { native, .. } => {
            let citations = native.value().get("citations").and_then(|citations| citations.get("enabled"));
            if citations.is_some_and(|enabled| !enabled.is_empty()) {
                losses.note(format_args!("{path}.citations"), "this provider has no such parameter");
            }
            None
        }
        BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => Some("thinking in a user's turn"),
        BlockKind::Text { text, .. } if text.is_empty() => return,
        _ => None,
    };
    match why {
        Some(why) => losses.note(path, why),
        None => {
            list.extend(heading(block, false));
            list.push(block.clone());
        }
    }
}

/// What a document says of itself that has no place of its own here: its context, and its title unless that is written
/// with it.
fn heading<'b>(block: &Block<'b>, titled: bool) -> Option<Block<'b>> {
    let BlockKind::Document { title, context, .. } = &block.kind else { return None };
    let mut words = title.clone().filter(|title| titled && !title.is_empty());
    if let Some(context) = context.as_ref().filter(|context| !context.is_empty()) {
        let words = words.get_or_insert_default();
        if !words.is_empty() {
            words.push(&Text::literal("\\n\\n"));
        }
        words.push(context);
    }
    words.map(Block::text)
}

fn write_result<'b>(
    out: &mut Vec<u8>,
    result: &ToolResult<'b>,
    block: &Block<'b>,
    path: &str,
    style: &Style,
    attached: &mut Vec<Block<'b>>,
    losses: &mut Losses,
) {
    let mut kept = Vec::new();
    for block in &result.content.blocks {
        collect(&mut kept, block, path, style, losses);
    }
    let (mut texts, media): (Vec<_>, Vec<_>) = kept.into_iter().partition(|block| block_text(block).is_some());
    let moved = !media.is_empty() && !style.tool_images;
    if result.is_error == Some(true) {
        losses.note(path, "that the tool failed is said in its text");
        texts.insert(0, Block::text(Text::literal("The tool failed.")));
    }
    if moved {
        losses.note(path, "images and documents follow in a user's message");
        let intro = format!("What the tool call {} returned:", result.id.decode());
        attached.push(Block::text(Text::new(&intro)));
        attached.extend(media.iter().cloned());
        if texts.is_empty() {
            texts.push(Block::text(Text::literal("The result follows in the next message.")));
        }
    }
    if let Some(last) = texts.last_mut() {
        last.cache = last.cache.clone().or(block.cache.clone());
    }
    begin(out, "tool");
    if media.is_empty() || moved {
        let texts: Vec<&Block<'_>> = texts.iter().collect();
        write_texts(out, &texts, "\\n", style.mark);
    } else {
        write_parts(out, texts.iter().chain(&media), false, style.mark);
    }
    out.extend_from_slice(b",\"tool_call_id\":");
    result.id.write(out);
    out.push(b'}');
}

fn write_assistant(out: &mut Vec<u8>, turn: &Turn<'_>, index: usize, style: &Style, losses: &mut Losses) {
    let blocks = &turn.content.blocks;
    let mut thinking = Vec::new();
    let mut spoken: Vec<&Block<'_>> = Vec::new();
    let mut calls: Vec<&Block<'_>> = Vec::new();
    for (position, block) in blocks.iter().enumerate() {
        let mut lose = |why| losses.note(format_args!("messages[{index}].content[{position}]"), why);
        match &block.kind {
            BlockKind::Thinking { text, issuer: Issuer::Unsigned, .. } if style.reasoning.is_some() => {
                thinking.push(text);
            }
            BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => {
                lose("thinking that this provider does not take back");
            }
            BlockKind::ToolUse(_) => calls.push(block),
            BlockKind::Text { text, citations } => {
                if citations.as_ref().is_some_and(|citations| !citations.value().is_empty()) {
                    lose("citations of an earlier answer");
                }
                if !calls.is_empty() && !text.is_blank() {
                    lose("text behind a tool call is moved before it");
                }
                spoken.push(block);
            }
            BlockKind::Refusal { .. } => spoken.push(block),
            _ => lose("a kind of content that this provider does not know"),
        }
    }
    spoken.retain(|block| block_text(block).is_some_and(|text| !text.is_empty()));
    if spoken.is_empty() && calls.is_empty() {
        return;
    }
    begin(out, "assistant");
    match spoken.as_slice() {
        [] => out.extend_from_slice(b"null"),
        spoken => write_texts(out, spoken, "", style.mark),
    }
    if let Some((name, required)) = style.reasoning
        && (!thinking.is_empty() || required && !calls.is_empty())
    {
        out.push(b',');
        write_word(out, name);
        out.push(b':');
        write_joined(out, &thinking);
    }
    if !calls.is_empty() {
        out.extend_from_slice(b",\"tool_calls\":");
        write_list(out, calls, |block, out| write_call(out, block, For::Provider));
    }
    out.push(b'}');
}

pub(super) fn write_joined(out: &mut Vec<u8>, texts: &[&Text<'_>]) {
    out.push(b'"');
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b"\\n\\n");
        }
        out.extend_from_slice(text.spelling());
    }
    out.push(b'"');
}

/// For whom a call is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// The provider, as it came.
    Same,
    Provider,
    Client,
}

pub(super) fn write_call(out: &mut Vec<u8>, block: &Block<'_>, whom: For) {
    let BlockKind::ToolUse(call) = &block.kind else { return };
    let empty = Rest::default();
    let rest = if whom == For::Same { &block.rest } else { &empty };
    let is_custom = matches!(call.input, Input::Free(_));
    let member = if is_custom { "custom" } else { "function" };
    write_object(out, rest, &["id", "type", member], |name, out| {
        match name {
            "id" => call.id.write(out),
            _ if whom == For::Same => return Wrote::Same,
            "type" => write_word(out, member),
            _ => write_function(out, call, whom),
        }
        Wrote::Value
    });
}

fn write_function(out: &mut Vec<u8>, call: &ToolUse<'_>, whom: For) {
    out.extend_from_slice(b"{\"name\":");
    match whom {
        For::Provider => write_name(out, &call.name),
        For::Same | For::Client => call.name.write(out),
    }
    match &call.input {
        Input::Json(json) => {
            out.extend_from_slice(b",\"arguments\":");
            push_quoted(out, &String::from_utf8_lossy(json.bytes()));
        }
        Input::Spelt(text) => {
            out.extend_from_slice(b",\"arguments\":");
            text.write(out);
        }
        Input::Free(text) => {
            out.extend_from_slice(b",\"input\":");
            text.write(out);
        }
    }
    out.push(b'}');
}
