//! The chunked transfer coding (RFC 9112, section 7.1), undone byte by byte.
//!
//! ```text
//! chunk   = hex-size [ ";" extensions ] CRLF data CRLF
//! body    = *chunk  1*"0" [ ";" extensions ] CRLF  *( trailer CRLF )  CRLF
//! ```
//!
//! The decoder keeps no bytes: what has been used may be thrown away, wherever the input was cut. It is strict about line
//! ends, because a bare LF that one reader takes for an end and another does not is how answers are smuggled.

/// Bytes of one size line at most, extensions included. Nobody sends extensions; a size has 16 digits at most.
const MAX_LINE: u16 = 4 * 1024;

/// Bytes of all trailers at most. They are thrown away.
const MAX_TRAILERS: u16 = 32 * 1024;

/// Where a body stands between two pieces of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    /// Before the first digit of a size.
    Start,
    /// In a size, of which this much has been read.
    Size {
        size: u64,
        line: u16,
    },
    /// Behind a size, in white space or extensions, up to CR.
    Extensions {
        size: u64,
        line: u16,
        named: bool,
    },
    /// Behind the CR of a size line.
    SizeLineFeed {
        size: u64,
    },
    /// In data, with this much to come.
    Data {
        left: u64,
    },
    /// Behind data.
    DataReturn,
    DataLineFeed,
    /// At the beginning of a trailer line, or of the blank line that ends the body.
    TrailerStart {
        read: u16,
    },
    Trailer {
        read: u16,
    },
    TrailerLineFeed {
        read: u16,
    },
    EndLineFeed,
    Ended,
}

/// A body that breaks the rules of the coding. There is no telling how it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chunked body is malformed: {0}")]
pub(super) struct BadChunk(&'static str);

impl Chunked {
    /// Whether the body is complete.
    pub(super) fn ended(self) -> bool {
        self == Self::Ended
    }

    /// Reads on in `input` and appends the data in it to `out`. Says how many bytes of the input belong to the body: all,
    /// but for what comes behind its end.
    ///
    /// # Errors
    /// [`BadChunk`]; what was appended before it was sound.
    pub(super) fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BadChunk> {
        let mut at = 0;
        while let (Some(byte), false) = (input.get(at), self.ended()) {
            if let Self::Data { left } = *self {
                let run = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - at);
                out.extend_from_slice(&input[at..at + run]);
                at += run;
                *self = match left - run as u64 {
                    0 => Self::DataReturn,
                    left => Self::Data { left },
                };
            } else {
                *self = self.step(*byte)?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// One byte of what is not data.
    fn step(self, byte: u8) -> Result<Self, BadChunk> {
        Ok(match (self, byte) {
            (Self::Start, _) => {
                let size = digit(byte).ok_or(BadChunk("a size that is no number"))?;
                Self::Size { size, line: 1 }
            }
            (Self::Size { size, .. } | Self::Extensions { size, .. }, b'\r') => Self::SizeLineFeed { size },
            (Self::Size { size, line }, _) => match (digit(byte), byte) {
                (Some(_), _) if size > u64::MAX >> 4 => return Err(BadChunk("a size beyond all bounds")),
                (Some(digit), _) => Self::Size { size: size << 4 | digit, line: longer(line, MAX_LINE)? },
                // Some servers pad their sizes with spaces.
                (None, b' ' | b'\t') => Self::Extensions { size, line: longer(line, MAX_LINE)?, named: false },
                (None, b';') => Self::Extensions { size, line: longer(line, MAX_LINE)?, named: true },
                (None, _) => return Err(BadChunk("a size that is no number")),
            },
            (Self::Extensions { size, line, named }, _) => match byte {
                b'\n' => return Err(BadChunk("a line feed where none may be")),
                b';' => Self::Extensions { size, line: longer(line, MAX_LINE)?, named: true },
                b' ' | b'\t' => Self::Extensions { size, line: longer(line, MAX_LINE)?, named },
                _ if !named => return Err(BadChunk("a size that is no number")),
                _ => Self::Extensions { size, line: longer(line, MAX_LINE)?, named },
            },
            (Self::SizeLineFeed { size: 0 }, b'\n') => Self::TrailerStart { read: 0 },
            (Self::SizeLineFeed { size }, b'\n') => Self::Data { left: size },
            (Self::DataReturn, b'\r') => Self::DataLineFeed,
            (Self::DataLineFeed, b'\n') => Self::Start,
            (Self::TrailerStart { .. }, b'\r') => Self::EndLineFeed,
            (Self::Trailer { read }, b'\r') => Self::TrailerLineFeed { read: longer(read, MAX_TRAILERS)? },
            (Self::TrailerStart { .. } | Self::Trailer { .. }, b'\n') => {
                return Err(BadChunk("a line feed where none may be"));
            }
            (Self::TrailerStart { read } | Self::Trailer { read }, _) => {
                Self::Trailer { read: longer(read, MAX_TRAILERS)? }
            }
            (Self::TrailerLineFeed { read }, b'\n') => Self::TrailerStart { read: longer(read, MAX_TRAILERS)? },
            (Self::EndLineFeed, b'\n') => Self::Ended,
            (Self::DataReturn | Self::DataLineFeed, _) => return Err(BadChunk("data longer than its size")),
            (Self::SizeLineFeed { .. } | Self::TrailerLineFeed { .. } | Self::EndLineFeed, _) => {
                return Err(BadChunk("a line that does not end"));
            }
            (Self::Data { .. } | Self::Ended, _) => self,
        })
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

fn longer(length: u16, limit: u16) -> Result<u16, BadChunk> {
    if length < limit { Ok(length + 1) } else { Err(BadChunk("a line without end")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes `input` in pieces that end at `cuts`: the data, what came behind the end, and whether it was reached.
    fn decode(input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Vec<u8>, bool), BadChunk> {
        let (mut state, mut out, mut behind) = (Chunked::Start, Vec::new(), Vec::new());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).chain([0, input.len()]).collect();
        cuts.sort_unstable();
        for piece in cuts.windows(2) {
            let piece = &input[piece[0]..piece[1]];
            let used = state.decode(piece, &mut out)?;
            behind.extend_from_slice(&piece[used..]);
        }
        Ok((out, behind, state.ended()))
    }

    fn whole(input: &str) -> Result<(String, String, bool), BadChunk> {
        let (out, behind, ended) = decode(input.as_bytes(), &[])?;
        Ok((String::from_utf8(out).unwrap(), String::from_utf8(behind).unwrap(), ended))
    }

    #[test]
    fn data_is_what_the_sizes_say() {
        let cases = [
            ("0\r\n\r\n", "", "", true),
            ("3\r\nabc\r\n0\r\n\r\n", "abc", "", true),
            ("3\r\nabc\r\nA\r\n0123456789\r\n00\r\n\r\nHTTP/1.1 200", "abc0123456789", "HTTP/1.1 200", true),
            ("0003;a=b;c=\"d\"\r\na\r\n\r\n0;x\r\n\r\n", "a\r\n", "", true),
            ("3 \t\r\nabc\r\n0  \r\n\r\n", "abc", "", true),
            ("3 ; a\r\nabc\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\nmore", "abc", "more", true),
            ("3\r\nabc\r\n", "abc", "", false),
            ("ffffffffffffffff\r\nabc", "abc", "", false),
            ("0\r\nTrailer: x\r\n", "", "", false),
        ];
        for (input, data, behind, ended) in cases {
            assert_eq!(whole(input), Ok((data.into(), behind.into(), ended)), "{input:?}");
        }
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        let long = format!("1;{}\r\na\r\n", "x".repeat(5_000));
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(10_000));
        let cases = [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            " 1\r\n",
            "1\nab",
            "1\r\r\n",
            "1 1\r\n",
            "1;\n",
            "1 \n",
            "10000000000000000\r\n",
            "1\r\nabc",
            "1\r\na\n",
            "1\r\na\rb",
            "0\r\n\n",
            "0\r\na: b\n",
            "0\r\na: b\rc",
            "0\r\n\rx",
            &long,
            &trailers,
        ];
        for input in cases {
            assert!(whole(input).is_err(), "{:?}", &input[..input.len().min(40)]);
        }
    }

    proptest! {
        #[test]
        fn wherever_the_input_is_cut_the_data_is_the_same(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            extensions in prop::collection::vec("(;[a-z]{0,5}(=[a-z\"]{0,5})?)?", 8),
            trailers in prop::collection::vec("[a-z]{1,5}: [a-z]{0,8}", 0..3),
            behind in prop::collection::vec(any::<u8>(), 0..10),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let mut input = Vec::new();
            for (chunk, extension) in chunks.iter().zip(&extensions) {
                input.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
                input.extend_from_slice(chunk);
                input.extend_from_slice(b"\r\n");
            }
            input.extend_from_slice(b"0\r\n");
            for trailer in &trailers {
                input.extend_from_slice(trailer.as_bytes());
                input.extend_from_slice(b"\r\n");
            }
            input.extend_from_slice(b"\r\n");
            input.extend_from_slice(&behind);
            prop_assert_eq!(decode(&input, &cuts), Ok((chunks.concat(), behind, true)));
        }

        #[test]
        fn any_bytes_give_the_same_however_they_are_cut(
            input in prop::collection::vec(prop::sample::select(b"0123fF;= \t\r\n\0x".to_vec()), 0..60),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            prop_assert_eq!(decode(&input, &cuts), decode(&input, &[]));
        }
    }
}
