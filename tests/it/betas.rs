//! Betas of Anthropic's: a word of the header and what it gates in the request pass together, or neither does.

use serde_json::{Value, json};

use crate::harness::*;

const ANSWER: &str = r#"{"id":"m","type":"message","role":"assistant","model":"up","content":[{"type":"text","text":"Seen."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}"#;

/// As Claude Code sends them.
const WORDS: &str =
    "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,advanced-tool-use-2025-11-20";

fn body() -> String {
    // Odd spelling, to see that it is kept.
    format!(
        r#"{{"model":"{MODEL}","max_tokens":5e2, "context_management":{{"edits":[{{"type":"clear_thinking_20251015"}}]}},"tools":[{{"type":"tool_search_tool_bm25_20251119","name":"s"}},{{"name":"a","defer_loading":true,"input_schema":{{"type":"object"}}}}],"messages":[{{"role":"user","content":"\u0041"}}]}}"#
    )
}

fn whole(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// What the provider got of `anthropic-beta`, its body, and what the client heard.
async fn called(settings: &str, path: &str, words: Option<&str>, body: String) -> (Option<String>, String, Answer) {
    let upstream = RawUpstream::listen().await;
    let gate = Gate::build().upstream_with("a", upstream.address, settings).start().await;
    let headers: Vec<(&str, &str)> = words.iter().map(|words| ("anthropic-beta", *words)).collect();
    let answer = whole(ANSWER);
    let (heard, request) = tokio::join!(gate.post(path, body, &headers), upstream.accept_and(&answer));
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let words = head.lines().find_map(|line| line.strip_prefix("anthropic-beta: ")).map(str::to_owned);
    gate.unseen(1);
    gate.finish().await;
    (words, body.to_owned(), heard)
}

#[tokio::test]
async fn anthropic_itself_gets_everything_byte_for_byte() {
    let words = "brand-new-2027-01-01,context-management-2025-06-27";
    let (sent, request, heard) = called("kind: anthropic", "/messages", Some(words), body()).await;
    assert_eq!((sent.as_deref(), request), (Some(words), body().replace(r#""model":"m""#, r#""model":"up""#)));
    assert!(heard.headers.get("x-switchboard-lossy").is_none());
}

#[tokio::test]
async fn another_backend_gets_neither_the_word_nor_what_it_gates() {
    let (sent, request, heard) =
        called("kind: anthropic, betas: { allow: [interleaved-thinking] }", "/messages", Some(WORDS), body()).await;
    assert_eq!(sent.as_deref(), Some("interleaved-thinking-2025-05-14"));
    let expected = r#"{"model":"up","max_tokens":5e2,"tools":[{"name":"a","input_schema":{"type":"object"}}],"messages":[{"role":"user","content":"\u0041"}]}"#;
    assert_eq!(request.replace(", ", ","), expected);
    let lost = heard.header("x-switchboard-lossy");
    for place in [
        "anthropic-beta:context-management-2025-06-27",
        "anthropic-beta:claude-code-20250219",
        "context_management",
        "tools[0]",
        "tools[1].defer_loading",
    ] {
        assert!(lost.split(", ").any(|found| found == place), "{place}: {lost}");
    }
    // Members whose word the client forgot, and a vendor's own table.
    let (sent, request, _) = called("kind: vllm, formats: [anthropic]", "/messages", None, body()).await;
    assert!(
        sent.is_none() && !request.contains("context_management") && !request.contains("defer_loading"),
        "{request}"
    );
    // One beta may be denied, and all others pass.
    let (sent, request, _) =
        called("kind: anthropic, betas: { deny: [context-management] }", "/messages", Some(WORDS), body()).await;
    assert_eq!(sent, Some(WORDS.replace("context-management-2025-06-27,", "")));
    assert!(!request.contains("context_management") && request.contains("defer_loading"), "{request}");
}

#[tokio::test]
async fn a_model_that_refuses_losses_refuses_a_beta_that_would_be_dropped() {
    let gate = Gate::build()
        .upstream_with("a", RawUpstream::closed(), "kind: anthropic, betas: { allow: [] }")
        .config("models: { m: { targets: [a/up], lossy: strict } }")
        .start()
        .await;
    let heard = gate.post("/messages", body(), &[("anthropic-beta", WORDS)]).await;
    assert_eq!(heard.status, 400, "{}", heard.text());
    assert!(heard.text().contains("context_management"), "{}", heard.text());
    gate.unseen(1);
    let (_, rows) = gate.finish_books().await;
    assert_eq!(rows[0].error_code.as_deref(), Some("lossy_translation"));
}

#[tokio::test]
async fn a_client_may_refuse_losses_itself() {
    let call = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hi" }], "logit_bias": { "1": 2 } });
    let gate = Gate::build().upstream_with("a", RawUpstream::closed(), "kind: anthropic").start().await;
    let heard = gate.post("/chat/completions", call.to_string(), &[("x-switchboard-lossy", "Strict")]).await;
    let error = &heard.json()["error"];
    assert_eq!((heard.status, &error["code"]), (400, &json!("lossy_translation")), "{}", heard.text());
    assert_eq!(error["param"], "logit_bias");
    gate.unseen(1);
    gate.finish().await;
    // Without the header it is made, and what it lost is named: a sampling parameter as well.
    let call = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hi" }], "top_p": 0.5, "frequency_penalty": 1 });
    let (_, request, heard) = called("kind: anthropic", "/chat/completions", None, call.to_string()).await;
    assert_eq!((heard.status, heard.header("x-switchboard-lossy")), (200, "top_p, frequency_penalty"));
    assert!(!request.contains("top_p") && !request.contains("penalty"), "{request}");
}

#[tokio::test]
async fn what_has_no_counterpart_is_never_forwarded_in_translation() {
    let call = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hi" }],
        "context_management": { "edits": [{ "type": "x" }] }, "mcp_servers": [{ "name": "x" }], "speed": "fast", "container": "c" });
    let (sent, request, heard) =
        called("kind: anthropic", "/chat/completions", Some("context-management-2025-06-27"), call.to_string()).await;
    let request: Value = serde_json::from_str(&request).unwrap();
    assert!(sent.is_none());
    for name in ["context_management", "mcp_servers", "speed", "container"] {
        assert!(request.get(name).is_none(), "{request}");
    }
    assert_eq!(heard.header("x-switchboard-lossy"), "container, context_management, mcp_servers, speed");
}

#[tokio::test]
async fn the_version_of_the_api_is_the_clients_and_the_operators_sampling_respects_it() {
    let settings = "models: { m: { targets: [a/up], defaults: { temperature: 0.2, x: 1 }, ceilings: { top_k: 5 }, overrides: { top_p: 0.9 } } }";
    for (version, sampled) in [("2026-10-21", false), ("2023-06-01", true)] {
        let upstream = RawUpstream::listen().await;
        let gate = Gate::build().upstream_with("a", upstream.address, "kind: anthropic").config(settings).start().await;
        let call = json!({ "model": MODEL, "max_tokens": 5, "messages": [{ "role": "user", "content": "Hi" }] });
        let (answer, headers) = (whole(ANSWER), [("anthropic-version", version)]);
        let (heard, request) =
            tokio::join!(gate.post("/messages", call.to_string(), &headers), upstream.accept_and(&answer));
        assert_eq!(heard.status, 200);
        assert!(request.contains(&format!("\r\nanthropic-version: {version}\r\n")), "{request}");
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        for name in ["temperature", "top_k", "top_p"] {
            assert_eq!(body.get(name).is_some(), sampled, "{version} {body}");
        }
        assert_eq!(body["x"], 1);
        gate.unseen(1);
        gate.finish().await;
    }
}
