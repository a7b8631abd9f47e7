//! For operators and their machines: is it alive, may it take traffic, what are the figures.

use std::sync::Arc;

use axum::{body::Body, extract::State, response::Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::{Surface, respond};
use crate::telemetry::metrics;

/// The process runs and its event loop turns. Says nothing about providers: restarting the gateway would not help them.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether a load balancer should send calls here: not while shutting down.
pub(super) async fn readyz(State(surface): State<Arc<Surface>>) -> Response {
    let ready = surface.shutdown.ready();
    let snapshot = surface.gateway.snapshot.load();
    let mut response = respond::json(&json!({
        "status": if ready { "ready" } else { "draining" },
        "config": snapshot.hash,
        "version": env!("CARGO_PKG_VERSION"),
    }));
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// Prometheus' text format.
pub(super) async fn metrics(State(surface): State<Arc<Surface>>) -> Response {
    let mut response = Response::new(Body::from(surface.metrics.render()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    response
}
