//! A client's socket, watched.
//!
//! Three things a plain socket does not do. It counts what is read, so that an unfinished request head can be told
//! from an idle connection. It fails a write that makes no progress for too long: a client that stops reading would
//! otherwise hold its call, and the provider's stream behind it, for ever. And it closes gently: a socket closed with
//! unread bytes resets the connection, which may take the answer that was just sent (a 413 to an upload still under
//! way) away from the client; so what still comes is read and thrown away for a moment.
//!
//! It also finds out that a client has hung up where hyper cannot: hyper notices by reading, and does not read on while
//! it holds bytes that came behind the request (a pipelined one, or just a stray line break).

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::types::{Clock, Sleep};

/// How long bytes that nobody wants are read after the answer was sent.
const LINGER: Duration = Duration::from_secs(2);

/// What is known of a connection's traffic, shared by its socket, its calls and whoever watches for time-outs.
#[derive(Debug, Default)]
pub(super) struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
    bytes_read: AtomicU64,
    bytes_read_at_end: AtomicU64,
    /// A read waits for the client: should it hang up, that is noticed.
    watched: AtomicBool,
    /// At the next opportunity the socket itself is asked whether the client has hung up.
    ask: AtomicBool,
}

/// Counts one call of a connection, from its head's last byte to its answer's last byte, however it ends.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

/// A client's connection, in clear or not.
pub(super) enum Stream {
    Plain(TcpStream),
    /// Boxed: a TLS session is a kilobyte, which connections in clear should not pay for.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A [`Stream`], watched. Reads first give the bytes that were taken to find out the protocol.
pub(super) struct Io {
    stream: Stream,
    taken: Bytes,
    activity: Arc<Activity>,
    clock: Clock,
    write_timeout: Duration,
    /// Armed while a write waits.
    stalled: Option<Sleep>,
    /// The writing side is closed.
    shut: bool,
    /// Armed while unwanted bytes are read before closing.
    lingering: Option<Sleep>,
}

impl Activity {
    /// Counts a call in until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.begun.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// Calls begun so far.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether a call is in flight.
    pub(super) fn busy(&self) -> bool {
        self.begun() != self.ended.load(Ordering::Relaxed)
    }

    /// Whether a call is in flight whose client could hang up unnoticed.
    pub(super) fn unwatched(&self) -> bool {
        !self.watched.load(Ordering::Relaxed) && self.busy()
    }

    /// Has the socket asked whether the client has hung up, when the connection is polled next: the answer then is a
    /// failed flush, which ends the connection and its calls.
    pub(super) fn ask_for_hang_up(&self) {
        self.ask.store(true, Ordering::Relaxed);
    }

    /// Whether anything came in since the last call ended. Means something only while not busy, and on HTTP/1: there
    /// it is the beginning of a request head.
    pub(super) fn head_begun(&self) -> bool {
        self.bytes_read.load(Ordering::Relaxed) != self.bytes_read_at_end.load(Ordering::Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.bytes_read_at_end.store(self.0.bytes_read.load(Ordering::Relaxed), Ordering::Relaxed);
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Io {
    pub(super) fn new(
        stream: Stream,
        taken: Bytes,
        activity: Arc<Activity>,
        clock: Clock,
        write_timeout: Duration,
    ) -> Self {
        Self { stream, taken, activity, clock, write_timeout, stalled: None, shut: false, lingering: None }
    }

    /// Lets a write through and keeps the time while it waits. The timer costs nothing as long as the client reads.
    fn timed<T>(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.stalled = None;
            return write;
        }
        let stalled = self.stalled.get_or_insert_with(|| self.clock.sleep(self.write_timeout));
        ready!(Pin::new(stalled).poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }

    /// Throws away what the client still sends: until it stops, closes, or [`LINGER`] is over.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0_u8; 4096];
        loop {
            let mut unwanted = ReadBuf::new(&mut scratch);
            match self.stream.duplex().poll_read(cx, &mut unwanted) {
                Poll::Ready(Ok(())) if !unwanted.filled().is_empty() => {
                    let lingering = self.lingering.get_or_insert_with(|| self.clock.sleep(LINGER));
                    if Pin::new(lingering).poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                // Nothing unread: closing now resets nothing.
                Poll::Pending => match &mut self.lingering {
                    None => return Poll::Ready(()),
                    Some(lingering) => return Pin::new(lingering).poll(cx),
                },
            }
        }
    }
}

impl Stream {
    /// Whether the client has closed its side, whatever is still unread before that.
    fn hung_up(&self) -> bool {
        let socket = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        let ready = socket.ready(Interest::READABLE).now_or_never();
        ready.is_some_and(|ready| ready.is_ok_and(tokio::io::Ready::is_read_closed))
    }

    fn duplex(&mut self) -> Pin<&mut dyn Duplex> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(&mut **stream),
        }
    }
}

/// Both directions of a stream, whatever carries it.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.duplex().poll_read(cx, out)
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        if self.taken.is_empty() {
            let read = self.stream.duplex().poll_read(cx, out);
            self.activity.watched.store(read.is_pending(), Ordering::Relaxed);
            ready!(read)?;
        } else {
            let taken = self.taken.len().min(out.remaining());
            out.put_slice(&self.taken.split_to(taken));
            // What came with them goes along: a request head in two reads would have hyper double its buffer.
            if let Poll::Ready(more) = self.stream.duplex().poll_read(cx, out) {
                more?;
            }
        }
        let read = (out.filled().len() - before) as u64;
        self.activity.bytes_read.fetch_add(read, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let write = self.stream.duplex().poll_write(cx, bytes);
        self.timed(cx, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = self.stream.duplex().poll_write_vectored(cx, pieces);
        self.timed(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.ask.load(Ordering::Relaxed) {
            self.activity.ask.store(false, Ordering::Relaxed);
            if self.stream.hung_up() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
        let flush = self.stream.duplex().poll_flush(cx);
        self.timed(cx, flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            let shutdown = self.stream.duplex().poll_shutdown(cx);
            ready!(self.timed(cx, shutdown))?;
            self.shut = true;
        }
        self.poll_discard(cx).map(Ok)
    }
}
