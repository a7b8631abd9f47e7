//! The table of contents: every path that is answered. Endpoints of the API are there with and without `/v1`, because
//! SDKs disagree on whether it belongs to the base URL.

use std::sync::Arc;

use axum::{
    Router,
    routing::{MethodRouter, get, post},
};

use super::{Surface, admin, ops, respond, v1};

/// What a listener serves beside the operations' routes (health and metrics), which are on every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Calls of clients.
    Calls,
    /// The admin API.
    Admin,
    Both,
}

/// Endpoints of OpenAI's and Anthropic's APIs, below `/v1` or not.
fn api() -> [(&'static str, MethodRouter<Arc<Surface>>); 7] {
    [
        ("/chat/completions", post(v1::inference::chat)),
        ("/completions", post(v1::inference::completion)),
        ("/embeddings", post(v1::inference::embedding)),
        ("/messages", post(v1::inference::messages)),
        ("/messages/count_tokens", post(v1::inference::count_tokens)),
        ("/models", get(v1::models::list)),
        // A model's name may hold slashes.
        ("/models/{*id}", get(v1::models::one)),
    ]
}

/// The routes of a listener.
pub fn router(surface: Arc<Surface>, side: Side) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics));
    if side != Side::Admin {
        for (path, endpoint) in api() {
            router = router.route(path, endpoint.clone()).route(&format!("/v1{path}"), endpoint);
        }
    }
    if side != Side::Calls {
        router = admin::add_to(router);
    }
    router.fallback(respond::not_found).method_not_allowed_fallback(respond::method_not_allowed).with_state(surface)
}
