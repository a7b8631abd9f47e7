//! How long an answer's body is (RFC 9112, section 6.3), and whether its connection may be used again.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version, header};

use super::chunked::Chunked;
use crate::upstream::BodyError;

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes are to come.
    Length(u64),
    Chunked(Chunked),
    /// All that comes until the provider closes.
    ToClose,
}

/// Headers that do not say where the body ends, or say it in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadFraming(&'static str);

impl Framing {
    /// Reads how the body of an answer is delimited, and whether the connection is kept after it. A `content-length` that
    /// does not count is taken out of `headers`.
    ///
    /// # Errors
    /// When the headers contradict each other: two readers could then see different bodies.
    pub(super) fn of(
        method: &Method,
        status: StatusCode,
        version: Version,
        headers: &mut HeaderMap,
    ) -> Result<(Self, bool), BadFraming> {
        let mut kept = keeps_alive(version, headers);
        let coding = transfer_coding(headers)?;
        let length = content_length(headers)?;
        let bodiless = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if bodiless || method == Method::HEAD {
            // After 101 the connection would speak something else, which nobody asked for.
            return Ok((Self::Length(0), kept && !status.is_informational()));
        }
        if coding == Coding::Chunked {
            // The coding counts, not the length; but whoever sends both, or sends the coding where it does not exist, is
            // not trusted to know where the next answer begins.
            kept &= headers.remove(header::CONTENT_LENGTH).is_none() && version == Version::HTTP_11;
            return Ok((Self::Chunked(Chunked::Start), kept));
        }
        Ok(length.map_or((Self::ToClose, false), |length| (Self::Length(length), kept)))
    }

    /// Takes the body's part out of `input`, which directly follows what was read before: the data in it, and how many
    /// bytes of the input it stood in.
    ///
    /// # Errors
    /// When the coding is broken.
    pub(super) fn decode(&mut self, input: &[u8]) -> Result<(Bytes, usize), BodyError> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= taken as u64;
                Ok((Bytes::copy_from_slice(&input[..taken]), taken))
            }
            Self::Chunked(chunked) => {
                let mut data = Vec::with_capacity(input.len());
                let taken = chunked.decode(input, &mut data).map_err(BodyError::new)?;
                // A piece may be kept for long; with chunks of a byte it would hold six times what is in it.
                if data.len() < input.len() / 2 {
                    data.shrink_to_fit();
                }
                Ok((data.into(), taken))
            }
            Self::ToClose => Ok((Bytes::copy_from_slice(input), input.len())),
        }
    }

    /// Whether nothing more belongs to the body.
    pub(super) fn ended(self) -> bool {
        match self {
            Self::Length(left) => left == 0,
            Self::Chunked(chunked) => chunked.ended(),
            Self::ToClose => false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    None,
    Chunked,
}

/// No coding but `chunked` was asked for (the request has no `te`), so none other may come.
fn transfer_coding(headers: &HeaderMap) -> Result<Coding, BadFraming> {
    let mut coding = Coding::None;
    for name in tokens(headers, header::TRANSFER_ENCODING) {
        if name.eq_ignore_ascii_case(b"chunked") && coding == Coding::None {
            coding = Coding::Chunked;
        } else if !name.eq_ignore_ascii_case(b"identity") {
            return Err(BadFraming("the answer has a transfer coding that nobody asked for"));
        }
    }
    Ok(coding)
}

/// The declared length. Repeating it is harmless, changing it is not.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, BadFraming> {
    const BAD: BadFraming = BadFraming("the answer's content-length is not a length");
    let mut length = None;
    for text in tokens(headers, header::CONTENT_LENGTH) {
        let digits = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let said: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or(BAD)?;
        if length.is_some_and(|length| length != said) {
            return Err(BadFraming("the answer has two lengths"));
        }
        length = Some(said);
    }
    // A header that is there and empty says nothing about where the body ends.
    if length.is_none() && headers.contains_key(header::CONTENT_LENGTH) { Err(BAD) } else { Ok(length) }
}

fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    let says = |word: &[u8]| tokens(headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case(word));
    match version {
        Version::HTTP_11 => !says(b"close"),
        _ => says(b"keep-alive") && !says(b"close"),
    }
}

/// The elements of a comma-separated header, over all its lines.
fn tokens(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(name).into_iter();
    let elements = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const LENGTH: HeaderName = header::CONTENT_LENGTH;
    const CODING: HeaderName = header::TRANSFER_ENCODING;
    const CONNECTION: HeaderName = header::CONNECTION;
    const CHUNKED: Framing = Framing::Chunked(Chunked::Start);

    fn of(
        method: &Method,
        status: u16,
        version: Version,
        headers: &[(HeaderName, &'static str)],
    ) -> Result<(Framing, bool), BadFraming> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_static(value));
        }
        let framing = Framing::of(method, StatusCode::from_u16(status).unwrap(), version, &mut map);
        let is_chunked = matches!(framing, Ok((Framing::Chunked(_), _)));
        assert!(!is_chunked || !map.contains_key(LENGTH), "{headers:?}");
        framing
    }

    #[test]
    fn the_body_ends_where_the_headers_say_and_the_connection_is_kept_if_they_allow() {
        use Framing::{Length, ToClose};
        type Case = (u16, &'static [(HeaderName, &'static str)], (Framing, bool));
        let cases: &[Case] = &[
            (200, &[(LENGTH, "5")], (Length(5), true)),
            (200, &[(LENGTH, "5"), (LENGTH, "5")], (Length(5), true)),
            (200, &[(LENGTH, "5, 5")], (Length(5), true)),
            (200, &[(LENGTH, "18446744073709551615")], (Length(u64::MAX), true)),
            (200, &[(LENGTH, "5"), (CONNECTION, "close")], (Length(5), false)),
            (200, &[(LENGTH, "5"), (CONNECTION, "x, Close")], (Length(5), false)),
            (200, &[(LENGTH, "5"), (CONNECTION, "keep-alive")], (Length(5), true)),
            (200, &[(CODING, "chunked")], (CHUNKED, true)),
            (200, &[(CODING, "Chunked")], (CHUNKED, true)),
            (200, &[(CODING, "identity, chunked")], (CHUNKED, true)),
            (200, &[(CODING, "identity")], (ToClose, false)),
            (200, &[(CODING, "identity"), (LENGTH, "3")], (Length(3), true)),
            (200, &[], (ToClose, false)),
            (200, &[(CONNECTION, "keep-alive")], (ToClose, false)),
            (200, &[(CODING, "chunked"), (LENGTH, "5")], (CHUNKED, false)),
            (204, &[(LENGTH, "5")], (Length(0), true)),
            (304, &[(CODING, "chunked")], (Length(0), true)),
            (101, &[], (Length(0), false)),
        ];
        for (status, headers, expected) in cases {
            assert_eq!(of(&Method::POST, *status, Version::HTTP_11, headers), Ok(*expected), "{status} {headers:?}");
        }
        let head = of(&Method::HEAD, 200, Version::HTTP_11, &[(LENGTH, "5")]);
        assert_eq!(head, Ok((Length(0), true)));
    }

    #[test]
    fn http_1_0_closes_unless_it_says_otherwise() {
        let old = |headers| of(&Method::POST, 200, Version::HTTP_10, headers);
        assert_eq!(old(&[(LENGTH, "5")]), Ok((Framing::Length(5), false)));
        assert_eq!(old(&[(LENGTH, "5"), (CONNECTION, "Keep-Alive")]), Ok((Framing::Length(5), true)));
        assert_eq!(old(&[(CODING, "chunked"), (CONNECTION, "keep-alive")]), Ok((CHUNKED, false)));
    }

    #[test]
    fn contradictions_are_refused() {
        let cases: &[&[(HeaderName, &'static str)]] = &[
            &[(LENGTH, "5"), (LENGTH, "6")],
            &[(LENGTH, "5, 6")],
            &[(LENGTH, "-1")],
            &[(LENGTH, "+1")],
            &[(LENGTH, "0x5")],
            &[(LENGTH, "5 5")],
            &[(LENGTH, "")],
            &[(LENGTH, "18446744073709551616")],
            &[(LENGTH, "five"), (CODING, "chunked")],
            &[(CODING, "gzip")],
            &[(CODING, "gzip, chunked")],
            &[(CODING, "chunked, chunked")],
            &[(CODING, "chunked"), (CODING, "gzip")],
        ];
        for headers in cases {
            assert!(of(&Method::POST, 200, Version::HTTP_11, headers).is_err(), "{headers:?}");
        }
    }
}
