//! Quotas, from the outside: what is let through, what is refused and how, and what is left when everything has ended.

use futures_util::future::join_all;
use serde_json::{Value, json};
use switchboard::{mock::Behaviour, store::ledger::CallRow, telemetry::Outcome, wire::anthropic::grammar::Ending};
use tokio::io::AsyncWriteExt;

use crate::{
    harness::*,
    messages::{CHAT, CLAUDE, MESSAGES, checked, stream},
};

/// A provider whose prices are in the catalogue: $2.50 and $10 for a million tokens in and out.
fn priced(quotas: &str) -> impl Future<Output = Gate> + use<> {
    let builder = Gate::build().mock_with("a", "kind: openai");
    let config = format!("models: {{ m: {{ targets: [a/gpt-4o] }} }}\nquotas:\n{quotas}");
    async move {
        let gate = builder.config(&config).start().await;
        gate.mock("a").set_default(fixed());
        gate
    }
}

#[tokio::test]
async fn a_limit_of_requests_lets_through_exactly_as_many_and_says_when_to_come_back() {
    let gate = priced("  - { scope: key, measure: requests, limit: 3, window: 1m }").await;
    for left in [2, 1, 0] {
        let answer = gate.chat(json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-ratelimit-limit-requests"), "3");
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), left.to_string());
        assert!(answer.header("x-ratelimit-reset-requests").ends_with('s'));
    }
    for _ in 0..3 {
        let refused = gate.ask(true, json!({})).await;
        assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limit_exceeded"));
        assert!(refused.text().contains("key.requests.1m"), "{}", refused.text());
        assert_eq!(refused.header("x-ratelimit-remaining-requests"), "0");
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=62).contains(&wait), "{wait}");
        assert_eq!(refused.header("x-should-retry"), "");
    }
    assert_eq!(gate.served("a"), 3);
    gate.advance(secs(62)).await;
    assert_eq!(gate.chat(json!({})).await.status, 200);
    let counts = gate.finish().await;
    assert_eq!(counts.sum("quota_refusals_total", &[("quota", "key.requests.1m"), ("action", "reject")]), 3);
}

#[tokio::test]
async fn calls_at_once_do_not_spend_more_than_a_budget_holds() {
    // A call sets aside, and costs, 9 tokens in and 1,000 out at the most: a cent.
    let gate =
        priced("  - { name: team, scope: project, measure: usd, limit: 0.25, window: { month: Europe/Berlin } }");
    let gate = gate.await;
    let usage =
        switchboard::mock::UsageScript { prompt_tokens: Some(9), completion_tokens: Some(1_000), ..Default::default() };
    gate.mock("a").set_default(Behaviour { usage, delay: Some(period("1s")), ..fixed() });
    let all = join_all((0..100).map(|_| gate.chat(json!({ "max_tokens": 1000 }))));
    let answers = gate.advance_until(all, millis(200)).await;
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(served, 24, "0.25 / 0.010025 dollars");
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((refused.status, refused.code().as_str()), (429, "insufficient_quota"));
        assert_eq!(refused.header("x-should-retry"), "false");
        assert!(refused.text().contains("`team`"), "{}", refused.text());
    }
    let (_, rows) = gate.finish_books().await;
    let cost: i64 = rows.iter().filter_map(CallRow::cost).map(|cost| cost.0).sum();
    assert!(cost <= 250_000_000 && cost > 240_000_000, "{cost}");
}

#[tokio::test]
async fn tokens_hold_for_streams_as_for_whole_answers() {
    for is_stream in [false, true] {
        let gate = priced("  - { scope: key, measure: tokens, limit: 100, window: 1m }").await;
        // 18 tokens each; 9 in and 7 out are set aside at first.
        let mut served = 0;
        while gate.ask(is_stream, json!({ "max_tokens": 7 })).await.status == 200 {
            served += 1;
        }
        assert_eq!(served, 5, "stream: {is_stream}");
        let refused = gate.ask(is_stream, json!({ "max_tokens": 1000 })).await;
        assert_eq!((refused.status, refused.header("x-should-retry")), (429, "false"), "it never fits");
        gate.finish().await;
    }
}

#[tokio::test]
async fn places_among_concurrent_calls_are_free_when_clients_hang_up() {
    let gate = priced("  - { scope: key, measure: concurrent, limit: 2 }").await;
    gate.mock("a").set_default(Behaviour { hang_after_chunks: Some(2), ..fixed() });
    for _ in 0..10 {
        let mut first = gate.open(json!({})).await;
        let mut second = gate.open(json!({})).await;
        first.next().await.unwrap();
        second.next().await.unwrap();
        let refused = gate.chat(json!({})).await;
        assert_eq!((refused.status, refused.code().as_str()), (429, "concurrency_limit_exceeded"));
        drop((first, second));
        until(|| gate.app.as_ref().unwrap().metrics.streams_open.get() == 0).await;
    }
    let counts = gate.finish().await;
    assert_eq!(counts.sum("calls_total", &[("outcome", "client_cancel")]), 20);
}

#[tokio::test]
async fn a_failed_call_gives_back_what_was_set_aside() {
    let gate = priced("  - { scope: global, measure: usd, limit: 0.0002, window: day }").await;
    gate.mock("a").set_default(Behaviour::status(400));
    for _ in 0..20 {
        assert_eq!(gate.chat(json!({ "max_tokens": 15 })).await.status, 400);
    }
    gate.mock("a").set_default(fixed());
    assert_eq!(gate.chat(json!({ "max_tokens": 15 })).await.status, 200);
    gate.finish().await;
}

#[tokio::test]
async fn where_money_is_used_up_free_targets_go_on_and_unknown_prices_do_not() {
    let config = "models:\n  m: { strategy: ordered, targets: [a/gpt-4o, free/x] }\n  u: { targets: [free/unknown] }\n\
                  prices: { models: { free/x: { free: true } } }\n\
                  quotas: [{ name: b, scope: global, measure: usd, limit: 0.0001, window: day }]";
    let gate = Gate::build().mock_with("a", "kind: openai").mock("free").config(config).start().await;
    gate.mock("a").set_default(fixed());
    let targets = [gate.chat(json!({ "max_tokens": 7 })).await, gate.chat(json!({ "max_tokens": 7 })).await];
    let targets = targets.map(|answer| answer.header("x-switchboard-target").to_owned());
    assert_eq!(targets, ["a/gpt-4o", "free/x"]);
    let refused = gate.chat(json!({ "model": "u" })).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "price_unknown"));
    gate.finish().await;
}

#[tokio::test]
async fn a_quota_may_lead_calls_to_a_lesser_model_that_the_key_may_use() {
    let config = "models:\n  m: { targets: [a/gpt-4o] }\n  small: { targets: [b/gpt-4o-mini] }\n\
                  quotas:\n  - { name: d, scope: key, measure: requests, limit: 1, window: day, \
                  action: { downgrade: small } }";
    let gate = Gate::build().mock_with("a", "kind: openai").mock_with("b", "kind: openai").config(config);
    let gate = gate.key("{ name: narrow, value: sk-narrow-0123456789, models: [m] }").start().await;
    for (expected, model) in [("a/gpt-4o", "m"), ("b/gpt-4o-mini", "small"), ("b/gpt-4o-mini", "small")] {
        let answer = gate.chat(json!({})).await;
        assert_eq!((answer.status, answer.header("x-switchboard-target")), (200, expected), "{model}");
    }
    let narrow = [("authorization", "Bearer sk-narrow-0123456789")];
    let body = || serde_json::to_vec(&chat(json!({}))).unwrap();
    assert_eq!(gate.post("/v1/chat/completions", body(), &narrow).await.status, 200);
    assert_eq!(gate.post("/v1/chat/completions", body(), &narrow).await.status, 429);
    let (_, rows) = gate.finish_books().await;
    assert_eq!(rows.iter().filter(|row| &*row.model == "small").count(), 2);
}

#[tokio::test]
async fn a_stream_that_outgrows_what_was_set_aside_goes_on_or_ends_as_its_quota_says() {
    for (policy, cut) in [("finish", false), ("cut", true)] {
        let quota =
            format!("  - {{ scope: global, measure: output_tokens, limit: 3000, window: day, mid_stream: {policy} }}");
        // 2,048 tokens are set aside for an answer of unknown length; this one has some 4,000.
        let long = Behaviour { text: Some("word ".repeat(3_200)), chunks: Some(400), ..Behaviour::default() };

        let gate = priced(&quota).await;
        gate.mock("a").set_default(long.clone());
        let answer = gate.ask(true, json!({})).await;
        assert_eq!((answer.status, answer.ending()), (200, "done"));
        assert_eq!(answer.text().contains(r#""finish_reason":"length""#), cut, "{policy}");
        let said = answer.content().len();
        assert!(if cut { (8_000..8_400).contains(&said) } else { said == 16_000 }, "{policy}: {said}");
        let (_, rows) = gate.finish_books().await;
        assert_eq!(rows[0].outcome, if cut { Outcome::RefusedByGateway } else { Outcome::Ok });
    }
}

#[tokio::test]
async fn clients_of_anthropics_format_hear_of_quotas_in_their_own_words() {
    let config = "quotas: [{ scope: key, measure: requests, limit: 1, window: 1m }, \
                  { scope: key, measure: input_tokens, limit: 1000, window: 1m }]";
    let gate = Gate::build().mock_with("a", "kind: anthropic").config(config).start().await;
    let body = || {
        let body = json!({ "model": "m", "max_tokens": 10, "messages": [{ "role": "user", "content": "Hello" }] });
        serde_json::to_vec(&body).unwrap()
    };
    let answer = gate.post("/v1/messages", body(), &[]).await;
    assert_eq!((answer.status, answer.header("anthropic-ratelimit-requests-remaining")), (200, "0"));
    assert!(answer.header("anthropic-ratelimit-requests-reset").ends_with('Z'));
    assert_eq!(answer.header("anthropic-ratelimit-input-tokens-limit"), "1000");
    let refused = gate.post("/v1/messages", body(), &[]).await;
    assert_eq!((refused.status, refused.json()["error"]["type"].as_str()), (429, Some("rate_limit_error")));
    assert!(refused.header("retry-after").parse::<u64>().is_ok());
    gate.finish().await;
}

/// A stream of Anthropic's that says 16,000 bytes in a block of this kind.
fn long_stream(kind: &str) -> String {
    let (block, delta, member) = match kind {
        "thinking" => (json!({ "type": kind, "thinking": "", "signature": "" }), "thinking_delta", "thinking"),
        "tool_use" => {
            (json!({ "type": kind, "id": "toolu_1", "name": "f", "input": {} }), "input_json_delta", "partial_json")
        }
        _ => (json!({ "type": kind, "text": "" }), "text_delta", "text"),
    };
    let usage = json!({ "input_tokens": 9, "output_tokens": 1 });
    let message = json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "up", "content": [],
                          "stop_reason": null, "stop_sequence": null, "usage": usage });
    let text = json!({ "type": "text", "text": "" });
    let well = json!({ "type": "text_delta", "text": "Well." });
    let mut events = vec![
        json!({ "type": "message_start", "message": message }),
        json!({ "type": "content_block_start", "index": 0, "content_block": text }),
        json!({ "type": "content_block_delta", "index": 0, "delta": well }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "content_block_start", "index": 1, "content_block": block }),
    ];
    let said =
        json!({ "type": "content_block_delta", "index": 1, "delta": { "type": delta, member: "word ".repeat(8) } });
    if kind == "tool_use" {
        let first = json!({ "type": delta, member: "{\"a\":\"" });
        events.push(json!({ "type": "content_block_delta", "index": 1, "delta": first }));
    }
    events.extend(std::iter::repeat_n(said, 400));
    let last = match kind {
        "thinking" => Some(json!({ "type": "signature_delta", "signature": "c2ln" })),
        "tool_use" => Some(json!({ "type": delta, member: "\"}" })),
        _ => None,
    };
    events.extend(last.map(|delta| json!({ "type": "content_block_delta", "index": 1, "delta": delta })));
    let reason = if kind == "tool_use" { kind } else { "end_turn" };
    events.extend([
        json!({ "type": "content_block_stop", "index": 1 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": reason, "stop_sequence": null }, "usage": { "output_tokens": 4_000 } }),
        json!({ "type": "message_stop" }),
    ]);
    let event = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(event).collect()
}

#[tokio::test]
async fn a_stream_that_is_cut_ends_with_a_stop_in_its_clients_format_in_every_lane() {
    let mut rows = Rows::new();
    for client in [CHAT, MESSAGES] {
        for kind in ["kind: anthropic", "kind: openai_compatible"] {
            for block in ["text", "thinking", "tool_use"] {
                for policy in ["finish", "cut"] {
                    // The mock says texts alone.
                    if kind != CLAUDE && block != "text" {
                        continue;
                    }
                    rows.row(format!("{block} of {kind} for {client}, {policy}"));
                    let upstream = RawUpstream::listen().await;
                    let models = "models: { m: { targets: [a/up], overrides: { max_tokens: null } } }";
                    let config = format!(
                        "{models}\nquotas: [{{ scope: global, measure: output_tokens, limit: 3000, window: day, mid_stream: {policy} }}]"
                    );
                    let build = Gate::build().config(&config);
                    let gate = match kind {
                        CLAUDE => build.upstream_with("a", upstream.address, kind).start().await,
                        _ => build.mock_with("a", kind).start().await,
                    };
                    let mut body = json!({ "model": "m", "max_tokens": 100_000, "stream": true,
                                           "messages": [{ "role": "user", "content": "Hello" }] });
                    if client == CHAT {
                        body["stream_options"] = json!({ "include_usage": true });
                    }
                    let call = gate.post(client, body.to_string(), &[]);
                    let answer = if kind == CLAUDE {
                        let answered = async {
                            let mut exchange = upstream.accept().await;
                            // The gateway hangs up once it has cut the answer.
                            let _ = exchange.socket.write_all(stream(&long_stream(block)).as_bytes()).await;
                        };
                        gate.unseen(1);
                        tokio::join!(call, answered).0
                    } else {
                        let text = Some("word ".repeat(3_200));
                        gate.mock("a").set_default(Behaviour { text, chunks: Some(400), ..Behaviour::default() });
                        call.await
                    };
                    rows.equal("status", answer.status, 200);
                    let (ending, _) = checked(client, &answer.body);
                    rows.equal("ending", ending, Ending::Clean);
                    // Sent back to the gateway, it is known for what it is.
                    let marked = answer.text().contains("switchboard.unsigned");
                    rows.equal("marked", marked, block == "thinking" && policy == "cut" && client == MESSAGES);
                    let is_cut = policy == "cut";
                    let stop = match client {
                        MESSAGES => r#""stop_reason":"max_tokens""#,
                        _ => r#""finish_reason":"length""#,
                    };
                    rows.equal("a stop for its length", answer.text().contains(stop), is_cut);
                    let said = answer.text().matches("word ").count() * 5;
                    let expected = if is_cut { 7_000..11_000 } else { 16_000..16_001 };
                    rows.holds("what was said", expected.contains(&said), said);
                    let (_, books) = gate.finish_books().await;
                    let outcome = if is_cut { Outcome::RefusedByGateway } else { Outcome::Ok };
                    rows.equal("outcome", books.iter().map(|row| row.outcome).collect::<Vec<_>>(), vec![outcome]);
                    let counted = books[0].usage().total_output();
                    rows.holds("tokens", counted > 1_500, counted);
                    let told = format!("\"completion_tokens\":{counted},");
                    rows.equal("told", answer.text().matches(&told).count(), usize::from(client == CHAT));
                }
            }
        }
    }
    rows.finish();
}

#[tokio::test]
async fn a_restart_forgets_nothing_that_was_spent() {
    let quotas = "  - { name: month, scope: global, measure: usd, limit: 0.0003, window: month }\n  \
                  - { name: keys, scope: key, match: tests, measure: requests, limit: 4, window: 24h }\n  \
                  - { name: pairs, scope: [project, provider], measure: tokens, limit: 36, window: day }";
    for (changed, left) in [("usd, limit: 0.0003", 1), ("requests, limit: 4", 2), ("tokens, limit: 36", 0)] {
        // Two calls of 18 tokens and $0.0000975 each, then as many as the one quota in question has room for.
        let only = quotas.lines().find(|line| line.contains(changed)).unwrap();
        let mut gate = priced(only).await;
        for _ in 0..2 {
            assert_eq!(gate.chat(json!({ "max_tokens": 7 })).await.status, 200, "{only}");
        }
        gate.restart().await;
        for _ in 0..left {
            assert_eq!(gate.patiently(gate.chat(json!({ "max_tokens": 7 }))).await.status, 200, "{only}");
        }
        assert_eq!(gate.patiently(gate.chat(json!({ "max_tokens": 7 }))).await.status, 429, "{only}");
        gate.finish().await;
    }
}

/// Refused calls are in the ledger, which counters are filled from.
#[tokio::test]
async fn a_refused_call_consumes_nothing_after_a_restart_either() {
    for counted in [
        "scope: key, match: tests, window: day",
        "scope: global, window: 24h",
        "scope: [key, end_user], window: month",
        "scope: session, window: day",
    ] {
        let quotas = format!(
            "  - {{ {counted}, measure: requests, limit: 4 }}\n  \
             - {{ scope: global, measure: tokens, limit: 200, window: 366d }}"
        );
        let mut gate = priced(&quotas).await;
        let call = |max_tokens: u32| json!({ "user": "u", "metadata": { "session": "s" }, "max_tokens": max_tokens });
        for (max_tokens, expected) in [(7, 200), (7, 200), (5_000, 429), (5_000, 429), (5_000, 429)] {
            assert_eq!(gate.chat(call(max_tokens)).await.status, expected, "{counted}");
        }
        gate.restart().await;
        for expected in [200, 200, 429] {
            assert_eq!(gate.patiently(gate.chat(call(7))).await.status, expected, "{counted}");
        }
        gate.finish().await;
    }
}

#[tokio::test]
async fn a_call_larger_than_a_budget_is_no_sign_that_it_is_used_up() {
    let hook = RawUpstream::listen().await;
    let config = format!(
        "models: {{ m: {{ targets: [a/gpt-4o] }} }}\nwebhook: {{ url: \"http://{}/hook\" }}\n\
         quotas: [{{ name: all, scope: global, measure: tokens, limit: 40, window: day, warn_at: [0.5, 1] }}]",
        hook.address
    );
    let gate = Gate::build().mock_with("a", "kind: openai").config(&config).start().await;
    gate.mock("a").set_default(fixed());
    assert_eq!(gate.chat(json!({ "max_tokens": 5_000 })).await.status, 429);
    for expected in [200, 200, 429] {
        assert_eq!(gate.chat(json!({ "max_tokens": 7 })).await.status, expected);
    }
    let mut told = Vec::new();
    for _ in 0..2 {
        let ok = "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let request = gate.patiently(hook.accept_and(ok)).await;
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let warning: serde_json::Value = serde_json::from_str(body).unwrap();
        told.push((warning["threshold"].as_f64().unwrap(), warning["used"].clone()));
    }
    // Two calls of 18 tokens: what is said to be used is what is used.
    assert_eq!(told, [(0.5, json!("36")), (1.0, json!("36"))]);
    gate.finish().await;
}

#[tokio::test]
async fn the_webhook_is_told_once_of_each_threshold() {
    let hook = RawUpstream::listen().await;
    let config = format!(
        "models: {{ m: {{ targets: [a/gpt-4o] }} }}\n\
         webhook: {{ url: \"http://{}/hook\", headers: {{ x-token: secret-of-the-hook }} }}\n\
         quotas: [{{ name: calls, scope: project, measure: requests, limit: 4, window: day, warn_at: [0.5, 1] }}]",
        hook.address
    );
    let gate = Gate::build().mock_with("a", "kind: openai").config(&config).start().await;
    let ok = "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let mut told = Vec::new();
    for _ in 0..6 {
        gate.chat(json!({})).await;
    }
    for _ in 0..2 {
        let request = gate.patiently(hook.accept_and(ok)).await;
        assert!(request.starts_with("POST /hook HTTP/1.1\r\n") && request.contains("x-token: secret-of-the-hook"));
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let warning: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&warning["event"], &warning["quota"]), (&json!("quota.threshold"), &json!("calls")));
        assert_eq!((&warning["scope"], &warning["limit"]), (&json!({ "project": "default" }), &json!("4")));
        told.push((warning["threshold"].as_f64().unwrap(), warning["used"].clone()));
    }
    assert_eq!(told, [(0.5, json!("2")), (1.0, json!("4"))]);
    gate.finish().await;
}

fn period(text: &str) -> switchboard::types::Period {
    text.parse().unwrap()
}
