//! Reading JSON without building a tree. A document is validated once, in one pass, by [`scan::Scanner`]; what is of
//! interest is then looked at as slices of the original bytes. Nothing here allocates unless a string has escapes.
//!
//! Strict RFC 8259 with three liberties that its section 9 allows, each of which differs from `serde_json`: nesting up
//! to [`MAX_DEPTH`], numbers of any magnitude, and `\u` escapes that name half a surrogate pair (such a string is
//! carried along, but has no `&str`).

mod object;
mod scan;
mod text;

use std::{borrow::Cow, fmt, ops::Range};

pub use object::{Member, Object};
pub(super) use text::push_quoted;
pub use text::{Name, quoted};

use scan::{Scanner, Snag};

/// How deep arrays and objects may nest, the document itself included.
pub const MAX_DEPTH: usize = 512;

/// What a JSON value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Number,
    Object,
    Array,
    True,
    False,
    Null,
}

/// One JSON value, as the bytes it was written in.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// The value's own bytes, without surrounding whitespace; a string has its quotes.
    pub raw: &'a [u8],
    pub kind: Kind,
}

/// Why a document was refused, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub problem: Problem,
    /// Offset in bytes from the start of the document.
    pub at: usize,
    /// Counted from 1.
    pub line: usize,
    /// In bytes, counted from 1.
    pub column: usize,
}

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    Utf8,
    /// What was expected at this place.
    Syntax(&'static str),
    NotAnObject,
    /// The name, decoded, that a second member of the top-level object bears.
    Duplicate(String),
    TooDeep,
    /// Something follows the end of the document.
    Trailing,
}

impl<'a> Value<'a> {
    /// Validates a whole document, whatever its kind. UTF-8 is checked where a string is decoded, not here.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut scanner = Scanner::new(bytes);
        scanner.skip_bom();
        scanner.whitespace();
        let start = scanner.at;
        let kind = scanner.value(0).map_err(|snag| Malformed::snag(snag, &scanner))?;
        let end = scanner.at;
        scanner.whitespace();
        match scanner.peek() {
            None => Ok(Self { raw: &bytes[start..end], kind }),
            Some(_) => Err(Malformed::new(Problem::Trailing, scanner.at, bytes)),
        }
    }

    /// The text of a string. `None` for other kinds, for half a surrogate pair and for bytes that are not UTF-8.
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        text::decode(self.string_content()?)
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self.kind {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }
    }

    /// A number written as a non-negative integer that fits; `1.0` and `1e3` are not.
    pub fn as_u64(&self) -> Option<u64> {
        if self.kind != Kind::Number {
            return None;
        }
        std::str::from_utf8(self.raw).ok()?.parse().ok()
    }

    /// Any number, rounded to the nearest double; infinite when out of range.
    pub fn as_f64(&self) -> Option<f64> {
        if self.kind != Kind::Number {
            return None;
        }
        std::str::from_utf8(self.raw).ok()?.parse().ok()
    }

    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// Whether there is nothing in it: `null`, `false`, an empty string, or a container of nothing but such.
    pub fn is_empty(&self) -> bool {
        self.is_empty_within(8)
    }

    /// The members of an object, in order; none for other kinds. The value must have been validated.
    pub fn members(&self) -> impl Iterator<Item = (Name<'a>, Value<'a>)> + use<'a> {
        let raw = self.raw;
        let mut object = (self.kind == Kind::Object).then(|| Object::open(raw).ok()).flatten();
        std::iter::from_fn(move || {
            let member = object.as_mut()?.next().ok()??;
            Some((member.name(raw), member.value(raw)))
        })
    }

    /// The member of this name; the first, should there be several.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.members().find(|(candidate, _)| candidate == name).map(|(_, value)| value)
    }

    /// The items of an array, in order; none for other kinds. The value must have been validated.
    pub fn items(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let raw = self.raw;
        let mut scanner = Scanner::new(raw);
        let mut open = self.kind == Kind::Array && scanner.take(b'[');
        std::iter::from_fn(move || {
            if !open {
                return None;
            }
            scanner.whitespace();
            let start = scanner.at;
            let kind = scanner.value(0).ok();
            let end = scanner.at;
            scanner.whitespace();
            open = scanner.take(b',');
            Some(Value { raw: &raw[start..end], kind: kind? })
        })
    }

    fn string_content(&self) -> Option<&'a [u8]> {
        if self.kind != Kind::String {
            return None;
        }
        self.raw.get(1..self.raw.len().checked_sub(1)?)
    }

    fn is_empty_within(&self, depth: usize) -> bool {
        match self.kind {
            Kind::Null | Kind::False => true,
            Kind::True | Kind::Number => false,
            Kind::String => self.raw.len() <= 2,
            // Whoever nests this deep means something by it.
            Kind::Object | Kind::Array if depth == 0 => false,
            Kind::Object => self.members().all(|(_, value)| value.is_empty_within(depth - 1)),
            Kind::Array => self.items().all(|value| value.is_empty_within(depth - 1)),
        }
    }
}

impl Malformed {
    pub(super) fn new(problem: Problem, at: usize, document: &[u8]) -> Self {
        let before = &document[..at.min(document.len())];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        Self {
            problem,
            at,
            line: 1 + memchr::memchr_iter(b'\n', before).count(),
            column: 1 + before.len() - line_start,
        }
    }

    fn snag(snag: Snag, scanner: &Scanner<'_>) -> Self {
        let problem = match snag {
            Snag::Expected(what) => Problem::Syntax(what),
            Snag::TooDeep => Problem::TooDeep,
        };
        Self::new(problem, scanner.at, scanner.bytes)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Problem::Utf8 => write!(f, "the text is not valid UTF-8")?,
            Problem::Syntax(expected) => write!(f, "the text is not valid JSON: expected {expected}")?,
            Problem::NotAnObject => write!(f, "the JSON document must be an object, and another value begins")?,
            Problem::Duplicate(name) => write!(f, "the JSON object has two members named `{name}`, the second")?,
            Problem::TooDeep => write!(f, "the JSON document nests deeper than {MAX_DEPTH} levels")?,
            Problem::Trailing => write!(f, "the text goes on after the end of the JSON document")?,
        }
        write!(f, " at byte {} (line {}, column {})", self.at, self.line, self.column)
    }
}

impl std::error::Error for Malformed {}

/// A byte range kept in half the space; documents are below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}
