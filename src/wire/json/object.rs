//! The members of one object, read one after the other while the document is validated.

use super::{Kind, Malformed, Name, Problem, Scanner, Span, Value};

/// Reads an object member by member. The document is known to be valid once `next` has returned `Ok(None)`.
pub struct Object<'a> {
    scanner: Scanner<'a>,
    state: State,
    /// Where the whitespace after `{` ends, and, once it was reached, the place of `}`.
    close: usize,
}

enum State {
    First,
    Following,
    Closed,
}

/// Where one member of an object stands in its document.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The name with its quotes.
    pub(in crate::wire) name: Span,
    pub(in crate::wire) value: Span,
    pub(in crate::wire) kind: Kind,
    /// Whether the name is written with escapes.
    pub(in crate::wire) escaped: bool,
}

impl<'a> Object<'a> {
    /// Steps into the object that the document is.
    pub fn open(document: &'a [u8]) -> Result<Self, Malformed> {
        let mut scanner = Scanner::new(document);
        scanner.skip_bom();
        scanner.whitespace();
        let problem = match scanner.peek() {
            Some(b'{') if u32::try_from(document.len()).is_ok() => {
                scanner.at += 1;
                return Ok(Self { close: scanner.at, scanner, state: State::First });
            }
            Some(b'{') => Problem::Syntax("a document below 4 GiB"),
            Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => Problem::NotAnObject,
            Some(_) => Problem::Syntax("a JSON object"),
            None => Problem::Syntax("a JSON object, and there is none"),
        };
        Err(Malformed::new(problem, scanner.at, document))
    }

    /// The next member; `None` after the closing brace, when nothing but whitespace follows it.
    #[expect(clippy::should_implement_trait, reason = "an Iterator of Results would let a caller go on after an error")]
    pub fn next(&mut self) -> Result<Option<Member>, Malformed> {
        if let State::Closed = self.state {
            return Ok(None);
        }
        let member = self.advance().map_err(|snag| Malformed::snag(snag, &self.scanner))?;
        if member.is_none() {
            self.state = State::Closed;
            self.scanner.whitespace();
            if self.scanner.peek().is_some() {
                return Err(Malformed::new(Problem::Trailing, self.scanner.at, self.scanner.bytes));
            }
        }
        Ok(member)
    }

    /// The place of the closing brace; meaningful after the last member.
    pub(in crate::wire) fn close(&self) -> usize {
        self.close
    }

    fn advance(&mut self) -> Result<Option<Member>, super::Snag> {
        let scanner = &mut self.scanner;
        scanner.whitespace();
        if scanner.peek() == Some(b'}') {
            self.close = scanner.at;
            scanner.at += 1;
            return Ok(None);
        }
        if let State::Following = self.state {
            if !scanner.take(b',') {
                return Err(super::Snag::Expected("`,` or `}` after a member"));
            }
            scanner.whitespace();
        }
        self.state = State::Following;
        let start = scanner.at;
        let escaped = scanner.name()?;
        let name = span(start, scanner.at);
        scanner.colon()?;
        let start = scanner.at;
        let kind = scanner.value(1)?;
        Ok(Some(Member { name, value: span(start, scanner.at), kind, escaped }))
    }
}

impl Member {
    /// Its name, in the document it was read from.
    pub fn name<'a>(&self, document: &'a [u8]) -> Name<'a> {
        let quoted = self.name.range();
        Name::new(&document[quoted.start + 1..quoted.end - 1], self.escaped)
    }

    /// Its value, in the document it was read from.
    pub fn value<'a>(&self, document: &'a [u8]) -> Value<'a> {
        Value { raw: &document[self.value.range()], kind: self.kind }
    }
}

/// Documents of 4 GiB and more are refused when they are opened, so nothing is cut off here.
#[expect(clippy::cast_possible_truncation, reason = "the document's length fits, and these are offsets in it")]
fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, end: end as u32 }
}
