//! The OpenAPI document against the routes: each real answer fits its schema, and each parameter is taken.

use serde_json::{Value, json};

use super::{ADMIN, book, call, gate, ulid};
use crate::harness::{Gate, Rows};

async fn document(gate: &Gate) -> Value {
    gate.admin("/admin/v1/openapi.json", Some(ADMIN)).await.json()
}

/// Why `instance` does not fit what the document says of `path` and `status`; empty when it does.
fn misfits(document: &Value, path: &str, status: u16, instance: &Value) -> Vec<String> {
    let schema =
        &document["paths"][path]["get"]["responses"][status.to_string()]["content"]["application/json"]["schema"];
    if schema.is_null() {
        return vec![format!("the document has no {status}")];
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "allOf": [schema],
        "components": document["components"],
    });
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    validator.iter_errors(instance).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Every object of the answer names only members that the schema knows.
fn closed(mut document: Value) -> Value {
    for schema in document["components"]["schemas"].as_object_mut().unwrap().values_mut() {
        if schema["type"] == "object" && schema["additionalProperties"].is_null() {
            schema["additionalProperties"] = false.into();
        }
    }
    document
}

#[tokio::test]
async fn every_answer_is_as_the_document_says() {
    let gate = gate("auth: { wrong_keys_per_minute: 1 }").await;
    book(&gate, &[call(1, 0, "ci", "big", Some(375)), call(2, 1, "ci", "small", None)]).await;
    let document = closed(document(&gate).await);
    let id = ulid(super::NOON, 1);
    let known = format!("/admin/v1/requests/{id}");
    let november = "/admin/v1/usage?from=2026-11-01&to=2026-12-01";
    let (by_day, paged) =
        (format!("{november}&bucket=day&group_by=key,tag"), format!("{november}&group_by=model&limit=1"));
    let cases = [
        ("/admin/v1/usage", november, Some(ADMIN), 200),
        ("/admin/v1/usage", &by_day, Some(ADMIN), 200),
        ("/admin/v1/usage", &paged, Some(ADMIN), 200),
        ("/admin/v1/usage", "/admin/v1/usage?x=1", Some(ADMIN), 400),
        ("/admin/v1/usage", "/admin/v1/usage", None, 401),
        ("/admin/v1/usage", "/admin/v1/usage", Some(crate::harness::KEY), 403),
        ("/admin/v1/requests", "/admin/v1/requests", Some(ADMIN), 200),
        ("/admin/v1/requests", "/admin/v1/requests?limit=1", Some(ADMIN), 200),
        ("/admin/v1/requests", "/admin/v1/requests?limit=x", Some(ADMIN), 400),
        ("/admin/v1/requests/{id}", &known, Some(ADMIN), 200),
        ("/admin/v1/requests/{id}", "/admin/v1/requests/x", Some(ADMIN), 404),
        ("/admin/v1/openapi.json", "/admin/v1/openapi.json", Some(ADMIN), 200),
        ("/admin/v1/openapi.json", "/admin/v1/openapi.json", Some("it-wrong-0123456789"), 401),
        ("/admin/v1/openapi.json", "/admin/v1/openapi.json", Some("it-wrong-0123456789"), 429),
    ];
    let mut rows = Rows::new();
    for (path, url, key, status) in cases {
        rows.row(url);
        let answer = gate.admin(url, key).await;
        rows.equal("status", answer.status, status);
        rows.equal("misfits", misfits(&document, path, answer.status, &answer.json()), vec![]);
    }
    rows.finish();
    // The check can fail.
    let broken = json!({ "data": [], "next_cursor": 7 });
    assert!(!misfits(&document, "/admin/v1/requests", 200, &broken).is_empty());
    assert!(!misfits(&document, "/admin/v1/usage", 200, &json!({})).is_empty());
    gate.finish().await;
}

#[tokio::test]
async fn every_parameter_of_the_document_is_taken_and_no_other() {
    let gate = gate("").await;
    let document = document(&gate).await;
    let value = |name: &str| match name {
        "group_by" => "model,key",
        "bucket" => "day",
        "tz" => "Europe/Berlin",
        "from" => "2026-11-01",
        "to" => "2026-11-30",
        "limit" => "5",
        "outcome" => "ok",
        _ => "x",
    };
    let mut rows = Rows::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let parameters = item["get"]["parameters"].as_array().unwrap();
        for parameter in parameters.iter().filter(|parameter| parameter["in"] == "query") {
            let name = parameter["name"].as_str().unwrap();
            rows.row(format!("{path} {name}"));
            let mut url = format!("{}?{name}={}", path.replace("{id}", "x"), value(name));
            // Of last November, whenever this runs.
            if name == "to" {
                url.push_str("&from=2026-11-01");
            }
            let answer = gate.admin(&url, Some(ADMIN)).await;
            let code = answer.code();
            // A cursor that nobody gave out is known by its name, and refused for what it is.
            let expected = if name == "cursor" { "invalid_parameter" } else { "" };
            rows.holds(
                "taken",
                code == expected || (path.contains("{id}") && code == "request_not_found"),
                answer.text(),
            );
            rows.holds(
                "described",
                parameter["description"].is_string()
                    || parameter["schema"]["description"].is_string()
                    || parameter["schema"]["$ref"].is_string(),
                parameter,
            );
        }
        rows.row(format!("{path} and a name it does not have"));
        let url = format!("{}?zzz=1", path.replace("{id}", "x"));
        rows.equal("code", gate.admin(&url, Some(ADMIN)).await.code(), "unknown_parameter".to_owned());
    }
    rows.finish();
    gate.finish().await;
}

#[tokio::test]
async fn the_document_is_whole() {
    let gate = gate("").await;
    let document = document(&gate).await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(&document, switchboard::http::openapi(), "the command prints what is served");
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let operation = &item["get"];
        operations.push(operation["operationId"].as_str().unwrap().to_owned());
        assert!(operation["x-permission"].is_string(), "{path} names no permission");
        let in_path = operation["parameters"].as_array().unwrap().iter().filter(|parameter| parameter["in"] == "path");
        assert_eq!(in_path.count(), path.matches('{').count(), "{path}");
    }
    operations.sort();
    operations.dedup();
    assert_eq!(operations.len(), document["paths"].as_object().unwrap().len(), "operation ids are unique");
    // Every reference leads somewhere, and every schema is one.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::meta::is_valid(schema), "{name} is no schema");
    }
    gate.finish().await;
}
