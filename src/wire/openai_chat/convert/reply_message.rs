//! Writing the message of a reply of another format.

use super::write_message::{For, write_call, write_joined};
use crate::wire::{
    anthropic,
    conversation::{Block, BlockKind, Losses, Raw, Text, Turn, write_list, write_number},
    json::Value,
};

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
pub(super) fn page_of(citation: Value<'_>) -> Option<(Text<'_>, Text<'_>)> {
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
