//! Taking token counts out of a stream. The gateway asks every provider for them; a client that did not ask must not
//! see them, since it may not expect a chunk without choices.

use std::{ops::Range, sync::LazyLock};

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::wire::{
    json::{Kind, Member, Object},
    sse::{self, Frame},
};

/// What is left of a frame without its token counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// It has none.
    Unchanged,
    /// Nothing: the frame is to be left out.
    Dropped,
    /// The same frame without its `usage` member, every other byte as it was.
    Rewritten(Bytes),
}

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));

/// Hides a top-level `usage` member, null ones included. A frame of token counts alone is dropped. Frames that are not
/// JSON objects stay as they are.
pub fn hide_usage(frame: &Frame) -> Hidden {
    let bytes = frame.bytes();
    let Some(first) = USAGE.find(bytes) else { return Hidden::Unchanged };
    if let Some(place) = frame.data_range() {
        let data = &bytes[place.clone()];
        return match null_usage(data, first - place.start.min(first)).map_or_else(|| find_usage(data), Found::Cut) {
            Found::Nothing => Hidden::Unchanged,
            Found::Everything => Hidden::Dropped,
            Found::Cut(cut) => {
                let (before, after) = (place.start + cut.start, place.start + cut.end);
                Hidden::Rewritten([&bytes[..before], &bytes[after..]].concat().into())
            }
        };
    }
    let Some(data) = frame.data() else { return Hidden::Unchanged };
    match find_usage(&data) {
        Found::Nothing => Hidden::Unchanged,
        Found::Everything => Hidden::Dropped,
        Found::Cut(cut) => {
            let data = [&data[..cut.start], &data[cut.end..]].concat();
            Hidden::Rewritten(with_data(frame, &data).into())
        }
    }
}

enum Found {
    Nothing,
    /// The chunk is about token counts only.
    Everything,
    /// What to cut out so that the rest is JSON.
    Cut(Range<usize>),
}

/// The quick case, which OpenAI sends in every chunk: `,"usage":null` with no bracket after it but the last brace.
/// That proves that the member is a top-level one without reading what comes before.
fn null_usage(data: &[u8], at: usize) -> Option<Range<usize>> {
    const MEMBER: &[u8] = b"\"usage\":null";
    let end = at + MEMBER.len();
    let tail = data.get(end..)?.strip_suffix(b"}")?;
    let is_member = data.starts_with(b"{") && data[..at].ends_with(b",") && data[at..].starts_with(MEMBER);
    let is_whole = matches!(tail.first(), None | Some(b','));
    let is_top_level = !tail.iter().any(|byte| matches!(byte, b'{' | b'}' | b'[' | b']'));
    (is_member && is_whole && is_top_level).then_some(at - 1..end)
}

/// Reads the chunk's top-level members.
fn find_usage(data: &[u8]) -> Found {
    let Ok(mut object) = Object::open(data) else { return Found::Nothing };
    let mut previous: Option<Member> = None;
    let mut usage: Option<Member> = None;
    let mut cut_to = None;
    let mut cut_from = None;
    let mut has_answer = false;
    loop {
        let member = match object.next() {
            Ok(Some(member)) => member,
            Ok(None) => break,
            Err(_) => return Found::Nothing,
        };
        if usage.is_some() && cut_to.is_none() {
            cut_to = Some(member.name.range().start);
        }
        let (name, value) = (member.name(data), member.value(data));
        if name == *"usage" && usage.is_none() {
            cut_from = previous.map(|previous| previous.value.range().end);
            usage = Some(member);
        } else if name == *"choices" {
            has_answer |= value.items().next().is_some();
        } else if name == *"error" {
            has_answer |= !value.is_empty();
        }
        previous = Some(member);
    }
    let Some(usage) = usage else { return Found::Nothing };
    if !has_answer && usage.kind == Kind::Object {
        return Found::Everything;
    }
    // With what follows it if something does, else with the comma before it.
    let (start, end) = (usage.name.range().start, usage.value.range().end);
    Found::Cut(match (cut_to, cut_from) {
        (Some(next), _) => start..next,
        (None, Some(comma)) => comma..end,
        (None, None) => start..end,
    })
}

/// The frame with other data: all other lines stay.
fn with_data(frame: &Frame, data: &[u8]) -> Vec<u8> {
    let bytes = frame.bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut written = false;
    for line in frame.lines() {
        let is_data = sse::field(bytes, line.clone(), b"data").is_some();
        if is_data && written {
            continue;
        }
        if is_data {
            for part in data.split(|&byte| byte == b'\n') {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(part);
                out.push(b'\n');
            }
            written = true;
        } else {
            out.extend_from_slice(&bytes[line]);
            out.push(b'\n');
        }
    }
    out
}
