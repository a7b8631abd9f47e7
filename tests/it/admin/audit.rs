//! What administrators did is told by the audit log, over the admin API.

use serde_json::{Value, json};

use super::{changes::make, gate};
use crate::harness::{ADMIN, millis};

#[tokio::test]
async fn every_change_is_told_with_its_before_and_after_and_no_secret() {
    let gate = gate("").await;
    let mut secrets = Vec::new();
    let (id, secret) = make(&gate, json!({ "name": "ci", "models": ["m"] })).await;
    secrets.push(secret);
    let path = format!("/admin/v1/keys/{id}");
    let steps = [
        ("PATCH", path.clone(), json!({ "models": ["*"], "name": "ci" })),
        ("PATCH", path.clone(), json!({ "name": "ci" })),
        ("POST", format!("{path}/rotate"), json!({ "overlap": "0s" })),
        ("POST", "/admin/v1/projects".to_owned(), json!({ "id": "search", "models": [] })),
        ("POST", "/admin/v1/projects/search/archive".to_owned(), json!({})),
        ("DELETE", path.clone(), Value::Null),
    ];
    for (method, path, body) in steps {
        gate.advance(millis(5)).await;
        let answer = gate.manage(method, &path, body).await;
        assert!(answer.status < 300, "{}", answer.text());
        secrets.extend(answer.json()["key"].as_str().map(str::to_owned));
    }
    let answer = gate.manage("GET", "/admin/v1/audit", Value::Null).await;
    for secret in secrets.iter().map(String::as_str).chain([ADMIN]) {
        assert!(!answer.text().contains(secret), "{}", answer.text());
    }
    let entries = answer.json()["data"].as_array().unwrap().clone();
    let told: Vec<_> = entries.iter().map(|one| one["action"].as_str().unwrap()).collect();
    let wanted = ["key.revoke", "project.archive", "project.create", "key.rotate", "key.update", "key.create"];
    assert_eq!(told, wanted, "what changed nothing is not told");
    for entry in &entries {
        assert_eq!((&entry["actor"], &entry["address"]), (&json!("admin_key"), &json!("127.0.0.1")));
    }
    assert_eq!(entries[4]["changes"], json!({ "models": { "before": ["m"], "after": ["*"] } }));
    assert_eq!((&entries[4]["kind"], &entries[4]["object"]), (&json!("key"), &json!(id)));

    let count = async |query: &str| {
        let page = gate.manage("GET", &format!("/admin/v1/audit?{query}"), Value::Null).await;
        assert_eq!(page.status, 200, "{}", page.text());
        page.json()["data"].as_array().unwrap().len()
    };
    assert_eq!(count("kind=project").await, 2);
    assert_eq!(count(&format!("object={id}")).await, 4);
    assert_eq!(count("action=key.rotate&actor=admin_key").await, 1);
    assert_eq!(count("actor=command").await, 0);
    assert_eq!(count("until=2020-01-01").await, 0);
    assert_eq!(count("since=2020-01-01&tz=Europe/Berlin").await, 6);
    let (mut seen, mut cursor) = (0, String::new());
    loop {
        let page = gate.manage("GET", &format!("/admin/v1/audit?limit=4{cursor}"), Value::Null).await.json();
        seen += page["data"].as_array().unwrap().len();
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, 6);
    gate.finish().await;
}
