//! Keys over the admin API: made, seen, changed, rotated and revoked, and what is refused.

use serde_json::{Value, json};

use super::gate;
use crate::harness::{Gate, KEY, Rows, secs};

pub(super) async fn make(gate: &Gate, body: Value) -> (String, String) {
    let answer = gate.manage("POST", "/admin/v1/keys", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let made = answer.json();
    (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_key_may_be_made_that_is_not_in_use_yet() {
    let gate = gate("").await;
    let answer =
        gate.manage("POST", "/admin/v1/keys", json!({ "name": "later", "models": ["m"], "enabled": false })).await;
    let made = answer.json();
    assert_eq!((answer.status, &made["enabled"], &made["state"]), (201, &json!(false), &json!("disabled")));
    let secret = made["key"].as_str().unwrap();
    assert_eq!(gate.chat_as(secret, "m").await.code(), "disabled_api_key");
    let path = format!("/admin/v1/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(gate.manage("PATCH", &path, json!({ "enabled": true })).await.status, 200);
    assert_eq!(gate.chat_as(secret, "m").await.status, 200);
    gate.finish().await;
}

#[tokio::test]
async fn a_key_is_made_seen_changed_rotated_and_revoked() {
    let gate = gate("").await;
    let wanted = json!({
        "name": "ci", "project": "default", "tags": ["team:search"], "models": ["m", "openai/*"],
        "endpoints": ["chat", "models"], "addresses": ["127.0.0.0/8", "::1"], "max_tokens": 50,
        "expires": "2099-01-01T00:00:00Z",
    });
    let answer = gate.manage("POST", "/admin/v1/keys", wanted.clone()).await;
    let made = answer.json();
    assert_eq!((answer.status, answer.header("etag")), (201, "\"1\""));
    let (id, secret) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(secret.starts_with("sk-sb-") && secret.ends_with(made["hint"].as_str().unwrap()));
    for (member, value) in wanted.as_object().unwrap() {
        assert_eq!(&made[member], value, "what is answered is what was sent: {member}");
    }
    assert_eq!((&made["state"], &made["declared"], &made["revoked"]), (&json!("active"), &json!(false), &Value::Null));
    assert_eq!(gate.chat_as(secret, "m").await.status, 200);

    let path = format!("/admin/v1/keys/{id}");
    let seen = gate.manage("GET", &path, Value::Null).await;
    assert!(!seen.text().contains(secret), "the secret is shown once");
    let mut same = made.clone();
    same.as_object_mut().unwrap().remove("key");
    assert_eq!((seen.json(), seen.header("etag")), (same, "\"1\""));

    let edit = json!({ "name": "web", "max_tokens": null, "expires": null, "enabled": false });
    let edited = gate.manage("PATCH", &path, edit).await;
    assert_eq!((edited.status, edited.header("etag")), (200, "\"2\""));
    let edited = edited.json();
    assert_eq!((&edited["name"], &edited["state"]), (&json!("web"), &json!("disabled")));
    assert_eq!(
        (&edited["max_tokens"], &edited["expires"], &edited["tags"]),
        (&Value::Null, &Value::Null, &made["tags"])
    );
    assert_eq!(gate.chat_as(secret, "m").await.code(), "disabled_api_key");
    gate.manage("PATCH", &path, json!({ "enabled": true })).await;

    let rotated = gate.manage("POST", &format!("{path}/rotate"), json!({ "overlap": "1h" })).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    let rotated = rotated.json();
    let new = rotated["key"].as_str().unwrap();
    assert_eq!((&rotated["id"], &rotated["old_secret"]["hint"]), (&made["id"], &made["hint"]));
    for key in [secret, new] {
        assert_eq!(gate.chat_as(key, "m").await.status, 200);
    }
    gate.advance(secs(3_600)).await;
    assert_eq!(gate.chat_as(secret, "m").await.code(), "rotated_api_key");
    assert_eq!(gate.chat_as(new, "m").await.status, 200);
    assert_eq!(gate.manage("GET", &path, Value::Null).await.json()["old_secret"], Value::Null);
    // Without a body the overlap is a day.
    let day = gate.manage("POST", &format!("{path}/rotate"), Value::Null).await.json();
    assert!(day["old_secret"]["until"].is_string());
    assert_eq!(gate.chat_as(new, "m").await.status, 200);

    for _ in 0..2 {
        let revoked = gate.manage("DELETE", &path, Value::Null).await;
        assert_eq!((revoked.status, &revoked.json()["state"]), (200, &json!("revoked")));
    }
    assert_eq!(gate.chat_as(new, "m").await.code(), "revoked_api_key");
    let closed = gate.manage("PATCH", &path, json!({ "enabled": true })).await;
    assert_eq!((closed.status, closed.code()), (409, "key_revoked".to_owned()));
    let (_, rows) = gate.finish_books().await;
    assert!(rows.iter().all(|row| *row.who.key_id == *id), "every call of either secret is the key's");
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_path_and_changes_nothing() {
    let gate = gate("").await;
    let (id, _) = make(&gate, json!({ "name": "a", "models": ["*"] })).await;
    let one = format!("/admin/v1/keys/{id}");
    let before = gate.manage("GET", "/admin/v1/keys", Value::Null).await.json();
    let past = "2020-01-01T00:00:00Z";
    let long: Vec<String> = (0..501).map(|n| n.to_string()).collect();
    let post = |body: Value| ("POST", "/admin/v1/keys", body);
    let patch = |body: Value| ("PATCH", one.as_str(), body);
    let cases = [
        (post(json!({ "name": "b", "model": ["*"] })), 400, "unknown_field", "model", "Did you mean `models`?"),
        (post(json!({ "name": "b" })), 400, "invalid_body", "models", "missing field `models`"),
        (post(json!({ "name": "b", "models": "*" })), 400, "invalid_body", "models", "sequence"),
        (post(json!({ "name": "b", "models": ["a", "*/*"] })), 400, "invalid_body", "models[1]", "more than one `*`"),
        (post(json!({ "name": "b", "models": long })), 400, "invalid_body", "models", "at most 500"),
        (post(json!({ "name": " ", "models": [] })), 400, "invalid_body", "name", "needs a name"),
        (
            post(json!({ "name": "b", "models": [], "endpoints": ["chta"] })),
            400,
            "invalid_body",
            "endpoints[0]",
            "`chat`?",
        ),
        (
            post(json!({ "name": "b", "models": [], "addresses": ["10.1.1.1/8"] })),
            400,
            "invalid_body",
            "addresses[0]",
            "10.0.0.0/8",
        ),
        (post(json!({ "name": "b", "models": [], "max_tokens": 0 })), 400, "invalid_body", "max_tokens", "0"),
        (post(json!({ "name": "b", "models": [], "max_tokens": -1 })), 400, "invalid_body", "max_tokens", "-1"),
        (post(json!({ "name": "b", "models": [], "expires": past })), 400, "invalid_body", "expires", "in the past"),
        (
            post(json!({ "name": "b", "models": [], "expires": "soon" })),
            400,
            "invalid_body",
            "expires",
            "neither a date",
        ),
        (
            post(json!({ "name": "b", "models": [], "project": "nobody" })),
            400,
            "invalid_body",
            "project",
            "does not exist",
        ),
        (post(json!({ "name": "b", "models": [], "tags": ["a b"] })), 400, "invalid_body", "tags[0]", "visible ASCII"),
        (post(json!({ "models": [] })), 400, "invalid_body", "name", "missing field"),
        (post(json!({ "name": "b", "models": [], "enabled": 1 })), 400, "invalid_body", "enabled", "boolean"),
        (post(json!([])), 400, "invalid_json", "", "JSON object"),
        (patch(json!({ "enabld": false })), 400, "unknown_field", "enabld", "Did you mean `enabled`?"),
        (patch(json!({ "models": null })), 400, "invalid_body", "models", "null"),
        (
            patch(json!({ "name": "x", "addresses": ["nowhere"] })),
            400,
            "invalid_body",
            "addresses[0]",
            "neither an address",
        ),
        (patch(json!({ "version": 7 })), 400, "unknown_field", "version", "There are"),
        (("PATCH", "/admin/v1/keys/nobody", json!({})), 404, "key_not_found", "", "no key"),
        (("GET", "/admin/v1/keys/nobody", Value::Null), 404, "key_not_found", "", "no key"),
        (("DELETE", "/admin/v1/keys/declared:tests", Value::Null), 409, "declared_in_file", "", "configuration file"),
        (("PATCH", "/admin/v1/keys/declared:tests", json!({ "enabled": false })), 409, "declared_in_file", "", "file"),
        (("POST", "/admin/v1/keys/nobody/rotate", json!({ "overlap": "soon" })), 400, "invalid_body", "overlap", "20s"),
        (
            ("POST", "/admin/v1/keys/nobody/rotate", json!({ "overlp": "1h" })),
            400,
            "unknown_field",
            "overlp",
            "`overlap`?",
        ),
        (("GET", "/admin/v1/keys?stat=active", Value::Null), 400, "unknown_parameter", "stat", "`state`?"),
        (("GET", "/admin/v1/keys?state=actve", Value::Null), 400, "invalid_parameter", "state", "active"),
        (("PUT", "/admin/v1/keys", json!({})), 405, "method_not_allowed", "", "PUT"),
    ];
    let mut rows = Rows::new();
    for ((method, path, body), status, code, param, words) in cases {
        rows.row(format!("{method} {path} {body}"));
        let answer = gate.manage(method, path, body).await;
        rows.equal("answer", (answer.status, answer.code()), (status, code.to_owned()));
        let error = answer.json()["error"].clone();
        rows.equal("param", error["param"].as_str().unwrap_or_default(), param);
        let message = error["message"].as_str().unwrap_or_default().to_owned();
        rows.holds("message", message.contains(words), &message);
    }
    let huge = format!("{{\"name\":\"{}\"}}", "x".repeat(70_000));
    rows.row("a body that is too large");
    let answer = gate.manage_with("POST", "/admin/v1/keys", huge, &[]).await;
    rows.equal("answer", (answer.status, answer.code()), (413, "body_too_large".to_owned()));
    rows.row("a member that is there twice");
    let twice = r#"{"name":"a","models":[],"models":["*"]}"#.to_owned();
    rows.equal(
        "code",
        gate.manage_with("POST", "/admin/v1/keys", twice, &[]).await.code(),
        "duplicate_field".to_owned(),
    );
    rows.row("an API key in place of the admin key");
    let bearer = format!("Bearer {KEY}");
    let body = json!({ "name": "b", "models": ["*"] }).to_string();
    let answer = gate.manage_with("POST", "/admin/v1/keys", body, &[("authorization", &bearer)]).await;
    rows.equal("answer", (answer.status, answer.code()), (403, "admin_key_required".to_owned()));
    rows.row("afterwards");
    rows.equal("nothing has changed", gate.manage("GET", "/admin/v1/keys", Value::Null).await.json(), before);
    let audit = gate.manage("GET", "/admin/v1/audit", Value::Null).await.json();
    rows.equal("one thing was done", audit["data"].as_array().map(Vec::len), Some(1));
    rows.finish();
    gate.finish().await;
}

#[tokio::test]
async fn of_two_who_change_the_same_version_one_is_told() {
    let gate = gate("").await;
    let (id, _) = make(&gate, json!({ "name": "a", "models": ["*"] })).await;
    let path = format!("/admin/v1/keys/{id}");
    let tag = gate.manage("GET", &path, Value::Null).await.header("etag").to_owned();
    let change = async |name: &str, tag: &str| {
        let body = json!({ "name": name }).to_string();
        let answer = gate.manage_with("PATCH", &path, body, &[("if-match", tag)]).await;
        (answer.status, answer.code())
    };
    assert_eq!(change("b", &tag).await, (200, String::new()));
    assert_eq!(change("c", &tag).await, (412, "version_mismatch".to_owned()));
    assert_eq!(change("c", "*").await, (200, String::new()));
    assert_eq!(change("d", "W/\"1\"").await, (400, "invalid_parameter".to_owned()));
    let stale = gate.manage_with("DELETE", &path, String::new(), &[("if-match", &tag)]).await;
    assert_eq!(stale.status, 412);
    let seen = gate.manage("GET", &path, Value::Null).await.json();
    assert_eq!((&seen["name"], &seen["state"]), (&json!("c"), &json!("active")));
    gate.finish().await;
}

#[tokio::test]
async fn keys_are_listed_in_pages_with_those_of_the_file() {
    let gate = gate("").await;
    for n in 0..5 {
        make(&gate, json!({ "name": format!("key {}", n % 2), "models": ["*"] })).await;
    }
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = gate.manage("GET", &format!("/admin/v1/keys?limit=2{cursor}"), Value::Null).await.json();
        names.extend(page["data"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    // Made in one millisecond, the stored ones stand in the order of chance.
    names[..5].sort();
    assert_eq!(names, ["key 0", "key 0", "key 0", "key 1", "key 1", "tests"]);
    let count = async |query: &str| {
        let page = gate.manage("GET", &format!("/admin/v1/keys?{query}"), Value::Null).await.json();
        page["data"].as_array().unwrap().len()
    };
    assert_eq!(count("name=key+1").await, 2);
    assert_eq!(count("state=active&project=default").await, 6);
    assert_eq!(count("state=revoked").await, 0);
    let declared = gate.manage("GET", "/admin/v1/keys/declared:tests", Value::Null).await;
    assert_eq!((&declared.json()["declared"], &declared.json()["hint"]), (&json!(true), &Value::Null));
    assert!(!declared.text().contains(KEY));
    gate.finish().await;
}
