//! The surface: sockets in, answers out.

mod connection;
mod io;
mod revoke;
pub mod serve;
pub mod settings;
pub mod shutdown;
pub mod tls;

pub use connection::PeerAddr;
pub use serve::Server;
pub use shutdown::{Phase, Shutdown};
pub use tls::Tls;
