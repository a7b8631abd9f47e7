//! `POST /v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/messages`, `/v1/messages/count_tokens`: one way
//! for all, the endpoint is data.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    extract::{Request, State},
    response::Response,
};
use futures_util::FutureExt;

use super::recorded;
use crate::{
    auth::Endpoint,
    error::Error,
    gateway::{self, Arrival, Refusal},
    http::{Surface, extract, respond},
    providers::Operation,
    telemetry::{Outcome, content::Record},
    types::RequestId,
};

pub(in crate::http) async fn chat(State(surface): State<Arc<Surface>>, request: Request) -> Response {
    serve(&surface, Operation::Chat, request).await
}

pub(in crate::http) async fn completion(State(surface): State<Arc<Surface>>, request: Request) -> Response {
    serve(&surface, Operation::Completion, request).await
}

pub(in crate::http) async fn embedding(State(surface): State<Arc<Surface>>, request: Request) -> Response {
    serve(&surface, Operation::Embedding, request).await
}

pub(in crate::http) async fn messages(State(surface): State<Arc<Surface>>, request: Request) -> Response {
    serve(&surface, Operation::Messages, request).await
}

pub(in crate::http) async fn count_tokens(State(surface): State<Arc<Surface>>, request: Request) -> Response {
    serve(&surface, Operation::CountTokens, request).await
}

/// The word by which keys are let use the operation.
fn endpoint(operation: Operation) -> Endpoint {
    match operation {
        Operation::Chat => Endpoint::Chat,
        Operation::Completion => Endpoint::Completions,
        Operation::Embedding => Endpoint::Embeddings,
        Operation::Messages => Endpoint::Messages,
        Operation::CountTokens => Endpoint::CountTokens,
    }
}

/// Serves a call within the panic net: whatever goes wrong inside, the client gets an answer.
async fn serve(surface: &Surface, operation: Operation, request: Request) -> Response {
    let id = RequestId::new(surface.clock.unix_millis());
    let mut record = None;
    let call = AssertUnwindSafe(answer(surface, operation, request, id, &mut record));
    let response = match call.catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => {
            if !refusal.settled {
                surface.metrics.error(Outcome::RefusedByGateway);
            }
            respond::refusal(refusal, id, operation.format())
        }
        Err(_) => {
            surface.metrics.error(Outcome::Internal);
            respond::panicked(id, operation.format())
        }
    };
    recorded::with(response, record)
}

/// `record` is where that of the call goes, whatever becomes of it, if its content is logged.
async fn answer(
    surface: &Surface,
    operation: Operation,
    request: Request,
    id: RequestId,
    record: &mut Option<Box<Record>>,
) -> Result<Response, Refusal> {
    let arrived = surface.clock.now();
    let (parts, body) = request.into_parts();
    let principal = extract::principal(surface, &parts, endpoint(operation)).await?;
    let place = extract::place(surface)?;
    let body = extract::body(surface, &parts.headers, body).await?;
    *record = recorded::begin(surface, id, operation, &principal, &body).await;
    let client = extract::client(&parts);
    let arrival = Arrival { id, operation, principal, headers: parts.headers, body, client, arrived };
    let reply = gateway::handle(&surface.gateway, arrival).await?;
    Ok(respond::reply(reply, id, operation.format(), place))
}

/// An answer to a request that makes no call.
pub(super) fn plain(result: Result<Response, Error>, id: RequestId) -> Response {
    let mut response = match result {
        Ok(response) => response,
        Err(error) => return respond::error(&error, id),
    };
    respond::stamp(&mut response, id);
    response
}
