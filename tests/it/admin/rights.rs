//! Key and project together: the same answer wherever it is asked for. By call, by listing, through an alias, behind a
//! wildcard, on the way to a fallback; by endpoint, by address, by the ceiling of output tokens.

use serde_json::{Value, json};
use switchboard::mock::Behaviour;

use super::{changes::make, gate};
use crate::harness::{Gate, Rows, fixed, millis};

const MODELS: &str = "models:\n  \
     gpt: { targets: [a/gpt-up], fallbacks: { default: [small, wide/x, hidden] } }\n  \
     small: { targets: [a/small-up] }\n  \
     hidden: { targets: [a/hidden-up] }\n  \
     \"wide/*\": { targets: [\"a/wide-*\"] }\n\
     aliases: { best: gpt, tiny: small }\n\
     retries: { max_attempts: 8, base: 1ms, max: 1ms }\nhealth: { consecutive_failures: 1000, min_calls: 10000 }";

async fn make_within(gate: &Gate, id: &str, project: &[&str], key: &[&str]) -> String {
    let made = gate.manage("POST", "/admin/v1/projects", json!({ "id": id, "models": project })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    make(gate, json!({ "name": id, "project": id, "models": key })).await.1
}

async fn listed(gate: &Gate, key: &str) -> Vec<String> {
    let bearer = format!("Bearer {key}");
    let answer = gate.manage_with("GET", "/v1/models", String::new(), &[("authorization", &bearer)]).await.json();
    answer["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn calls_listings_aliases_wildcards_and_fallbacks_say_the_same() {
    let gate = gate(MODELS).await;
    let names = ["gpt", "best", "small", "tiny", "hidden", "wide/x", "wide/y"];
    type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str]);
    let cases: &[Case] = &[
        (&["*"], &["*"], &names),
        (&["*"], &[], &[]),
        (&[], &["*"], &[]),
        (&["gpt", "small"], &["*"], &["gpt", "best", "small", "tiny"]),
        (&["*"], &["gpt", "small"], &["gpt", "best", "small", "tiny"]),
        (&["gpt", "small"], &["small", "hidden"], &["small", "tiny"]),
        (&["gpt"], &["best"], &["best"]),
        (&["best"], &["gpt"], &["best"]),
        (&["best"], &["tiny"], &[]),
        (&["wide/*"], &["wide/x"], &["wide/x"]),
        (&["wide/x", "gpt"], &["wide/*"], &["wide/x"]),
        (&["wide/x"], &["wide/y"], &[]),
    ];
    let mut rows = Rows::new();
    for (number, (project, key, allowed)) in cases.iter().enumerate() {
        let secret = make_within(&gate, &format!("p{number}"), project, key).await;
        let bearer = format!("Bearer {secret}");
        let list = listed(&gate, &secret).await;
        for name in names {
            rows.row(format!("{project:?} {key:?} {name}"));
            let may = allowed.contains(&name);
            let answer = gate.chat_as(&secret, name).await;
            let expected = if may { (200, String::new()) } else { (403, "model_not_allowed".to_owned()) };
            rows.equal("call", (answer.status, answer.code()), expected);
            let path = format!("/v1/models/{name}");
            let one = gate.manage_with("GET", &path, String::new(), &[("authorization", &bearer)]).await;
            rows.equal("one model", one.status, if may { 200 } else { 404 });
            // A name behind a wildcard is listed by whom it is written down.
            let is_written = !name.contains('/') || project.contains(&name) || key.contains(&name);
            rows.equal("listing", list.iter().any(|listed| listed == name), may && is_written);
        }
        rows.row(format!("{project:?} {key:?} the wildcard itself"));
        let whole = |list: &[&str]| list.iter().any(|entry| ["*", "wide/*"].contains(entry));
        rows.equal("listing", list.iter().any(|name| name == "wide/*"), whole(project) && whole(key));
        rows.row(format!("{project:?} {key:?} a name that was not meant"));
        let near = gate.chat_as(&secret, "smal").await;
        let hint = near.json()["error"]["message"].as_str().unwrap_or_default().contains("`small`");
        rows.equal("suggestion", hint, allowed.contains(&"small"));
    }
    rows.finish();
    gate.finish().await;
}

#[tokio::test]
async fn a_fallback_is_asked_of_key_and_project_again() {
    let gate = gate(MODELS).await;
    type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str]);
    let cases: &[Case] = &[
        (&["*"], &["*"], &["small-up", "wide-x", "hidden-up"]),
        (&["gpt", "small"], &["*"], &["small-up"]),
        (&["*"], &["gpt", "wide/x"], &["wide-x"]),
        (&["gpt", "small", "hidden"], &["gpt", "wide/*", "hidden"], &["hidden-up"]),
        (&["gpt", "small"], &["gpt", "hidden"], &[]),
        // By an alias of the fallback nobody has asked for it.
        (&["gpt", "tiny"], &["*"], &[]),
    ];
    let mut rows = Rows::new();
    for (number, (project, key, reached)) in cases.iter().enumerate() {
        let secret = make_within(&gate, &format!("p{number}"), project, key).await;
        rows.row(format!("{project:?} {key:?}"));
        let before = gate.mock("a").requests().len();
        // All but the last one fail. With nowhere else to go, the first is asked again.
        let mut wanted = vec!["gpt-up"];
        wanted.extend(if reached.is_empty() { &["gpt-up"] } else { *reached });
        for model in &wanted[..wanted.len() - 1] {
            gate.mock("a").enqueue_for(model, Behaviour::status(500));
        }
        let answer = gate.advance_until(gate.chat_as(&secret, "gpt"), millis(10)).await;
        rows.equal("status", answer.status, 200);
        let requests = gate.mock("a").requests();
        let models: Vec<_> = requests[before..].iter().map(|one| one.model.clone().unwrap_or_default()).collect();
        rows.equal("models asked", models, wanted.iter().map(ToString::to_string).collect());
    }
    rows.finish();
    gate.finish().await;
}

#[tokio::test]
async fn an_endpoint_or_an_address_that_is_not_allowed_is_a_403_before_anything_else() {
    let gate = gate("").await;
    let (_, chat_only) = make(&gate, json!({ "name": "c", "models": ["*"], "endpoints": ["chat"] })).await;
    let (_, elsewhere) = make(&gate, json!({ "name": "e", "models": ["*"], "addresses": ["10.0.0.0/8", "::1"] })).await;
    let (_, here) = make(&gate, json!({ "name": "h", "models": ["*"], "addresses": ["127.0.0.0/8"] })).await;
    let (_, nowhere) = make(&gate, json!({ "name": "n", "models": ["*"], "addresses": [] })).await;
    let mut rows = Rows::new();
    let ask = async |key: &str, path: &str| {
        let bearer = format!("Bearer {key}");
        // What is in the body does not matter, because nobody reads it.
        let answer = gate.post(path, "{", &[("authorization", &bearer)]).await;
        (answer.status, answer.code())
    };
    for path in ["/v1/completions", "/v1/embeddings", "/v1/messages", "/messages/count_tokens"] {
        rows.row(path);
        rows.equal("answer", ask(&chat_only, path).await.0, 403);
        if path.contains("messages") {
            // An error in Anthropic's format has no code to tell it by.
            gate.not_admitted();
        }
    }
    rows.row("chat");
    rows.equal("its endpoint", ask(&chat_only, "/v1/chat/completions").await.1, "invalid_json".to_owned());
    rows.equal("elsewhere", ask(&elsewhere, "/v1/chat/completions").await, (403, "address_not_allowed".to_owned()));
    rows.equal("nowhere", ask(&nowhere, "/v1/chat/completions").await, (403, "address_not_allowed".to_owned()));
    rows.equal("here", ask(&here, "/v1/chat/completions").await.1, "invalid_json".to_owned());
    rows.row("a header that nobody trusted has written");
    let from = async |gate: &Gate, key: &str, client: &str| {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", client)];
        gate.post("/v1/chat/completions", "{", &headers).await.code()
    };
    rows.equal("elsewhere", from(&gate, &elsewhere, "10.1.2.3").await, "address_not_allowed".to_owned());
    rows.row("models");
    let list = async |key: &str| {
        let bearer = format!("Bearer {key}");
        gate.manage_with("GET", "/v1/models", String::new(), &[("authorization", &bearer)]).await.code()
    };
    rows.equal("not its endpoint", list(&chat_only).await, "endpoint_not_allowed".to_owned());
    rows.equal("elsewhere", list(&elsewhere).await, "address_not_allowed".to_owned());
    rows.finish();
    gate.finish().await;
}

#[tokio::test]
async fn a_keys_ceiling_of_output_tokens_holds_in_either_spelling() {
    let models = "models:\n  \
         m: { targets: [a/up] }\n  \
         low: { targets: [a/up], ceilings: { max_tokens: 10 } }\n  \
         high: { targets: [a/up], overrides: { max_tokens: 5000 } }\n  \
         none: { targets: [a/up], overrides: { max_tokens: null } }";
    let gate = gate(models).await;
    gate.mock("a").set_default(fixed());
    let (_, key) = make(&gate, json!({ "name": "c", "models": ["*"], "max_tokens": 100 })).await;
    let bearer = format!("Bearer {key}");
    let cases = [
        (json!({}), json!([100, null])),
        (json!({ "max_tokens": 99 }), json!([99, null])),
        (json!({ "max_tokens": 101 }), json!([100, null])),
        (json!({ "max_tokens": null }), json!([100, null])),
        (json!({ "max_tokens": -1 }), json!([100, null])),
        (json!({ "max_completion_tokens": 7000 }), json!([null, 100])),
        (json!({ "max_tokens": 5, "max_completion_tokens": 7000 }), json!([5, 100])),
        (json!({ "max_tokens": 7000, "max_completion_tokens": 5 }), json!([100, 5])),
        (json!({ "model": "low" }), json!([10, null])),
        (json!({ "model": "low", "max_tokens": 50 }), json!([10, null])),
        (json!({ "model": "high" }), json!([100, null])),
        (json!({ "model": "none", "max_tokens": 7000 }), json!([null, null])),
    ];
    let mut rows = Rows::new();
    for (more, sent) in cases {
        rows.row(more.to_string());
        let body = crate::harness::chat(more);
        let answer = gate.post("/v1/chat/completions", body.to_string(), &[("authorization", &bearer)]).await;
        rows.equal("status", answer.status, 200);
        let last: Value = serde_json::from_slice(&gate.last("a").body).unwrap();
        rows.equal("sent", json!([last["max_tokens"], last["max_completion_tokens"]]), sent);
    }
    rows.finish();
    gate.finish().await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_address_is_the_one_it_names() {
    let gate = gate("server: { trusted_proxies: [127.0.0.1] }\n").await;
    let (_, there) = make(&gate, json!({ "name": "t", "models": ["*"], "addresses": ["10.0.0.0/8"] })).await;
    let bearer = format!("Bearer {there}");
    let mut rows = Rows::new();
    for (client, code) in [
        ("10.1.2.3", "invalid_json"),
        ("203.0.113.9, 10.1.2.3", "invalid_json"),
        ("10.1.2.3, 203.0.113.9", "address_not_allowed"),
        ("nobody", "address_not_allowed"),
    ] {
        rows.row(client);
        let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", client)];
        rows.equal("code", gate.post("/v1/chat/completions", "{", &headers).await.code(), code.to_owned());
    }
    rows.finish();
    gate.finish().await;
}
