//! What an answer says, as far as counting its tokens needs it: how many bytes, and the first few thousand of them.
//! It is wanted when a provider does not report usage, or never gets to it because the stream breaks off.
//!
//! An answer is searched, not parsed. A quote inside a JSON string is always escaped, so `"delta"` with its quotes and
//! a colon behind it is the name of a member wherever it stands, and never what a model said.

use std::{borrow::Cow, sync::LazyLock};

use memchr::memmem::Finder;

use super::Shape;
use crate::wire::json::{Kind, Object, Value};

/// As much of each kind of text is kept, in bytes as they are spelt in JSON.
pub const SAMPLE: usize = 4 * 1024;

/// What an answer, or the part of it that came, has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Text, refusals, the names and arguments of tool calls.
    pub text: Words,
    pub reasoning: Words,
}

/// Text of one kind, all alternatives together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    bytes: u64,
    sample: Vec<u8>,
}

static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"delta\""));
static MESSAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"message\""));
static TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"text\""));

impl Said {
    /// Everything that a whole answer says.
    pub fn of_answer(shape: Shape, answer: &[u8]) -> Self {
        let mut said = Self::default();
        said.search(shape, &MESSAGE, answer);
        said
    }

    /// Adds a piece of what was said aloud, as it is spelt in JSON.
    pub fn hear(&mut self, spelled: &[u8]) {
        self.text.add(spelled);
    }

    /// Adds a piece of reasoning, as it is spelt in JSON.
    pub fn overhear(&mut self, spelled: &[u8]) {
        self.reasoning.add(spelled);
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.text.bytes == 0 && self.reasoning.bytes == 0
    }

    /// How much was said, in bytes as they are spelt in JSON.
    pub fn bytes(&self) -> u64 {
        self.text.bytes.saturating_add(self.reasoning.bytes)
    }

    /// Adds a chunk of a stream, or what of it begins with its choices.
    pub(super) fn add(&mut self, shape: Shape, chunk: &[u8]) {
        self.search(shape, &DELTA, chunk);
    }

    fn search(&mut self, shape: Shape, message: &Finder<'_>, json: &[u8]) {
        let word = match shape {
            Shape::Chat => message,
            Shape::Completion => &TEXT,
            Shape::Embedding => return,
        };
        let mut rest = json;
        while let Some(at) = word.find(rest) {
            rest = &rest[at + word.needle().len()..];
            let after = rest.trim_ascii_start();
            let value = after.strip_prefix(b":").unwrap_or_default().trim_ascii_start();
            match (shape, value.first()) {
                (Shape::Chat, Some(b'{')) => {
                    self.read(value);
                    // Another one would begin with a brace, which is quicker to look for than a word.
                    rest = &value[1..];
                    let Some(brace) = memchr::memchr(b'{', rest) else { return };
                    rest = &rest[brace..];
                }
                (Shape::Completion, Some(b'"')) => self.text.add(string(value)),
                _ => {}
            }
        }
    }

    /// Reads the members of a delta or a message; `object` goes on after it.
    fn read(&mut self, object: &[u8]) {
        if self.read_usual(object).is_some() {
            return;
        }
        let Ok(mut members) = Object::open(object) else { return };
        // Some providers say the same under two names.
        let mut thought = false;
        while let Ok(Some(member)) = members.next() {
            let value = member.value(object);
            if value.kind == Kind::Null {
                continue;
            }
            match member.name(object).bytes().as_ref() {
                // Who speaks, and the same thoughts once more, in parts.
                b"role" | b"reasoning_details" => {}
                b"reasoning" | b"reasoning_content" | b"thinking" | b"reasoning_text" => {
                    if !std::mem::replace(&mut thought, true) {
                        self.reasoning.gather(value);
                    }
                }
                b"content" if value.kind == Kind::Array => self.read_parts(value),
                b"audio" => self.text.gather(value.get("transcript").unwrap_or(NOTHING)),
                _ => self.text.gather(value),
            }
        }
    }

    /// The quick way for what nearly every chunk is: one member, a text, and nothing else. `None` for all others.
    fn read_usual(&mut self, delta: &[u8]) -> Option<()> {
        // What stands before the text, and what after it.
        const USUAL: [(&[u8], &[u8]); 4] = [
            (b"{\"content\":\"", b"\"}"),
            (b"{\"reasoning_content\":\"", b"\"}"),
            (b"{\"reasoning\":\"", b"\"}"),
            (b"{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"", b"\"}}]}"),
        ];
        for (index, (before, after)) in USUAL.into_iter().enumerate() {
            if !delta.starts_with(before) {
                continue;
            }
            let value = &delta[before.len() - 1..];
            let content = string(value);
            if !value[1 + content.len()..].starts_with(after) {
                return None;
            }
            let words = if matches!(index, 1 | 2) { &mut self.reasoning } else { &mut self.text };
            words.add(content);
            return Some(());
        }
        None
    }

    /// Content in parts, some of which are thoughts: Mistral's.
    fn read_parts(&mut self, parts: Value<'_>) {
        for part in parts.items() {
            match part.get("type").is_some_and(|kind| kind.raw == b"\"thinking\"") {
                true => self.reasoning.gather(part),
                false => self.text.gather(part),
            }
        }
    }
}

const NOTHING: Value<'static> = Value { raw: b"null", kind: Kind::Null };

/// How deep text is looked for: the arguments of a tool call are four levels down.
const DEPTH: usize = 6;

impl Words {
    /// How much there is, in bytes as they are spelt in JSON.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How much of it was kept, in the same bytes.
    pub fn sampled(&self) -> u64 {
        self.sample.len() as u64
    }

    /// The beginning of it, as text.
    pub fn sample(&self) -> Cow<'_, str> {
        let mut quoted = Vec::with_capacity(self.sample.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(&self.sample);
        quoted.push(b'"');
        let text = Value { raw: &quoted, kind: Kind::String }.as_str().map(Cow::into_owned);
        text.map_or_else(|| String::from_utf8_lossy(&self.sample), Cow::Owned)
    }

    /// Adds the content of a JSON string.
    fn add(&mut self, content: &[u8]) {
        self.bytes += content.len() as u64;
        let room = SAMPLE - self.sample.len().min(SAMPLE);
        if content.len() <= room {
            self.sample.extend_from_slice(content);
        } else if room > 0 {
            self.sample.extend_from_slice(beginning(content, room));
            // Full, so that a later and shorter piece does not follow where a part is missing.
            self.sample.resize(SAMPLE, b' ');
        }
    }

    /// Adds every string that says something.
    fn gather(&mut self, value: Value<'_>) {
        self.gather_within(value, DEPTH);
    }

    fn gather_within(&mut self, value: Value<'_>, depth: usize) {
        match value.kind {
            Kind::String => self.add(string(value.raw)),
            Kind::Array if depth > 0 => value.items().for_each(|item| self.gather_within(item, depth - 1)),
            Kind::Object if depth > 0 => {
                for (name, value) in value.members() {
                    // An id, a type or a link is not something that the model said.
                    let is_said = matches!(
                        name.bytes().as_ref(),
                        b"text"
                            | b"content"
                            | b"thinking"
                            | b"function"
                            | b"name"
                            | b"arguments"
                            | b"custom"
                            | b"input"
                    );
                    if is_said {
                        self.gather_within(value, depth - 1);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The content of the string that `json` begins with.
fn string(json: &[u8]) -> &[u8] {
    let inside = json.get(1..).unwrap_or_default();
    let mut at = 0;
    while let Some(found) = inside.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if inside[at] == b'"' {
            return &inside[..at];
        }
        at += 2;
    }
    inside
}

/// As much of a string's content as has room and splits no character and no escape.
fn beginning(content: &[u8], room: usize) -> &[u8] {
    let mut at = 0;
    let mut end = room;
    while let Some(found) = content.get(at..room).and_then(|rest| memchr::memchr(b'\\', rest)) {
        let length = if content.get(at + found + 1) == Some(&b'u') { 6 } else { 2 };
        if at + found + length > room {
            end = at + found;
            break;
        }
        at += found + length;
    }
    while end > 0 && content.get(end).is_some_and(|byte| byte & 0xC0 == 0x80) {
        end -= 1;
    }
    &content[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(delta: &str) -> (String, String) {
        let mut said = Said::default();
        said.add(
            Shape::Chat,
            format!(r#"{{"id":"x","choices":[{{"index":0,"delta":{delta}}}],"model":"m"}}"#).as_bytes(),
        );
        (said.text.sample().into_owned(), said.reasoning.sample().into_owned())
    }

    #[test]
    fn what_is_said_is_told_from_what_is_thought_and_from_what_is_neither() {
        let cases = [
            (r#"{"content":" token"}"#, " token", ""),
            (r#"{"role":"assistant","content":"a\n\"b\" \u00e4","refusal":null}"#, "a\n\"b\" ä", ""),
            (r#"{"content":null,"reasoning_content":"hm"}"#, "", "hm"),
            (
                r#"{"content":"","reasoning":"hm","reasoning_details":[{"type":"reasoning.text","text":"hm"}]}"#,
                "",
                "hm",
            ),
            (r#"{"reasoning":"hm","reasoning_content":"hm"}"#, "", "hm"),
            (
                r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"so"}]}"#,
                "so",
                "hm",
            ),
            (
                r#"{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":"}}]}"#,
                "f{\"a\":",
                "",
            ),
            (r#"{"tool_calls":[{"index":0,"function":{"arguments":"1\""}}]}"#, "1\"", ""),
            (r#"{"tool_calls":[{"index":0,"function":{"arguments":"1","name":"f"}}]}"#, "1f", ""),
            (r#"{"content":"a","reasoning":"b"}"#, "a", "b"),
            (r#"{"reasoning":"b"}"#, "", "b"),
            (r#"{"refusal":"no"}"#, "no", ""),
            (r#"{"audio":{"id":"a","data":"AAAA","transcript":"oh"}}"#, "oh", ""),
            (r#"{"content":"delta","x":"\"delta\":{\"content\":\"no\"}"}"#, "delta\"delta\":{\"content\":\"no\"}", ""),
            (r#" { "content" : "spaced" } "#, "spaced", ""),
            ("{}", "", ""),
            ("null", "", ""),
        ];
        for (delta, text, reasoning) in cases {
            assert_eq!(said(delta), (text.to_owned(), reasoning.to_owned()), "{delta}");
        }
    }

    #[test]
    fn every_alternative_and_every_shape_counts() {
        let mut chunk = Said::default();
        chunk.add(Shape::Chat, br#"{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"b"}}]}"#);
        assert_eq!(chunk.text.sample(), "ab");
        let mut completion = Said::default();
        completion.add(Shape::Completion, br#"{"choices":[{"text":"a","index":0},{"text":"b"}]}"#);
        assert_eq!(completion.text.sample(), "ab");
        let whole = br#"{"choices":[{"message":{"role":"assistant","content":"one","reasoning":"two"}}]}"#;
        let whole = Said::of_answer(Shape::Chat, whole);
        assert_eq!((whole.text.sample(), whole.reasoning.sample()), ("one".into(), "two".into()));
        assert!(Said::of_answer(Shape::Embedding, br#"{"data":[{"text":"a"}]}"#).is_empty());
    }

    #[test]
    fn the_sample_is_bounded_and_the_count_is_not() {
        let mut said = Said::default();
        let text = "ä".repeat(1_000);
        for _ in 0..100 {
            said.add(Shape::Chat, format!(r#"{{"choices":[{{"delta":{{"content":"x{text}\""}}}}]}}"#).as_bytes());
        }
        assert_eq!(said.text.bytes(), 100 * (2_000 + 3));
        assert_eq!(said.text.sampled(), SAMPLE as u64);
        assert!(said.text.sample().starts_with("xää") && said.text.sample.capacity() <= 2 * SAMPLE);
    }

    #[test]
    fn the_beginning_of_a_text_splits_nothing() {
        let content = br#"a\u00e4\\b"#;
        let cut: Vec<_> = (0..=content.len()).map(|room| beginning(content, room).len()).collect();
        assert_eq!(cut, [0, 1, 1, 1, 1, 1, 1, 7, 7, 9, 10]);
        assert_eq!(beginning("aää".as_bytes(), 4), "aä".as_bytes());
    }
}
