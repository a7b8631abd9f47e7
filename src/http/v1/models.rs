//! `GET /v1/models` and `/v1/models/{id}`: what the caller's key may use, by the same resolver that routes calls.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use http::StatusCode;
use serde_json::{Value, json};

use super::inference::plain;
use crate::{
    auth::Endpoint,
    error::Error,
    http::{Surface, extract, respond},
    routing::Model,
    types::RequestId,
};

pub(in crate::http) async fn list(State(surface): State<Arc<Surface>>, request: Request) -> Response {
    let id = RequestId::new(surface.clock.unix_millis());
    plain(listing(&surface, request).await, id)
}

pub(in crate::http) async fn one(
    State(surface): State<Arc<Surface>>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let id = RequestId::new(surface.clock.unix_millis());
    // Bytes that are no text name no model; the empty name does not either.
    let name = name.map(|Path(name)| name).unwrap_or_default();
    plain(single(&surface, &name, request).await, id)
}

/// Names and aliases, the names behind patterns that the key or its project lists itself, and the patterns as they are written: what
/// else they stand for is the provider's to say.
async fn listing(surface: &Surface, request: Request) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    let principal = extract::principal(surface, &parts, Endpoint::Models).await?;
    let snapshot = surface.gateway.snapshot.load();
    let routes = &snapshot.routes;
    let allowed = |names: &[&str]| principal.may_use(names);
    let mut names: BTreeMap<&str, Arc<str>> = BTreeMap::new();
    let configured = routes.listed(&allowed).into_iter().map(|name| &**name);
    for name in configured.chain(principal.listed_names()) {
        if let Some(found) = routes.resolve(name)
            && found.permitted(name, allowed)
        {
            names.insert(name, owner(&found.model));
        }
    }
    for model in routes.models().filter(|model| model.is_pattern() && allowed(&[&model.name])) {
        names.insert(&model.name, owner(model));
    }
    let data: Vec<Value> = names.into_iter().map(|(name, owner)| object(name, &owner)).collect();
    Ok(respond::json(&json!({ "object": "list", "data": data })))
}

async fn single(surface: &Surface, name: &str, request: Request) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    let principal = extract::principal(surface, &parts, Endpoint::Models).await?;
    let snapshot = surface.gateway.snapshot.load();
    let found = snapshot.routes.resolve(name);
    let found = found.filter(|found| found.permitted(name, |names| principal.may_use(names)));
    let Some(found) = found else {
        let message = format!("The model `{name}` does not exist here, or this key may not use it.");
        let mut error = Error::client(StatusCode::NOT_FOUND, "model_not_found", message);
        error.param = Some("model".into());
        return Err(error);
    };
    Ok(respond::json(&object(name, &owner(&found.model))))
}

/// The provider of the first target: the nearest thing to an owner that a route has.
fn owner(model: &Model) -> Arc<str> {
    model.targets.first().map_or_else(|| "switchboard".into(), |target| target.provider.name.clone())
}

fn object(name: &str, owner: &str) -> Value {
    // OpenAI's clients require `created`; a route has no date of its own.
    json!({ "id": name, "object": "model", "created": 0, "owned_by": owner })
}
