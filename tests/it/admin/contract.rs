//! The OpenAPI document against the routes: each real answer fits its schema, and each parameter is taken.

use serde_json::{Value, json};

use super::{ADMIN, book, call, gate, ulid};
use crate::harness::{Gate, Rows};

async fn document(gate: &Gate) -> Value {
    gate.admin("/admin/v1/openapi.json", Some(ADMIN)).await.json()
}

/// Why `instance` does not fit what the document says of `path` and `status`; empty when it does.
fn misfits(document: &Value, path: &str, status: u16, instance: &Value) -> Vec<String> {
    misfits_of(document, "get", path, status, instance)
}

fn misfits_of(document: &Value, method: &str, path: &str, status: u16, instance: &Value) -> Vec<String> {
    let operation = &document["paths"][path][method];
    misfits_with(
        document,
        &operation["responses"][status.to_string()]["content"]["application/json"]["schema"],
        instance,
    )
}

fn misfits_with(document: &Value, schema: &Value, instance: &Value) -> Vec<String> {
    if schema.is_null() {
        return vec!["the document has none".to_owned()];
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
async fn every_change_is_asked_for_and_answered_as_the_document_says() {
    let gate = gate("").await;
    let document = closed(document(&gate).await);
    let (key, project) = ("/admin/v1/keys/{id}", "/admin/v1/projects/{id}");
    let (archive, unarchive) = ("/admin/v1/projects/{id}/archive", "/admin/v1/projects/{id}/unarchive");
    let all = json!({ "name": "n", "project": "search", "tags": ["t"], "models": ["m"], "endpoints": ["chat"],
        "addresses": ["::1"], "max_tokens": 5, "log_content": true, "expires": "2099-01-01T00:00:00Z" });
    let project_body = json!({ "id": "search", "name": "S", "tags": [], "models": [], "endpoints": [], "addresses": [],
                                "log_content": null });
    let quota = json!({ "scope": "global", "measure": "usd", "limit": "0.5", "window": "day" });
    let nulls = json!({ "max_tokens": null, "log_content": null, "expires": null, "enabled": true });
    // In this order: each with what it is sent, its status, and whether the document allows that body.
    let cases = [
        ("post", "/admin/v1/projects", project_body.clone(), 201, true),
        ("post", "/admin/v1/projects", project_body, 409, true),
        ("post", "/admin/v1/projects", json!({ "id": "x" }), 400, false),
        ("patch", project, json!({ "models": ["*"], "name": "T" }), 200, true),
        ("patch", project, json!({ "log_content": false }), 200, true),
        ("patch", project, json!({ "log_content": "no" }), 400, false),
        ("patch", project, json!({ "id": "y" }), 400, false),
        ("post", "/admin/v1/keys", all, 201, true),
        ("post", "/admin/v1/keys", json!({ "name": "n", "models": "*" }), 400, false),
        ("get", "/admin/v1/keys", Value::Null, 200, true),
        ("get", key, Value::Null, 200, true),
        ("patch", key, nulls, 200, true),
        ("patch", key, json!({ "models": null }), 400, false),
        ("post", "/admin/v1/keys/{id}/rotate", json!({ "overlap": "1h" }), 200, true),
        ("post", "/admin/v1/keys/{id}/rotate", Value::Null, 200, true),
        ("delete", key, Value::Null, 200, true),
        ("patch", key, json!({}), 409, true),
        ("post", archive, Value::Null, 200, true),
        ("post", unarchive, json!({}), 200, true),
        ("post", "/admin/v1/quotas", quota, 201, true),
        ("get", "/admin/v1/quotas", Value::Null, 200, true),
        ("get", "/admin/v1/quotas/{id}", Value::Null, 200, true),
        ("get", "/admin/v1/projects", Value::Null, 200, true),
        ("get", project, Value::Null, 200, true),
        ("get", "/admin/v1/audit", Value::Null, 200, true),
    ];
    let mut rows = Rows::new();
    let (mut id, mut quota_id) = (String::new(), String::new());
    for (method, path, body, status, is_allowed) in cases {
        rows.row(format!("{method} {path} {body}"));
        let one = match path {
            path if path.contains("projects") => "search",
            path if path.contains("quotas") => &quota_id,
            _ => &id,
        };
        let url = path.replace("{id}", one);
        let answer = gate.manage(&method.to_uppercase(), &url, body.clone()).await;
        rows.equal("status", answer.status, status);
        rows.equal("misfits", misfits_of(&document, method, path, answer.status, &answer.json()), vec![]);
        if !body.is_null() {
            let schema = &document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"];
            rows.equal(
                "the body is as the document says",
                misfits_with(&document, schema, &body).is_empty(),
                is_allowed,
            );
        }
        if (method, path, status) == ("post", "/admin/v1/keys", 201) {
            id = answer.json()["id"].as_str().unwrap().to_owned();
        }
        if (method, path) == ("post", "/admin/v1/quotas") {
            quota_id = answer.json()["id"].as_str().unwrap().to_owned();
        }
    }
    rows.finish();
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
        "since" | "until" => "2026-11-01",
        "state" => "active",
        _ => "x",
    };
    let mut rows = Rows::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(parameters) = item["get"]["parameters"].as_array() else { continue };
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
            // A cursor of the ledger that nobody gave out is known by its name, and refused for what it is. Others are ids.
            let is_ledger = ["usage", "requests"].iter().any(|word| path.contains(word));
            let expected = if name == "cursor" && is_ledger { "invalid_parameter" } else { "" };
            rows.holds(
                "taken",
                code == expected || (path.contains("{id}") && code.ends_with("_not_found")),
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
        for (method, operation) in item.as_object().unwrap() {
            operations.push(operation["operationId"].as_str().unwrap().to_owned());
            assert!(operation["x-permission"].is_string(), "{method} {path} names no permission");
            let parameters = operation["parameters"].as_array().unwrap().iter();
            let in_path = parameters.filter(|parameter| parameter["in"] == "path");
            assert_eq!(in_path.count(), path.matches('{').count(), "{method} {path}");
            let takes_body = ["post", "patch"].contains(&method.as_str());
            assert_eq!(operation["requestBody"].is_object(), takes_body, "{method} {path}");
        }
    }
    let all = operations.len();
    operations.sort();
    operations.dedup();
    assert_eq!(operations.len(), all, "operation ids are unique");
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
