//! One admin route: who may use it, what it takes and gives, and how it is answered.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    extract::{RawPathParams, Request, State, rejection::RawPathParamsRejection},
    response::Response,
    routing::{self, MethodRouter},
};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};

use super::{body, params};
use crate::{
    auth::Permission,
    error::Error,
    http::{Surface, extract, respond},
    store::Actor,
    types::RequestId,
    wire::conversation::Format,
};

/// A route as the router and the OpenAPI document need it.
pub(super) struct Endpoint {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// Its name in the document, for generated clients.
    pub(super) operation: &'static str,
    pub(super) summary: &'static str,
    pub(super) permission: Permission,
    /// The schema of its parameters, each member one of them.
    pub(super) parameters: fn(&mut SchemaGenerator) -> Schema,
    /// The schema of its body, if it takes one.
    pub(super) body: Option<fn(&mut SchemaGenerator) -> Schema>,
    /// The status of its answer, and the answer's schema.
    pub(super) status: StatusCode,
    pub(super) answer: fn(&mut SchemaGenerator) -> Schema,
    pub(super) route: MethodRouter<Arc<Surface>>,
}

/// The name, permission and purpose of a route.
pub(super) type About = (&'static str, Permission, &'static str);

/// What a route answers with.
pub(super) trait Answer: Serialize + JsonSchema + Send + 'static {
    const STATUS: StatusCode = StatusCode::OK;

    /// The version of the one thing that it is about, for `ETag` and `If-Match`.
    fn version(&self) -> Option<i64> {
        None
    }
}

/// A change that is asked for: by whom, and for which version of the thing.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) surface: Arc<Surface>,
    pub(super) actor: Actor,
    /// What `If-Match` says.
    pub(super) expected: Option<i64>,
}

/// There is no body to read.
#[derive(Debug)]
struct NoBody;

/// What came, but for the body.
struct Asked<P> {
    change: Change,
    params: P,
}

impl Endpoint {
    /// A route that reads: `handler` gets the parameters of path and query as `P` and gives an `A`. Both types are the
    /// document's, too.
    pub(super) fn get<P, A, H, F>(path: &'static str, about: About, handler: H) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        A: Answer,
        H: Fn(Arc<Surface>, P) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<A, Error>> + Send + 'static,
    {
        let run = move |asked: Asked<P>, NoBody| handler(asked.change.surface, asked.params);
        Self::new(Method::GET, path, about, None, |_, _| async { Ok(NoBody) }, run)
    }

    /// A route that makes or does something: `handler` gets the parameters as `P` and the body as `B` and gives an `A`.
    pub(super) fn post<P, B, A, H, F>(path: &'static str, about: About, handler: H) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        B: DeserializeOwned + JsonSchema + Send + 'static,
        A: Answer,
        H: Fn(Change, P, B) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<A, Error>> + Send + 'static,
    {
        Self::with_body(Method::POST, path, about, handler)
    }

    /// A route that changes something; as [`Endpoint::post`].
    pub(super) fn patch<P, B, A, H, F>(path: &'static str, about: About, handler: H) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        B: DeserializeOwned + JsonSchema + Send + 'static,
        A: Answer,
        H: Fn(Change, P, B) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<A, Error>> + Send + 'static,
    {
        Self::with_body(Method::PATCH, path, about, handler)
    }

    /// A route that ends something: `handler` gets the parameters as `P` and gives an `A`. A body is not read.
    pub(super) fn delete<P, A, H, F>(path: &'static str, about: About, handler: H) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        A: Answer,
        H: Fn(Change, P) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<A, Error>> + Send + 'static,
    {
        let run = move |asked: Asked<P>, NoBody| handler(asked.change, asked.params);
        Self::new(Method::DELETE, path, about, None, |_, _| async { Ok(NoBody) }, run)
    }

    fn with_body<P, B, A, H, F>(method: Method, path: &'static str, about: About, handler: H) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        B: DeserializeOwned + JsonSchema + Send + 'static,
        A: Answer,
        H: Fn(Change, P, B) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<A, Error>> + Send + 'static,
    {
        let schema = body::schema::<B>();
        let read = move |surface: Arc<Surface>, request: Request| {
            let schema = schema.clone();
            async move {
                let (parts, sent) = request.into_parts();
                let bytes = extract::body_within(&surface, &parts.headers, sent, &body::LIMIT).await?;
                body::read::<B>(&bytes, &schema)
            }
        };
        let run = move |asked: Asked<P>, body: B| handler(asked.change, asked.params, body);
        Self::new(method, path, about, Some(SchemaGenerator::subschema_for::<B>), read, run)
    }

    /// `read` takes the body once the caller is known, `run` does what is asked.
    fn new<P, B, A, R, RF, H, F>(
        method: Method,
        path: &'static str,
        (operation, permission, summary): About,
        body: Option<fn(&mut SchemaGenerator) -> Schema>,
        read: R,
        run: H,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        B: Send + 'static,
        A: Answer,
        R: Fn(Arc<Surface>, Request) -> RF + Clone + Send + Sync + 'static,
        RF: Future<Output = Result<B, Error>> + Send + 'static,
        H: Fn(Asked<P>, B) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<A, Error>> + Send + 'static,
    {
        let names = params::names::<P>();
        let serve = move |State(surface): State<Arc<Surface>>,
                          path: Result<RawPathParams, RawPathParamsRejection>,
                          request: Request| {
            let (read, run, names) = (read.clone(), run.clone(), names.clone());
            let id = RequestId::new(surface.clock.unix_millis());
            let answer = async move {
                let (parts, sent) = request.into_parts();
                let address = extract::client(&parts);
                let operator = surface
                    .keys
                    .authenticate_admin(&parts.headers, address, permission)
                    .await
                    .inspect_err(|error| surface.metrics.auth_failure(error.code))?;
                let path = path.map_err(|_| params::bad_path())?;
                let params = params::read(&names, &path, parts.uri.query().unwrap_or(""))?;
                let expected = expected(&parts.headers)?;
                let body = read(surface.clone(), Request::from_parts(parts, sent)).await?;
                let change = Change { surface, actor: operator.actor(address), expected };
                run(Asked { change, params }, body).await
            };
            respond_to(answer, id)
        };
        let route = match method {
            Method::POST => routing::post(serve),
            Method::PATCH => routing::patch(serve),
            Method::DELETE => routing::delete(serve),
            _ => routing::get(serve),
        };
        Self {
            method,
            path,
            operation,
            summary,
            permission,
            parameters: P::json_schema,
            body,
            status: A::STATUS,
            answer: |generator| generator.subschema_for::<A>(),
            route,
        }
    }
}

/// The version that `If-Match` names. `*` is any.
fn expected(headers: &HeaderMap) -> Result<Option<i64>, Error> {
    const WRONG: &str = "`If-Match` must be the one `ETag` that an answer came with, as it was, or be left out.";
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
    version.map(Some).ok_or_else(|| Error::bad_field("invalid_parameter", "If-Match", WRONG))
}

/// Runs the handler within the panic net and writes what it gives as JSON.
async fn respond_to<A: Answer>(answer: impl Future<Output = Result<A, Error>>, id: RequestId) -> Response {
    let mut response = match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(Ok(answer)) => {
            let mut response = respond::json(&answer);
            *response.status_mut() = A::STATUS;
            let tag = answer.version().and_then(|version| HeaderValue::try_from(format!("\"{version}\"")).ok());
            if let Some(tag) = tag {
                response.headers_mut().insert(header::ETAG, tag);
            }
            response
        }
        Ok(Err(error)) => respond::error(&error, id),
        Err(_) => respond::panicked(id, Format::OpenAiChat),
    };
    // What was used is nobody's business but the caller's.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    respond::stamp(&mut response, id);
    response
}
