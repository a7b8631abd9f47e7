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
    if USAGE.find(bytes).is_none() {
        return Hidden::Unchanged;
    }
    if let Some(place) = frame.data_range() {
        let data = &bytes[place.clone()];
        return match null_usage(data).map_or_else(|| find_usage(data), Found::Cut) {
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
fn null_usage(data: &[u8]) -> Option<Range<usize>> {
    const MEMBER: &[u8] = b"\"usage\":null";
    let at = USAGE.find(data)?;
    let comma = at.checked_sub(1)?;
    let end = at + MEMBER.len();
    let tail = data.get(end..)?.strip_suffix(b"}")?;
    let is_member = data.starts_with(b"{") && data[comma] == b',' && data[at..].starts_with(MEMBER);
    let is_whole = matches!(tail.first(), None | Some(b','));
    let is_top_level = !tail.iter().any(|byte| matches!(byte, b'{' | b'}' | b'[' | b']'));
    (is_member && is_whole && is_top_level).then_some(comma..end)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{
        openai_chat::{Seen, Shape, StreamObserver},
        sse::FrameReader,
    };

    fn frame(text: &str) -> Frame {
        let mut reader = FrameReader::new(1 << 20);
        reader.push(Bytes::copy_from_slice(text.as_bytes()));
        reader.next().unwrap().unwrap()
    }

    fn check(text: &str, expected: &str) {
        let hidden = hide_usage(&frame(text));
        let expected = Hidden::Rewritten(Bytes::copy_from_slice(expected.as_bytes()));
        assert_eq!(hidden, expected, "{text}");
    }

    #[test]
    fn the_member_is_cut_out_and_every_other_byte_stays() {
        check("data: {\"choices\":[{}],\"usage\":null}\n\n", "data: {\"choices\":[{}]}\n\n");
        check(
            "data: {\"choices\":[{}],\"usage\":null,\"obfuscation\":\"x\"}\n\n",
            "data: {\"choices\":[{}],\"obfuscation\":\"x\"}\n\n",
        );
        check(
            "data: {\"choices\":[{}],\"usage\":null,\"o\":\"}\"}\r\n\r\n",
            "data: {\"choices\":[{}],\"o\":\"}\"}\r\n\r\n",
        );
        check("data: {\"usage\":null,\"choices\":[{}]}\n\n", "data: {\"choices\":[{}]}\n\n");
        check("data:{ \"usage\" : {\"a\":{}} , \"choices\":[ 1.0 ] }\n\n", "data:{ \"choices\":[ 1.0 ] }\n\n");
        check("data: {\"choices\":[{}] , \"usage\": {\"a\":1} }\n\n", "data: {\"choices\":[{}] }\n\n");
        check("data: {\"usage\":null}\n\n", "data: {}\n\n");
        check(
            "data: {\"choices\":[],\"usage\":null,\"prompt_filter_results\":[]}\n\n",
            "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
        );
        check(
            "event: x\ndata: {\"choices\":[{}],\"usage\":null}\nid: 1\n\n",
            "event: x\ndata: {\"choices\":[{}]}\nid: 1\n\n",
        );
        check(
            "data: {\"choices\":[{}],\ndata: \"usage\":{},\nid: 1\ndata: \"a\":1}\n\n",
            "data: {\"choices\":[{}],\ndata: \"a\":1}\nid: 1\n\n",
        );
        check(
            "data: {\"error\":{\"message\":\"x\"},\"usage\":{\"a\":1}}\n\n",
            "data: {\"error\":{\"message\":\"x\"}}\n\n",
        );
    }

    #[test]
    fn frames_of_counts_alone_are_dropped() {
        for text in [
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n",
            "data: {\"id\":\"x\",\"usage\":{\"prompt_tokens\":1}}\n\n",
            "data: {\"choices\":null,\"usage\":{\"prompt_tokens\":1},\"error\":null}\n\n",
        ] {
            assert_eq!(hide_usage(&frame(text)), Hidden::Dropped, "{text}");
        }
    }

    #[test]
    fn other_frames_are_unchanged() {
        for text in [
            "data: {\"choices\":[{\"delta\":{\"content\":\"usage\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":null\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"a\":1,\"usage\":null}}]}\n\n",
            "data: {\"choices\":[{}],\"x_groq\":{\"id\":1,\"usage\":null}}\n\n",
            "data: {\"x_groq\":{\"id\":1,\"usage\":null},\"choices\":[{}]}\n\n",
            "data: [DONE]\n\n",
            ": \"usage\"\n\n",
            "data: not json \"usage\"\n\n",
            "data: {\"usage\":null\n\n",
            "event: \"usage\"\ndata: {}\n\n",
            "data: {}\nevent: \"usage\"\n\n",
            "data: \"usage\":null}\n\n",
        ] {
            assert_eq!(hide_usage(&frame(text)), Hidden::Unchanged, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Hiding is removing one member, and what is left means the same to an observer.
        #[test]
        fn hiding_is_removing_the_member(
            before in proptest::collection::vec(proptest::sample::select(MEMBERS), 0..4),
            usage in proptest::option::of(proptest::sample::select(&["null", "{}", "{\"prompt_tokens\":3,\"x\":[1,{}]}"][..])),
            after in proptest::collection::vec(proptest::sample::select(MEMBERS), 0..3),
            space in " ?",
        ) {
            let mut seen = std::collections::HashSet::new();
            let mut members: Vec<String> = before.into_iter().filter(|m| seen.insert(*m)).map(str::to_owned).collect();
            let rest: Vec<String> = after.into_iter().filter(|m| seen.insert(*m)).map(str::to_owned).collect();
            members.extend(usage.map(|usage| format!("\"usage\":{usage}")));
            members.extend(rest);
            let text = format!("{{{space}{}{space}}}", members.join(&format!("{space},")));
            let frame = frame(&format!("data: {text}\n\n"));
            let mut expected: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
            let removed = expected.remove("usage");
            let mut observer = StreamObserver::new(Shape::Chat, 1);
            let seen = observer.observe(&frame);
            match hide_usage(&frame) {
                Hidden::Unchanged => prop_assert!(removed.is_none()),
                Hidden::Dropped => {
                    prop_assert!(expected.get("choices").is_none_or(|choices| choices.as_array().unwrap().is_empty()));
                    prop_assert!(!matches!(seen, Seen::Output));
                }
                Hidden::Rewritten(bytes) => {
                    prop_assert!(removed.is_some());
                    let data = bytes.strip_prefix(b"data: ").unwrap();
                    let left: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(data).unwrap();
                    prop_assert_eq!(left, expected);
                    prop_assert!(!matches!(seen, Seen::UsageOnly));
                }
            }
        }
    }

    const MEMBERS: &[&str] = &[
        "\"id\":\"x\"",
        "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\\\"usage\\\"\"},\"finish_reason\":null}]",
        "\"obfuscation\":\"]}\"",
        "\"x_groq\":{\"usage\":null}",
        "\"model\":\"usage\"",
    ];
}
