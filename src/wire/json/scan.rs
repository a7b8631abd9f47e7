//! The validating scanner: one pass, no recursion, no allocation.

use super::{Kind, MAX_DEPTH};

/// A position in a document. After a failure, `at` is where the scanner was stopped.
#[derive(Clone, Copy)]
pub(super) struct Scanner<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

/// What stopped the scanner. Small, because it is the error half of every step on the hot path.
#[derive(Clone, Copy)]
pub(super) enum Snag {
    Expected(&'static str),
    TooDeep,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Steps over this byte if it is next.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(super) fn skip_bom(&mut self) {
        if self.bytes.starts_with(b"\xEF\xBB\xBF") {
            self.at = 3;
        }
    }

    #[inline]
    pub(super) fn whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Reads one value of any depth, starting at its first byte. `open` containers are open around it already.
    #[inline]
    pub(super) fn value(&mut self, open: usize) -> Result<Kind, Snag> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| Kind::String),
            Some(b'{') => self.container(open).map(|()| Kind::Object),
            Some(b'[') => self.container(open).map(|()| Kind::Array),
            _ => self.scalar(),
        }
    }

    /// Reads a name and the colon after it; leaves the scanner at the value. Tells whether the name has escapes.
    #[inline]
    pub(super) fn name(&mut self) -> Result<bool, Snag> {
        if self.peek() != Some(b'"') {
            return Err(Snag::Expected("a member's name in double quotes"));
        }
        self.string()
    }

    #[inline]
    pub(super) fn colon(&mut self) -> Result<(), Snag> {
        self.whitespace();
        if !self.take(b':') {
            return Err(Snag::Expected("`:` after the member's name"));
        }
        self.whitespace();
        Ok(())
    }

    /// Reads a string from its opening quote to past its closing one. Tells whether it has escapes.
    #[inline]
    pub(super) fn string(&mut self) -> Result<bool, Snag> {
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at = skip_plain(self.bytes, self.at);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(Snag::Expected("control characters inside a string to be escaped")),
                None => return Err(Snag::Expected("the closing quote of a string")),
            }
        }
    }

    #[inline]
    fn escape(&mut self) -> Result<(), Snag> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') if self.bytes.get(self.at + 2..self.at + 6).is_some_and(all_hex) => {
                self.at += 6;
                Ok(())
            }
            Some(b'u') => Err(Snag::Expected("four hexadecimal digits after `\\u`")),
            _ => Err(Snag::Expected("one of `\"\\/bfnrtu` after a backslash")),
        }
    }

    /// Reads an object or array and all that is in it. Which kind each open level is, is one bit in a fixed stack.
    fn container(&mut self, open: usize) -> Result<(), Snag> {
        let mut levels = Levels::default();
        'value: loop {
            match self.peek() {
                Some(b'"') => {
                    self.string()?;
                }
                Some(bracket @ (b'{' | b'[')) => {
                    if open + levels.depth >= MAX_DEPTH {
                        return Err(Snag::TooDeep);
                    }
                    let object = bracket == b'{';
                    levels.push(object);
                    self.at += 1;
                    self.whitespace();
                    let empty = self.peek() == Some(bracket + 2);
                    if !empty && object {
                        self.name()?;
                        self.colon()?;
                    }
                    if !empty {
                        continue 'value;
                    }
                }
                _ => {
                    self.scalar()?;
                }
            }
            // A value ended, or an empty container waits to be closed: close what closes, up to the next value.
            loop {
                self.whitespace();
                match (levels.in_object(), self.peek()) {
                    (true, Some(b'}')) | (false, Some(b']')) => {
                        self.at += 1;
                        if levels.pop() == 0 {
                            return Ok(());
                        }
                    }
                    (true, Some(b',')) => {
                        self.at += 1;
                        self.whitespace();
                        self.name()?;
                        self.colon()?;
                        continue 'value;
                    }
                    (false, Some(b',')) => {
                        self.at += 1;
                        self.whitespace();
                        continue 'value;
                    }
                    (true, _) => return Err(Snag::Expected("`,` or `}` after a member")),
                    (false, _) => return Err(Snag::Expected("`,` or `]` after an item")),
                }
            }
        }
    }

    #[inline]
    fn scalar(&mut self) -> Result<Kind, Snag> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| Kind::Number),
            Some(b't') => self.literal(b"true", Kind::True),
            Some(b'f') => self.literal(b"false", Kind::False),
            Some(b'n') => self.literal(b"null", Kind::Null),
            _ => Err(Snag::Expected("a value")),
        }
    }

    fn literal(&mut self, word: &'static [u8], kind: Kind) -> Result<Kind, Snag> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(Snag::Expected("a value"));
        }
        self.at += word.len();
        Ok(kind)
    }

    fn number(&mut self) -> Result<(), Snag> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> Result<(), Snag> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(Snag::Expected("a digit")) } else { Ok(()) }
    }
}

/// A stack of bits: which of the open containers are objects.
#[derive(Default)]
struct Levels {
    bits: [u64; MAX_DEPTH / 64],
    depth: usize,
}

impl Levels {
    #[inline]
    fn push(&mut self, object: bool) {
        let bit = 1 << (self.depth % 64);
        let word = &mut self.bits[self.depth / 64];
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
    }

    #[inline]
    fn pop(&mut self) -> usize {
        self.depth -= 1;
        self.depth
    }

    #[inline]
    fn in_object(&self) -> bool {
        let top = self.depth - 1;
        self.bits[top / 64] >> (top % 64) & 1 == 1
    }
}

fn all_hex(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_hexdigit)
}

/// The first place at or after `at` of a quote, a backslash or a control character; the end if there is none.
///
/// Many strings are a word long, so one word of eight bytes is tried first. Then it goes on in small blocks, and where
/// these find nothing (the string is a picture, say) in large ones: the compiler turns the check of a block into
/// vector instructions. The place within a block is found by words again.
#[inline]
pub(super) fn skip_plain(bytes: &[u8], mut at: usize) -> usize {
    if let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let mask = specials(u64::from_le_bytes(*word));
        if mask != 0 {
            return at + (mask.trailing_zeros() / 8) as usize;
        }
        at += 8;
        let near = bytes.len().min(at + 128);
        at = skip_plain_blocks::<16>(&bytes[..near], at);
        if at + 16 > near {
            at = skip_plain_blocks::<64>(bytes, at);
        }
    }
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let mask = specials(u64::from_le_bytes(*word));
        if mask != 0 {
            return at + (mask.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        at += 1;
    }
    at
}

/// Steps over whole blocks without anything special in them.
#[inline]
fn skip_plain_blocks<const BLOCK: usize>(bytes: &[u8], mut at: usize) -> usize {
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk::<BLOCK>) {
        if block.iter().fold(false, |any, &byte| any | (byte < 0x20) | (byte == b'"') | (byte == b'\\')) {
            break;
        }
        at += BLOCK;
    }
    at
}

/// The high bit of each byte of `word` that is a quote, a backslash or a control character. Only the lowest bit set
/// is exact: a borrow may reach the bytes above it.
#[inline]
fn specials(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (control | quote.wrapping_sub(ONES) & !quote | backslash.wrapping_sub(ONES) & !backslash) & HIGH
}
