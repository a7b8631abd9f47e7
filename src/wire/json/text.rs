//! Strings: their text from their spelling, and back.

use std::borrow::Cow;

use bytes::Bytes;

/// The name of a member, as it is spelt.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    spelling: &'a [u8],
    escaped: bool,
}

impl<'a> Name<'a> {
    pub(super) fn new(spelling: &'a [u8], escaped: bool) -> Self {
        Self { spelling, escaped }
    }

    /// A name of which only the spelling, without the quotes, is known.
    pub(in crate::wire) fn spelt(spelling: &'a [u8]) -> Self {
        Self { spelling, escaped: memchr::memchr(b'\\', spelling).is_some() }
    }

    /// The name as it is spelt, without its quotes.
    pub(in crate::wire) fn spelling(&self) -> &'a [u8] {
        self.spelling
    }

    /// The name as bytes, comparable: equal exactly if the names are equal, however they are spelt. Half a surrogate
    /// pair is encoded the way UTF-8 would if it were a character.
    pub fn bytes(&self) -> Cow<'a, [u8]> {
        if self.escaped { Cow::Owned(unescape(self.spelling)) } else { Cow::Borrowed(self.spelling) }
    }

    /// The name for people: what is not a character becomes U+FFFD.
    pub fn text(&self) -> Cow<'a, str> {
        match self.bytes() {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }
}

impl PartialEq<str> for Name<'_> {
    #[inline]
    fn eq(&self, other: &str) -> bool {
        if self.escaped { unescape(self.spelling) == other.as_bytes() } else { self.spelling == other.as_bytes() }
    }
}

impl PartialEq for Name<'_> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        if self.escaped || other.escaped { self.bytes() == other.bytes() } else { self.spelling == other.spelling }
    }
}

/// A text as a JSON string, with its quotes.
pub fn quoted(text: &str) -> Bytes {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out.into()
}

pub(in crate::wire) fn push_quoted(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut at = 0;
    while at < bytes.len() {
        let plain = super::scan::skip_plain(bytes, at);
        out.extend_from_slice(&bytes[at..plain]);
        match bytes.get(plain) {
            None => {}
            Some(b'\n') => out.extend_from_slice(b"\\n"),
            Some(b'\r') => out.extend_from_slice(b"\\r"),
            Some(b'\t') => out.extend_from_slice(b"\\t"),
            Some(&special @ (b'"' | b'\\')) => out.extend_from_slice(&[b'\\', special]),
            Some(&control) => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]]);
            }
        }
        at = plain + 1;
    }
    out.push(b'"');
}

/// The text between the quotes of a validated string. `None` for half a surrogate pair and for what is not UTF-8.
pub(super) fn decode(spelling: &[u8]) -> Option<Cow<'_, str>> {
    if memchr::memchr(b'\\', spelling).is_none() {
        return simdutf8::basic::from_utf8(spelling).ok().map(Cow::Borrowed);
    }
    String::from_utf8(unescape(spelling)).ok().map(Cow::Owned)
}

/// Resolves the escapes of a validated string. Half a surrogate pair becomes three bytes that are not valid UTF-8, so
/// that decoding to text fails on it and comparing stays exact.
fn unescape(spelling: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(spelling.len());
    let mut rest = spelling;
    while let Some(backslash) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..backslash]);
        rest = &rest[backslash + 1..];
        let Some((&letter, after)) = rest.split_first() else { break };
        rest = after;
        match letter {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let first = take_hex(&mut rest);
                push_unit(&mut out, first, &mut rest);
            }
            literal => out.push(literal),
        }
    }
    out.extend_from_slice(rest);
    out
}

/// Appends the character of one UTF-16 unit, or of two if the escape that follows completes a surrogate pair.
fn push_unit(out: &mut Vec<u8>, first: u32, rest: &mut &[u8]) {
    let mut code = first;
    if (0xD800..0xDC00).contains(&first) && rest.starts_with(b"\\u") {
        let mut after = &rest[2..];
        let second = take_hex(&mut after);
        if (0xDC00..0xE000).contains(&second) {
            *rest = after;
            code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        }
    }
    match char::from_u32(code) {
        Some(character) => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        None => {
            let [_, _, high, low] = code.to_be_bytes();
            out.extend_from_slice(&[0xE0 | high >> 4, 0x80 | (high & 15) << 2 | low >> 6, 0x80 | low & 0x3F]);
        }
    }
}

fn take_hex(rest: &mut &[u8]) -> u32 {
    let Some((digits, after)) = rest.split_at_checked(4) else { return 0xFFFD };
    *rest = after;
    digits.iter().fold(0, |code, &digit| code << 4 | char::from(digit).to_digit(16).unwrap_or(0))
}
