//! Quotas over the admin API: made, seen, changed and deleted, by themselves or with a key or a project; and in force.

use serde_json::{Value, json};

use super::{changes::make, gate};
use crate::harness::{Gate, PrivatePostgres, Rows, millis, until};

/// One request a day for one key.
fn one_a_day(id: &str) -> Value {
    json!({ "name": "one a day", "scope": "key", "match": id, "measure": "requests", "limit": 1, "window": "24h" })
}

async fn refused(gate: &Gate, key: &str) -> bool {
    let answer = gate.chat_as(key, "m").await;
    assert!([200, 429].contains(&answer.status), "{}", answer.text());
    answer.status == 429
}

#[tokio::test]
async fn a_quota_is_made_in_force_changed_and_deleted() {
    let gate = gate("quotas: [{ name: filed, scope: key, measure: requests, limit: 1000, window: 1m }]").await;
    let (id, key) = make(&gate, json!({ "name": "ci", "models": ["*"] })).await;
    assert!(!refused(&gate, &key).await);
    let wanted = one_a_day(&id);
    let made = gate.manage("POST", "/admin/v1/quotas", wanted.clone()).await;
    assert_eq!((made.status, made.header("etag")), (201, "\"1\""), "{}", made.text());
    let made = made.json();
    assert_eq!((&made["quota"], &made["name"], &made["enabled"]), (&wanted, &json!("one a day"), &json!(true)));
    let path = format!("/admin/v1/quotas/{}", made["id"].as_str().unwrap());
    let mut seen = gate.manage("GET", &path, Value::Null).await.json();
    seen["used"] = Value::Null;
    assert_eq!(seen, made, "but for its use, which changes do not tell");

    // In force at once where it was made. What came before it counts, too: the ledger knows.
    let over = [refused(&gate, &key).await, refused(&gate, &key).await];
    assert!(over[1], "the second call at the latest");
    let edited = gate.manage("PATCH", &path, json!({ "limit": 5, "warn_at": [0.5] })).await;
    assert_eq!((edited.status, edited.header("etag")), (200, "\"2\""), "{}", edited.text());
    assert_eq!((&edited.json()["quota"]["limit"], &edited.json()["quota"]["match"]), (&json!(5), &json!(id)));
    assert!(!refused(&gate, &key).await);
    let until = "2099-01-01T00:00:00Z";
    gate.manage("PATCH", &path, json!({ "limit": 1, "raise": { "to": 9, "until": until } })).await;
    assert!(!refused(&gate, &key).await, "a raise holds");
    gate.manage("PATCH", &path, json!({ "raise": null })).await;
    assert!(refused(&gate, &key).await);
    gate.manage("PATCH", &path, json!({ "enabled": false })).await;
    assert!(!refused(&gate, &key).await);
    gate.manage("PATCH", &path, json!({ "enabled": true })).await;
    assert!(refused(&gate, &key).await);

    let of_key = gate.manage("GET", &format!("/admin/v1/quotas?key={id}"), Value::Null).await.json();
    assert_eq!(of_key["data"].as_array().unwrap().len(), 1);
    let all = gate.manage("GET", "/admin/v1/quotas", Value::Null).await.json();
    let ids: Vec<_> = all["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [made["id"].as_str().unwrap(), "declared:filed"]);

    let deleted = gate.manage("DELETE", &path, Value::Null).await;
    assert_eq!((deleted.status, deleted.json()["deleted"].is_string()), (200, true));
    assert!(!refused(&gate, &key).await);
    assert_eq!(gate.manage("GET", &path, Value::Null).await.code(), "quota_not_found");
    let audit = gate.manage("GET", "/admin/v1/audit?kind=quota", Value::Null).await.json();
    assert_eq!(audit["data"].as_array().unwrap().len(), 7);
    gate.finish().await;
}

#[tokio::test]
async fn a_key_and_a_project_are_made_with_quotas_of_their_own_or_not_at_all() {
    let gate = gate("").await;
    let own = json!([{ "name": "daily", "measure": "requests", "limit": 2, "window": "24h" }]);
    let made =
        gate.manage("POST", "/admin/v1/projects", json!({ "id": "search", "models": ["*"], "quotas": own })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let tight = json!([{ "measure": "requests", "limit": 1, "window": "24h" }]);
    let body = json!({ "name": "a", "project": "search", "models": ["*"], "quotas": tight });
    let (one, first) = make(&gate, body).await;
    let (_, second) = make(&gate, json!({ "name": "b", "project": "search", "models": ["*"] })).await;
    assert_eq!((refused(&gate, &first).await, refused(&gate, &first).await), (false, true), "its own");
    assert_eq!((refused(&gate, &second).await, refused(&gate, &second).await), (false, true), "the project's");
    let listed = gate.manage("GET", &format!("/admin/v1/quotas?key={one}"), Value::Null).await.json();
    let quota = &listed["data"][0]["quota"];
    assert_eq!((&quota["scope"], &quota["match"]), (&json!("key"), &json!(one)));

    let bad = json!([{ "measure": "requests", "limit": 1, "window": "24h" }, { "measure": "usd", "limit": 1 }]);
    for (method, path, body) in [
        ("POST", "/admin/v1/keys".to_owned(), json!({ "name": "c", "models": [], "quotas": bad })),
        ("PATCH", format!("/admin/v1/keys/{one}"), json!({ "name": "c", "quotas": bad })),
        ("PATCH", "/admin/v1/projects/search".to_owned(), json!({ "name": "c", "quotas": bad })),
    ] {
        let answer = gate.manage(method, &path, body).await;
        let param = answer.json()["error"]["param"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answer.code().as_str(), param.as_str()), ("invalid_body", "quotas[1].window"), "{path}");
    }
    let more = json!({ "quotas": [{ "measure": "concurrent", "limit": 4 }] });
    let answer = gate.manage("PATCH", &format!("/admin/v1/keys/{one}"), more).await;
    assert_eq!((answer.status, &answer.json()["name"]), (200, &json!("a")), "a failed change left nothing");
    let count = async |query: &str| {
        let page = gate.manage("GET", &format!("/admin/v1/quotas?{query}"), Value::Null).await.json();
        page["data"].as_array().unwrap().len()
    };
    assert_eq!((count(&format!("key={one}")).await, count("project=search").await, count("").await), (2, 1, 3));
    gate.finish().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_path_and_changes_nothing() {
    let gate = gate("quotas: [{ name: filed, scope: key, measure: requests, limit: 1000, window: 1m }]").await;
    let made = gate.manage("POST", "/admin/v1/quotas", one_a_day("x")).await.json();
    let one = format!("/admin/v1/quotas/{}", made["id"].as_str().unwrap());
    let with = |member: &str, value: Value| {
        let mut body = one_a_day("x");
        body[member] = value;
        ("POST", "/admin/v1/quotas", body)
    };
    let patch = |body: Value| ("PATCH", one.as_str(), body);
    let cases = [
        (with("scop", json!("key")), 400, "unknown_field", "scop"),
        (with("scope", json!("team")), 400, "invalid_body", "scope"),
        (with("measure", json!("dollars")), 400, "invalid_body", "measure"),
        (with("limit", json!(-1)), 400, "invalid_body", "limit"),
        (with("window", json!("fortnight")), 400, "invalid_body", "window"),
        (with("window", json!({ "month": "Mars/Olympus" })), 400, "invalid_body", "window.month"),
        (with("raise", json!({ "to": 3, "untl": "2099-01-01T00:00:00Z" })), 400, "unknown_field", "raise.untl"),
        (with("warn_at", json!([70])), 400, "invalid_body", "warn_at"),
        (patch(json!({ "window": null })), 400, "invalid_body", "window"),
        (patch(json!({ "limit": null })), 400, "invalid_body", "limit"),
        (patch(json!({ "id": "y" })), 400, "unknown_field", "id"),
        (("PATCH", "/admin/v1/quotas/nobody", json!({})), 404, "quota_not_found", ""),
        (("DELETE", "/admin/v1/quotas/declared:filed", Value::Null), 409, "declared_in_file", ""),
        (("GET", "/admin/v1/quotas?key=a&project=b", Value::Null), 400, "invalid_parameter", "project"),
    ];
    let mut rows = Rows::new();
    for ((method, path, body), status, code, param) in cases {
        rows.row(format!("{method} {path} {body}"));
        let answer = gate.manage(method, path, body).await;
        rows.equal("answer", (answer.status, answer.code()), (status, code.to_owned()));
        rows.equal("param", answer.json()["error"]["param"].as_str().unwrap_or_default().to_owned(), param.to_owned());
    }
    rows.row("another version");
    let stale = gate.manage_with("PATCH", &one, json!({ "limit": 3 }).to_string(), &[("if-match", "\"7\"")]).await;
    rows.equal("status", stale.status, 412);
    rows.row("afterwards");
    let mut left = gate.manage("GET", &one, Value::Null).await.json();
    left["used"] = Value::Null;
    rows.equal("nothing has changed", left, made);
    rows.finish();
    gate.finish().await;
}

/// The counters that a quota shows, each as its subject, what is used and the limit.
fn counters(quota: &Value) -> Vec<String> {
    let counters = quota["used"]["counters"].as_array().unwrap_or_else(|| panic!("{quota}"));
    let text = |counter: &Value| {
        let subject: Vec<&str> = counter["subject"].as_object().unwrap().values().filter_map(Value::as_str).collect();
        let (used, limit) = (counter["used"].as_str().unwrap(), counter["limit"].as_str().unwrap());
        format!("{}:{used}/{limit}", subject.join(","))
    };
    counters.iter().map(text).collect()
}

#[tokio::test]
async fn a_list_says_how_much_is_used_now() {
    let gate = gate(
        "models: { m: { targets: [a/up] }, other: { targets: [a/up] } }\n\
         quotas:\n  - { name: all, scope: global, measure: requests, limit: 10, window: month, \
         raise: { to: 20, until: 2099-01-01T00:00:00Z } }\n  \
         - { name: each, scope: key, measure: requests, limit: 7, window: 1h }\n  \
         - { name: pair, scope: [key, model], match: { key: ci, model: [m, other] }, measure: requests, limit: 5, window: 1h }\n  \
         - { name: open, scope: global, measure: concurrent, limit: 3 }",
    )
    .await;
    let (ci, key) = make(&gate, json!({ "name": "ci", "models": ["*"] })).await;
    let (web, other) = make(&gate, json!({ "name": "web", "models": ["*"] })).await;
    for key in [&key, &key, &other] {
        assert_eq!(gate.patiently(gate.chat_as(key, "m")).await.status, 200);
    }
    settled(&gate).await;
    let page = gate.manage("GET", "/admin/v1/quotas", Value::Null).await.json();
    let of = |name: &str| page["data"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone();
    assert_eq!(counters(&of("all")), [":3/20"], "with the raise");
    assert_eq!(of("all")["used"]["source"], "counters");
    let month_ends = of("all")["used"]["counters"][0]["resets_at"].as_str().unwrap().to_owned();
    assert!(month_ends.contains("-01T00:00:00"), "{month_ends}");
    assert_eq!(counters(&of("open")), [":0/3"]);
    assert_eq!(of("open")["used"]["counters"][0]["resets_at"], Value::Null);
    let rolls = of("pair")["used"]["counters"][0]["resets_at"].as_str().unwrap().to_owned();
    assert!(rolls.ends_with('Z'), "{rolls}");
    assert_eq!(counters(&of("pair")), [format!("{ci},m:2/5"), format!("{ci},other:0/5")]);
    assert_eq!(of("each")["used"], Value::Null, "a list does not look for whom it may be");

    let one = async |query: &str| gate.manage("GET", &format!("/admin/v1/quotas/declared:{query}"), Value::Null).await;
    // Asked alone, it knows of those that the ledger has.
    let each = loop {
        let each = counters(&one("each").await.json());
        if each.len() == 2 {
            break each;
        }
        gate.advance(millis(100)).await;
    };
    assert_eq!(each, [format!("{ci}:2/7"), format!("{web}:1/7")]);
    assert_eq!(counters(&one("each?subject=web").await.json()), [format!("{web}:1/7")]);
    assert_eq!(counters(&one("pair?subject=ci,m").await.json()), [format!("{ci},m:2/5")]);
    assert_eq!(counters(&one("each?subject=nobody").await.json()), Vec::<String>::new());
    for wrong in ["pair?subject=ci", "all?subject=ci", "each?subject="] {
        let answer = one(wrong).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_parameter"), "{wrong}: {}", answer.text());
    }
    gate.finish().await;
}

/// Waits until every call that has ended is settled.
async fn settled(gate: &Gate) {
    until(|| gate.app.as_ref().unwrap().metrics.settlements_pending.get() == 0).await;
}

#[tokio::test]
async fn another_gateway_follows_within_a_second() {
    let server = PrivatePostgres::start();
    let settings = format!("database: \"{}\"", server.url("postgres"));
    let (one, other) = (gate(&settings).await, gate(&settings).await);
    let (id, key) = make(&one, json!({ "name": "ci", "models": ["*"] })).await;
    assert!(!refused(&other, &key).await);
    let made = one.manage("POST", "/admin/v1/quotas", {
        let mut quota = one_a_day(&id);
        quota["limit"] = 0.into();
        quota
    });
    let path = format!("/admin/v1/quotas/{}", made.await.json()["id"].as_str().unwrap());
    for is_refused in [true, false] {
        if !is_refused {
            one.manage("DELETE", &path, Value::Null).await;
        }
        let mut looks = 0;
        // Two looks of the other gateway are a second of its time; how long the database takes is real.
        while refused(&other, &key).await != is_refused {
            looks += 1;
            assert!(looks <= 200, "it does not follow");
            if looks % 100 == 1 {
                other.advance(millis(500)).await;
            }
            switchboard::types::Clock::Real.sleep(millis(10)).await;
        }
    }
    one.finish().await;
    other.finish().await;
}
