//! Fetching what clients name by URL. A client chooses where the gateway goes, so every step is looked at: the address
//! (web, no password, a port that is listed), what its host resolves to (public, or a host of the operator's), each
//! redirect again, the size, the time. A host is resolved once for each step, and what was looked at is what is connected
//! to: a name that answers differently the next time has no next time.
//!
//! No proxy, cookie, credential or header of the client's goes along, and nothing is kept.

mod address;
mod guard;
mod settings;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use tokio::{net::TcpStream, sync::Semaphore};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

pub use self::settings::FetchSettings;
use self::{
    address::Address,
    guard::{Reach, reach},
};
use super::{
    Gathered, OutBody, Trust, UpstreamBody,
    http1::{self, Connection, Idle},
    stream::Stream,
    tls,
};
use crate::types::{Clock, Tasks};

/// How often a server may send the gateway elsewhere.
const MAX_REDIRECTS: usize = 3;

/// Addresses of one host that are tried.
const MAX_ADDRESSES: usize = 4;

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("switchboard/", env!("CARGO_PKG_VERSION")));

/// Fetches files for calls, by one configuration.
#[derive(Debug)]
pub struct Fetcher {
    settings: FetchSettings,
    /// Made when it is needed first.
    tls: OnceLock<Arc<ClientConfig>>,
    names: Names,
    places: Semaphore,
    clock: Clock,
}

/// What a URL led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// As the server named it; empty if it did not.
    pub media_type: String,
    pub bytes: bytes::Bytes,
}

/// How much the files of one call may still have together, in bytes.
#[derive(Debug)]
pub struct Room(AtomicUsize);

/// Why something was not fetched. The words are for the client, and say nothing of the operator's network: a host
/// that is not found and one that is inside sound the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("it is no address of the web: http:// or https://, without a password")]
    Address,
    #[error("its port may not be connected to")]
    Port,
    #[error("its host is not found, or not public")]
    Host,
    #[error("its server cannot be reached")]
    Unreachable,
    #[error("its server did not send it in time")]
    TooSlow,
    #[error("its server answered {0}")]
    Status(StatusCode),
    #[error("it leads on to other addresses too often")]
    Redirects,
    #[error("it leads on from https to http")]
    Downgrade,
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the files of this call are larger than {0} bytes together")]
    TooMuch(usize),
    #[error("its server broke off")]
    Broken,
}

/// Who says which addresses a host has.
#[derive(Debug)]
enum Names {
    System,
    #[cfg(test)]
    Scripted(std::sync::Mutex<std::collections::VecDeque<(&'static str, Vec<IpAddr>)>>),
}

impl Fetcher {
    pub fn new(settings: FetchSettings, clock: Clock) -> Self {
        let places = Semaphore::new(settings.max_concurrent.min(Semaphore::MAX_PERMITS));
        Self { settings, tls: OnceLock::new(), names: Names::System, places, clock }
    }

    pub fn settings(&self) -> &FetchSettings {
        &self.settings
    }

    /// Room for the files of one call.
    pub fn room(&self) -> Room {
        Room(AtomicUsize::new(self.settings.max_total.bytes()))
    }

    /// When files that are wanted now must be there.
    pub fn deadline(&self) -> Instant {
        self.clock.now() + self.settings.timeout.0
    }

    /// Fetches what `url` names, until `deadline`. Waits for its turn when others are being fetched.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get(&self, url: &str, room: &Room, deadline: Instant) -> Result<File, FetchError> {
        let fetch = async {
            // The semaphore is never closed.
            let _place = self.places.acquire().await.map_err(|_| FetchError::TooSlow)?;
            self.follow(Address::read(url)?, room, deadline).await
        };
        self.clock.timeout_at(deadline, fetch).await.unwrap_or(Err(FetchError::TooSlow))
    }

    async fn follow(&self, mut address: Address, room: &Room, deadline: Instant) -> Result<File, FetchError> {
        for _ in 0..=MAX_REDIRECTS {
            let response = self.ask(&address, deadline).await?;
            let status = response.status();
            if status == StatusCode::OK {
                return self.read(response, room).await;
            }
            let location = response.headers().get(header::LOCATION).filter(|_| is_redirect(status));
            let Some(location) = location else { return Err(FetchError::Status(status)) };
            address = address.follow(location.to_str().map_err(|_| FetchError::Address)?)?;
        }
        Err(FetchError::Redirects)
    }

    /// Asks one server, over a connection of its own to an address that was looked at.
    async fn ask(&self, address: &Address, deadline: Instant) -> Result<Response<UpstreamBody>, FetchError> {
        let stream = self.connect(address, &self.pinned(address).await?, deadline).await?;
        let mut request = Request::new(OutBody::new(bytes::Bytes::new().into()));
        *request.uri_mut() = address.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        // Nobody waits for this connection to come back.
        let home = Arc::new(Idle::new(Duration::ZERO, self.clock.clone(), Tasks::new()));
        let response = http1::send(Connection::new(stream), request, &home).await.map_err(|_| FetchError::Broken)?;
        Ok(response.map(UpstreamBody::http1))
    }

    /// The addresses of a host, each of which may be connected to.
    async fn pinned(&self, address: &Address) -> Result<Vec<SocketAddr>, FetchError> {
        let own = self.settings.allow_hosts.iter().any(|host| host.eq_ignore_ascii_case(&address.host));
        if !own && !self.settings.ports.contains(&address.port) {
            return Err(FetchError::Port);
        }
        let found = match address.host.parse::<IpAddr>() {
            Ok(literal) => vec![literal],
            Err(_) => self.names.resolve(&address.host, address.port).await,
        };
        let may = |address: &IpAddr| match reach(*address) {
            Reach::Public => true,
            Reach::Inside => own,
            Reach::Never => false,
        };
        // One address that may not be reached speaks against the host as a whole.
        if found.is_empty() || !found.iter().all(may) {
            return Err(FetchError::Host);
        }
        Ok(found.into_iter().take(MAX_ADDRESSES).map(|found| SocketAddr::new(found, address.port)).collect())
    }

    /// Connects to the first of these addresses that takes the connection. Each has its share of the time that is left.
    async fn connect(&self, to: &Address, pinned: &[SocketAddr], deadline: Instant) -> Result<Stream, FetchError> {
        for (tried, address) in pinned.iter().enumerate() {
            let now = self.clock.now();
            let left = u32::try_from(pinned.len() - tried).unwrap_or(1);
            let share = now + deadline.saturating_duration_since(now) / left;
            if let Ok(Ok(stream)) = self.clock.timeout_at(share, self.open(to, *address)).await {
                return Ok(stream);
            }
        }
        Err(FetchError::Unreachable)
    }

    async fn open(&self, to: &Address, address: SocketAddr) -> Result<Stream, ()> {
        let stream = TcpStream::connect(address).await.map_err(drop)?;
        if !to.https {
            return Ok(Stream::Plain(stream));
        }
        let name = ServerName::try_from(to.host.clone()).map_err(drop)?;
        let stream = TlsConnector::from(self.tls()?).connect(name, stream).await.map_err(drop)?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, ()> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let config = Arc::new(tls::client_config(&Trust::Web).map_err(drop)?);
        Ok(self.tls.get_or_init(|| config).clone())
    }

    async fn read(&self, response: Response<UpstreamBody>, room: &Room) -> Result<File, FetchError> {
        let (mut parts, body) = response.into_parts();
        let most = self.settings.max_size.bytes();
        let declared = declared_length(&parts.headers);
        if declared.is_some_and(|length| length > most) {
            return Err(FetchError::TooLarge(most));
        }
        let mut body = body.decode(&mut parts.headers).map_err(|_| FetchError::Broken)?;
        let mut gathered = Gathered::default();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|_| FetchError::Broken)?;
            if gathered.len() + piece.len() > most {
                return Err(FetchError::TooLarge(most));
            }
            if !room.take(piece.len()) {
                return Err(FetchError::TooMuch(self.settings.max_total.bytes()));
            }
            gathered.push(piece);
        }
        let media_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Ok(File { media_type: media_type.unwrap_or_default().to_owned(), bytes: gathered.join() })
    }
}

impl Room {
    /// Whether there was room for so many bytes more.
    fn take(&self, bytes: usize) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }
}

impl Names {
    /// The addresses of a host; none if it is not known.
    async fn resolve(&self, host: &str, port: u16) -> Vec<IpAddr> {
        match self {
            Self::System => {
                let found = tokio::net::lookup_host((host, port)).await;
                found.map(|found| found.map(|address| address.ip()).collect()).unwrap_or_default()
            }
            #[cfg(test)]
            Self::Scripted(script) => {
                let mut script = script.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let (expected, addresses) = script.pop_front().unwrap_or_default();
                assert_eq!(host, expected);
                addresses
            }
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
