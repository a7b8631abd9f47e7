//! Opening a connection, within a deadline that covers the name, TCP and TLS together.

use std::{
    error::Error as StdError,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Uri, Version, uri::Scheme};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tower::{Service, ServiceExt};

use super::{Http, PoolKey, SendError, TlsError, deepest, stream::Stream, tls};
use crate::types::Clock;

/// Opens connections to one origin.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    origin: Uri,
    tcp: HttpConnector,
    tls: Option<Tls>,
    clock: Clock,
    limit: Duration,
}

#[derive(Clone, Debug)]
struct Tls {
    /// Lets the provider choose the version where there is a choice.
    any: Arc<ClientConfig>,
    /// For a provider that speaks HTTP/1.1, by choice or by the settings.
    one: Arc<ClientConfig>,
}

impl Connector {
    /// # Errors
    /// When the authorities to trust cannot be read.
    pub(super) fn new(key: &PoolKey, clock: Clock) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new();
        // Without it every paced chunk waits for the other side's delayed acknowledgement: 40 ms each.
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        tcp.enforce_http(false);
        let origin = Uri::builder().scheme(key.scheme.clone()).authority(key.authority.clone()).path_and_query("/");
        // Parts that are valid make a whole that is; an empty origin could not be connected to.
        let origin = origin.build().unwrap_or_default();
        let tls = if key.scheme == Scheme::HTTPS { Some(Tls::new(key)?) } else { None };
        Ok(Self { origin, tcp, tls, clock, limit: key.connect_timeout })
    }

    /// When a connection that is wanted now must be ready.
    pub(super) fn deadline(&self) -> Instant {
        self.clock.now() + self.limit
    }

    /// Runs what opens a connection until `deadline`.
    ///
    /// # Errors
    /// [`SendError::ConnectTimeout`], or what the future ended with.
    pub(super) async fn until<T>(
        &self,
        deadline: Instant,
        opening: impl Future<Output = Result<T, SendError>>,
    ) -> Result<T, SendError> {
        let opened = self.clock.timeout_at(deadline, opening).await;
        opened.unwrap_or_else(|_| {
            Err(SendError::ConnectTimeout(format!("no connection within {} ms", self.limit.as_millis())))
        })
    }

    /// A connection for HTTP/1.1.
    ///
    /// # Errors
    /// [`SendError::Connect`], [`SendError::ConnectTimeout`].
    pub(super) async fn open(&self) -> Result<Stream, SendError> {
        self.until(self.deadline(), self.open_with(self.tls.as_ref().map(|tls| &tls.one))).await
    }

    /// A connection whose version is the provider's to choose, and which it chose in TLS, if there is TLS and it did. Has
    /// no deadline of its own.
    ///
    /// # Errors
    /// [`SendError::Connect`].
    pub(super) async fn open_any(&self) -> Result<(Stream, Option<Version>), SendError> {
        let stream = self.open_with(self.tls.as_ref().map(|tls| &tls.any)).await?;
        let chosen = match &stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Some(Version::HTTP_2),
                _ => Some(Version::HTTP_11),
            },
        };
        Ok((stream, chosen))
    }

    async fn open_with(&self, tls: Option<&Arc<ClientConfig>>) -> Result<Stream, SendError> {
        let mut tcp = self.tcp.clone();
        let ready = tcp.ready().await.map_err(failed)?;
        let stream = ready.call(self.origin.clone()).await.map_err(failed)?.into_inner();
        let Some(config) = tls else { return Ok(Stream::Plain(stream)) };
        let host = self.origin.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(failed)?;
        let stream = TlsConnector::from(config.clone()).connect(name, stream).await.map_err(failed)?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

fn failed(error: impl StdError + 'static) -> SendError {
    SendError::Connect(deepest(&error))
}

impl Tls {
    fn new(key: &PoolKey) -> Result<Self, TlsError> {
        let config = tls::client_config(&key.trust)?;
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        // To whom HTTP/1.1 was assigned by the settings nothing is offered: it may not know what an offer is.
        let (any, one): (&[&[u8]], &[&[u8]]) = match key.http {
            Http::Auto => (&[b"h2", b"http/1.1"], &[b"http/1.1"]),
            Http::One => (&[], &[]),
            Http::Two => (&[b"h2"], &[]),
        };
        Ok(Self { any: offering(any), one: offering(one) })
    }
}
