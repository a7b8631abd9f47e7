//! A request on its way out: the head and the body's pieces, written together without being joined.

use std::{
    collections::VecDeque,
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::upstream::OutBody;

/// Pieces handed to the kernel at once.
const AT_ONCE: usize = 16;

/// Bytes handed to the kernel before other calls have their turn. It would take 20 MB in one go, and copy for 4 ms.
const TURN: usize = 256 * 1024;

/// What is still to be written of a request.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// None of them is empty.
    pieces: VecDeque<Bytes>,
    state: State,
}

#[derive(Debug)]
enum State {
    Writing,
    /// Everything was handed over, but TLS may hold some of it still.
    Flushing,
    Written,
    Failed(Option<io::Error>),
}

impl Outgoing {
    pub(super) fn new(head: Bytes, body: OutBody) -> Self {
        Self { pieces: std::iter::once(head).chain(body.into_pieces()).collect(), state: State::Writing }
    }

    /// Writes as much as goes. A failure is kept: there may be an answer to read all the same.
    pub(super) fn poll_write(&mut self, stream: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_progress(stream, cx) {
            self.pieces.clear();
            self.state = State::Failed(Some(error));
        }
    }

    /// Whether everything has left.
    pub(super) fn is_written(&self) -> bool {
        matches!(self.state, State::Written)
    }

    /// Why writing failed, if it has; told once.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        match &mut self.state {
            State::Failed(error) => error.take(),
            State::Writing | State::Flushing | State::Written => None,
        }
    }

    fn poll_progress(&mut self, stream: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(stream);
        let mut room = TURN;
        while matches!(self.state, State::Writing) {
            if self.pieces.is_empty() {
                self.state = State::Flushing;
                break;
            }
            if room == 0 {
                // Polled once, it asks to be woken when the sockets of others have been looked at.
                let _ = pin!(tokio::task::yield_now()).poll(cx);
                return Poll::Pending;
            }
            let (slices, count) = self.slices(room);
            let written = std::task::ready!(stream.as_mut().poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            room = room.saturating_sub(written);
            self.advance(written);
        }
        if matches!(self.state, State::Flushing) {
            std::task::ready!(stream.poll_flush(cx))?;
            self.state = State::Written;
        }
        Poll::Ready(Ok(()))
    }

    /// What to write next, and how many slices that are: of the first pieces no more than `most` bytes.
    fn slices(&self, mut most: usize) -> ([IoSlice<'_>; AT_ONCE], usize) {
        let (mut slices, mut count) = ([IoSlice::new(&[]); AT_ONCE], 0);
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            let piece = &piece[..piece.len().min(most)];
            if piece.is_empty() {
                break;
            }
            *slice = IoSlice::new(piece);
            most -= piece.len();
            count += 1;
        }
        (slices, count)
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.pieces.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn all_pieces_leave_in_order_however_little_goes_at_once() {
        let pieces: Vec<Bytes> = (1..60_u8).map(|n| Bytes::from(vec![n; usize::from(n) * 3])).collect();
        let expected = pieces.concat();
        for room in [1, 7, 1_000, 100_000] {
            let (mut near, mut far) = tokio::io::duplex(room);
            let mut outgoing = Outgoing { pieces: pieces.clone().into(), state: State::Writing };
            let mut read = Vec::new();
            let writing = async {
                std::future::poll_fn(|cx| {
                    outgoing.poll_write(&mut near, cx);
                    if outgoing.is_written() { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                drop(near);
            };
            let ((), end) = tokio::join!(writing, far.read_to_end(&mut read));
            end.unwrap();
            assert_eq!(read, expected, "{room} at once");
        }
    }

    #[tokio::test]
    async fn a_large_body_lets_others_have_their_turn() {
        let body = Bytes::from(vec![7; 10 * TURN]);
        let (mut near, mut far) = tokio::io::duplex(body.len());
        let mut outgoing = Outgoing { pieces: [body.clone()].into(), state: State::Writing };
        let mut turns = 0;
        std::future::poll_fn(|cx| {
            turns += 1;
            outgoing.poll_write(&mut near, cx);
            if outgoing.is_written() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert_eq!(turns, 10);
        drop(near);
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        assert!(read == body);
    }

    #[tokio::test]
    async fn a_failure_is_told_once_and_ends_the_writing() {
        let (mut near, far) = tokio::io::duplex(4);
        drop(far);
        let mut outgoing = Outgoing { pieces: [Bytes::from_static(b"request")].into(), state: State::Writing };
        let mut cx = Context::from_waker(futures_util::task::noop_waker_ref());
        outgoing.poll_write(&mut near, &mut cx);
        assert!(!outgoing.is_written());
        assert_eq!(outgoing.failure().map(|error| error.kind()), Some(io::ErrorKind::BrokenPipe));
        outgoing.poll_write(&mut near, &mut cx);
        assert!(outgoing.failure().is_none() && !outgoing.is_written());
    }
}
