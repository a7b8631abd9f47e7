//! Warm connections to one origin.

use std::{
    error::Error as StdError,
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{Request, Response, Version};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioTimer,
};

use super::{
    Http, OutBody, PoolKey, TlsError, UpstreamBody,
    connect::{Answered, ConnectTimedOut, Deadlined},
    tls,
};
use crate::types::{Clock, Tasks};

/// Streams on one HTTP/2 connection before another is opened. Providers commonly allow 100.
const STREAMS_PER_LANE: usize = 90;

/// HTTP/2 connections to one origin at most. Beyond it calls queue on the least busy one.
const MAX_LANES: usize = 64;

/// Idle connections kept per origin.
const MAX_IDLE: usize = 1024;

/// How long an idle connection is kept. Engines on the local network often close after 5 s (uvicorn's default) and are
/// cheap to reach again; hosted APIs keep connections for a minute or more and cost a TLS handshake.
const IDLE_PLAIN: Duration = Duration::from_millis(4_500);
const IDLE_TLS: Duration = Duration::from_secs(55);

type Client = legacy::Client<Deadlined<HttpsConnector<HttpConnector>>, OutBody>;

/// Warm connections to one origin.
#[derive(Debug)]
pub struct Pool {
    /// How to make one more lane.
    blueprint: Blueprint,
    lanes: ArcSwap<Vec<Lane>>,
    /// Whether the origin was seen to speak HTTP/2: only then are several lanes of use.
    http2: AtomicBool,
}

#[derive(Clone, Debug)]
struct Lane {
    client: Client,
    in_flight: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
struct Blueprint {
    connector: Deadlined<HttpsConnector<HttpConnector>>,
    builder: legacy::Builder,
}

/// A call that got no response head.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection could be made: refused, unreachable, unknown name, bad certificate.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connect deadline passed.
    #[error("cannot connect: {0}")]
    ConnectTimeout(String),
    /// The connection was lost before the response head came.
    #[error("the connection was lost before an answer came: {0}")]
    Lost(String),
    /// As `Lost`, on a connection over which an answer had come before: as a rule the provider closed it for having been
    /// idle, just as it was used again.
    #[error("the connection was closed as it was used again: {0}")]
    Stale(String),
    /// What came back is not HTTP.
    #[error("the answer is not HTTP: {0}")]
    NotHttp(String),
}

impl Pool {
    pub(super) fn new(key: &PoolKey, clock: Clock, tasks: Tasks) -> Result<Self, TlsError> {
        let blueprint = Blueprint::new(key, clock, tasks)?;
        let lanes = ArcSwap::from_pointee(vec![blueprint.lane()]);
        Ok(Self { blueprint, lanes, http2: AtomicBool::new(key.http == Http::Two) })
    }

    /// Sends a call and waits for the response head. Dropping the future, or the body that it gave, closes the call
    /// at the provider: an HTTP/1.1 connection is closed, an HTTP/2 stream is reset.
    ///
    /// # Errors
    /// See [`SendError`]; nothing of an answer has been seen in any of them.
    pub async fn send(&self, request: Request<OutBody>) -> Result<Response<UpstreamBody>, SendError> {
        self.send_on(self.lane(), request).await
    }

    /// As [`Pool::send`], over a connection of its own: after [`SendError::Stale`] the other idle ones are suspect too.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_anew(&self, request: Request<OutBody>) -> Result<Response<UpstreamBody>, SendError> {
        self.send_on(self.blueprint.lane(), request).await
    }

    async fn send_on(&self, lane: Lane, request: Request<OutBody>) -> Result<Response<UpstreamBody>, SendError> {
        let busy = Busy::enter(lane.in_flight.clone());
        let response = lane.client.request(request).await.map_err(|error| SendError::from_client(&error))?;
        if let Some(answered) = response.extensions().get::<Answered>() {
            answered.set();
        }
        if response.version() == Version::HTTP_2 && !self.http2.load(Ordering::Relaxed) {
            self.http2.store(true, Ordering::Relaxed);
        }
        Ok(response.map(|body| UpstreamBody::new(body, busy)))
    }

    /// The lane for one more call.
    fn lane(&self) -> Lane {
        let lanes = self.lanes.load();
        let first = &lanes[0];
        if !self.http2.load(Ordering::Relaxed) {
            return first.clone();
        }
        let free = lanes.iter().find(|lane| lane.in_flight.load(Ordering::Relaxed) < STREAMS_PER_LANE);
        if let Some(lane) = free {
            return lane.clone();
        }
        if lanes.len() >= MAX_LANES {
            let least = lanes.iter().min_by_key(|lane| lane.in_flight.load(Ordering::Relaxed));
            return least.unwrap_or(first).clone();
        }
        let new = self.blueprint.lane();
        // Two calls may both add a lane: one more connection than needed, which the next calls fill.
        self.lanes.rcu(|lanes| {
            let mut lanes = Vec::clone(lanes);
            lanes.push(new.clone());
            lanes
        });
        new
    }
}

impl Blueprint {
    fn new(key: &PoolKey, clock: Clock, tasks: Tasks) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new();
        // Without it every paced chunk waits for the other side's delayed acknowledgement: 40 ms each.
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        tcp.enforce_http(false);
        let tls = tls::client_config(&key.trust)?;
        let schemes = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let https = match key.http {
            Http::Auto => schemes.enable_all_versions().wrap_connector(tcp),
            Http::One => schemes.enable_http1().wrap_connector(tcp),
            Http::Two => schemes.enable_http2().wrap_connector(tcp),
        };
        let plain = key.scheme == http::uri::Scheme::HTTP;
        let mut builder = legacy::Client::builder(Spawner(tasks));
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(if plain { IDLE_PLAIN } else { IDLE_TLS })
            .pool_max_idle_per_host(MAX_IDLE)
            .http2_only(key.http == Http::Two)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            // Replies of hundreds of MiB pass piece by piece; no piece needs a larger buffer.
            .http1_max_buf_size(1024 * 1024);
        let connector = Deadlined { inner: https, clock, limit: key.connect_timeout };
        Ok(Self { connector, builder })
    }

    fn lane(&self) -> Lane {
        Lane { client: self.builder.build(self.connector.clone()), in_flight: Arc::default() }
    }
}

impl SendError {
    fn from_client(error: &legacy::Error) -> Self {
        let text = deepest(error);
        if find::<ConnectTimedOut>(error).is_some() {
            return Self::ConnectTimeout(text);
        }
        if error.is_connect() {
            return Self::Connect(text);
        }
        match find::<hyper::Error>(error) {
            Some(error) if error.is_parse() || error.is_parse_too_large() => Self::NotHttp(text),
            _ if was_closed(error) && had_answered(error) => Self::Stale(text),
            _ => Self::Lost(text),
        }
    }
}

/// Whether the connection as such came to its end, and not just one stream on it.
fn was_closed(error: &legacy::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let cut =
        |error: &io::Error| matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
    find::<hyper::Error>(error).is_some_and(hyper::Error::is_incomplete_message)
        || find::<io::Error>(error).is_some_and(cut)
}

/// Whether an answer had come over the connection before it failed.
fn had_answered(error: &legacy::Error) -> bool {
    let mut extensions = http::Extensions::new();
    error.connect_info().into_iter().for_each(|connection| connection.get_extras(&mut extensions));
    extensions.get::<Answered>().is_some_and(Answered::is_set)
}

/// The first cause of type `E` along the chain of sources.
fn find<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // `io::Error` hides what it wraps from `source`.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref::<E>()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The words of the innermost cause: "connection refused" rather than "client error".
fn deepest(error: &dyn StdError) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Counts a call on its lane for as long as its body lives.
#[derive(Debug)]
pub(super) struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn enter(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs the client's connection tasks in the gateway's own task set.
#[derive(Clone, Debug)]
struct Spawner(Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn_untracked(future);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Uri, uri};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{super::Trust, *};

    /// A provider that answers `answers` requests of each connection and closes it upon the next one.
    async fn provider(answers: usize) -> (Pool, Uri) {
        const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let tasks = Tasks::new();
        tasks.spawn_untracked(async move {
            let mut buffer = [0; 1024];
            while let Ok((mut stream, _)) = listener.accept().await {
                for _ in 0..answers {
                    let _ = stream.read(&mut buffer).await;
                    let _ = stream.write_all(ANSWER).await;
                }
                let _ = stream.read(&mut buffer).await;
            }
        });
        let key = PoolKey {
            scheme: uri::Scheme::HTTP,
            authority: uri.authority().unwrap().clone(),
            http: Http::One,
            connect_timeout: Duration::from_secs(5),
            trust: Trust::Web,
        };
        (Pool::new(&key, Clock::Real, tasks).unwrap(), uri)
    }

    fn request(uri: &Uri) -> Request<OutBody> {
        Request::get(uri).body(OutBody::new(Bytes::new().into())).unwrap()
    }

    #[tokio::test]
    async fn a_connection_that_is_closed_as_it_is_used_again_is_told_from_one_that_never_answered() {
        let (pool, uri) = provider(0).await;
        assert!(matches!(pool.send(request(&uri)).await, Err(SendError::Lost(_))));

        let (pool, uri) = provider(1).await;
        let mut answer = pool.send(request(&uri)).await.unwrap().into_body();
        assert!(answer.next().await.is_none());
        drop(answer);
        // The connection goes back to the pool in a task of its own.
        let back = Clock::Real.now() + Duration::from_secs(5);
        let again = loop {
            match pool.send(request(&uri)).await {
                Ok(_) => assert!(Clock::Real.now() < back, "the connection was never used again"),
                Err(error) => break error,
            }
        };
        assert!(matches!(again, SendError::Stale(_)), "{again:?}");
        assert!(pool.send_anew(request(&uri)).await.is_ok());
    }
}
