//! `GET /v1/models` and `/v1/models/{id}`: what the caller's key may use, by the same resolver that routes calls.

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use http::StatusCode;
use serde_json::{Value, json};

use super::inference::plain;
use crate::{
    auth::Principal,
    error::Error,
    http::{Surface, extract, respond},
    types::RequestId,
};

pub(in crate::http) async fn list(State(surface): State<Arc<Surface>>, request: Request) -> Response {
    let id = RequestId::new(surface.clock.unix_millis());
    plain(listing(&surface, request).await, id)
}

pub(in crate::http) async fn one(
    State(surface): State<Arc<Surface>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let id = RequestId::new(surface.clock.unix_millis());
    plain(single(&surface, &name, request).await, id)
}

/// Names and aliases in order, patterns as they are written: what they stand for is the provider's to say.
async fn listing(surface: &Surface, request: Request) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    let principal = extract::principal(surface, &parts).await?;
    let snapshot = surface.gateway.snapshot.load();
    let models = snapshot.routes.models().map(|model| (&*model.name, owner(&model.targets)));
    let aliases = snapshot.routes.aliases().filter_map(|alias| {
        let resolved = snapshot.routes.resolve(alias)?;
        Some((alias, owner(&resolved.model.targets)))
    });
    let mut data: Vec<(&str, Arc<str>)> =
        models.chain(aliases).filter(|(name, _)| may_use(&principal, &snapshot.routes, name)).collect();
    data.sort();
    let data: Vec<Value> = data.into_iter().map(|(name, owner)| object(name, &owner)).collect();
    Ok(respond::json(&json!({ "object": "list", "data": data })))
}

async fn single(surface: &Surface, name: &str, request: Request) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    let principal = extract::principal(surface, &parts).await?;
    let snapshot = surface.gateway.snapshot.load();
    let found = snapshot.routes.resolve(name).filter(|_| may_use(&principal, &snapshot.routes, name));
    let Some(found) = found else {
        let message = format!("The model `{name}` does not exist here, or this key may not use it.");
        let mut error = Error::client(StatusCode::NOT_FOUND, "model_not_found", message);
        error.param = Some("model".into());
        return Err(error);
    };
    Ok(respond::json(&object(name, &owner(&found.model.targets))))
}

/// The same rule as admission's: the name as written, or the model it resolves to.
fn may_use(principal: &Principal, routes: &crate::routing::Routes, name: &str) -> bool {
    principal.models.allows(name) || routes.resolve(name).is_some_and(|found| principal.models.allows(&found.name()))
}

/// The provider of the first target: the nearest thing to an owner that a route has.
fn owner(targets: &[Arc<crate::routing::Target>]) -> Arc<str> {
    targets.first().map_or_else(|| "switchboard".into(), |target| target.provider.name.clone())
}

fn object(name: &str, owner: &str) -> Value {
    // OpenAI's clients require `created`; a route has no date of its own.
    json!({ "id": name, "object": "model", "created": 0, "owned_by": owner })
}
