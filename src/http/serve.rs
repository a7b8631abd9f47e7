//! The accept loop.
//!
//! It is ours and not `axum::serve` because a gateway needs what that one leaves to its caller: TCP_NODELAY (without it
//! every paced stream waits 40 ms for a delayed acknowledgement), a bound on connections, TLS, time-outs on every side
//! of a connection, and a drain in phases.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::task::TaskTracker;
use tower::Service;

use super::{
    connection::{self, Spawner, Timer},
    settings::Settings,
    shutdown::{Phase, Shutdown},
    tls::Tls,
};
use crate::{
    telemetry::Metrics,
    types::{Clock, Tasks},
};

/// The least hyper can be given to read a request into.
const MIN_BUFFER: usize = 64 * 1024;

/// How much of an answer waits in memory for a slow HTTP/2 client, per stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Calls side by side on one HTTP/2 connection; further ones wait at the client.
const STREAMS_PER_CONNECTION: u32 = 1_000;

/// Silence on an HTTP/2 connection after which its client is asked whether it is still there.
const PING_AFTER: Duration = Duration::from_secs(30);

/// Silence on any connection after which the kernel does the same, and how often it asks again.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));

/// How long accepting pauses when the process is out of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener needs beside its socket and its service.
#[derive(Clone, Debug)]
pub struct Server {
    pub settings: Settings,
    /// With it the listener speaks HTTPS.
    pub tls: Option<Tls>,
    pub clock: Clock,
    pub tasks: Tasks,
    pub metrics: Arc<Metrics>,
    pub shutdown: Shutdown,
}

/// One listener, as its connections see it.
pub(super) struct Listener<S> {
    pub(super) settings: Settings,
    pub(super) tls: Option<Tls>,
    pub(super) clock: Clock,
    pub(super) shutdown: Shutdown,
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<Spawner>,
    pub(super) service: S,
}

impl Server {
    /// Serves connections of `socket` until the gateway drains and the last of them has ended. Requests carry their
    /// [`super::ClientAddr`] as an extension. When a client goes, the future that makes its answer or the answer's body is
    /// dropped at once.
    pub async fn serve<S>(self, socket: TcpListener, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let Self { settings, tls, clock, tasks, metrics, shutdown } = self;
        let slots = Arc::new(Semaphore::new(settings.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
        let (http1, http2) = (http1(&settings), http2(&settings, &clock, &tasks));
        let listener = Arc::new(Listener { settings, tls, clock, shutdown, http1, http2, service });
        let connections = TaskTracker::new();
        let start = |stream, peer, slot| {
            let open = Metrics::count(&metrics.connections_open);
            let connection = connection::run(listener.clone(), stream, peer);
            tasks.spawn(connections.track_future(async move {
                let _held: (OwnedSemaphorePermit, _) = (slot, open);
                connection.await;
            }));
        };
        let mut draining = std::pin::pin!(listener.shutdown.reached(Phase::Draining));
        loop {
            tokio::select! {
                biased;
                () = &mut draining => break,
                (stream, peer, slot) = accept(&socket, &slots, &listener) => start(stream, peer, slot),
            }
        }
        // What the kernel has accepted already would be reset when the socket is closed.
        while let Some((stream, peer, slot)) = accept_waiting(&socket, &slots, &listener.settings) {
            start(stream, peer, slot);
        }
        drop(socket);
        connections.close();
        connections.wait().await;
    }
}

/// The next connection, once there is a slot for it. Until then it waits in the kernel's queue.
async fn accept<S>(
    socket: &TcpListener,
    slots: &Arc<Semaphore>,
    listener: &Listener<S>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let mut complained = false;
    loop {
        // The semaphore is never closed; if it were, nothing should be accepted.
        let Ok(slot) = slots.clone().acquire_owned().await else { std::future::pending().await };
        match socket.accept().await {
            Ok((stream, peer)) => {
                prepare(&stream, &listener.settings);
                return (stream, peer, slot);
            }
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: trying again at once would only burn the CPU others need to finish.
                if !complained {
                    tracing::error!(%error, "new connections cannot be accepted; trying again until it works");
                    complained = true;
                }
                drop(slot);
                listener.clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that is already waiting, without waiting for one.
fn accept_waiting(
    socket: &TcpListener,
    slots: &Arc<Semaphore>,
    settings: &Settings,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = slots.clone().try_acquire_owned().ok()?;
    let (stream, peer) = futures_util::FutureExt::now_or_never(socket.accept())?.ok()?;
    prepare(&stream, settings);
    Some((stream, peer, slot))
}

/// The failure of a connection that was gone before it was accepted, not of the listener.
fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Socket options. None of them is worth refusing a connection for.
fn prepare(stream: &TcpStream, settings: &Settings) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let (idle, interval) = KEEPALIVE;
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval));
    // A client whose machine vanished acknowledges nothing; the kernel would keep sending for a quarter of an hour.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(settings.write_timeout.0));
    #[cfg(not(target_os = "linux"))]
    let _ = settings;
}

fn http1(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Heads that are too long by less than half get an answer that says so (see `connection`); hyper's own is bare.
        .max_header_size(settings.max_headers.bytes().saturating_mul(2))
        .max_buf_size(settings.max_headers.bytes().saturating_mul(2).max(MIN_BUFFER))
        // `connection` keeps the time of heads and idle connections, without a timer per request.
        .header_read_timeout(None);
    builder
}

fn http2(settings: &Settings, clock: &Clock, tasks: &Tasks) -> http2::Builder<Spawner> {
    let mut builder = http2::Builder::new(Spawner(tasks.clone()));
    let max_headers = u32::try_from(settings.max_headers.bytes().saturating_mul(2)).unwrap_or(u32::MAX);
    builder
        .timer(Timer(clock.clone()))
        .max_header_list_size(max_headers)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(settings.write_timeout.0);
    builder
}

#[cfg(test)]
mod tests;
