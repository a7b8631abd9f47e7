//! What a call leaves in the ledger: on whose behalf, what each attempt consumed and cost, and what the client hears of it.

use serde_json::json;
use switchboard::{
    mock::{Behaviour, UsageMode},
    store::{
        Db,
        ledger::{self, AttemptRow, RequestFilter},
    },
    telemetry::Outcome,
    types::{Clock, Nanos, UsageSource},
};

use crate::harness::*;

/// A provider whose prices are in the catalogue, serving `gpt-4o`: $2.50 and $10 for a million tokens in and out.
const PRICED: &str = "models: { m: { targets: [a/gpt-4o] } }";

/// What the 11 and 7 tokens of [`fixed`] cost there.
const COST: Nanos = Nanos(97_500);

async fn priced() -> Gate {
    let gate = Gate::build().mock_with("a", "kind: openai").config(PRICED).start().await;
    gate.mock("a").set_default(fixed());
    gate
}

fn never(text: &str) -> Behaviour {
    Behaviour { usage_mode: UsageMode::Never, text: Some(text.into()), ..fixed() }
}

fn only(rows: Vec<switchboard::store::ledger::CallRow>) -> AttemptRow {
    let [row] = rows.try_into().expect("one call");
    let [attempt] = row.attempts.try_into().expect("one attempt");
    attempt
}

#[tokio::test]
async fn a_success_is_written_with_what_its_provider_states_and_its_exact_cost() {
    for is_stream in [true, false] {
        let gate = priced().await;
        gate.ask(is_stream, json!({})).await;
        let (counts, rows) = gate.finish_books().await;
        assert_eq!((rows[0].outcome, rows[0].cost(), &*rows[0].model), (Outcome::Ok, Some(COST), "m"));
        assert_eq!((&*rows[0].who.key_name, &*rows[0].who.project), ("tests", "default"));
        let attempt = only(rows);
        assert_eq!((attempt.usage.input, attempt.usage.output), (11, 7));
        assert_eq!((attempt.usage_source, attempt.status), (UsageSource::Reported, Some(200)));
        assert_eq!(attempt.provider_id.as_deref(), Some("chatcmpl-fixed"));
        assert_eq!(
            (attempt.service_tier.as_deref(), attempt.first_token_ms),
            (Some("default"), is_stream.then_some(0))
        );
        assert!(attempt.price.starts_with("openai/gpt-4o"), "{}", attempt.price);
        assert_eq!(counts.sum("unpriced_attempts_total", &[]), 0);
    }
}

#[tokio::test]
async fn who_asked_is_taken_from_the_key_the_headers_and_the_body() {
    let key = "{ name: robot, value: robot-key-0123456789, models: [\"*\"], tags: [ci] }";
    let gate = Gate::build().mock("a").key(key).start().await;
    let body = chat(json!({ "user": "u-1", "metadata": { "session": "s-1", "step": "plan", "tags": "blue" } }));
    let headers = [
        ("authorization", "Bearer robot-key-0123456789"),
        ("x-switchboard-tags", "green, ci"),
        ("x-switchboard-workflow", "nightly"),
    ];
    gate.post("/v1/chat/completions", body.to_string(), &headers).await;
    let sent = gate.last("a");
    let ours = sent.headers.keys().filter(|name| name.as_str().starts_with("x-switchboard-")).count();
    assert_eq!(ours, 0, "what is said to the gateway stays there: {:?}", sent.headers);
    let sent: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!((&sent["user"], &sent["metadata"]), (&body["user"], &body["metadata"]), "members of the body pass");
    let (_, rows) = gate.finish_books().await;
    let who = &rows[0].who;
    assert_eq!(who.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(), ["ci", "green", "blue"]);
    assert_eq!((who.end_user.as_deref(), who.workflow.as_deref()), (Some("u-1"), Some("nightly")));
    assert_eq!((who.session.as_deref(), who.step.as_deref(), &*who.key_name), (Some("s-1"), Some("plan"), "robot"));
}

#[tokio::test]
async fn what_no_provider_counts_is_counted_here_and_says_so() {
    let mut rows = Rows::new();
    for (model, source) in [("gpt-4o", UsageSource::Counted), ("nobody-knows", UsageSource::Estimated)] {
        for is_stream in [true, false] {
            rows.row(format!("{model}, streamed {is_stream}"));
            let config = format!("models: {{ m: {{ targets: [a/{model}] }} }}");
            let gate = Gate::build().mock("a").config(&config).start().await;
            gate.mock("a").set_default(never(&"hello world ".repeat(500)));
            let answer = gate.ask(is_stream, json!({})).await;
            rows.equal("no cost is told", answer.header("x-switchboard-cost-usd"), "");
            let (counts, books) = gate.finish_books().await;
            let attempt = only(books);
            rows.equal("source", attempt.usage_source, source);
            rows.holds("output", (990..1_600).contains(&attempt.usage.output), attempt.usage);
            rows.holds("input", (4..20).contains(&attempt.usage.input), attempt.usage);
            rows.equal("an unknown price is no price", (attempt.cost, &*attempt.price), (None, "unknown"));
            rows.equal("and is counted", counts.sum("unpriced_attempts_total", &[("target", &attempt.target)]), 1);
            rows.equal("tokens that are reported", &*counts.tokens(), "");
        }
    }
    rows.finish();
}

#[tokio::test]
async fn a_client_that_leaves_pays_for_what_was_sent_and_what_was_said() {
    let mut rows = Rows::new();
    for (when, script, said) in [
        ("before the first byte", Behaviour { hang: true, ..fixed() }, false),
        ("mid-stream", Behaviour { hang_after_chunks: Some(3), ..fixed() }, true),
    ] {
        rows.row(when);
        let gate = priced().await;
        gate.mock("a").set_default(script);
        if said {
            let mut live = gate.open(json!({})).await;
            live.read_until("three").await;
        } else {
            let request = gate.request("/v1/chat/completions", chat(json!({})).to_string(), &[]);
            let call = request.send();
            tokio::select! {
                _ = call => panic!("nobody answers"),
                () = until(|| gate.served("a") == 1) => {}
            }
        }
        until(|| gate.mock("a").aborted() == 1).await;
        let (_, books) = gate.finish_books().await;
        let attempt = only(books);
        rows.equal("outcome", attempt.outcome, Outcome::ClientCancel);
        rows.equal("source", attempt.usage_source, UsageSource::Counted);
        rows.holds("input", attempt.usage.input > 4, attempt.usage);
        rows.equal("output", attempt.usage.output, if said { 3 } else { 0 });
        rows.holds("it costs something", attempt.cost.is_some_and(|cost| cost > Nanos::ZERO), attempt.cost);
    }
    rows.finish();
}

#[tokio::test]
async fn each_attempt_of_a_call_is_there_with_its_failure_and_its_own_price() {
    let config = "models: { m: { targets: [a/gpt-4o, b/gpt-4o, c/gpt-4o] } }";
    let gate =
        Gate::build().mock_with("a", "kind: openai").mock_with("b", "kind: openai").mock_with("c", "kind: openai");
    let gate = gate.config(config).start().await;
    gate.mock("a").set_default(Behaviour::status(429));
    gate.mock("b").set_default(Behaviour { reset: Some(switchboard::mock::Reset::AfterHead), ..fixed() });
    gate.mock("c").set_default(fixed());
    let answer = gate.chat(json!({})).await;
    assert_eq!(
        (answer.header("x-switchboard-target"), answer.header("x-switchboard-cost-usd")),
        ("c/gpt-4o", "0.0000975")
    );
    let (_, rows) = gate.finish_books().await;
    let shown: Vec<_> = rows[0].attempts.iter().map(|a| (&*a.provider, a.outcome, a.usage_source)).collect();
    let expected = [
        ("a", Outcome::RateLimited, UsageSource::None),
        ("b", Outcome::Cut, UsageSource::Counted),
        ("c", Outcome::Ok, UsageSource::Reported),
    ];
    assert_eq!(shown, expected);
    assert_eq!((rows[0].attempts[0].cost, rows[0].attempts[2].cost), (Some(Nanos::ZERO), Some(COST)));
    // Both that worked are in the call's cost.
    assert_eq!(rows[0].cost(), rows[0].attempts[1].cost.map(|cost| cost + COST));
    assert!(rows[0].cost() > Some(COST));
}

#[tokio::test]
async fn the_cost_is_told_with_a_whole_answer_and_in_a_stream_when_asked() {
    let gate = priced().await;
    let whole = gate.chat(json!({})).await;
    assert_eq!(whole.header("x-switchboard-cost-usd"), "0.0000975");
    let usage = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let body = chat(usage).to_string();
    let plain = gate.post("/v1/chat/completions", body.clone(), &[]).await;
    let asked = gate.post("/v1/chat/completions", body, &[("x-switchboard-include-cost", "true")]).await;
    assert_eq!(asked.text().replace(",\"cost\":0.0000975", ""), plain.text(), "nothing else changes");
    assert_eq!(asked.text().matches("\"cost\":0.0000975").count(), 1);
    assert!(!plain.text().contains("cost"));
    // Who does not want usage gets none, and no cost either.
    let body = chat(json!({ "stream": true })).to_string();
    let without = gate.post("/v1/chat/completions", body, &[("x-switchboard-include-cost", "true")]).await;
    assert!(!without.text().contains("usage") && !without.text().contains("cost"), "{}", without.text());
    let counts = gate.finish().await;
    assert_eq!(counts.sum("attempts_total", &[]), 4);
}

#[tokio::test]
async fn what_a_provider_says_it_cost_stands_beside_what_it_costs_here() {
    let gate = priced().await;
    let body = r#"{"id":"gen-1","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"service_tier":"priority","usage":{"prompt_tokens":11,"completion_tokens":7,"cost":0.00014}}"#;
    gate.mock("a").set_default(Behaviour { body: Some(body.into()), ..fixed() });
    gate.chat(json!({})).await;
    let header = Behaviour { headers: [("x-litellm-response-cost".into(), "2.5e-05".into())].into(), ..fixed() };
    gate.mock("a").set_default(header);
    gate.chat(json!({})).await;
    // It does not know what the scripted body is billed for.
    gate.mock("a").clear();
    let (_, rows) = gate.finish_books().await;
    let mut told: Vec<_> = rows.iter().map(|row| row.attempts[0].reported_cost).collect();
    told.sort();
    assert_eq!(told, [Some(Nanos(25_000)), Some(Nanos(140_000))]);
    assert!(rows.iter().any(|row| row.attempts[0].service_tier.as_deref() == Some("priority")));
}

#[tokio::test]
async fn calls_older_than_the_retention_are_given_up() {
    let gate = Gate::build().mock("a").config("ledger: { retention: 1d }").start().await;
    gate.chat(json!({})).await;
    let db = Db::open(&gate.cook_the_books(), None).await.unwrap();
    let everything = RequestFilter { limit: 10, ..RequestFilter::default() };
    let there_are = async |wanted: usize| while ledger::requests(&db, &everything).await.unwrap().len() != wanted {};
    gate.patiently(there_are(1)).await;
    gate.advance(secs(20 * 3_600)).await;
    soon(there_are(1)).await;
    let mut rounds = 0;
    while Clock::Real.timeout_at(Clock::Real.now() + millis(250), there_are(0)).await.is_err() {
        gate.advance(secs(6 * 3_600)).await;
        rounds += 1;
        assert!(rounds < 20, "still there after {:?}", gate.elapsed());
    }
    db.close().await;
    gate.finish().await;
}

#[tokio::test]
async fn fetched_prices_are_in_force_for_the_next_call() {
    let prices = RawUpstream::listen().await;
    let config = format!("{PRICED}\nprices: {{ url: \"http://{}/prices.json\" }}", prices.address);
    let gate = Gate::build().mock_with("a", "kind: openai").config(&config).start().await;
    gate.mock("a").set_default(fixed());
    let body = r#"{"openai": {"gpt-4o": {"input": 1000, "output": 2000}}}"#;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    prices.accept().await.send(answer).await;
    until_answered(&gate, "0.025").await;
    let (_, rows) = gate.finish_books().await;
    assert!(rows.iter().any(|row| row.cost() == Some(Nanos(11 * 1_000_000 + 7 * 2_000_000))));
}

/// Calls until an answer costs this much.
async fn until_answered(gate: &Gate, dollars: &str) {
    soon(async { while gate.chat(json!({})).await.header("x-switchboard-cost-usd") != dollars {} }).await;
}

#[tokio::test]
async fn what_is_served_by_a_pattern_is_booked_under_its_name_and_what_is_refused_under_the_pattern() {
    let config = "models: { \"vendor/*\": { targets: [\"a/*\"] } }\naliases: { quick: vendor/small }";
    let gate = Gate::build().mock("a").config(config).start().await;
    gate.mock("a").enqueue_for("invented", Behaviour::status(404));
    for model in ["vendor/small", "quick", "vendor/invented"] {
        gate.chat(json!({ "model": model })).await;
    }
    let (_, rows) = gate.finish_books().await;
    let mut booked: Vec<_> = rows.iter().map(|row| (&*row.requested, &*row.model, &*row.attempts[0].target)).collect();
    booked.sort_unstable();
    assert_eq!(
        booked,
        [
            ("quick", "vendor/small", "a/small"),
            ("vendor/invented", "vendor/*", "a/*"),
            ("vendor/small", "vendor/small", "a/small"),
        ]
    );
}

#[tokio::test]
async fn what_a_region_costs_more_is_on_the_bill() {
    let priced = "models: { m: { targets: [a/up] } }\n\
                  prices: { models: { a/up: { input: 2, output: 10, regions: { eu: { times: 1.1 } } } } }";
    let gate = Gate::build().mock_with("a", "kind: openai, region: eu").config(priced).start().await;
    gate.mock("a").set_default(fixed());
    gate.chat(json!({})).await;
    let (_, rows) = gate.finish_books().await;
    assert_eq!(rows[0].cost(), Some(Nanos((11 * 2_000 + 7 * 10_000) * 11 / 10)));
}
