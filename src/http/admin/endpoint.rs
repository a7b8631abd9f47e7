//! One admin route: who may use it, what it takes and gives, and how it is answered.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    extract::{RawPathParams, Request, State, rejection::RawPathParamsRejection},
    response::Response,
    routing::{self, MethodRouter},
};
use futures_util::FutureExt;
use http::{HeaderValue, header};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};

use super::params;
use crate::{
    auth::Permission,
    error::Error,
    http::{Surface, extract, respond},
    types::RequestId,
    wire::conversation::Format,
};

/// A route as the router and the OpenAPI document need it.
pub(super) struct Endpoint {
    pub(super) path: &'static str,
    /// Its name in the document, for generated clients.
    pub(super) operation: &'static str,
    pub(super) summary: &'static str,
    pub(super) permission: Permission,
    /// The schema of its parameters, each member one of them.
    pub(super) parameters: fn(&mut SchemaGenerator) -> Schema,
    /// The schema of its answer.
    pub(super) answer: fn(&mut SchemaGenerator) -> Schema,
    pub(super) route: MethodRouter<Arc<Surface>>,
}

impl Endpoint {
    /// A route that reads: `handler` gets the parameters of path and query as `P` and gives an `A`. Both types are the
    /// document's, too.
    pub(super) fn get<P, A, H, F>(
        path: &'static str,
        operation: &'static str,
        permission: Permission,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        A: Serialize + JsonSchema + Send + 'static,
        H: Fn(Arc<Surface>, P) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<A, Error>> + Send + 'static,
    {
        let names = params::names::<P>();
        let serve = move |State(surface): State<Arc<Surface>>,
                          path: Result<RawPathParams, RawPathParamsRejection>,
                          request: Request| {
            let (handler, names) = (handler.clone(), names.clone());
            let id = RequestId::new(surface.clock.unix_millis());
            let answer = async move {
                let (parts, _) = request.into_parts();
                let address = extract::client(&parts);
                surface
                    .keys
                    .authenticate_admin(&parts.headers, address, permission)
                    .await
                    .inspect_err(|error| surface.metrics.auth_failure(error.code))?;
                let path = path.map_err(|_| params::bad_path())?;
                let params = params::read(&names, &path, parts.uri.query().unwrap_or(""))?;
                handler(surface, params).await
            };
            respond_to(answer, id)
        };
        Self {
            path,
            operation,
            summary,
            permission,
            parameters: P::json_schema,
            answer: |generator| generator.subschema_for::<A>(),
            route: routing::get(serve),
        }
    }
}

/// Runs the handler within the panic net and writes what it gives as JSON.
async fn respond_to<A: Serialize>(answer: impl Future<Output = Result<A, Error>>, id: RequestId) -> Response {
    let mut response = match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(Ok(answer)) => respond::json(&answer),
        Ok(Err(error)) => respond::error(&error, id),
        Err(_) => respond::panicked(id, Format::OpenAiChat),
    };
    // What was used is nobody's business but the caller's.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    respond::stamp(&mut response, id);
    response
}
