//! Opening a connection within a deadline that covers TCP and TLS together, and remembering whether it has been of use.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tower::Service;

use crate::types::Clock;

/// A connector whose every connection must be ready within `limit`.
#[derive(Clone, Debug)]
pub(super) struct Deadlined<C> {
    pub inner: C,
    pub clock: Clock,
    pub limit: Duration,
}

/// The deadline for opening a connection passed.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {} ms", limit.as_millis())]
pub(super) struct ConnectTimedOut {
    limit: Duration,
}

/// Whether an answer has come over a connection. It travels as an extension of each answer, and with each failure.
#[derive(Clone, Debug, Default)]
pub(super) struct Answered(Arc<AtomicBool>);

/// A connection that knows whether an answer has come over it.
#[derive(Debug)]
pub(super) struct Remembering<T> {
    inner: T,
    answered: Answered,
}

type Boxed = Box<dyn std::error::Error + Send + Sync>;

impl<C> Service<Uri> for Deadlined<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Error: Into<Boxed>,
{
    type Response = Remembering<C::Response>;
    type Error = Boxed;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Boxed>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Boxed>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (clock, limit) = (self.clock.clone(), self.limit);
        let connecting = self.inner.call(uri);
        Box::pin(async move {
            match clock.timeout_at(clock.now() + limit, connecting).await {
                Ok(Ok(inner)) => Ok(Remembering { inner, answered: Answered::default() }),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(ConnectTimedOut { limit }.into()),
            }
        })
    }
}

impl Answered {
    /// Whether an answer has come over the connection.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// To be called with each answer.
    pub(super) fn set(&self) {
        // Reading first spares the connections of a busy pool the write.
        if !self.is_set() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

impl<T: Connection> Connection for Remembering<T> {
    fn connected(&self) -> Connected {
        self.inner.connected().extra(self.answered.clone())
    }
}

impl<T: Read + Unpin> Read for Remembering<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, out)
    }
}

impl<T: Write + Unpin> Write for Remembering<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
