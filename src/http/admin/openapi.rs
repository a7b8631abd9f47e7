//! The OpenAPI 3.1 document, put together from the table of routes and the types their handlers use.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use http::Method;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Endpoint, Surface, endpoint::Answer};
use crate::error::Error;

pub(super) const SUMMARY: &str = "This document";

/// There are none.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NoParameters {}

/// An OpenAPI 3.1 document.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub(super) struct Document(Map<String, Value>);

impl Answer for Document {}

/// Every error, as on the other routes.
#[derive(JsonSchema)]
#[schemars(rename = "Error")]
#[expect(dead_code, reason = "its schema is what it is for; errors are written by `wire`")]
struct ErrorBody {
    error: ErrorObject,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "its schema is what it is for; errors are written by `wire`")]
struct ErrorObject {
    /// A sentence that says what is wrong and what to do.
    message: String,
    /// By status, as OpenAI names them.
    r#type: String,
    /// The parameter at fault, where there is one.
    param: Option<String>,
    /// A stable word to match on.
    code: String,
}

/// The statuses of errors, and when they are given. 404 is for routes that name one thing, the last ones are for those
/// that change one.
const ERRORS: [(&str, &str); 11] = [
    ("400", "A parameter or a member of the body is unknown, given twice or not what it must be; `param` names it"),
    ("401", "The admin key is missing or wrong"),
    ("403", "A key that makes calls was sent in place of the admin key"),
    ("404", "There is no such thing"),
    ("429", "Too many wrong keys came from this address"),
    ("500", "The gateway failed"),
    ("503", "The database did not answer; `Retry-After` says when to try again"),
    ("409", "It cannot be done to this thing: it is there already, revoked, or declared in the configuration file"),
    ("412", "The thing is at another version than `If-Match` says"),
    ("413", "The body is too large"),
    ("415", "The body is compressed"),
];

/// The errors of changes, and of these those about a body.
const OF_CHANGES: [&str; 4] = ["409", "412", "413", "415"];
const OF_BODIES: [&str; 2] = ["413", "415"];

pub(super) fn get(_: Arc<Surface>, _: NoParameters) -> Ready<Result<Document, Error>> {
    ready(Ok(Document(super::document().as_object().cloned().unwrap_or_default())))
}

/// The document of these routes.
pub(super) fn document(endpoints: &[Endpoint]) -> Value {
    let in_place = |settings: &mut SchemaSettings| settings.definitions_path = "/components/schemas".into();
    let mut generator = SchemaSettings::draft2020_12().with(in_place).into_generator();
    let error = generator.subschema_for::<ErrorBody>().to_value();
    let mut paths = Map::new();
    for endpoint in endpoints {
        let method = endpoint.method.as_str().to_ascii_lowercase();
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[method] = operation(endpoint, &error, &mut generator);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Switchboard admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Keys, projects, and what was used and what it cost. Amounts are exact: dollars as decimal \
                            text, and whole nano-dollars.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "adminKey": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "adminKey": { "type": "http", "scheme": "bearer", "description": "The gateway's admin key." },
            },
            "schemas": generator.take_definitions(true),
        },
    })
}

fn operation(endpoint: &Endpoint, error: &Value, generator: &mut SchemaGenerator) -> Value {
    let answer = (endpoint.answer)(generator).to_value();
    let ok = json!({ "description": "The answer", "content": { "application/json": { "schema": answer } } });
    let mut responses = Map::from_iter([(endpoint.status.as_str().to_owned(), ok)]);
    let is_given = |status: &str| match status {
        "404" => endpoint.path.contains('{'),
        status if OF_BODIES.contains(&status) => endpoint.body.is_some(),
        status => endpoint.method != Method::GET || !OF_CHANGES.contains(&status),
    };
    for (status, description) in ERRORS.iter().filter(|(status, _)| is_given(status)) {
        let content = json!({ "application/json": { "schema": error } });
        responses.insert((*status).to_owned(), json!({ "description": description, "content": content }));
    }
    let mut operation = json!({
        "operationId": endpoint.operation,
        "summary": endpoint.summary,
        "x-permission": endpoint.permission.as_str(),
        "parameters": parameters(endpoint, generator),
        "responses": responses,
    });
    if let Some(body) = endpoint.body {
        let schema = body(generator).to_value();
        let is_required = schema_of(&schema, generator).get("required").is_some();
        operation["requestBody"] =
            json!({ "required": is_required, "content": { "application/json": { "schema": schema } } });
    }
    operation
}

/// The schema itself, where a reference to it stands.
fn schema_of(schema: &Value, generator: &SchemaGenerator) -> Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.rsplit('/').next());
    name.and_then(|name| generator.definitions().get(name)).unwrap_or(schema).clone()
}

/// Each member of the type that a handler takes is a parameter: of the path if the path names it, else of the query.
fn parameters(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Vec<Value> {
    let schema = (endpoint.parameters)(generator).to_value();
    let required = |name: &str| {
        schema.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|known| known == name))
    };
    let members = schema.get("properties").and_then(Value::as_object);
    let one = |(name, schema): (&String, &Value)| {
        let in_path = endpoint.path.contains(&format!("{{{name}}}"));
        let mut schema = schema.clone();
        let description = schema.as_object_mut().and_then(|members| members.remove("description"));
        let mut parameter = json!({
            "name": name,
            "in": if in_path { "path" } else { "query" },
            "required": in_path || required(name),
            "schema": schema,
        });
        if let Some(description) = description {
            parameter["description"] = description;
        }
        // A list is written with commas.
        if parameter["schema"]["type"] == "array" {
            parameter["style"] = "form".into();
            parameter["explode"] = false.into();
        }
        parameter
    };
    let match_header = json!({
        "name": "If-Match",
        "in": "header",
        "required": false,
        "schema": { "type": "string" },
        "description": "The `ETag` that the thing was read with: it is changed only if it is still the same.",
    });
    let changes_one = endpoint.method != Method::GET && endpoint.path.contains('{');
    members.into_iter().flatten().map(one).chain(changes_one.then_some(match_header)).collect()
}
