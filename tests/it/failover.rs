//! Where a call goes when a target fails: how many calls each provider got, and what the client saw.

use std::collections::BTreeMap;

use futures_util::future::{join, join_all};
use serde_json::json;
use switchboard::{
    mock::{Behaviour, Reset},
    types::Period,
};

use crate::harness::*;

const ORDERED: &str = "models: { m: { targets: [a/up, b/up] } }";
const FALLBACK: &str = "models: { m: { targets: [a/up], fallbacks: { default: [n] } }, n: { targets: [b/up] } }";

/// Faults after which another target is asked, whatever the fault.
pub fn passing() -> Vec<(&'static str, Behaviour)> {
    let status = |status| Behaviour { status: Some(status), ..fixed() };
    let message = |status, message: &str| Behaviour { message: Some(message.into()), ..Behaviour::status(status) };
    vec![
        ("401", status(401)),
        ("402", status(402)),
        ("403", status(403)),
        ("408", status(408)),
        ("409", status(409)),
        ("429", status(429)),
        ("429 with a quota that is used up", message(429, "You exceeded your current quota: insufficient balance")),
        ("500", status(500)),
        ("502", status(502)),
        ("503", status(503)),
        ("504", status(504)),
        ("529", status(529)),
        ("500 in HTML", Behaviour { html: true, ..status(500) }),
        ("reset before the head", Behaviour { reset: Some(Reset::BeforeHead), ..fixed() }),
        ("reset inside the body", Behaviour { reset: Some(Reset::AtByte(40)), ..fixed() }),
        ("empty", Behaviour { empty: true, ..fixed() }),
        ("empty body", Behaviour { empty_body: true, ..fixed() }),
        ("invalid JSON", Behaviour { invalid_json: true, ..fixed() }),
        ("HTML", Behaviour { html: true, ..fixed() }),
        ("an error with status 200", Behaviour { error_in_200: true, ..fixed() }),
        ("silence before the first output", Behaviour { hang_after_chunks: Some(0), ..fixed() }),
    ]
}

#[tokio::test]
async fn a_fault_is_answered_by_the_next_target_or_the_fallback_unseen() {
    let mut rows = Rows::new();
    for (name, fault) in passing() {
        for (how, config) in [("ordered", ORDERED), ("fallback", FALLBACK)] {
            for is_stream in [true, false] {
                rows.row(format!("{name}, {how}, streamed {is_stream}"));
                let gate = Gate::build().mock("a").mock("b").config(config).start().await;
                gate.mock("a").set_default(fault.clone());
                gate.mock("b").set_default(fixed());
                let answer = gate.advance_until(gate.ask(is_stream, json!({})), secs(1)).await;
                rows.equal("status", answer.status, 200);
                rows.equal("content", &*answer.content(), "One two three four five.");
                rows.equal("target", answer.header("x-switchboard-target"), "b/up");
                // A fallback comes before a second try: the same failed target is not asked while another is left.
                rows.equal("calls", (gate.served("a"), gate.served("b")), (1, 1));
                // An empty answer says what it consumed, and both are paid.
                let tokens = if name == "empty" { "input 22, output 14" } else { "input 11, output 7" };
                match gate.audit().await {
                    Ok(counts) => rows.equal("tokens", &*counts.tokens(), tokens),
                    Err(wrong) => rows.fine(Err(wrong)),
                }
            }
        }
    }
    rows.finish();
}

#[tokio::test]
async fn a_permanent_refusal_is_asked_once_and_not_held_against_the_target() {
    let mut rows = Rows::new();
    for status in [400, 404, 405, 413, 415, 422] {
        for config in [ORDERED, FALLBACK] {
            for is_stream in [true, false] {
                rows.row(format!("{status}, streamed {is_stream}, {config}"));
                let gate = Gate::build().mock("a").mock("b").config(config).start().await;
                gate.mock("a").set_default(Behaviour { message: Some("No.".into()), ..Behaviour::status(status) });
                for _ in 0..8 {
                    let answer = soon(gate.ask(is_stream, json!({}))).await;
                    rows.equal("status", answer.status, status);
                    rows.equal("its own words", answer.json()["error"]["message"].as_str(), Some("No."));
                    rows.equal("advice", answer.header("x-should-retry"), "false");
                }
                rows.equal("calls", (gate.served("a"), gate.served("b")), (8, 0));
                let state = gate.counts().await.sum("breaker_state", &[("target", "a/up")]);
                rows.equal("breaker", state, 0);
                rows.fine(gate.audit().await.map(drop));
            }
        }
    }
    rows.finish();
}

/// A fault, the only target's, after which the same target is asked again.
#[tokio::test]
async fn a_fault_that_may_pass_is_tried_again_on_the_only_target() {
    let mut rows = Rows::new();
    for (name, fault) in passing() {
        for is_stream in [true, false] {
            rows.row(format!("{name}, streamed {is_stream}"));
            // A key that is refused rests; there is nothing else to try.
            let is_final = ["401", "402", "403"].contains(&name) || name.contains("used up");
            let gate = Gate::build().mock("a").start().await;
            gate.mock("a").set_default(fixed());
            gate.mock("a").enqueue(fault.clone());
            let answer = gate.advance_until(gate.ask(is_stream, json!({})), secs(1)).await;
            let (calls, is_good) = if is_final { (1, false) } else { (2, true) };
            rows.equal("calls", gate.served("a"), calls);
            rows.equal("it went well", answer.status == 200, is_good);
            rows.fine(gate.audit().await.map(drop));
        }
    }
    rows.finish();
}

#[tokio::test]
async fn attempts_end_at_their_limit() {
    let mut rows = Rows::new();
    for limit in [1, 2, 3, 5] {
        for (targets, providers) in [("[a/up]", 1), ("[a/up, b/up]", 2), ("[a/up, b/up, c/up]", 3)] {
            rows.row(format!("{limit} over {targets}"));
            let config = format!("retries: {{ max_attempts: {limit} }}\nmodels: {{ m: {{ targets: {targets} }} }}");
            let gate = Gate::build().mock("a").mock("b").mock("c").config(&config).start().await;
            for name in ["a", "b", "c"] {
                gate.mock(name).set_default(Behaviour::status(500));
            }
            let answer = gate.advance_until(gate.chat(json!({})), millis(100)).await;
            rows.equal("status", answer.status, 500);
            rows.equal("attempts", answer.header("x-switchboard-attempts"), &*limit.to_string());
            let calls: Vec<u64> = ["a", "b", "c"].iter().map(|name| gate.served(name)).collect();
            rows.equal("calls", calls.iter().sum::<u64>(), limit);
            let (most, least) = (calls.iter().max(), calls[..providers].iter().min());
            rows.holds("no target twice before each had its turn", most <= least.map(|n| n + 1).as_ref(), &calls);
            rows.fine(gate.audit().await.map(drop));
        }
    }
    rows.finish();
}

#[tokio::test]
async fn retry_after_is_honoured_in_every_form() {
    let mut rows = Rows::new();
    let limited = || Behaviour { status: Some(429), ..Behaviour::default() };
    let table = [
        ("seconds", Behaviour { retry_after: Some(4), ..limited() }, millis(4_000)),
        // A date has whole seconds: up to one is lost in rounding down.
        ("date", Behaviour { retry_after: Some(4), retry_after_date: true, ..limited() }, millis(3_000)),
        ("milliseconds", Behaviour { retry_after_ms: Some(1_700), ..limited() }, millis(1_700)),
        ("503 in seconds", Behaviour { status: Some(503), retry_after: Some(4), ..limited() }, millis(4_000)),
    ];
    for (name, script, wait) in table {
        for is_stream in [true, false] {
            rows.row(format!("{name}, streamed {is_stream}"));
            let gate = Gate::build().mock("a").start().await;
            gate.mock("a").enqueue(script.clone());
            let answer = gate.advance_until(gate.ask(is_stream, json!({})), millis(50)).await;
            rows.equal("status", answer.status, 200);
            let requests = gate.mock("a").requests();
            rows.equal("calls", requests.len(), 2);
            let rest = requests[1].at - requests[0].at;
            // The longest date is the full time; then comes at most the jitter of the first backoff.
            let longest = wait.max(if name == "date" { millis(4_000) } else { wait }) + millis(300);
            rows.holds("the wait", rest >= wait && rest <= longest, rest);
            rows.fine(gate.audit().await.map(drop));
        }
    }
    rows.finish();
}

#[tokio::test]
async fn a_retry_after_that_is_too_long_goes_to_the_client_and_is_kept() {
    let gate = Gate::build().mock("a").start().await;
    gate.mock("a").enqueue(Behaviour { retry_after: Some(40), ..Behaviour::status(429) });
    let answer = soon(gate.chat(json!({}))).await;
    assert_eq!((answer.status, answer.header("retry-after"), answer.code()), (429, "40", "rate_limit_exceeded".into()));
    assert_eq!(answer.header("x-should-retry"), "");

    // Before that time nothing is sent, and the client is told how long that is.
    gate.advance(secs(15)).await;
    let answer = soon(gate.chat(json!({}))).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "25"));
    assert_eq!(answer.code(), "all_targets_rate_limited");
    assert_eq!(gate.served("a"), 1);

    gate.advance(secs(25)).await;
    assert_eq!(soon(gate.chat(json!({}))).await.status, 200);
    assert_eq!(gate.finish().await.outcomes(), "ok 1, rate_limited 2");
}

#[tokio::test]
async fn all_targets_resting_is_a_short_wait_when_the_rest_is_short() {
    let gate = Gate::build().mock("a").config("retries: { max_attempts: 1 }").start().await;
    gate.mock("a").enqueue(Behaviour { retry_after_ms: Some(1_500), ..Behaviour::status(429) });
    assert_eq!(soon(gate.chat(json!({}))).await.status, 429);
    let answer = gate.advance_until(gate.chat(json!({})), millis(100)).await;
    assert_eq!(answer.status, 200);
    assert!(gate.elapsed() >= millis(1_500) && gate.elapsed() < millis(1_700), "{:?}", gate.elapsed());
    gate.finish().await;
}

#[tokio::test]
async fn the_headers_of_a_failed_attempt_never_reach_the_client() {
    let mut rows = Rows::new();
    for is_stream in [true, false] {
        rows.row(format!("streamed {is_stream}"));
        let gate = Gate::build().mock("a").mock("b").config(ORDERED).start().await;
        let headers =
            |who: &str| BTreeMap::from([("x-who".to_owned(), who.to_owned()), (format!("x-{who}"), "1".into())]);
        let failing = Behaviour { headers: headers("a"), retry_after: Some(3), ..Behaviour::status(503) };
        gate.mock("a").set_default(failing);
        gate.mock("b").set_default(Behaviour { headers: headers("b"), ..fixed() });
        let answer = soon(gate.ask(is_stream, json!({}))).await;
        rows.equal("status", answer.status, 200);
        rows.equal("whose", (answer.header("x-who"), answer.header("x-b")), ("b", "1"));
        let leaked = answer.headers.contains_key("x-a") || answer.headers.contains_key("retry-after");
        rows.holds("nothing leaks", !leaked, &answer.headers);
        rows.equal("one of each", answer.headers.get_all("x-upstream-request-id").iter().count(), 1);
        rows.fine(gate.audit().await.map(drop));
    }
    rows.finish();
}

/// The fallback that follows each kind of failure.
#[tokio::test]
async fn fallbacks_are_chosen_by_reason() {
    let coded = |status, code: &str| Behaviour { error_code: Some(code.into()), ..Behaviour::status(status) };
    let long = coded(400, "context_length_exceeded");
    let policy = coded(400, "content_policy_violation");
    let hang = Behaviour { hang: true, ..Behaviour::default() };
    let own = "fallbacks: { default: [by-default], rate_limit: [by-limit], timeout: [by-time], \
               context_length: [by-length], content_policy: [by-policy] }";
    let only_default = "fallbacks: { default: [by-default] }";
    let none_for_limits = "fallbacks: { default: [by-default], rate_limit: [] }";
    let table: Vec<(&str, Behaviour, Option<&str>)> = vec![
        (own, Behaviour::status(500), Some("by-default")),
        (own, Behaviour::status(401), Some("by-default")),
        (own, Behaviour::status(429), Some("by-limit")),
        (own, Behaviour::status(402), Some("by-limit")),
        (own, Behaviour::status(504), Some("by-time")),
        (own, hang.clone(), Some("by-time")),
        (own, long.clone(), Some("by-length")),
        (own, policy.clone(), Some("by-policy")),
        (own, Behaviour::status(400), None),
        (only_default, Behaviour::status(429), Some("by-default")),
        (only_default, hang, Some("by-default")),
        // A request that is too long, or that a filter refuses, is the client's to know of.
        (only_default, long, None),
        (only_default, policy, None),
        (none_for_limits, coded(402, "insufficient_quota"), None),
    ];
    let mut rows = Rows::new();
    for (fallbacks, fault, expected) in table {
        for is_stream in [true, false] {
            rows.row(format!("{fallbacks}, {:?} {:?}, streamed {is_stream}", fault.status, fault.error_code));
            let names = ["by-default", "by-limit", "by-time", "by-length", "by-policy"];
            let mut config = format!(
                "timeout: {{ first_output: 20s, total: 60s }}\nmodels:\n  m: {{ targets: [a/up], {fallbacks} }}\n"
            );
            for name in names {
                config.push_str(&format!("  {name}: {{ targets: [b/{name}], timeout: {{ total: 2m }} }}\n"));
            }
            let gate = Gate::build().mock("a").mock("b").config(&config).start().await;
            gate.mock("a").set_default(fault.clone());
            let whole_hang = !is_stream && fault.hang;
            let answer = gate.advance_until(gate.ask(is_stream, json!({})), secs(1)).await;
            match expected {
                // A whole answer has no deadline but the total, after which there is no time for anything else.
                _ if whole_hang => rows.equal("status", answer.status, 504),
                Some(name) => {
                    rows.equal("status", answer.status, 200);
                    rows.equal("target", answer.header("x-switchboard-target"), &*format!("b/{name}"));
                    rows.equal("calls", (gate.served("a"), gate.served("b")), (1, 1));
                }
                None => {
                    rows.equal("status", Some(answer.status), fault.status);
                    rows.equal("calls", (gate.served("a"), gate.served("b")), (1, 0));
                }
            }
            rows.fine(gate.audit().await.map(drop));
        }
    }
    rows.finish();
}

#[tokio::test]
async fn a_fallback_that_the_key_may_not_use_is_not_taken() {
    let gate = Gate::build()
        .mock("a")
        .mock("b")
        .config(FALLBACK)
        .key("{ name: narrow, value: narrow-key-0123456789, models: [m] }")
        .start()
        .await;
    gate.mock("a").set_default(Behaviour::status(500));
    let bearer = [("authorization", "Bearer narrow-key-0123456789")];
    let call = gate.post("/v1/chat/completions", chat(json!({})).to_string(), &bearer);
    let answer = gate.advance_until(call, secs(1)).await;
    assert_eq!((answer.status, gate.served("a"), gate.served("b")), (500, 4, 0));
    let answer = soon(gate.post("/v1/chat/completions", chat(json!({ "model": "n" })).to_string(), &bearer)).await;
    assert_eq!((answer.status, answer.code()), (403, "model_not_allowed".into()));
    gate.finish().await;
}

#[tokio::test]
async fn weights_share_calls_and_failures_go_to_the_rest() {
    let config = "models: { m: { targets: [{ model: a/up, weight: 3 }, { model: b/up, weight: 1 }, { model: c/up, weight: 0 }] } }";
    let gate = Gate::build().mock("a").mock("b").mock("c").config(config).start().await;
    for _ in 0..400 {
        assert_eq!(soon(gate.chat(json!({}))).await.status, 200);
    }
    // 300 expected, with a standard deviation of 8.7.
    let (a, c) = (gate.served("a"), gate.served("c"));
    assert!((250..=350).contains(&a) && c == 0, "{a} {c}");
    gate.mock("a").set_default(Behaviour::status(500));
    gate.mock("b").set_default(Behaviour::status(503));
    for _ in 0..20 {
        let answer = soon(gate.chat(json!({}))).await;
        assert_eq!((answer.status, answer.header("x-switchboard-target")), (200, "c/up"));
    }
    gate.finish().await;
}

/// Provider `a` with two keys; the key of each recorded request in turn.
async fn two_keys(config: &str) -> Gate {
    Gate::build().mock_with("a", "api_keys: [key-1, key-2]").config(config).start().await
}

fn keys_used(gate: &Gate) -> Vec<String> {
    gate.mock("a").requests().into_iter().filter_map(|request| request.api_key).collect()
}

#[tokio::test]
async fn a_refused_key_rests_alone_for_every_target_of_its_provider() {
    let mut rows = Rows::new();
    for status in [401, 402, 403] {
        for is_stream in [true, false] {
            rows.row(format!("{status}, streamed {is_stream}"));
            let gate = two_keys("models: { m: { targets: [a/up] }, other: { targets: [a/other] } }").await;
            gate.mock("a").enqueue(Behaviour::status(status));
            rows.equal("status", soon(gate.ask(is_stream, json!({}))).await.status, 200);
            let first = keys_used(&gate);
            rows.holds("the other key answers at once", first.len() == 2 && first[0] != first[1], &first);
            for _ in 0..4 {
                soon(gate.chat(json!({ "model": "other" }))).await;
                soon(gate.chat(json!({}))).await;
            }
            let dead = keys_used(&gate).into_iter().filter(|key| *key == first[0]).count();
            rows.equal("calls with the refused key", dead, 1);
            // After five minutes it is tried again.
            gate.advance(secs(300)).await;
            for _ in 0..2 {
                soon(gate.chat(json!({}))).await;
            }
            let dead = keys_used(&gate).into_iter().filter(|key| *key == first[0]).count();
            rows.equal("calls with the refused key after its rest", dead, 2);
            rows.fine(gate.audit().await.map(drop));
        }
    }
    rows.finish();
}

#[tokio::test]
async fn when_every_key_is_refused_each_is_tried_once() {
    let mut rows = Rows::new();
    for status in [401, 402, 403] {
        rows.row(status.to_string());
        let gate = two_keys("").await;
        gate.mock("a").set_default(Behaviour::status(status));
        let answer = gate.advance_until(gate.chat(json!({})), secs(1)).await;
        rows.equal("status", answer.status, status);
        rows.equal("calls", keys_used(&gate).len(), 2);
        rows.fine(gate.audit().await.map(drop));
    }
    rows.finish();
}

#[tokio::test]
async fn a_limited_key_gives_way_to_the_other_and_both_are_waited_for() {
    let gate = two_keys("").await;
    gate.mock("a").enqueue(Behaviour { retry_after: Some(60), ..Behaviour::status(429) });
    let answer = soon(gate.chat(json!({}))).await;
    assert_eq!((answer.status, gate.served("a")), (200, 2));
    let limited = keys_used(&gate)[0].clone();
    for _ in 0..5 {
        assert_eq!(soon(gate.chat(json!({}))).await.status, 200);
    }
    assert_eq!(
        keys_used(&gate).iter().filter(|key| **key == limited).count(),
        1,
        "one key is limited, not the provider"
    );
    gate.mock("a").enqueue(Behaviour { retry_after: Some(3), ..Behaviour::status(429) });
    let before = gate.elapsed();
    let answer = gate.advance_until(gate.chat(json!({})), millis(100)).await;
    let waited = gate.elapsed() - before;
    assert!(answer.status == 200 && waited >= secs(3) && waited < millis(3_500), "{} {waited:?}", answer.status);
    gate.finish().await;
}

#[tokio::test]
async fn a_target_rests_after_failures_in_a_row_and_its_probe_brings_it_back() {
    let gate = Gate::build().mock("a").mock("b").config(ORDERED).start().await;
    gate.mock("a").set_default(Behaviour::status(500));
    for _ in 0..10 {
        assert_eq!(soon(gate.chat(json!({}))).await.status, 200);
    }
    assert_eq!((gate.served("a"), gate.served("b")), (5, 10), "five failures in a row are enough");
    let counts = gate.counts().await;
    assert_eq!(counts.sum("breaker_state", &[("target", "a/up")]), 2);

    gate.advance(secs(5)).await;
    for _ in 0..5 {
        soon(gate.chat(json!({}))).await;
    }
    assert_eq!(gate.served("a"), 6, "one probe, which failed");
    gate.advance(secs(9)).await;
    soon(gate.chat(json!({}))).await;
    assert_eq!(gate.served("a"), 6, "a failed probe doubles the rest");
    gate.advance(secs(1)).await;
    gate.mock("a").set_default(fixed());
    for _ in 0..5 {
        soon(gate.chat(json!({}))).await;
    }
    assert_eq!(gate.served("a"), 11, "the probe went well, and the target is first again");
    gate.finish().await;
}

#[tokio::test]
async fn a_target_rests_when_half_of_its_calls_fail() {
    let gate = Gate::build().mock("a").mock("b").config(ORDERED).start().await;
    for call in 0..30 {
        if call % 2 == 0 {
            gate.mock("a").enqueue(Behaviour::status(500));
        }
        assert_eq!(soon(gate.chat(json!({}))).await.status, 200);
    }
    // Ten of twenty: the first moment at which there are enough calls and as many failures.
    assert!((20..=21).contains(&gate.served("a")), "{}", gate.served("a"));
    gate.mock("a").clear();
    gate.finish().await;
}

#[tokio::test]
async fn streams_that_die_after_their_first_output_rest_the_target() {
    let gate = Gate::build().mock("a").mock("b").config(ORDERED).start().await;
    gate.mock("a").set_default(Behaviour { reset: Some(Reset::AfterChunk(1)), ..fixed() });
    for _ in 0..5 {
        assert_eq!(soon(gate.stream(json!({}))).await.ending(), "error");
    }
    let answer = soon(gate.stream(json!({}))).await;
    assert_eq!((answer.ending(), answer.header("x-switchboard-target")), ("done", "b/up"));
    gate.finish().await;
}

#[tokio::test]
async fn a_half_open_target_admits_one_probe_of_fifty_calls() {
    let gate = Gate::build().mock("a").config("retries: { max_attempts: 1 }").start().await;
    gate.mock("a").set_default(Behaviour::status(500));
    for _ in 0..5 {
        assert_eq!(soon(gate.chat(json!({}))).await.status, 500);
    }
    gate.advance(secs(5)).await;
    gate.mock("a").set_default(Behaviour { delay: Some(Period::from_secs(10)), ..fixed() });
    let calls = join_all((0..50).map(|_| gate.chat(json!({}))));
    let answers = gate.advance_until(calls, millis(250)).await;
    let good = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((good, gate.served("a")), (1, 6), "one probe, and nothing beside it");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((answer.status, answer.code()), (503, "no_target_available".into()));
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=5).contains(&wait), "{wait}");
    }
    gate.mock("a").set_default(fixed());
    assert_eq!(soon(gate.chat(json!({}))).await.status, 200, "the probe has closed the breaker");
    gate.finish().await;
}

#[tokio::test]
async fn retries_add_at_most_a_fifth_under_a_steady_failure() {
    let config = "retries: { base: 1ms, max: 1ms }\nhealth: { consecutive_failures: 1000000, min_calls: 1000000 }";
    let gate = Gate::build().mock("a").config(config).start().await;
    gate.mock("a").set_default(Behaviour::status(500));
    const CALLS: u64 = 1_500;
    for _ in 0..CALLS {
        assert_eq!(gate.advance_until(gate.chat(json!({})), millis(1)).await.status, 500);
    }
    let extra = gate.served("a") - CALLS;
    // A fifth, and the reserve that lets a quiet gateway retry at all: 100, and 10 for each second.
    assert!(extra <= CALLS / 5 + 100 + 10 * gate.elapsed().as_secs() + 10, "{extra} retries of {CALLS} calls");
    assert!(extra >= CALLS / 5, "{extra} retries of {CALLS} calls: the share is not used");
    assert_eq!(gate.counts().await.sum("retries_total", &[]), extra);
    gate.finish().await;
}

#[tokio::test]
async fn calls_side_by_side_do_not_share_their_trails() {
    let gate = Gate::build().mock("a").mock("b").config(ORDERED).start().await;
    gate.mock("a").set_default(Behaviour { rate: Some(switchboard::mock::Rate { every: 3 }), ..fixed() });
    let whole = join_all((0..60).map(|_| gate.chat(json!({}))));
    let streamed = join_all((0..60).map(|_| gate.stream(json!({}))));
    let (whole, streamed) = gate.advance_until(join(whole, streamed), millis(100)).await;
    assert!(whole.iter().chain(&streamed).all(|answer| answer.status == 200));
    assert!(streamed.iter().all(|answer| answer.ending() == "done"));
    assert_eq!(gate.finish().await.outcomes(), "ok 120");
}

#[tokio::test]
async fn a_connection_closed_as_it_is_used_again_is_replaced_by_a_new_one() {
    for (models, asked) in [("{ m: { targets: [a/up] } }", "m"), ("{ 'a/*': { targets: ['a/*'] } }", "a/up")] {
        let upstream = RawUpstream::listen().await;
        let gate = Gate::build().upstream("a", upstream.address).config(&format!("models: {models}")).start().await;
        let ask = || gate.chat(json!({ "model": asked }));
        let answer = r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
        // Two calls at once leave two idle connections behind.
        let provider = async {
            let (mut one, mut other) = (upstream.accept().await, upstream.accept().await);
            one.send(&answer).await;
            other.send(&answer).await;
            (one, other)
        };
        let (first, second, (mut one, mut other)) = futures_util::future::join3(ask(), ask(), provider).await;
        assert_eq!((first.status, second.status), (200, 200), "{models}");
        // Whichever is used again is closed upon it; the answer comes over a third one, not over the other idle one.
        let provider = async {
            let used = futures_util::future::select(Box::pin(one.next_bytes()), Box::pin(other.next_bytes())).await;
            let is_one = matches!(used, futures_util::future::Either::Left(_));
            drop(used);
            // The one that is left stays open and idle: it answers nothing, should it be asked.
            let (used, _idle) = if is_one { (one, other) } else { (other, one) };
            drop(used);
            upstream.accept().await.send(&answer).await;
        };
        let (third, ()) = join(ask(), provider).await;
        assert_eq!((third.status, third.header("x-switchboard-attempts")), (200, "2"), "{models}");
        gate.unseen(4);
        gate.finish().await;
    }
}
