//! The body of an answer, read straight from its connection by whoever wants it.
//!
//! There is no task and no channel between the socket and the reader, and no buffer that waits: bytes are read into
//! memory of the moment, and what is data in them is copied once, into a piece of just its size. One read gives one
//! piece, however many chunks were in it.

use std::{
    mem::MaybeUninit,
    pin::Pin,
    sync::Weak,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

use super::{Connection, framing::Framing, idle::Idle};
use crate::upstream::BodyError;

/// Bytes read at once at most.
pub(super) const READ: usize = 64 * 1024;

/// The body of an answer, and the connection it comes over.
#[derive(Debug)]
pub(in crate::upstream) struct Body {
    /// Gone when the body has ended, or broken off. Dropping it closes it.
    connection: Option<Connection>,
    framing: Framing,
    /// Came with the head.
    first: Bytes,
    /// Where the connection goes when the body has ended; `None` if it cannot be used again.
    home: Option<Weak<Idle>>,
}

impl Body {
    /// A body of which `first` has been read together with the head.
    ///
    /// # Errors
    /// When the body is malformed from the start.
    pub(super) fn new(
        connection: Option<Connection>,
        framing: Framing,
        first: &[u8],
        home: Option<Weak<Idle>>,
    ) -> Result<Self, BodyError> {
        let mut body = Self { connection, framing, first: Bytes::new(), home };
        body.first = body.accept(first)?;
        Ok(body)
    }

    /// The next piece of the body, never empty; `None` at its end.
    pub(in crate::upstream) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first))));
        }
        while let Some(connection) = &mut self.connection {
            let mut room = [MaybeUninit::uninit(); READ];
            let mut room = ReadBuf::uninit(&mut room);
            let piece = match ready!(Pin::new(&mut connection.stream).poll_read(cx, &mut room)) {
                Err(error) => Err(BodyError::new(error)),
                Ok(()) if !room.filled().is_empty() => self.accept(room.filled()),
                Ok(()) if self.framing == Framing::ToClose => break,
                Ok(()) => Err(BodyError::new("the connection was closed before the end of the answer")),
            };
            match piece {
                // Nothing but framing.
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Poll::Ready(Some(Ok(piece))),
                Err(error) => {
                    self.connection = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        self.connection = None;
        Poll::Ready(None)
    }

    /// Bytes still to come, where the provider said so.
    pub(in crate::upstream) fn expected(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(left) => Some(left + self.first.len() as u64),
            Framing::Chunked(_) | Framing::ToClose => None,
        }
    }

    /// The data in what was read. At the body's end the connection goes home, without waiting for anybody to notice.
    fn accept(&mut self, read: &[u8]) -> Result<Bytes, BodyError> {
        let (data, taken) = self.framing.decode(read)?;
        if self.framing.ended() {
            let home = self.home.take().and_then(|home| home.upgrade());
            // What comes behind the end belongs to no call.
            if let (Some(home), Some(connection), true) = (home, self.connection.take(), taken == read.len()) {
                home.put(connection);
            }
        }
        Ok(data)
    }
}
