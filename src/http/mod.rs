//! The surface: sockets, routes, and the translation between HTTP and the gateway. It knows no provider.

mod admin;
mod connection;
mod extract;
mod forwarded;
mod io;
mod ops;
mod respond;
mod revoke;
mod routes;
pub mod serve;
pub mod settings;
pub mod shutdown;
pub mod tls;
mod v1;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub use admin::document as openapi;
pub use connection::ClientAddr;
pub use routes::{Side, router};
pub use serve::Server;
pub use shutdown::{Phase, Shutdown};
pub use tls::Tls;

use crate::{
    auth::Keys,
    gateway::Gateway,
    quotas,
    store::Db,
    telemetry::{ContentLog, Metrics},
    types::Clock,
};

/// What handlers may reach.
#[derive(Debug)]
pub struct Surface {
    pub gateway: Arc<Gateway>,
    pub keys: Keys,
    /// Taken over by the admin API as soon as it has changed one.
    pub stored_quotas: quotas::Stored,
    /// Read by the admin API alone: no call waits for it.
    pub db: Db,
    pub metrics: Arc<Metrics>,
    /// What calls say and are answered, where that is wanted.
    pub content: ContentLog,
    pub clock: Clock,
    pub settings: settings::Settings,
    /// One permit per call in flight, from its head to its last byte.
    pub in_flight: Arc<Semaphore>,
    pub shutdown: Shutdown,
}
