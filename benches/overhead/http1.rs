//! As much HTTP/1.1 as a load generator and a fast upstream need: find the end of a message that arrives in any pieces.
//!
//! A full HTTP library would cost as much CPU as the proxies under test and hide them.

use anyhow::{Result, bail, ensure};
use memchr::{memchr, memmem};

/// Reads one message (head and body) from pieces of any size.
#[derive(Default)]
pub struct Message {
    head: Vec<u8>,
    framing: Option<Framing>,
}

enum Framing {
    /// Bytes still to come.
    Sized(u64),
    Chunked(Chunked),
}

/// Where in the chunked coding (RFC 9112, section 7.1) the last piece ended.
enum Chunked {
    /// In a size line; the digits read so far, and whether an extension has begun.
    Size {
        value: u64,
        extension: bool,
    },
    /// In data; bytes still to come, the two of the line end included.
    Data {
        left: u64,
    },
    /// In the trailer section; length of the current line so far.
    Trailer {
        line: u64,
    },
    End,
}

impl Message {
    /// Takes the next piece, gives the body bytes in it to `body`, and says whether the message is complete.
    /// Bytes after the end are refused: neither side of this bench pipelines.
    pub fn feed(&mut self, piece: &[u8], mut body: impl FnMut(&[u8])) -> Result<bool> {
        if self.framing.is_some() {
            return self.feed_body(piece, &mut body);
        }
        // The usual case, a head that arrives whole, needs no second look at earlier bytes.
        let search_from = self.head.len().saturating_sub(3);
        self.head.extend_from_slice(piece);
        let Some(at) = memmem::find(&self.head[search_from..], b"\r\n\r\n") else {
            ensure!(self.head.len() < 64 * 1024, "a head without end");
            return Ok(false);
        };
        let rest = self.head.split_off(search_from + at + 4);
        self.framing = Some(framing(&self.head)?);
        self.feed_body(&rest, &mut body)
    }

    /// The start line and the header fields, complete once a body byte has been seen.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The status code of a response, zero when there is none yet.
    pub fn status(&self) -> u16 {
        let digits = self.head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// True when the peer will close the connection after this message.
    pub fn closes(&self) -> bool {
        field(&self.head, b"connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"))
    }

    /// Makes ready for the next message, keeping the memory.
    pub fn reset(&mut self) {
        self.head.clear();
        self.framing = None;
    }

    fn feed_body(&mut self, piece: &[u8], body: &mut impl FnMut(&[u8])) -> Result<bool> {
        match &mut self.framing {
            None => Ok(false),
            Some(Framing::Sized(left)) => {
                ensure!(piece.len() as u64 <= *left, "more bytes than content-length says");
                *left -= piece.len() as u64;
                if !piece.is_empty() {
                    body(piece);
                }
                Ok(*left == 0)
            }
            Some(Framing::Chunked(state)) => state.feed(piece, body),
        }
    }
}

impl Chunked {
    fn feed(&mut self, mut piece: &[u8], body: &mut impl FnMut(&[u8])) -> Result<bool> {
        while let Some(byte) = piece.first().copied() {
            match self {
                Self::Size { value, extension } => {
                    piece = &piece[1..];
                    match byte {
                        b'\n' if *value == 0 => *self = Self::Trailer { line: 0 },
                        b'\n' => *self = Self::Data { left: *value + 2 },
                        b'\r' => {}
                        _ if *extension => {}
                        b';' | b' ' => *extension = true,
                        _ => match char::from(byte).to_digit(16) {
                            Some(digit) => *value = *value * 16 + u64::from(digit),
                            None => bail!("not a chunk size: {byte:#x}"),
                        },
                    }
                }
                Self::Data { left } => {
                    let taken = usize::try_from(*left)?.min(piece.len());
                    let data = usize::try_from(left.saturating_sub(2))?.min(taken);
                    if data > 0 {
                        body(&piece[..data]);
                    }
                    piece = &piece[taken..];
                    *left -= taken as u64;
                    if *left == 0 {
                        *self = Self::Size { value: 0, extension: false };
                    }
                }
                Self::Trailer { line } => {
                    let end = memchr(b'\n', piece);
                    let text = end.map_or(piece, |end| &piece[..end]);
                    *line += text.iter().filter(|byte| **byte != b'\r').count() as u64;
                    piece = &piece[end.map_or(piece.len(), |end| end + 1)..];
                    match end {
                        Some(_) if *line == 0 => *self = Self::End,
                        Some(_) => *line = 0,
                        None => {}
                    }
                }
                Self::End => bail!("bytes after the last chunk"),
            }
        }
        Ok(matches!(self, Self::End))
    }
}

/// The value of the first header field called `name` (lower case) in `head`.
pub fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let colon = memchr(b':', line)?;
        line[..colon].eq_ignore_ascii_case(name).then(|| line[colon + 1..].trim_ascii())
    })
}

fn framing(head: &[u8]) -> Result<Framing> {
    if field(head, b"transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked")) {
        return Ok(Framing::Chunked(Chunked::Size { value: 0, extension: false }));
    }
    match field(head, b"content-length") {
        Some(value) => Ok(Framing::Sized(std::str::from_utf8(value)?.parse()?)),
        None if head.starts_with(b"HTTP/") => bail!("an answer that neither says its length nor is chunked"),
        None => Ok(Framing::Sized(0)),
    }
}
