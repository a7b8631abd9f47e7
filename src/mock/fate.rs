//! Breaking a connection for real: a response body decides the fate of the connection it travels on.
//!
//! HTTP libraries end connections politely. [`Io`] stands between the library and the socket and shares a [`Fate`] with
//! the bodies of that connection. A body that has reached its fault first waits until everything handed over has left
//! this process ([`Fate::flushed`]), then seals the fate; the next read, write or flush fails, the library drops the
//! socket, and the kernel sends RST or FIN as the fate demands.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::Notify};

const LIVE: u8 = 0;
const CUT: u8 = 1;
const RESET: u8 = 2;

/// How a connection ends.
#[derive(Debug, Default)]
pub(super) struct Fate {
    state: AtomicU8,
    /// The task that drives the connection; bodies wake it so that it meets its fate.
    driver: AtomicWaker,
    flushed: Notify,
}

/// A socket with a fate.
pub(super) struct Io {
    socket: TokioIo<TcpStream>,
    fate: Arc<Fate>,
}

impl Fate {
    /// The connection shall end with RST.
    pub(super) fn reset(&self) {
        self.state.store(RESET, Ordering::Release);
        self.driver.wake();
    }

    /// The connection shall end with FIN, in the middle of whatever it carried.
    pub(super) fn cut(&self) {
        self.state.store(CUT, Ordering::Release);
        self.driver.wake();
    }

    /// Ends once the library has written and flushed all that it holds.
    pub(super) async fn flushed(&self) {
        let mut notified = pin!(self.flushed.notified());
        notified.as_mut().enable();
        self.driver.wake();
        notified.await;
    }

    fn check(&self) -> io::Result<()> {
        if self.state.load(Ordering::Acquire) == LIVE { Ok(()) } else { Err(io::ErrorKind::ConnectionAborted.into()) }
    }
}

impl Io {
    pub(super) fn new(socket: TcpStream, fate: Arc<Fate>) -> Self {
        Self { socket: TokioIo::new(socket), fate }
    }

    fn socket(self: Pin<&mut Self>, cx: &Context<'_>) -> io::Result<Pin<&mut TokioIo<TcpStream>>> {
        let this = self.get_mut();
        this.fate.driver.register(cx.waker());
        this.fate.check()?;
        Ok(Pin::new(&mut this.socket))
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if self.fate.state.load(Ordering::Acquire) == RESET {
            // A socket closed with a linger time of zero sends RST. If that fails there is no connection left to reset.
            let _ = self.socket.inner().set_zero_linger();
        }
    }
}

impl Read for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.socket(cx)?.poll_read(cx, buf)
    }
}

impl Write for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.socket(cx)?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket(cx)?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.as_mut().socket(cx)?.poll_flush(cx);
        if flushed.is_ready() {
            self.fate.flushed.notify_waiters();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket(cx)?.poll_shutdown(cx)
    }
}
