//! Several gateways that share one Redis: no limit is spent twice, and no outage of Redis costs a call.

use futures_util::future::join_all;
use serde_json::json;
use switchboard::{
    mock::{Behaviour, UsageScript},
    store::ledger::CallRow,
};

use crate::harness::{redis::PrivateRedis, *};

/// Gateways over one Redis, which they wait for this long, each with a provider of its own that answers after a moment.
async fn replicas(count: usize, redis: &PrivateRedis, timeout: &str, quotas: &str) -> Vec<Gate> {
    let config = format!(
        "redis: {{ url: \"{}\", timeout: {timeout} }}\nmodels: {{ m: {{ targets: [a/gpt-4o] }} }}\nquotas:\n{quotas}",
        redis.url()
    );
    let mut gates = Vec::new();
    for _ in 0..count {
        let gate = Gate::build().mock_with("a", "kind: openai").config(&config).real_time().start().await;
        let usage = UsageScript { prompt_tokens: Some(9), completion_tokens: Some(1_000), ..UsageScript::default() };
        let delay = Some("300ms".parse().unwrap());
        gate.mock("a").set_default(Behaviour { usage, delay, ..fixed() });
        gates.push(gate);
    }
    gates
}

#[tokio::test]
async fn four_gateways_spend_a_budget_once() {
    let redis = PrivateRedis::start();
    // Five hundred calls on one thread keep Redis waiting, not the other way round: no time-out may come between.
    // A call sets aside, and costs, $0.0100225.
    let quotas = "  - { name: team, scope: project, measure: usd, limit: 1, window: month }";
    let gates = replicas(4, &redis, "10s", quotas).await;
    let calls = gates.iter().flat_map(|gate| (0..125).map(move |_| gate.chat(json!({ "max_tokens": 1000 }))));
    let answers = join_all(calls).await;
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((refused.status, refused.code().as_str()), (429, "insufficient_quota"), "{}", refused.text());
    }
    assert_eq!(served, 99);
    let mut cost = 0;
    for gate in gates {
        let (_, rows) = gate.finish_books().await;
        cost += rows.iter().filter_map(CallRow::cost).map(|cost| cost.0).sum::<i64>();
    }
    assert!((990_000_000..=1_000_000_000).contains(&cost), "{cost}");
}

#[tokio::test]
async fn calls_go_on_while_redis_is_frozen_and_a_closed_quota_says_so() {
    let mut redis = PrivateRedis::start();
    for (policy, status, code) in [("open", 200, ""), ("closed", 503, "quota_unavailable")] {
        let quotas = format!(
            "  - {{ name: {policy}, scope: key, measure: requests, limit: 1000, window: 1m, when_down: {policy} }}"
        );
        let gates = replicas(2, &redis, "50ms", &quotas).await;
        for gate in &gates {
            gate.mock("a").set_default(fixed());
            assert_eq!(gate.chat(json!({})).await.status, 200);
        }
        redis.pause();
        for gate in &gates {
            for _ in 0..10 {
                let answer = gate.chat(json!({})).await;
                assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
            }
        }
        redis.resume();
        for gate in gates {
            soon(async { while gate.chat(json!({})).await.status != 200 {} }).await;
            gate.finish().await;
        }
    }
}
