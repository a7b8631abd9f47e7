//! Warm connections to one origin, in whichever version of HTTP it speaks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, Version};
use hyper::client::conn::http2::SendRequest;

use super::{
    Http, OutBody, PoolKey, TlsError, UpstreamBody,
    connect::Connector,
    http1::{self, Connection, Idle},
    http2::{Busy, Lanes},
};
use crate::types::{Clock, Tasks};

/// How long an idle connection is kept. Engines on the local network often close after 5 s (uvicorn's default) and are
/// cheap to reach again; hosted APIs keep connections for a minute or more and cost a TLS handshake.
const IDLE_PLAIN: Duration = Duration::from_millis(4_500);
const IDLE_TLS: Duration = Duration::from_secs(55);

/// How often a call moves on to another HTTP/2 connection because the one it chose was just closing.
const MOVES: usize = 4;

/// Warm connections to one origin.
#[derive(Debug)]
pub struct Pool {
    connector: Connector,
    idle: Arc<Idle>,
    lanes: Arc<Lanes>,
    /// Whether the origin speaks HTTP/1.1. What its first connection showed holds from then on.
    http1: AtomicBool,
    /// Whether HTTP/2 is spoken without asking.
    http2: bool,
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

/// Why there is no HTTP/2 connection.
enum NoLane {
    /// The provider turned out to speak HTTP/1.1.
    Http1,
    Failed(SendError),
}

impl Pool {
    pub(super) fn new(key: &PoolKey, clock: Clock, tasks: Tasks) -> Result<Self, TlsError> {
        let plain = key.scheme == http::uri::Scheme::HTTP;
        let keep = if plain { IDLE_PLAIN } else { IDLE_TLS };
        Ok(Self {
            connector: Connector::new(key, clock.clone())?,
            idle: Arc::new(Idle::new(keep, clock.clone(), tasks.clone())),
            lanes: Arc::new(Lanes::new(keep, clock, tasks)),
            // Without TLS nothing is negotiated.
            http1: AtomicBool::new(key.http == Http::One || (plain && key.http == Http::Auto)),
            http2: key.http == Http::Two,
        })
    }

    /// Sends a call and waits for the response head. Dropping the future, or the body that it gave, closes the call
    /// at the provider: an HTTP/1.1 connection is closed, an HTTP/2 stream is reset.
    ///
    /// # Errors
    /// See [`SendError`]; nothing of an answer has been seen in any of them.
    pub async fn send(&self, request: Request<OutBody>) -> Result<Response<UpstreamBody>, SendError> {
        let mut request = request;
        if !self.http1.load(Ordering::Relaxed) {
            match Box::pin(self.send_http2(request, || self.lanes.enter())).await? {
                Ok(response) => return Ok(response),
                Err(unsent) => request = unsent,
            }
        }
        match self.idle.take() {
            Some(connection) => self.send_http1(connection, request).await,
            None => Box::pin(self.send_over_new(request)).await,
        }
    }

    /// As [`Pool::send`], over a connection of its own: after [`SendError::Stale`] the other idle ones are suspect too.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_anew(&self, request: Request<OutBody>) -> Result<Response<UpstreamBody>, SendError> {
        let mut request = request;
        if !self.http1.load(Ordering::Relaxed) {
            match Box::pin(self.send_http2(request, || self.lanes.enter_new())).await? {
                Ok(response) => return Ok(response),
                Err(unsent) => request = unsent,
            }
        }
        Box::pin(self.send_over_new(request)).await
    }

    async fn send_over_new(&self, request: Request<OutBody>) -> Result<Response<UpstreamBody>, SendError> {
        let connection = Connection::new(self.connector.open().await?);
        self.send_http1(connection, request).await
    }

    async fn send_http1(
        &self,
        connection: Connection,
        request: Request<OutBody>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let response = http1::send(connection, request, &self.idle).await?;
        Ok(response.map(UpstreamBody::http1))
    }

    /// Sends a call in one of the lanes that `enter` gives. The call comes back if the provider speaks HTTP/1.1.
    async fn send_http2(
        &self,
        mut request: Request<OutBody>,
        enter: impl Fn() -> Busy,
    ) -> Result<Result<Response<UpstreamBody>, Request<OutBody>>, SendError> {
        let deadline = self.connector.deadline();
        for _ in 0..MOVES {
            let busy = enter();
            let opened = async {
                match busy.opened(self.open_lane(&busy)).await {
                    Ok(sender) => Ok(Some(sender)),
                    Err(NoLane::Http1) => Ok(None),
                    Err(NoLane::Failed(error)) => Err(error),
                }
            };
            // Others may have to be waited for, so the deadline is the call's own.
            let Some(sender) = self.connector.until(deadline, opened).await? else { return Ok(Err(request)) };
            match busy.send(sender, request).await? {
                Ok(response) => return Ok(Ok(response.map(|body| UpstreamBody::http2(body, busy)))),
                Err(unsent) => request = unsent,
            }
        }
        Err(SendError::Lost("its connections close as soon as they are used".into()))
    }

    /// Opens a connection for HTTP/2. One that turns out to be for HTTP/1.1 is kept for the call that wanted it.
    async fn open_lane(&self, busy: &Busy) -> Result<SendRequest<OutBody>, NoLane> {
        if self.http1.load(Ordering::Relaxed) {
            return Err(NoLane::Http1);
        }
        let (stream, version) = self.connector.open_any().await.map_err(NoLane::Failed)?;
        if version == Some(Version::HTTP_11) && !self.http2 {
            self.http1.store(true, Ordering::Relaxed);
            self.idle.put(Connection::new(stream));
            return Err(NoLane::Http1);
        }
        self.lanes.start(busy.lane(), stream).await.map_err(NoLane::Failed)
    }
}

#[cfg(test)]
mod tests;
