//! Answers that an HTTP/2 client does not read.
//!
//! On HTTP/1 an unread answer fills the socket, and the write time-out ends the connection. On HTTP/2 each stream has a
//! window of its own: a client may leave one answer unread while the connection is alive and well, and hyper does not
//! poll that answer's body any more, so no deadline inside it can fire. Ending the connection would punish the other
//! streams, which behind a load balancer belong to other people. So the body is taken back: it is dropped, the call is
//! settled and the provider's stream closed, and what is left is a stream that ends with an error once its client
//! reads on.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The answers of one HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Answers<B> {
    /// Counts the looks from 1.
    looks: AtomicU64,
    open: Mutex<Vec<Weak<Slot<B>>>>,
}

/// An answer's body that can be taken back.
#[derive(Debug)]
pub(super) struct Revocable<B> {
    slot: Arc<Slot<B>>,
    answers: Arc<Answers<B>>,
}

#[derive(Debug)]
struct Slot<B> {
    body: Mutex<Option<B>>,
    /// The look during which a frame was handed out that has not been sent yet, as far as can be seen: hyper asks for
    /// the next one when it has. 0: it waits for us, not we for the client.
    handed_out: AtomicU64,
}

impl<B> Answers<B> {
    pub(super) fn new() -> Self {
        Self { looks: AtomicU64::new(1), open: Mutex::default() }
    }

    /// Makes an answer's body one that can be taken back.
    pub(super) fn track(self: &Arc<Self>, body: B) -> Revocable<B> {
        let slot = Arc::new(Slot { body: Mutex::new(Some(body)), handed_out: AtomicU64::new(0) });
        let mut open = lock(&self.open);
        if open.len() == open.capacity() {
            open.retain(|slot| slot.strong_count() > 0);
        }
        open.push(Arc::downgrade(&slot));
        drop(open);
        Revocable { slot, answers: self.clone() }
    }

    /// Takes back every body whose last frame has been waiting for its client for more than `patience` whole looks.
    pub(super) fn look(&self, patience: u64) {
        let now = self.looks.fetch_add(1, Ordering::Relaxed);
        let mut open = lock(&self.open);
        open.retain(|slot| slot.strong_count() > 0);
        let stuck = |slot: &Arc<Slot<B>>| {
            let handed_out = slot.handed_out.load(Ordering::Relaxed);
            handed_out != 0 && now.saturating_sub(handed_out) >= patience
        };
        let stuck: Vec<_> = open.iter().filter_map(Weak::upgrade).filter(stuck).collect();
        drop(open);
        for slot in stuck {
            let body = lock(&slot.body).take();
            drop(body);
        }
    }
}

impl<B> Body for Revocable<B>
where
    B: Body<Data = Bytes, Error = axum::Error> + Unpin,
{
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.slot.handed_out.store(0, Ordering::Relaxed);
        let mut body = lock(&self.slot.body);
        let Some(body) = body.as_mut() else {
            return Poll::Ready(Some(Err(axum::Error::new("the client did not read its answer in time"))));
        };
        let frame = Pin::new(body).poll_frame(cx);
        if matches!(frame, Poll::Ready(Some(Ok(_)))) {
            self.slot.handed_out.store(self.answers.looks.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.slot.body).as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.slot.body).as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A body that panicked is not polled again by hyper, and dropping it is still right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
