//! Strings and values in the spelling they came in. A text that is only carried from one format to another is never
//! unescaped: its spelling is JSON in both, so it is copied as it is, half surrogate pairs included.

use std::{borrow::Cow, fmt};

use crate::wire::json::{Kind, Name, Value, push_quoted};

/// What stands between the quotes of a JSON string, escapes and all. Equal to another if both decode to the same.
#[derive(Clone, Default)]
pub struct Text<'a>(Cow<'a, [u8]>);

/// One JSON value as it is spelt, without surrounding whitespace.
#[derive(Clone, PartialEq, Eq)]
pub struct Raw<'a>(Cow<'a, [u8]>);

impl<'a> Text<'a> {
    /// Spells a text.
    pub fn new(text: &str) -> Self {
        let mut quoted = Vec::with_capacity(text.len() + 2);
        push_quoted(&mut quoted, text);
        quoted.pop();
        quoted.remove(0);
        Self(Cow::Owned(quoted))
    }

    /// A text that is its own spelling: no quotes, no backslashes, no control characters.
    pub const fn literal(text: &'static str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }

    /// A spelling: the inside of a valid JSON string.
    pub(in crate::wire) fn spelt(spelling: impl Into<Cow<'a, [u8]>>) -> Self {
        Self(spelling.into())
    }

    /// The text of a string; `None` for other kinds.
    pub(in crate::wire) fn of(value: Value<'a>) -> Option<Self> {
        let inside = value.raw.get(1..value.raw.len().checked_sub(1)?)?;
        (value.kind == Kind::String).then_some(Self(Cow::Borrowed(inside)))
    }

    pub fn spelling(&self) -> &[u8] {
        &self.0
    }

    /// What it says. Half a surrogate pair becomes U+FFFD.
    pub fn decode(&self) -> Cow<'_, str> {
        Name::spelt(&self.0).text()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it has nothing but whitespace.
    pub fn is_blank(&self) -> bool {
        let first = self.0.iter().find(|byte| **byte != b' ');
        first.is_none_or(|first| (*first == b'\\' || !first.is_ascii()) && self.decode().trim().is_empty())
    }

    /// The length of the spelling in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What stands before and after the first of these characters that is not escaped. `at` is no letter that an escape
    /// has.
    pub(in crate::wire) fn split_at(self, at: u8) -> Option<(Self, Self)> {
        let place = memchr::memchr(at, &self.0)?;
        Some(match self.0 {
            Cow::Borrowed(bytes) => (Self::spelt(&bytes[..place]), Self::spelt(&bytes[place + 1..])),
            Cow::Owned(bytes) => (Self::spelt(bytes[..place].to_vec()), Self::spelt(bytes[place + 1..].to_vec())),
        })
    }

    /// Appends another text.
    pub fn push(&mut self, other: &Text<'_>) {
        self.0.to_mut().extend_from_slice(&other.0);
    }

    /// Appends it to `out` with its quotes.
    pub(in crate::wire) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(&self.0);
        out.push(b'"');
    }

    pub fn as_borrowed(&self) -> Text<'_> {
        Text(Cow::Borrowed(&self.0))
    }

    pub fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }

    /// What it says, as bytes that may be cut anywhere: no escapes.
    pub(in crate::wire) fn plain(self) -> Cow<'a, [u8]> {
        if memchr::memchr(b'\\', &self.0).is_some() {
            Cow::Owned(self.decode().into_owned().into_bytes())
        } else {
            self.0
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        Name::spelt(&self.0) == Name::spelt(&other.0)
    }
}

impl Eq for Text<'_> {}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        Name::spelt(&self.0) == *other
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", String::from_utf8_lossy(&self.0))
    }
}

impl<'a> Raw<'a> {
    pub(in crate::wire) fn of(value: Value<'a>) -> Self {
        Self(Cow::Borrowed(value.raw))
    }

    /// JSON text that was made here and is known to be valid.
    pub(in crate::wire) fn made(json: impl Into<Cow<'a, [u8]>>) -> Self {
        Self(json.into())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn value(&self) -> Value<'_> {
        let kind = match self.0.first() {
            Some(b'"') => Kind::String,
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b't') => Kind::True,
            Some(b'f') => Kind::False,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            _ => Kind::Null,
        };
        Value { raw: &self.0, kind }
    }

    pub(in crate::wire) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    pub fn into_owned(self) -> Raw<'static> {
        Raw(Cow::Owned(self.0.into_owned()))
    }
}

impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.0))
    }
}

/// Appends a string constant of our own, which has nothing to escape.
pub(in crate::wire) fn write_word(out: &mut Vec<u8>, word: &str) {
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

pub(in crate::wire) fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}
