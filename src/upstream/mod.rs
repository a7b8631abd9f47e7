//! The only outbound HTTP. A [`Pool`] keeps warm connections to one origin; a [`Connections`] registry hands the same
//! pool to every snapshot of the configuration, so that a reload keeps connections open.
//!
//! HTTP/1.1 opens a connection for each call in flight and reuses idle ones; it is spoken here, by the call itself
//! (`http1`). HTTP/2 carries many calls on one connection; it is spoken by hyper (`http2`).

mod body;
mod connect;
mod fetch;
mod http1;
mod http2;
mod pool;
mod stream;
mod tls;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use body::{BodyError, Gathered, OutBody, UpstreamBody};
pub use fetch::{FetchError, FetchSettings, Fetcher, File, Room};
pub use pool::{Pool, SendError};
pub use tls::TlsError;

use crate::types::{Clock, Tasks};

/// All pools of the process, by what makes them different.
#[derive(Debug)]
pub struct Connections {
    clock: Clock,
    tasks: Tasks,
    pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
    fetcher: Mutex<Option<Arc<Fetcher>>>,
}

/// What two calls must share to share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    pub scheme: http::uri::Scheme,
    pub authority: http::uri::Authority,
    pub http: Http,
    /// Deadline for TCP and TLS together.
    pub connect_timeout: Duration,
    pub trust: Trust,
}

/// Whose certificates are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Those of the authorities that browsers trust.
    #[default]
    Web,
    /// Those of the authorities in this PEM file, and no others.
    File(PathBuf),
    /// Anybody's. For asking a gateway on this very machine whether it is well, and for nothing that carries a secret.
    Anyone,
}

/// Which HTTP version is spoken to an origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Http {
    /// HTTP/2 where TLS negotiates it, else HTTP/1.1.
    #[default]
    Auto,
    One,
    /// HTTP/2 without asking, also in plain text.
    Two,
}

impl Connections {
    pub fn new(clock: Clock, tasks: Tasks) -> Self {
        Self { clock, tasks, pools: Mutex::default(), fetcher: Mutex::default() }
    }

    /// The pool for `key`, opened on first use. No connection is made yet.
    ///
    /// # Errors
    /// When the file of certificate authorities cannot be used.
    pub fn pool(&self, key: &PoolKey) -> Result<Arc<Pool>, TlsError> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(key) {
            return Ok(pool.clone());
        }
        let pool = Arc::new(Pool::new(key, self.clock.clone(), self.tasks.clone())?);
        pools.insert(key.clone(), pool.clone());
        Ok(pool)
    }

    /// What fetches as `settings` say; the same as before if they say the same, so that its bounds outlive a reload.
    pub fn fetcher(&self, settings: &FetchSettings) -> Arc<Fetcher> {
        let mut kept = self.fetcher.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(fetcher) if fetcher.settings() == settings => fetcher.clone(),
            _ => kept.insert(Arc::new(Fetcher::new(settings.clone(), self.clock.clone()))).clone(),
        }
    }

    /// Forgets the pools that no snapshot uses any more; their idle connections are closed.
    pub fn prune(&self) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|_, pool| Arc::strong_count(pool) > 1);
    }
}

/// The words of the innermost cause: "connection refused" rather than "client error".
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
