//! Writing messages: those of a request that was read from this format, those of a request of another format, and the
//! message of a reply.

use super::{
    part::{Mark, write_parts},
    tool_name::write_name,
};
use crate::wire::{
    anthropic,
    conversation::{
        Block, BlockKind, Content, Input, Issuer, Losses, Place, Raw, Rest, Role, Text, ToolResult, ToolUse, Turn,
        Wrote, write_list, write_number, write_object, write_word,
    },
    json::push_quoted,
};

/// Writes a message that was read from this format: its own members in their order.
pub(super) fn write_same(out: &mut Vec<u8>, turn: &Turn<'_>) {
    let blocks = &turn.content.blocks;
    write_object(out, &turn.rest, &[], |name, out| {
        match (name, turn.role) {
            ("content", Role::Tool) => match blocks.first().map(|block| &block.kind) {
                Some(BlockKind::ToolResult(result)) => return write_content(out, &result.content),
                _ => return Wrote::Nothing,
            },
            ("content", Role::Assistant) => {
                let spoken = blocks.iter().filter(|block| is_spoken(block));
                let plain = turn.content.plain;
                // A refusal beside the content is a member of its own; one within is a part.
                let spoken = spoken.filter(|block| !plain || !matches!(block.kind, BlockKind::Refusal { .. }));
                let spoken: Vec<&Block<'_>> = spoken.collect();
                match spoken.as_slice() {
                    [] => return Wrote::Nothing,
                    [Block { kind: BlockKind::Text { text, .. }, .. }] if plain => text.write(out),
                    spoken => {
                        let beside = turn.rest.get("refusal").is_some_and(|refusal| !refusal.is_null());
                        let count = spoken.len() - usize::from(beside && !plain);
                        write_parts(out, spoken[..count].iter().copied(), true, None);
                    }
                }
            }
            ("content", _) => return write_content(out, &turn.content),
            ("tool_calls", _) => {
                let calls: Vec<&Block<'_>> = blocks.iter().filter(|block| block.is_tool_use()).collect();
                if calls.is_empty() {
                    return Wrote::Nothing;
                }
                write_list(out, calls, |block, out| write_call(out, block, For::Same));
            }
            ("reasoning_content" | "reasoning", _) => match blocks.first().map(|block| &block.kind) {
                Some(BlockKind::Thinking { text, .. }) => text.write(out),
                _ => return Wrote::Nothing,
            },
            _ => return Wrote::Same,
        }
        Wrote::Value
    });
}

fn write_content(out: &mut Vec<u8>, content: &Content<'_>) -> Wrote {
    match (content.plain, content.blocks.as_slice()) {
        (true, [Block { kind: BlockKind::Text { text, .. }, .. }]) => text.write(out),
        (_, []) => return Wrote::Nothing,
        (_, blocks) => write_parts(out, blocks, true, None),
    }
    Wrote::Value
}

fn is_spoken(block: &Block<'_>) -> bool {
    !block.is_thinking() && !block.is_tool_use()
}

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
        BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => Some("thinking in a user's turn"),
        BlockKind::Text { text, .. } if text.is_empty() => return,
        _ => None,
    };
    match why {
        Some(why) => losses.note(path, why),
        None => list.push(block.clone()),
    }
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

fn write_joined(out: &mut Vec<u8>, texts: &[&Text<'_>]) {
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
enum For {
    /// The provider, as it came.
    Same,
    Provider,
    Client,
}

fn write_call(out: &mut Vec<u8>, block: &Block<'_>, whom: For) {
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

/// Writes the message of a reply of another format.
pub(super) fn write_reply_message(out: &mut Vec<u8>, turn: &Turn<'_>, thinking_blocks: bool, losses: &mut Losses) {
    let blocks = &turn.content.blocks;
    let mut texts: Vec<&Text<'_>> = Vec::new();
    let mut refusals: Vec<&Text<'_>> = Vec::new();
    let mut thinking: Vec<&Text<'_>> = Vec::new();
    let mut annotations = Vec::new();
    let mut characters = 0;
    for (position, block) in blocks.iter().enumerate() {
        match &block.kind {
            BlockKind::Text { text, citations } => {
                let end = characters + text.decode().chars().count();
                if let Some(citations) = citations {
                    note_citations(&mut annotations, citations, characters, end, losses);
                }
                characters = end;
                texts.push(text);
            }
            BlockKind::Refusal { text } => refusals.push(text),
            BlockKind::Thinking { text, .. } if !text.is_empty() => thinking.push(text),
            BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } | BlockKind::ToolUse(_) => {}
            _ => losses.note(format_args!("content[{position}]"), "a kind of content that the client's format lacks"),
        }
    }
    let calls: Vec<&Block<'_>> = blocks.iter().filter(|block| block.is_tool_use()).collect();
    out.extend_from_slice(b"{\"role\":\"assistant\",\"content\":");
    if texts.is_empty() && (!calls.is_empty() || !refusals.is_empty()) {
        out.extend_from_slice(b"null");
    } else {
        write_concatenated(out, &texts);
    }
    out.extend_from_slice(b",\"refusal\":");
    if refusals.is_empty() {
        out.extend_from_slice(b"null");
    } else {
        write_concatenated(out, &refusals);
    }
    if !thinking.is_empty() {
        out.extend_from_slice(b",\"reasoning_content\":");
        write_joined(out, &thinking);
    }
    if thinking_blocks && blocks.iter().any(Block::is_thinking) {
        out.extend_from_slice(b",\"thinking_blocks\":");
        let blocks = blocks.iter().filter(|block| block.is_thinking());
        write_list(out, blocks, |block, out| anthropic::write_block(out, block, anthropic::For::Client, None));
    }
    if !calls.is_empty() {
        out.extend_from_slice(b",\"tool_calls\":");
        write_list(out, calls, |block, out| write_call(out, block, For::Client));
    }
    if !annotations.is_empty() {
        out.extend_from_slice(b",\"annotations\":");
        write_list(out, annotations, |annotation, out| write_annotation(out, &annotation));
    }
    out.push(b'}');
}

fn write_concatenated(out: &mut Vec<u8>, texts: &[&Text<'_>]) {
    out.push(b'"');
    texts.iter().for_each(|text| out.extend_from_slice(text.spelling()));
    out.push(b'"');
}

/// A web page that a stretch of the answer rests on; the places count characters.
pub(super) struct Annotation<'a> {
    pub(super) url: Text<'a>,
    pub(super) title: Text<'a>,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Turns Anthropic's citations of web pages into annotations; other citations have no counterpart.
fn note_citations<'c>(
    annotations: &mut Vec<Annotation<'c>>,
    citations: &'c Raw<'_>,
    start: usize,
    end: usize,
    losses: &mut Losses,
) {
    for citation in citations.value().items() {
        match page_of(citation) {
            Some((url, title)) => annotations.push(Annotation { url, title, start, end }),
            None => losses.note("citations", "a citation of something else than a web page"),
        }
    }
}

/// The page that one of Anthropic's citations names.
pub(super) fn page_of(citation: crate::wire::json::Value<'_>) -> Option<(Text<'_>, Text<'_>)> {
    let url = citation.get("url").and_then(Text::of)?;
    Some((url, citation.get("title").and_then(Text::of).unwrap_or_default()))
}

pub(super) fn write_annotation(out: &mut Vec<u8>, annotation: &Annotation<'_>) {
    out.extend_from_slice(b"{\"type\":\"url_citation\",\"url_citation\":{\"url\":");
    annotation.url.write(out);
    out.extend_from_slice(b",\"title\":");
    annotation.title.write(out);
    out.extend_from_slice(b",\"start_index\":");
    write_number(out, annotation.start as u64);
    out.extend_from_slice(b",\"end_index\":");
    write_number(out, annotation.end as u64);
    out.extend_from_slice(b"}}");
}
