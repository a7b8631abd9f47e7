//! What the operator may set about the listening side.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::types::{AddressRange, Period, Size};

/// The listening side: limits, keep-alive, shutdown.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The largest request body that is accepted; more is a 413.
    pub max_body: Size,
    /// The largest request head (all headers together); more is a 431.
    pub max_headers: Size,
    /// Calls in flight at once over the whole gateway; one more is a 503 with `Retry-After`.
    pub max_in_flight: usize,
    /// Client connections open at once; beyond it new ones wait in the kernel's queue.
    pub max_connections: usize,
    /// How long a client may take to send its request head, and the body between two pieces.
    pub read_timeout: Period,
    /// How long a kept-alive connection may stay without a request; it should outlast the idle time-out of a load
    /// balancer in front.
    pub idle_timeout: Period,
    /// How long a client may leave its answer unread before the connection is closed.
    pub write_timeout: Period,
    /// Silence in a stream after which a `: keepalive` comment is sent.
    pub keepalive: Period,
    /// Proxies and load balancers in front that are believed whom they name in `X-Forwarded-For`.
    pub trusted_proxies: Vec<AddressRange>,
    /// What happens between SIGTERM and exit.
    pub drain: Drain,
}

/// The way out: how long the gateway goes on serving after it was asked to stop.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// How long new connections are still accepted while `/readyz` already says no, for load balancers to notice.
    pub pre_stop: Period,
    /// How long calls in flight may go on; streams still open after it end with an error event.
    pub grace: Period,
}

/// A certificate and its key, in PEM files. With it the listener speaks HTTPS (HTTP/1.1 and HTTP/2).
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain, the server's own first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_body: Size::mib(64),
            max_headers: Size::kib(64),
            max_in_flight: 10_000,
            max_connections: 20_000,
            read_timeout: Period::from_secs(30),
            idle_timeout: Period::from_secs(120),
            write_timeout: Period::from_secs(60),
            keepalive: Period::from_secs(15),
            trusted_proxies: Vec::new(),
            drain: Drain::default(),
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { pre_stop: Period::from_secs(0), grace: Period::from_secs(30) }
    }
}
