//! Message heads (RFC 9112, sections 2 to 5): ours written, the provider's read.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header,
    request::Parts,
    uri::{Port, Scheme},
};

use crate::upstream::SendError;

/// Bytes of an answer's head at most, interim answers not counted.
const MAX_HEAD: usize = 128 * 1024;

/// Headers of an answer at most, and how many there is room for at first.
const MAX_HEADERS: usize = 256;
const HEADERS: usize = 48;

/// Interim answers (status 1xx) before the final one at most.
const MAX_INTERIM: u8 = 16;

/// The head of a request with a body of `length` bytes. Framing is ours to say: what `parts` say of it is left out.
pub(super) fn encode(parts: &Parts, length: u64) -> Bytes {
    let mut out = Vec::with_capacity(512);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    for part in [parts.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if !parts.headers.contains_key(header::HOST) {
        out.extend_from_slice(b"host: ");
        host(&parts.uri, &mut out);
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in &parts.headers {
        if *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
            line(name.as_str(), value.as_bytes(), &mut out);
        }
    }
    if length > 0 || matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) {
        line("content-length", itoa::Buffer::new().format(length).as_bytes(), &mut out);
    }
    out.extend_from_slice(b"\r\n");
    out.into()
}

fn line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// The authority without a user and without the scheme's own port.
fn host(uri: &Uri, out: &mut Vec<u8>) {
    out.extend_from_slice(uri.host().unwrap_or_default().as_bytes());
    let usual = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    if let Some(port) = uri.port().as_ref().map(Port::as_u16).filter(|port| *port != usual) {
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
}

/// The head of a final answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub version: Version,
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// Puts a head together from what is read, and passes over interim answers.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// Read, and not yet a whole head.
    held: Vec<u8>,
    interim: u8,
}

impl HeadReader {
    /// Whether nothing of an answer has come.
    pub(super) fn is_untouched(&self) -> bool {
        self.held.is_empty() && self.interim == 0
    }

    /// Takes what was read next. Gives the head once it is complete, and where in `piece` the body begins.
    ///
    /// # Errors
    /// [`SendError::NotHttp`] for what is no head, or none within bounds.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<Option<(Head, usize)>, SendError> {
        if self.held.is_empty() {
            return self.parse(piece);
        }
        let before = self.held.len();
        // A head is parsed from its beginning: only when its end may have come, or it has hardly begun. Trying with every
        // piece would let whoever sends byte by byte cost the square of what he sends.
        let worth_it = before < 64 || has_blank_line(&self.held, piece);
        self.held.extend_from_slice(piece);
        if !worth_it {
            return check_length(self.held.len()).map(|()| None);
        }
        let held = std::mem::take(&mut self.held);
        let found = self.parse(&held)?;
        // It was not complete before, so it ends within this piece.
        Ok(found.map(|(head, end)| (head, end.saturating_sub(before))))
    }

    fn parse(&mut self, bytes: &[u8]) -> Result<Option<(Head, usize)>, SendError> {
        let mut at = 0;
        while let Some((head, length)) = parse(&bytes[at..])? {
            at += length;
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some((head, at)));
            }
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(not_http("interim answers without end"));
            }
        }
        self.held.extend_from_slice(&bytes[at..]);
        check_length(self.held.len()).map(|()| None)
    }
}

/// The head that `bytes` begin with, and its length; `None` if it is not complete.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, SendError> {
    let few = parse_into(bytes, &mut [httparse::EMPTY_HEADER; HEADERS]);
    let parsed = match few {
        Err(httparse::Error::TooManyHeaders) => parse_into(bytes, &mut [httparse::EMPTY_HEADER; MAX_HEADERS]),
        parsed => parsed,
    };
    parsed.map_err(not_http)?.transpose()
}

type Parsed = Option<Result<(Head, usize), SendError>>;

fn parse_into<'a>(bytes: &'a [u8], room: &mut [httparse::Header<'a>]) -> Result<Parsed, httparse::Error> {
    let mut response = httparse::Response::new(room);
    let httparse::Status::Complete(length) = response.parse(bytes)? else { return Ok(None) };
    Ok(Some(head(&response, &bytes[..length]).map(|head| (head, length))))
}

/// The head in types that own it. Values share one copy of the bytes.
fn head(response: &httparse::Response<'_, '_>, bytes: &[u8]) -> Result<Head, SendError> {
    let version = if response.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let status = StatusCode::from_u16(response.code.unwrap_or_default()).map_err(not_http)?;
    let shared = Bytes::copy_from_slice(bytes);
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for header in &*response.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(not_http)?;
        let value = share(&shared, bytes, header.value);
        headers.append(name, HeaderValue::from_maybe_shared(value).map_err(not_http)?);
    }
    Ok(Head { version, status, headers })
}

/// What `part`, a part of `bytes`, is in `shared`, a copy of them.
fn share(shared: &Bytes, bytes: &[u8], part: &[u8]) -> Bytes {
    let start = part.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
    match start.checked_add(part.len()) {
        Some(end) if end <= shared.len() => shared.slice(start..end),
        _ => Bytes::copy_from_slice(part),
    }
}

/// Whether a blank line ends in `piece`, which follows `held`.
fn has_blank_line(held: &[u8], piece: &[u8]) -> bool {
    let ends = |before: &[u8]| before.ends_with(b"\n") || before.ends_with(b"\n\r");
    memchr::memchr_iter(b'\n', piece).any(|at| match at {
        0 => ends(held),
        1 if piece[0] == b'\r' => held.ends_with(b"\n"),
        _ => ends(&piece[..at]),
    })
}

fn check_length(length: usize) -> Result<(), SendError> {
    if length > MAX_HEAD { Err(not_http("its head is larger than 128 KiB")) } else { Ok(()) }
}

fn not_http(what: impl std::fmt::Display) -> SendError {
    SendError::NotHttp(what.to_string())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn encoded(request: http::request::Builder, length: u64) -> String {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        String::from_utf8(encode(&parts, length).to_vec()).unwrap()
    }

    #[test]
    fn a_request_says_its_target_its_host_and_its_length() {
        let get = Request::get("http://host.example:8000/v1/models?a=b").header("x-a", "1").header("x-a", "2");
        let expected = "GET /v1/models?a=b HTTP/1.1\r\nhost: host.example:8000\r\nx-a: 1\r\nx-a: 2\r\n\r\n";
        assert_eq!(encoded(get, 0), expected);
        let post = Request::post("https://user:word@host.example:443")
            .header("content-length", "7")
            .header("transfer-encoding", "chunked");
        assert_eq!(encoded(post, 12), "POST / HTTP/1.1\r\nhost: host.example\r\ncontent-length: 12\r\n\r\n");
        let named = Request::post("http://[::1]:80/").header("host", "other");
        assert_eq!(encoded(named, 0), "POST / HTTP/1.1\r\nhost: other\r\ncontent-length: 0\r\n\r\n");
        let secure = Request::post("http://[::1]:443/");
        assert_eq!(encoded(secure, 0), "POST / HTTP/1.1\r\nhost: [::1]:443\r\ncontent-length: 0\r\n\r\n");
    }

    /// The status, the headers and what follows them, fed in pieces of `size` bytes.
    fn read(text: &str, size: usize) -> Result<Option<(u16, String, String)>, SendError> {
        let mut reader = HeadReader::default();
        let mut at = 0;
        for piece in text.as_bytes().chunks(size) {
            let found = reader.feed(piece)?;
            assert!(!reader.is_untouched() || found.is_some());
            if let Some((head, body)) = found {
                let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}={}", value.to_str().unwrap());
                let headers: Vec<String> = head.headers.iter().map(line).collect();
                return Ok(Some((head.status.as_u16(), headers.join(" "), text[at + body..].into())));
            }
            at += piece.len();
        }
        Ok(None)
    }

    #[test]
    fn an_answer_is_the_same_in_pieces_of_any_size() {
        let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\nbody", "x".repeat(5_000));
        let cases = [
            ("HTTP/1.1 200 OK\r\na: 1\r\nB:2 \r\n\r\nbody\r\n\r\n", (200, "a=1 b=2", "body\r\n\r\n")),
            ("HTTP/1.0 404 \r\n\r\n", (404, "", "")),
            ("HTTP/1.1 200\r\na:\r\n\r\n", (200, "a=", "")),
            ("HTTP/1.1 200 OK\na: 1\n\nbody", (200, "a=1", "body")),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", (200, "", "")),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload; as=style\r\n\r\n\
                 HTTP/1.1 200 OK\r\na: 1\r\nset-cookie: one\r\nset-cookie: two\r\n\r\nbody",
                (200, "a=1 set-cookie=one set-cookie=two", "body"),
            ),
            ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", (101, "upgrade=x", "")),
            (&long, (200, &long[17..5_020].replace(": ", "="), "body")),
        ];
        for (text, (status, headers, body)) in cases {
            for size in [1, 2, 3, 7, 65, 10_000] {
                let found = read(text, size).unwrap();
                assert_eq!(found, Some((status, headers.into(), body.into())), "{text:.80} by {size}");
            }
        }
    }

    #[test]
    fn what_is_no_head_is_refused_and_what_is_not_whole_is_waited_for() {
        let endless = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(200_000));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(257));
        let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(20);
        let refused = [
            "SSH-2.0-OpenSSH_9.6\r\n",
            "\u{15}\u{3}\u{1}\0\u{2}\u{2}\u{28}",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: 1\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\na : 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: \u{1}\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            &endless,
            &many,
            &interim,
        ];
        for text in refused {
            for size in [1, 50_000] {
                assert!(matches!(read(text, size), Err(SendError::NotHttp(_))), "{text:.40} by {size}");
            }
        }
        for text in ["", "HTT", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\na: b\r\n", "HTTP/1.1 100 C\r\n\r\n"] {
            assert_eq!(read(text, 3).unwrap(), None, "{text}");
        }
        let most = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(256));
        assert!(read(&most, 50_000).unwrap().is_some());
    }
}
