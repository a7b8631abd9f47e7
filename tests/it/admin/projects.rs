//! Projects over the admin API, and what becomes of their keys.

use serde_json::{Value, json};

use super::{changes::make, gate};
use crate::harness::Rows;

#[tokio::test]
async fn a_project_is_made_seen_changed_and_archived() {
    let gate = gate("projects: { filed: { models: [m] } }\nmodels: { m: { targets: [a/up] } }").await;
    let wanted = json!({
        "id": "search", "name": "Search team", "tags": ["eu"], "models": ["m"], "endpoints": ["chat"],
        "addresses": ["127.0.0.1"],
    });
    let answer = gate.manage("POST", "/admin/v1/projects", wanted.clone()).await;
    assert_eq!((answer.status, answer.header("etag")), (201, "\"1\""), "{}", answer.text());
    let made = answer.json();
    for (member, value) in wanted.as_object().unwrap() {
        assert_eq!(&made[member], value, "what is answered is what was sent: {member}");
    }
    let path = "/admin/v1/projects/search";
    assert_eq!(gate.manage("GET", path, Value::Null).await.json(), made);
    let (_, key) = make(&gate, json!({ "name": "ci", "project": "search", "models": ["*"] })).await;
    assert_eq!(gate.chat_as(&key, "m").await.status, 200);

    let edited = gate.manage("PATCH", path, json!({ "models": ["other"] })).await;
    assert_eq!((edited.status, edited.header("etag"), &edited.json()["name"]), (200, "\"2\"", &json!("Search team")));
    assert_eq!(gate.chat_as(&key, "m").await.code(), "model_not_allowed");
    gate.manage("PATCH", path, json!({ "models": ["*"] })).await;
    assert_eq!(gate.chat_as(&key, "m").await.status, 200);

    let archived = gate.manage("POST", &format!("{path}/archive"), Value::Null).await.json();
    assert_eq!((&archived["is_archived"], archived["archived"].is_string()), (&json!(true), true));
    let refused = gate.chat_as(&key, "m").await;
    assert_eq!((refused.status, refused.code()), (403, "project_archived".to_owned()));
    let into = gate.manage("POST", "/admin/v1/keys", json!({ "name": "x", "project": "search", "models": [] })).await;
    assert_eq!((into.status, into.json()["error"]["param"].as_str()), (400, Some("project")));
    gate.manage("POST", &format!("{path}/unarchive"), json!({})).await;
    assert_eq!(gate.chat_as(&key, "m").await.status, 200);

    let page = gate.manage("GET", "/admin/v1/projects?limit=2", Value::Null).await.json();
    let ids = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((ids(&page), page["next_cursor"].as_str()), (vec!["default".into(), "filed".into()], Some("filed")));
    let page = gate.manage("GET", "/admin/v1/projects?limit=2&cursor=filed", Value::Null).await.json();
    assert_eq!((ids(&page), &page["next_cursor"]), (vec!["search".into()], &Value::Null));
    gate.finish().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_changes_nothing() {
    let gate = gate("projects: { filed: { models: [m] } }\nmodels: { m: { targets: [a/up] } }").await;
    let before = gate.manage("GET", "/admin/v1/projects", Value::Null).await.json();
    let post = |body: Value| ("POST", "/admin/v1/projects", body);
    let cases = [
        (post(json!({ "id": "A", "models": [] })), 400, "invalid_body", "id"),
        (post(json!({ "id": "a" })), 400, "invalid_body", "models"),
        (post(json!({ "id": "a", "models": ["*/*"] })), 400, "invalid_body", "models[0]"),
        (post(json!({ "id": "a", "models": [], "endpoint": [] })), 400, "unknown_field", "endpoint"),
        (post(json!({ "id": "default", "models": [] })), 409, "project_exists", ""),
        (post(json!({ "id": "filed", "models": [] })), 409, "declared_in_file", ""),
        (("PATCH", "/admin/v1/projects/filed", json!({ "models": [] })), 409, "declared_in_file", ""),
        (("POST", "/admin/v1/projects/filed/archive", json!({})), 409, "declared_in_file", ""),
        (("POST", "/admin/v1/projects/default/archive", json!({ "now": true })), 400, "unknown_field", "now"),
        (("PATCH", "/admin/v1/projects/nobody", json!({})), 404, "project_not_found", ""),
        (("PATCH", "/admin/v1/projects/default", json!({ "id": "x" })), 400, "unknown_field", "id"),
        (("PATCH", "/admin/v1/projects/default", json!({ "name": null })), 400, "invalid_body", "name"),
    ];
    let mut rows = Rows::new();
    for ((method, path, body), status, code, param) in cases {
        rows.row(format!("{method} {path} {body}"));
        let answer = gate.manage(method, path, body).await;
        rows.equal("answer", (answer.status, answer.code()), (status, code.to_owned()));
        rows.equal("param", answer.json()["error"]["param"].as_str().unwrap_or_default().to_owned(), param.to_owned());
    }
    rows.row("afterwards");
    rows.equal("nothing has changed", gate.manage("GET", "/admin/v1/projects", Value::Null).await.json(), before);
    rows.finish();
    gate.finish().await;
}
