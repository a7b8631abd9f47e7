//! The admin API: what was used and what it cost. Its table of contents is also what its OpenAPI document is made from,
//! so a route cannot be served without a permission or left out of the document.

mod endpoint;
mod openapi;
mod params;
mod requests;
mod usage;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::Router;
use http::StatusCode;
use serde_json::Value;

use self::endpoint::Endpoint;
use super::Surface;
use crate::{
    accounting::report::ReportError,
    auth::Permission,
    error::Error,
    store::{StoreError, keys},
};

/// All admin routes.
fn endpoints() -> [Endpoint; 4] {
    use Permission::{Contract, Requests, Usage};
    [
        Endpoint::get("/admin/v1/usage", "usage", Usage, usage::SUMMARY, usage::usage),
        Endpoint::get("/admin/v1/requests", "listRequests", Requests, requests::LIST_SUMMARY, requests::list),
        Endpoint::get("/admin/v1/requests/{id}", "getRequest", Requests, requests::ONE_SUMMARY, requests::one),
        Endpoint::get("/admin/v1/openapi.json", "openapi", Contract, openapi::SUMMARY, openapi::get),
    ]
}

/// Adds the admin API to a router.
pub(super) fn add_to(router: Router<Arc<Surface>>) -> Router<Arc<Surface>> {
    endpoints().into_iter().fold(router, |router, endpoint| router.route(endpoint.path, endpoint.route))
}

/// The OpenAPI 3.1 document of the admin API.
pub fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| openapi::document(&endpoints()));
    &DOCUMENT
}

/// How long the database may take to show that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// The answer to a question to the ledger. The question itself may take its time; whether anybody is there to answer it
/// is asked first, so that a database that is away is a 503 soon.
async fn ask<A>(surface: &Surface, question: impl Future<Output = Result<A, ReportError>>) -> Result<A, Error> {
    let deadline = surface.clock.now() + PATIENCE;
    let there = surface.clock.timeout_at(deadline, keys::change_marker(&surface.db)).await;
    there.unwrap_or(Err(StoreError::NoAnswer)).map_err(|error| failed(error.into()))?;
    question.await.map_err(failed)
}

/// What is answered when there is no answer: the question is wrong, or the ledger cannot be read.
fn failed(error: ReportError) -> Error {
    const MESSAGE: &str = "The ledger could not be read because the gateway's database did not answer. Try again in a \
                           moment; the gateway's log has the reason.";
    match error {
        ReportError::Question { param, message } => Error::bad_field("invalid_parameter", param, message),
        ReportError::Store(StoreError::BadQuery(message)) => {
            Error::client(StatusCode::BAD_REQUEST, "invalid_parameter", message)
        }
        ReportError::Store(error) => Error::gateway(StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable", MESSAGE)
            .with_retry_after(Duration::from_secs(5))
            .with_cause(error),
    }
}
