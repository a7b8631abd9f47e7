//! HTTP/1.1 to a provider (RFC 9112): one call at a time over a connection, which the call itself owns.
//!
//! A connection has no task. The call's own future writes the request, reads the head of the answer while it does, and
//! gives the connection to the answer's body, which whoever reads it drives. So what a provider has sent is read by the
//! one who sends it on, a whole burst at once, and an open stream costs a socket and no buffers. A call that is dropped
//! closes its connection at that moment.

mod body;
mod chunked;
mod framing;
mod head;
mod idle;
mod outgoing;

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use self::body::READ;
pub(super) use body::Body;
use http::{Method, Request, Response};
pub(super) use idle::Idle;
use tokio::io::{AsyncRead, ReadBuf};

use self::{
    framing::Framing,
    head::{Head, HeadReader},
    outgoing::Outgoing,
};
use super::{OutBody, SendError, stream::Stream};

/// A connection over which no call is in flight, or one.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    /// Whether an answer has come over it.
    answered: bool,
}

impl Connection {
    /// A connection that was just opened.
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, answered: false }
    }

    /// See [`Stream::is_quiet`].
    fn is_quiet(&mut self, surely: bool) -> bool {
        self.stream.is_quiet(surely)
    }

    /// What it means that the connection was lost before any head came.
    fn lost(&self, why: &io::Error, reader: &HeadReader) -> SendError {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let closed = matches!(why.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
        // With half an answer seen it was not closed for having been idle.
        match self.answered && closed && reader.is_untouched() {
            true => SendError::Stale(why.to_string()),
            false => SendError::Lost(why.to_string()),
        }
    }
}

/// Sends a call over `connection` and waits for the head of its answer. Once the answer's body has been read, the
/// connection goes to `home`, if it can be used again.
///
/// # Errors
/// [`SendError::Stale`], [`SendError::Lost`], [`SendError::NotHttp`].
pub(super) async fn send(
    connection: Connection,
    request: Request<OutBody>,
    home: &Arc<Idle>,
) -> Result<Response<Body>, SendError> {
    let (parts, body) = request.into_parts();
    let mut exchange = Exchange {
        connection: Some(connection),
        outgoing: Outgoing::new(head::encode(&parts, body.len()), body),
        reader: HeadReader::default(),
        method: parts.method,
        home,
    };
    std::future::poll_fn(|cx| exchange.poll(cx)).await
}

/// A call whose answer has not begun.
struct Exchange<'a> {
    /// There until the answer has begun.
    connection: Option<Connection>,
    outgoing: Outgoing,
    reader: HeadReader,
    method: Method,
    home: &'a Arc<Idle>,
}

impl Exchange<'_> {
    /// Writes and reads side by side: a provider may refuse a request before it has read it, and then reads no further.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<Body>, SendError>> {
        while let Some(connection) = &mut self.connection {
            self.outgoing.poll_write(&mut connection.stream, cx);
            let mut room = [MaybeUninit::uninit(); READ];
            let mut room = ReadBuf::uninit(&mut room);
            let read = ready!(Pin::new(&mut connection.stream).poll_read(cx, &mut room));
            if let Err(error) = ended(read, room.filled()) {
                // A write that failed before says more than the end that followed.
                let error = self.outgoing.failure().unwrap_or(error);
                return Poll::Ready(Err(connection.lost(&error, &self.reader)));
            }
            if let Some((head, body)) = self.reader.feed(room.filled())? {
                return Poll::Ready(self.answer(head, &room.filled()[body..]));
            }
        }
        Poll::Pending
    }

    /// The answer's head has come. What was not written by now is not wanted any more.
    fn answer(&mut self, head: Head, first: &[u8]) -> Result<Response<Body>, SendError> {
        let Head { version, status, mut headers } = head;
        let framed = Framing::of(&self.method, status, version, &mut headers).map_err(not_http)?;
        let (framing, kept) = framed;
        let home = (kept && self.outgoing.is_written()).then(|| Arc::downgrade(self.home));
        let connection = self.connection.take().map(|connection| Connection { answered: true, ..connection });
        let mut response = Response::new(Body::new(connection, framing, first, home).map_err(not_http)?);
        *response.status_mut() = status;
        *response.version_mut() = version;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// Whether a read found the end of the connection.
fn ended(read: io::Result<()>, filled: &[u8]) -> io::Result<()> {
    match read {
        Ok(()) if filled.is_empty() => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed")),
        read => read,
    }
}

fn not_http(what: impl std::fmt::Display) -> SendError {
    SendError::NotHttp(what.to_string())
}

#[cfg(test)]
mod tests;
