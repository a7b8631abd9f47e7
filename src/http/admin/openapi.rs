//! The OpenAPI 3.1 document, put together from the table of routes and the types their handlers use.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Endpoint, Surface};
use crate::{auth::Permission, error::Error};

pub(super) const SUMMARY: &str = "This document";

/// There are none.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NoParameters {}

/// An OpenAPI 3.1 document.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub(super) struct Document(Map<String, Value>);

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

/// The statuses of errors, and when they are given. 404 is for routes that name one thing.
const ERRORS: [(&str, &str); 7] = [
    ("400", "A parameter is unknown, given twice or not what it must be; `param` names it"),
    ("401", "The admin key is missing or wrong"),
    ("403", "A key that makes calls was sent in place of the admin key"),
    ("404", "There is no such thing"),
    ("429", "Too many wrong keys came from this address"),
    ("500", "The gateway failed"),
    ("503", "The database did not answer; `Retry-After` says when to try again"),
];

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
        paths.insert(endpoint.path.to_owned(), json!({ "get": operation(endpoint, &error, &mut generator) }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Switchboard admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What was used and what it cost. Amounts are exact: dollars as decimal text, and whole \
                            nano-dollars.",
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
    let mut responses = Map::from_iter([("200".to_owned(), ok)]);
    for (status, description) in ERRORS.iter().filter(|(status, _)| *status != "404" || endpoint.path.contains('{')) {
        let content = json!({ "application/json": { "schema": error } });
        responses.insert((*status).to_owned(), json!({ "description": description, "content": content }));
    }
    json!({
        "operationId": endpoint.operation,
        "summary": endpoint.summary,
        "x-permission": permission(endpoint.permission),
        "parameters": parameters(endpoint, generator),
        "responses": responses,
    })
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
    members.into_iter().flatten().map(one).collect()
}

fn permission(permission: Permission) -> &'static str {
    match permission {
        Permission::Usage => "usage",
        Permission::Requests => "requests",
        Permission::Contract => "contract",
    }
}
