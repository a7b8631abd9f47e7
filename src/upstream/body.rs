//! Bodies to and from a provider.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

use super::{http1, http2::Busy};
use crate::wire::Pieces;

/// A request body: the pieces of a patched envelope, sent without being joined.
#[derive(Debug)]
pub struct OutBody {
    pieces: std::vec::IntoIter<Bytes>,
    left: u64,
}

/// A response body, decoded if the provider compressed it although it was asked not to.
#[derive(Debug)]
pub struct UpstreamBody(Inner);

enum Inner {
    Http1(http1::Body),
    Http2 { body: Incoming, _busy: Busy },
    Decoded(Decoded),
}

type Decoded = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A response body broke off, or could not be decoded.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(String);

impl OutBody {
    pub fn new(pieces: Pieces) -> Self {
        let left = pieces.len() as u64;
        let pieces: Vec<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Self { pieces: pieces.into_iter(), left }
    }
}

impl OutBody {
    /// Bytes still to be sent.
    pub(super) fn len(&self) -> u64 {
        self.left
    }

    /// What is still to be sent; no piece is empty.
    pub(super) fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        self.pieces
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.pieces.next();
        if let Some(piece) = &piece {
            self.left = self.left.saturating_sub(piece.len() as u64);
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl BodyError {
    pub(super) fn new(what: impl std::fmt::Display) -> Self {
        Self(what.to_string())
    }
}

impl UpstreamBody {
    pub(super) fn http1(body: http1::Body) -> Self {
        Self(Inner::Http1(body))
    }

    pub(super) fn http2(body: Incoming, busy: Busy) -> Self {
        Self(Inner::Http2 { body, _busy: busy })
    }

    /// Undoes the encoding that `headers` declare, and takes the declaration out of them. Bodies were asked for with
    /// `accept-encoding: identity`; some providers and proxies compress all the same.
    ///
    /// # Errors
    /// For an encoding nobody should be using.
    pub fn decode(self, headers: &mut HeaderMap) -> Result<Self, BodyError> {
        let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(self) };
        if encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
            headers.remove(header::CONTENT_ENCODING);
            return Ok(self);
        }
        let stream = decoder(self, encoding)?;
        headers.remove(header::CONTENT_ENCODING);
        headers.remove(header::CONTENT_LENGTH);
        Ok(Self(Inner::Decoded(stream)))
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// When the body broke off.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`UpstreamBody::next`] for hand-written bodies. Trailers are passed over: no provider says anything in them.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match &mut self.0 {
            Inner::Http1(body) => body.poll_next(cx),
            Inner::Http2 { body, .. } => loop {
                match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(BodyError::new(error)))),
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            return Poll::Ready(Some(Ok(data)));
                        }
                    }
                }
            },
            Inner::Decoded(stream) => {
                let item = ready!(stream.as_mut().poll_next(cx));
                Poll::Ready(item.map(|item| item.map_err(BodyError::new)))
            }
        }
    }

    /// Whether a task of its own reads the body and hands it over piece by piece, so that more may be there than was
    /// given. Otherwise everything that has come is given at once.
    pub fn is_handed_over(&self) -> bool {
        !matches!(self.0, Inner::Http1(_))
    }

    /// Bytes still to come, where the provider said so.
    pub fn expected(&self) -> Option<u64> {
        match &self.0 {
            Inner::Http1(body) => body.expected(),
            Inner::Http2 { body, .. } => body.size_hint().exact(),
            Inner::Decoded(_) => None,
        }
    }
}

fn decoder(mut body: UpstreamBody, encoding: &HeaderValue) -> Result<Decoded, BodyError> {
    let encoded = futures_util::stream::poll_fn(move |cx| body.poll_next(cx).map_err(io::Error::other));
    let reader = StreamReader::new(encoded);
    let name = encoding.to_str().unwrap_or_default().trim().to_ascii_lowercase();
    Ok(match name.as_str() {
        "gzip" | "x-gzip" => pieces(GzipDecoder::new(reader)),
        "br" => pieces(BrotliDecoder::new(reader)),
        "zstd" => pieces(ZstdDecoder::new(reader)),
        "deflate" => pieces(ZlibDecoder::new(reader)),
        _ => return Err(BodyError(format!("the answer is encoded as `{name}`, which nobody asked for"))),
    })
}

fn pieces(reader: impl AsyncRead + Send + 'static) -> Decoded {
    Box::pin(ReaderStream::new(reader))
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http1(_) => "Http1",
            Self::Http2 { .. } => "Http2",
            Self::Decoded(_) => "Decoded",
        })
    }
}

/// The pieces of a body that is read whole. Large ones are kept as they come; small ones are copied together, or whoever
/// sends a body byte by byte would make each byte cost the thirty of a handle and keep alive the buffer it arrived in. A
/// large body whose length is known is put together as it comes: it is copied once, and never there twice.
#[derive(Debug, Default)]
pub struct Gathered {
    whole: Option<BytesMut>,
    pieces: Vec<Bytes>,
    small: BytesMut,
    len: usize,
}

impl Gathered {
    /// For a body of so many bytes, as its sender says. Room that nothing is written to is not taken from the system.
    pub fn with_room(bytes: u64) -> Self {
        const LARGE: u64 = 256 * 1024;
        let large = usize::try_from(bytes).ok().filter(|_| bytes >= LARGE);
        Self { whole: large.map(BytesMut::with_capacity), ..Self::default() }
    }

    /// Adds a piece at the end.
    pub fn push(&mut self, piece: Bytes) {
        const SMALL: usize = 1024;
        self.len += piece.len();
        if let Some(whole) = &mut self.whole {
            return whole.extend_from_slice(&piece);
        }
        // The first piece is often the only one.
        if piece.len() < SMALL && !(self.pieces.is_empty() && self.small.is_empty()) {
            self.small.extend_from_slice(&piece);
            return;
        }
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
        self.pieces.push(piece);
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What there is, in order.
    pub fn into_pieces(mut self) -> Vec<Bytes> {
        if let Some(whole) = self.whole {
            return vec![whole.freeze()];
        }
        if !self.small.is_empty() {
            self.pieces.push(self.small.freeze());
        }
        self.pieces
    }

    /// The whole body.
    pub fn join(self) -> Bytes {
        join(self.into_pieces())
    }
}

/// Joins the pieces of a body that was read whole; a single piece is passed on as it is.
fn join(mut pieces: Vec<Bytes>) -> Bytes {
    match pieces.len() {
        0 => Bytes::new(),
        1 => pieces.swap_remove(0),
        _ => {
            let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            for piece in &pieces {
                joined.extend_from_slice(piece);
            }
            joined.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_what_its_pieces_were_and_small_ones_cost_no_more_than_their_bytes() {
        let cases: &[&[usize]] =
            &[&[], &[5], &[4_000], &[1; 5_000], &[4_000, 1, 1, 4_000, 1], &[1, 4_000, 0, 1], &[0, 0]];
        for sizes in cases {
            let mut gathered = Gathered::default();
            let mut expected = Vec::new();
            for (index, size) in sizes.iter().enumerate() {
                let piece = vec![index as u8; *size];
                expected.extend_from_slice(&piece);
                gathered.push(piece.into());
            }
            assert_eq!(gathered.len(), expected.len());
            let mut whole = Gathered::with_room(1 << 20);
            sizes.iter().enumerate().for_each(|(index, size)| whole.push(vec![index as u8; *size].into()));
            let pieces = whole.into_pieces();
            assert_eq!((pieces.len(), pieces[0].as_ref()), (1, expected.as_slice()));
            assert!(gathered.pieces.len() <= 4, "{} pieces", gathered.pieces.len());
            assert_eq!(gathered.join(), expected, "{sizes:?}");
        }
    }
}
