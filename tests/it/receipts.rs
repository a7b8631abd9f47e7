//! Receipts: what a call did to its quotas, and what its translation lost, as the admin API gives them.

use serde_json::{Value, json};
use switchboard::mock::Behaviour;

use crate::harness::*;

const PRICED: &str = "models: { m: { targets: [a/gpt-4o] } }";

async fn gate(kind: &str, config: &str) -> Gate {
    let config = format!("admin: {{ key: {ADMIN} }}\n{config}");
    let gate = Gate::build().mock_with("a", kind).mock_with("b", "kind: openai").config(&config).start().await;
    gate.mock("a").set_default(fixed());
    gate
}

/// The receipt of an answer's call, once it is in the ledger.
async fn receipt(gate: &Gate, answer: &Answer) -> Value {
    let path = format!("/admin/v1/requests/{}", answer.header("x-request-id"));
    loop {
        let found = gate.admin(&path, Some(ADMIN)).await;
        if found.status == 200 {
            return found.json();
        }
        assert_eq!(found.status, 404, "{}", found.text());
        gate.advance(millis(100)).await;
    }
}

#[tokio::test]
async fn a_receipt_says_what_was_set_aside_and_what_the_call_counts_as() {
    let quotas = "quotas:\n  - { name: team, scope: project, measure: usd, limit: 5, window: day }\n  \
                  - { scope: key, measure: tokens, limit: 1000, window: 1m }\n  \
                  - { scope: key, match: another, measure: requests, limit: 1, window: 1m }\n  \
                  - { name: once, scope: key, measure: concurrent, limit: 7 }";
    let gate = gate("kind: openai", &format!("{PRICED}\n{quotas}")).await;
    // 11 tokens in and 7 out; 11 in and at most 20 out are set aside.
    let answer = gate.chat(json!({ "max_tokens": 20 })).await;
    let receipt = receipt(&gate, &answer).await;
    let mut limits = receipt["limits"].as_array().unwrap().clone();
    limits.sort_by_key(|limit| limit["quota"].to_string());
    let key = &receipt["key"]["id"];
    let expected = json!([
        { "quota": "key.tokens.1m", "subject": { "key": key }, "measure": "tokens", "limit": "1000", "used": "31",
          "held": "31", "settled": "18", "refused": false, "would_refuse": false },
        { "quota": "once", "subject": { "key": key }, "measure": "concurrent", "limit": "7", "used": "1", "held": "1",
          "settled": "0", "refused": false, "would_refuse": false },
        { "quota": "team", "subject": { "project": "default" }, "measure": "usd", "limit": "5.00", "used": "0.0002275",
          "held": "0.0002275", "settled": receipt["cost"]["usd"], "refused": false, "would_refuse": false },
    ]);
    assert_eq!(Value::from(limits), expected);
    assert_eq!(receipt["lossy"], json!([]));
    gate.finish().await;
}

#[tokio::test]
async fn the_receipt_of_a_refused_call_names_the_quota_that_had_no_room() {
    let quotas = "quotas:\n  - { name: wide, scope: global, measure: requests, limit: 9, window: 1m }\n  \
                  - { name: tight, scope: key, measure: requests, limit: 1, window: 1m }";
    let gate = gate("kind: openai", &format!("{PRICED}\n{quotas}")).await;
    gate.chat(json!({})).await;
    let refused = gate.chat(json!({})).await;
    assert_eq!(refused.status, 429);
    let receipt = receipt(&gate, &refused).await;
    let expected = json!([{ "quota": "tight", "subject": { "key": receipt["key"]["id"] }, "measure": "requests",
                            "limit": "1", "used": "1", "held": "0", "settled": "0", "refused": true,
                            "would_refuse": false }]);
    assert_eq!((&receipt["limits"], &receipt["attempts"]), (&expected, &json!([])));
    assert_eq!(receipt["error_code"], "rate_limit_exceeded");
    gate.finish().await;
}

#[tokio::test]
async fn a_receipt_says_that_a_shadow_would_have_refused_and_of_whom() {
    let quotas = "quotas:\n  - { name: trial, scope: [end_user, model], measure: requests, limit: 1, window: 1m, action: shadow }\n  \
                  - { name: all, scope: global, measure: requests, limit: 9, window: 1m }";
    let gate = gate("kind: openai", &format!("{PRICED}\n{quotas}")).await;
    for would_refuse in [false, true] {
        let answer = gate.chat(json!({ "user": "ada" })).await;
        assert_eq!(answer.status, 200);
        let receipt = receipt(&gate, &answer).await;
        let limits = receipt["limits"].as_array().unwrap().iter();
        let told: Vec<_> = limits
            .map(|limit| ["quota", "subject", "refused", "would_refuse"].map(|member| limit[member].clone()))
            .collect();
        let ada = json!({ "end_user": "ada", "model": "m" });
        let expected = [
            [json!("trial"), ada, json!(false), json!(would_refuse)],
            [json!("all"), json!({}), json!(false), json!(false)],
        ];
        assert_eq!(told, expected);
    }
    gate.finish().await;
}

#[tokio::test]
async fn a_quota_that_had_no_room_for_one_target_is_named_although_another_served() {
    let config = "models: { m: { strategy: ordered, targets: [a/gpt-4o, b/gpt-4o] } }\n\
                  quotas: [{ name: at a, scope: provider, match: a, measure: requests, limit: 0, window: 1m }]";
    let gate = gate("kind: openai", config).await;
    let answer = gate.chat(json!({})).await;
    assert_eq!((answer.status, answer.header("x-switchboard-target")), (200, "b/gpt-4o"));
    let receipt = receipt(&gate, &answer).await;
    assert_eq!((&receipt["limits"][0]["quota"], &receipt["limits"][0]["refused"]), (&json!("at a"), &json!(true)));
    assert_eq!(receipt["limits"].as_array().unwrap().len(), 1);
    gate.finish().await;
}

#[tokio::test]
async fn the_receipt_of_a_stream_has_what_was_set_aside_later_and_that_there_was_no_more() {
    for (limit, held, refused) in [(9_000, "8203", false), (5_000, "4107", true)] {
        let quota = format!(
            "quotas: [{{ name: out, scope: global, measure: tokens, limit: {limit}, window: day, mid_stream: cut }}]"
        );
        let gate = gate("kind: openai", &format!("{PRICED}\n{quota}")).await;
        // 2,048 tokens of output are set aside at first, and doubled twice for some 5,000.
        let text = Some("word ".repeat(4_000));
        gate.mock("a").set_default(Behaviour { text, chunks: Some(400), ..Behaviour::default() });
        let answer = gate.ask(true, json!({})).await;
        let receipt = receipt(&gate, &answer).await;
        let out = &receipt["limits"][0];
        assert_eq!((&out["held"], &out["refused"]), (&json!(held), &json!(refused)), "{receipt}");
        assert_eq!(out["used"], out["held"], "nobody else is there");
        gate.finish().await;
    }
}

#[tokio::test]
async fn a_receipt_says_what_a_translation_lost_as_the_header_does() {
    let gate = gate("kind: anthropic", "").await;
    for is_stream in [false, true] {
        let answer = gate.ask(is_stream, json!({ "max_tokens": 5, "logit_bias": { "1": 2 }, "seed": 7 })).await;
        let header = answer.header("x-switchboard-lossy").to_owned();
        assert!(header.contains("logit_bias") && header.contains(", "), "{header}");
        let receipt = receipt(&gate, &answer).await;
        assert_eq!(receipt["lossy"], json!(header.split(", ").collect::<Vec<_>>()));
        assert_eq!(receipt["limits"], json!([]));
    }
    gate.finish().await;
}

#[tokio::test]
async fn what_is_set_aside_is_what_the_call_may_cost_there() {
    const NARROW: &str = "sk-narrow-0123456789";
    let quotas = "quotas:\n  - { name: tokens, scope: global, measure: tokens, limit: 100000, window: day }\n  \
                  - { name: usd, scope: global, measure: usd, limit: 9, window: day }";
    let config = format!("admin: {{ key: {ADMIN} }}\n{PRICED}\n{quotas}");
    let gate = Gate::build().mock_with("a", "kind: openai").config(&config);
    let gate = gate.key(&format!("{{ name: narrow, value: {NARROW}, models: [m], max_tokens: 15 }}")).start().await;
    gate.mock("a").set_default(fixed());
    // 11 tokens in at $2.50 a million, and so many out at $10; $4.25 and $17 in the tier that costs more.
    let cases = [
        (KEY, json!({ "max_tokens": 20 }), "31", "0.0002275"),
        (KEY, json!({ "max_completion_tokens": 20, "n": 3 }), "71", "0.0006275"),
        (KEY, json!({ "max_tokens": 20, "service_tier": "priority" }), "31", "0.00038675"),
        (KEY, json!({ "max_tokens": 20, "service_tier": "unheard of" }), "31", "0.0002275"),
        // A key's ceiling is what its calls ask for, and the most they may.
        (NARROW, json!({}), "26", "0.0001775"),
        (NARROW, json!({ "max_tokens": 1000 }), "26", "0.0001775"),
        (NARROW, json!({ "max_tokens": 5 }), "16", "0.0000775"),
    ];
    for (key, more, tokens, usd) in cases {
        let body = serde_json::to_vec(&chat(more.clone())).unwrap();
        let answer = gate.post("/v1/chat/completions", body, &[("authorization", &format!("Bearer {key}"))]).await;
        assert_eq!(answer.status, 200, "{more}: {}", answer.text());
        let receipt = receipt(&gate, &answer).await;
        let held = |name: &str| {
            let limits = receipt["limits"].as_array().unwrap();
            limits.iter().find(|limit| limit["quota"] == name).unwrap()["held"].clone()
        };
        assert_eq!((held("tokens"), held("usd")), (json!(tokens), json!(usd)), "{more}");
    }
    gate.finish().await;
}
