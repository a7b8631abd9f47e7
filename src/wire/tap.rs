//! A look at a document that streams through and is too large to hold: the values of a few top-level members of a
//! JSON object are copied out while everything else is skipped. Nothing is validated; a document that is not JSON
//! yields nothing or nonsense, never a panic, and never completes where it would not.

use smallvec::SmallVec;

/// Copies the values of some top-level members out of a document fed to it in chunks.
#[derive(Debug)]
pub struct Tap {
    names: &'static [&'static str],
    /// In bytes, for each member.
    max_capture: usize,
    /// What was found for each name.
    found: SmallVec<[Option<Vec<u8>>; 4]>,
    state: State,
    /// The spelling of the member name being read; one byte longer than the longest wanted spelling at most.
    name: Vec<u8>,
    /// The value being copied; `None` while a value is skipped.
    copy: Option<(usize, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    /// Between members: whitespace, a comma, a name or the closing brace.
    BeforeName,
    Name {
        escape: bool,
    },
    BeforeColon,
    BeforeValue,
    Scalar,
    /// In a string at this depth of containers; 0 is the member's value itself.
    String {
        depth: usize,
        escape: bool,
    },
    Container {
        depth: usize,
    },
    Closed,
    /// The document is not an object, or not JSON.
    Lost,
}

/// A name may be spelt in escapes of six bytes for each of its own.
const ESCAPE_LEN: usize = 6;

impl Tap {
    /// Watches for members of these names. A value longer than `max_capture` bytes is not kept.
    pub fn new(names: &'static [&'static str], max_capture: usize) -> Self {
        let found = names.iter().map(|_| None).collect();
        Self { names, max_capture, found, state: State::Start, name: Vec::new(), copy: None }
    }

    /// Takes the next bytes of the document.
    pub fn feed(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while !rest.is_empty() && !matches!(self.state, State::Closed | State::Lost) {
            let taken = self.step(rest);
            rest = &rest[taken..];
        }
    }

    /// The JSON text of a member's value, once it was read to its end. The last, should there be several.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let index = self.names.iter().position(|candidate| *candidate == name)?;
        self.found.get(index)?.as_deref()
    }

    /// Whether the document was read to its closing brace.
    pub fn complete(&self) -> bool {
        self.state == State::Closed
    }

    /// Takes at least one byte, or changes the state.
    fn step(&mut self, rest: &[u8]) -> usize {
        match self.state {
            State::Start | State::BeforeName | State::BeforeColon | State::BeforeValue => self.step_between(rest),
            State::Name { escape } => self.step_name(rest, escape),
            State::Scalar => {
                let end = rest.iter().position(|byte| matches!(byte, b',' | b'}' | b' ' | b'\n' | b'\r' | b'\t'));
                self.copy(&rest[..end.unwrap_or(rest.len())]);
                if end.is_some() {
                    self.end_value();
                }
                end.unwrap_or(rest.len())
            }
            State::String { depth, escape } => {
                let (taken, next) = step_string(rest, escape);
                self.copy(&rest[..taken]);
                match next {
                    Some(escape) => self.state = State::String { depth, escape },
                    None if depth == 0 => self.end_value(),
                    None => self.state = State::Container { depth },
                }
                taken
            }
            State::Container { depth } => self.step_container(rest, depth),
            State::Closed | State::Lost => rest.len(),
        }
    }

    /// One byte between the tokens of the top-level object.
    fn step_between(&mut self, rest: &[u8]) -> usize {
        let byte = rest[0];
        self.state = match (self.state, byte) {
            (state, b' ' | b'\n' | b'\r' | b'\t') => state,
            // A byte order mark.
            (State::Start, 0xEF | 0xBB | 0xBF) => State::Start,
            (State::Start, b'{') | (State::BeforeName, b',') => State::BeforeName,
            (State::BeforeName, b'"') => {
                self.name.clear();
                State::Name { escape: false }
            }
            (State::BeforeName, b'}') => State::Closed,
            (State::BeforeColon, b':') => State::BeforeValue,
            (State::BeforeValue, first) => {
                self.begin_value();
                match first {
                    b'"' => State::String { depth: 0, escape: false },
                    b'{' | b'[' => State::Container { depth: 1 },
                    _ => {
                        self.state = State::Scalar;
                        return 0;
                    }
                }
            }
            _ => State::Lost,
        };
        if matches!(self.state, State::String { .. } | State::Container { .. }) {
            self.copy(&rest[..1]);
        }
        1
    }

    fn step_name(&mut self, rest: &[u8], escape: bool) -> usize {
        let (taken, next) = step_string(rest, escape);
        let longest = self.names.iter().map(|name| name.len() * ESCAPE_LEN).max().unwrap_or(0) + 1;
        let room = longest - self.name.len().min(longest);
        self.name.extend_from_slice(&rest[..taken.min(room)]);
        self.state = next.map_or(State::BeforeColon, |escape| State::Name { escape });
        taken
    }

    fn step_container(&mut self, rest: &[u8], depth: usize) -> usize {
        let flat = skip_flat(rest);
        let taken = (flat + 1).min(rest.len());
        self.copy(&rest[..taken]);
        match rest.get(flat) {
            Some(b'"') => self.state = State::String { depth, escape: false },
            Some(b'{' | b'[') => self.state = State::Container { depth: depth + 1 },
            Some(_) if depth == 1 => self.end_value(),
            Some(_) => self.state = State::Container { depth: depth - 1 },
            None => {}
        }
        taken
    }

    fn begin_value(&mut self) {
        // The closing quote is part of what was gathered.
        let spelling = self.name.strip_suffix(b"\"").unwrap_or_default();
        let name = super::json::Name::spelt(spelling);
        self.copy = self.names.iter().position(|wanted| name == **wanted).map(|index| (index, Vec::new()));
    }

    fn copy(&mut self, bytes: &[u8]) {
        if let Some((_, copy)) = &mut self.copy {
            if copy.len() + bytes.len() > self.max_capture {
                self.copy = None;
            } else {
                copy.extend_from_slice(bytes);
            }
        }
    }

    fn end_value(&mut self) {
        self.state = State::BeforeName;
        if let Some((index, copy)) = self.copy.take() {
            self.found[index] = Some(copy);
        }
    }
}

/// Goes on in a string: how many bytes, and whether the next byte is escaped; `None` after the closing quote.
fn step_string(rest: &[u8], escape: bool) -> (usize, Option<bool>) {
    if escape {
        return (1, Some(false));
    }
    match memchr::memchr2(b'"', b'\\', rest) {
        Some(at) if rest[at] == b'"' => (at + 1, None),
        Some(at) => (at + 1, Some(true)),
        None => (rest.len(), Some(false)),
    }
}

/// How far the next quote, brace or bracket is. Embeddings are long runs of digits, so whole blocks are tried first;
/// the compiler turns their check into vector instructions.
fn skip_flat(bytes: &[u8]) -> usize {
    const BLOCK: usize = 32;
    // Braces and brackets differ from one another in this bit only.
    let is_structure =
        |byte: u8| u8::from(byte == b'"') | u8::from(byte | 0x20 == b'{') | u8::from(byte | 0x20 == b'}');
    let mut at = 0;
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk::<BLOCK>) {
        if block.iter().fold(0, |any, &byte| any | is_structure(byte)) != 0 {
            break;
        }
        at += BLOCK;
    }
    while bytes.get(at).is_some_and(|&byte| is_structure(byte) == 0) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: &[&str] = &["usage", "model", "a"];

    fn tap(text: &[u8], chunk: usize) -> Tap {
        let mut tap = Tap::new(NAMES, 1000);
        text.chunks(chunk).for_each(|chunk| tap.feed(chunk));
        tap
    }

    #[test]
    fn members_of_every_kind_are_captured_in_any_chunks() {
        let text = r#" {"data":[{"usage":1,"s":"}\"]{"},[[0.25,-1e3]]], "\u0075sage" : {"n": [1,"}"]} ,"model":"m\"\\","a":-1.5e3}"#;
        for chunk in 1..text.len() {
            let tap = tap(text.as_bytes(), chunk);
            assert_eq!(tap.get("usage").unwrap(), br#"{"n": [1,"}"]}"#);
            assert_eq!(tap.get("model").unwrap(), br#""m\"\\""#);
            assert_eq!(tap.get("a").unwrap(), b"-1.5e3");
            assert!(tap.get("data").is_none());
            assert!(tap.complete());
        }
    }

    #[test]
    fn what_is_cut_is_not_complete_and_has_no_half_values() {
        let text = br#"{"usage":{"n":1},"model":"long name"}"#;
        for end in 0..text.len() {
            let tap = tap(&text[..end], 5);
            assert!(!tap.complete());
            assert_eq!(tap.get("usage").is_some(), end >= 16);
            assert_eq!(tap.get("model").is_some(), end >= 36);
        }
    }

    #[test]
    fn values_over_the_limit_are_not_kept() {
        let mut tap = Tap::new(NAMES, 10);
        tap.feed(br#"{"usage":"0123456789","model":"01234567","a":1}"#);
        assert!(tap.get("usage").is_none());
        assert_eq!((tap.get("model"), tap.get("a")), (Some(b"\"01234567\"".as_slice()), Some(b"1".as_slice())));
    }

    #[test]
    fn other_documents_yield_nothing() {
        for text in ["[{\"usage\":1}]", "\"usage\"", "usage", "", "{\"usage\" 1}", "{]\"usage\":1}"] {
            let tap = tap(text.as_bytes(), 3);
            assert!(tap.get("usage").is_none() && !tap.complete(), "{text}");
        }
        assert!(tap(b"\xef\xbb\xbf{}", 1).complete());
        assert!(tap(b"{} trailing", 100).complete());
    }

    #[test]
    fn long_names_are_skipped_and_not_held() {
        let text = format!("{{\"{}\":1,\"usage\":2}}", "x".repeat(100_000));
        let tap = tap(text.as_bytes(), 1000);
        assert_eq!(tap.get("usage").unwrap(), b"2");
        assert!(tap.name.capacity() < 1000);
    }

    proptest! {
        #[test]
        fn a_tap_reads_what_serde_json_reads(
            members in proptest::collection::btree_map("[a-c\"\\\\é]{1,2}", proptest::collection::vec("[a-z\"\\\\{}\\[\\]é]{0,40}", 0..3), 0..5),
            chunk in 1usize..50,
        ) {
            let text = serde_json::to_vec(&members).unwrap();
            let tap = tap(&text, chunk);
            prop_assert!(tap.complete());
            let expected = members.get("a").map(|value| serde_json::to_vec(value).unwrap());
            prop_assert_eq!(tap.get("a").map(<[u8]>::to_vec), expected);
        }

        #[test]
        fn chunks_make_no_difference_even_to_nonsense(text in "[{}\\[\\]\":,a\\\\ u1]{0,80}", chunk in 1usize..20) {
            let (whole, split) = (tap(text.as_bytes(), 1000), tap(text.as_bytes(), chunk));
            prop_assert_eq!(whole.complete(), split.complete());
            prop_assert_eq!(whole.get("a"), split.get("a"));
        }
    }
}
