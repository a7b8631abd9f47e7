//! The admin API: keys, projects, what administrators did; what was used and what it cost. Its table of contents is also
//! what its OpenAPI document is made from, so a route cannot be served without a permission or left out of the document.

mod audit;
mod body;
mod endpoint;
mod keys;
mod openapi;
mod params;
mod projects;
mod quotas;
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
    auth::{ManageError, Permission},
    error::Error,
    store::{StoreError, keys as stored_keys},
};

/// All admin routes.
fn endpoints() -> Vec<Endpoint> {
    use Permission::{
        Audit, Contract, ReadKeys, ReadProjects, ReadQuotas, Requests, Usage, WriteKeys, WriteProjects, WriteQuotas,
    };
    const KEYS: &str = "/admin/v1/keys";
    const KEY: &str = "/admin/v1/keys/{id}";
    const QUOTAS: &str = "/admin/v1/quotas";
    const QUOTA: &str = "/admin/v1/quotas/{id}";
    const PROJECTS: &str = "/admin/v1/projects";
    const PROJECT: &str = "/admin/v1/projects/{id}";
    vec![
        Endpoint::get(KEYS, ("listKeys", ReadKeys, keys::LIST), keys::list),
        Endpoint::post(KEYS, ("createKey", WriteKeys, keys::CREATE), keys::create),
        Endpoint::get(KEY, ("getKey", ReadKeys, keys::GET), keys::get),
        Endpoint::patch(KEY, ("editKey", WriteKeys, keys::EDIT), keys::edit),
        Endpoint::delete(KEY, ("revokeKey", WriteKeys, keys::REVOKE), keys::revoke),
        Endpoint::post("/admin/v1/keys/{id}/rotate", ("rotateKey", WriteKeys, keys::ROTATE), keys::rotate),
        Endpoint::get(PROJECTS, ("listProjects", ReadProjects, projects::LIST), projects::list),
        Endpoint::post(PROJECTS, ("createProject", WriteProjects, projects::CREATE), projects::create),
        Endpoint::get(PROJECT, ("getProject", ReadProjects, projects::GET), projects::get),
        Endpoint::patch(PROJECT, ("editProject", WriteProjects, projects::EDIT), projects::edit),
        Endpoint::post(
            "/admin/v1/projects/{id}/archive",
            ("archiveProject", WriteProjects, projects::ARCHIVE),
            projects::archive,
        ),
        Endpoint::post(
            "/admin/v1/projects/{id}/unarchive",
            ("unarchiveProject", WriteProjects, projects::UNARCHIVE),
            projects::unarchive,
        ),
        Endpoint::get(QUOTAS, ("listQuotas", ReadQuotas, quotas::LIST), quotas::list),
        Endpoint::post(QUOTAS, ("createQuota", WriteQuotas, quotas::CREATE), quotas::create),
        Endpoint::get(QUOTA, ("getQuota", ReadQuotas, quotas::GET), quotas::get),
        Endpoint::patch(QUOTA, ("editQuota", WriteQuotas, quotas::EDIT), quotas::edit),
        Endpoint::delete(QUOTA, ("deleteQuota", WriteQuotas, quotas::DELETE), quotas::delete),
        Endpoint::get("/admin/v1/audit", ("listAudit", Audit, audit::SUMMARY), audit::list),
        Endpoint::get("/admin/v1/usage", ("usage", Usage, usage::SUMMARY), usage::usage),
        Endpoint::get("/admin/v1/requests", ("listRequests", Requests, requests::LIST_SUMMARY), requests::list),
        Endpoint::get("/admin/v1/requests/{id}", ("getRequest", Requests, requests::ONE_SUMMARY), requests::one),
        Endpoint::get("/admin/v1/openapi.json", ("openapi", Contract, openapi::SUMMARY), openapi::get),
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
    let there = surface.clock.timeout_at(deadline, stored_keys::change_marker(&surface.db)).await;
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

/// What is answered when something was not done, and nothing has changed.
fn undone(error: ManageError) -> Error {
    const AWAY: &str = "The gateway's database did not answer. If this was a change, look whether it was made before you \
                        try again; the gateway's log has the reason.";
    const RANDOM: &str = "The gateway's system gave no random numbers, so no key could be made.";
    let conflict = |code, message| Error::client(StatusCode::CONFLICT, code, message);
    let message = sentence(&error.to_string());
    match error {
        ManageError::Invalid { path, .. } => Error::bad_field("invalid_body", path, message),
        ManageError::NoKey(id) => {
            let id: String = id.chars().take(60).flat_map(char::escape_debug).collect();
            Error::client(StatusCode::NOT_FOUND, "key_not_found", format!("There is no key with the id `{id}`."))
        }
        ManageError::NoProject(_) => Error::client(StatusCode::NOT_FOUND, "project_not_found", message),
        ManageError::NoQuota(_) => Error::client(StatusCode::NOT_FOUND, "quota_not_found", message),
        ManageError::Ambiguous { .. } => conflict("ambiguous_name", message),
        ManageError::Exists(_) => conflict("project_exists", message),
        ManageError::Revoked(_) => conflict("key_revoked", message),
        ManageError::Declared(_) => conflict("declared_in_file", message),
        ManageError::Stale { .. } => Error::client(StatusCode::PRECONDITION_FAILED, "version_mismatch", message),
        ManageError::Randomness(error) => {
            Error::gateway(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", RANDOM).with_cause(error)
        }
        ManageError::Store(error) => Error::gateway(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", AWAY)
            .with_retry_after(Duration::from_secs(5))
            .with_cause(error),
    }
}

/// What a list of rights is that is left out.
fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

/// A capital at the beginning, a full stop at the end.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    first + letters.as_str() + end
}
