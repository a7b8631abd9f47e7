//! Several gateways that share one Redis: no limit is spent twice, and no outage of Redis costs a call.

use futures_util::future::join_all;
use serde_json::{Value, json};
use switchboard::{
    mock::{Behaviour, UsageScript},
    store::ledger::CallRow,
    types::Clock,
};

use crate::harness::{
    redis::{PrivateCluster, PrivateRedis, SlowProxy},
    *,
};

/// Gateways over one Redis, each with a provider of its own that answers after a moment.
async fn replicas(count: usize, redis: &str, quotas: &str) -> Vec<Gate> {
    let config = format!(
        "admin: {{ key: {ADMIN} }}\nredis: {redis}\nmodels: {{ m: {{ targets: [a/gpt-4o] }} }}\nquotas:\n{quotas}"
    );
    let mut gates = Vec::new();
    for _ in 0..count {
        let gate = Gate::build().mock_with("a", "kind: openai").config(&config).real_time().start().await;
        let usage = UsageScript { prompt_tokens: Some(9), completion_tokens: Some(1_000), ..UsageScript::default() };
        let delay = Some("300ms".parse().unwrap());
        gate.mock("a").set_default(Behaviour { usage, delay, ..fixed() });
        is_up(&gate, true).await;
        gates.push(gate);
    }
    gates
}

/// Waits until Redis counts for a gateway, or does not.
async fn is_up(gate: &Gate, up: bool) {
    let stands = || (gate.app.as_ref().unwrap().metrics.redis_up.get() == 1) == up;
    soon(async {
        while !stands() {
            Clock::Real.sleep(millis(10)).await;
        }
    })
    .await;
}

/// Calls, one after another, until the quota says that all `calls` and these are counted, and no more than `twice` of them
/// twice.
async fn until_all_count(gate: &Gate, limit: usize, mut calls: usize, twice: usize) {
    let mut left = 0;
    for _ in 0..500 {
        calls += 1;
        let answer = gate.chat(json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        left = answer.header("x-ratelimit-remaining-requests").parse().unwrap();
        if (limit - calls - twice..=limit - calls).contains(&left) {
            return;
        }
        // What a call took without hearing of it is given back once nothing of it can arrive any more.
        Clock::Real.sleep(millis(10)).await;
    }
    panic!("after {calls} calls {} are counted", limit - left);
}

#[tokio::test]
async fn four_gateways_spend_a_budget_once() {
    let redis = PrivateRedis::start();
    // Five hundred calls on one thread keep Redis waiting, not the other way round: its time-out must not come between.
    // A call sets aside, and costs, $0.0100225.
    let quotas = "  - { name: team, scope: project, measure: usd, limit: 1, window: month }";
    let gates = replicas(4, &redis.url(), quotas).await;
    let calls = gates.iter().flat_map(|gate| (0..125).map(move |_| gate.chat(json!({ "max_tokens": 1000 }))));
    let answers = join_all(calls).await;
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((refused.status, refused.code().as_str()), (429, "insufficient_quota"), "{}", refused.text());
    }
    let alone = gates.iter().map(|gate| {
        let metrics = &gate.app.as_ref().unwrap().metrics;
        (metrics.quota_takes_alone.get(), metrics.redis_failures.get(), metrics.redis_up.get())
    });
    assert_eq!(served, 99, "taken alone, failures, stands: {:?}", alone.collect::<Vec<_>>());
    let mut cost = 0;
    for gate in gates {
        let (_, rows) = gate.finish_books().await;
        cost += rows.iter().filter_map(CallRow::cost).map(|cost| cost.0).sum::<i64>();
    }
    assert!((990_000_000..=1_000_000_000).contains(&cost), "{cost}");
}

/// What the quotas of a gateway have used, once it knows.
async fn used(gate: &Gate) -> Vec<String> {
    let mut used: Vec<String> = Vec::new();
    soon(async {
        loop {
            let quotas = gate.manage("GET", "/admin/v1/quotas", Value::Null).await.json();
            let of = |quota: &Value| quota["used"]["counters"][0]["used"].as_str().map(str::to_owned);
            let known: Option<Vec<String>> = quotas["data"].as_array().unwrap().iter().map(of).collect();
            if let Some(known) = known {
                used = known;
                return;
            }
            Clock::Real.sleep(millis(10)).await;
        }
    })
    .await;
    used
}

#[tokio::test]
async fn a_gateway_that_starts_again_adds_nothing_to_what_redis_has() {
    let redis = PrivateRedis::start();
    let quotas = "  - { name: day, scope: key, match: tests, measure: requests, limit: 100, window: day }\n  \
                  - { name: month, scope: global, measure: usd, limit: 100, window: month }\n  \
                  - { name: span, scope: key, match: tests, measure: tokens, limit: 100000, window: 24h }";
    let mut gate = replicas(1, &redis.url(), quotas).await.pop().unwrap();
    for _ in 0..3 {
        assert_eq!(gate.chat(json!({ "max_tokens": 1000 })).await.status, 200);
    }
    let spent = ["3", "0.0300675", "3027"];
    for start in 1..=2 {
        gate.restart().await;
        is_up(&gate, true).await;
        assert_eq!(used(&gate).await, spent, "start {start}");
    }
    // Filled from the ledger, and found so by the next start.
    redis.flush();
    soon(async {
        while used(&gate).await != spent {
            Clock::Real.sleep(millis(10)).await;
        }
    })
    .await;
    gate.restart().await;
    is_up(&gate, true).await;
    assert_eq!(used(&gate).await, spent, "after it was filled anew");
    gate.finish().await;
}

#[tokio::test]
async fn two_hundred_calls_over_a_limit_of_tokens_are_let_in_within_a_tenth_of_it() {
    let redis = PrivateRedis::start();
    let quotas = "  - { name: tokens, scope: project, measure: tokens, limit: 50000, window: 1m }";
    let gates = replicas(3, &redis.url(), quotas).await;
    // Each consumes 1,009, and sets aside a little more than that.
    let calls = gates.iter().cycle().take(200).map(|gate| gate.chat(json!({ "max_tokens": 1000 })));
    let answers = join_all(calls).await;
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.code() == "rate_limit_exceeded"));
    assert!((45_000..=50_000).contains(&(served * 1_009)), "{served} calls");
    for gate in gates {
        gate.finish().await;
    }
}

#[tokio::test]
async fn calls_go_on_while_redis_is_frozen_and_a_closed_quota_says_so() {
    let mut redis = PrivateRedis::start();
    for (policy, status, code) in [("open", 200, ""), ("closed", 503, "quota_unavailable")] {
        let quotas = format!(
            "  - {{ name: {policy}, scope: key, measure: requests, limit: 1000, window: 1m, when_down: {policy} }}"
        );
        let gates = replicas(2, &redis.url(), &quotas).await;
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

const MANY: &str = "  - { name: many, scope: key, measure: requests, limit: 10000, window: 10m }";

#[tokio::test]
async fn no_call_fails_while_redis_is_slow_and_afterwards_each_is_counted_once() {
    let redis = PrivateRedis::start();
    let proxy = SlowProxy::to(&redis);
    let gate = replicas(1, &proxy.url(), MANY).await.remove(0);
    gate.mock("a").set_default(fixed());
    let some = async || {
        for _ in 0..20 {
            let answer = gate.chat(json!({})).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    };
    some().await;
    proxy.slow(millis(500));
    some().await;
    is_up(&gate, false).await;
    some().await;
    proxy.slow(millis(0));
    is_up(&gate, true).await;
    until_all_count(&gate, 10_000, 60, 0).await;
    gate.finish().await;
}

#[tokio::test]
async fn no_call_fails_while_the_node_of_a_cluster_that_counts_is_gone() {
    let mut cluster = PrivateCluster::start(0);
    let urls = cluster.urls().join(", ");
    let gate = replicas(1, &format!("{{ urls: [{urls}], cluster: true }}"), MANY).await.remove(0);
    gate.mock("a").set_default(fixed());
    let some = async || {
        for _ in 0..20 {
            let answer = gate.chat(json!({})).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    };
    some().await;
    let master = cluster.master_of("switchboard");
    cluster.nodes[master].kill();
    some().await;
    is_up(&gate, false).await;
    some().await;
    // It kept nothing but its place in the cluster; the ledger knows the rest, and no call is forgotten. Those of the moment
    // in which the gateway noticed may be known to both.
    cluster.nodes[master].restart();
    is_up(&gate, true).await;
    until_all_count(&gate, 10_000, 60, 3).await;
    gate.finish().await;
}

/// Streams that clients leave, this many, and so many at once: a third of what the quota lets through, because Redis hears
/// of their end a moment later.
const LEFT: usize = 10_000;
const AT_ONCE: usize = 50;
const PLACES: &str = "  - { scope: key, measure: concurrent, limit: 150 }";

async fn open_streams(gate: &Gate, count: usize) {
    let streams = join_all((0..count).map(|_| async {
        let mut stream = gate.open(json!({})).await;
        stream.read_until("data:").await;
        stream
    }))
    .await;
    drop(streams);
    until(|| gate.app.as_ref().unwrap().metrics.streams_open.get() == 0).await;
}

/// Opens streams and leaves them.
async fn leave_streams(gate: &Gate) {
    gate.mock("a").set_default(Behaviour { hang_after_chunks: Some(1), ..fixed() });
    for _ in 0..LEFT / AT_ONCE {
        open_streams(gate, AT_ONCE).await;
    }
}

#[tokio::test]
async fn ten_thousand_streams_that_clients_leave_leave_no_place_taken() {
    let config = format!("models: {{ m: {{ targets: [a/gpt-4o] }} }}\nquotas:\n{PLACES}");
    let gate = Gate::build().mock_with("a", "kind: openai").config(&config).start().await;
    leave_streams(&gate).await;
    open_streams(&gate, 150).await;
    gate.finish().await;
}

#[tokio::test]
async fn nor_do_they_in_redis() {
    let redis = PrivateRedis::start();
    let gate = replicas(1, &redis.url(), PLACES).await.remove(0);
    leave_streams(&gate).await;
    let counters = ["EVAL", "return #redis.call('KEYS', '*:c:*') + #redis.call('KEYS', '*:h:*')", "0"];
    soon(async {
        while redis.command(&counters) != "0" {
            Clock::Real.sleep(millis(10)).await;
        }
    })
    .await;
    gate.finish().await;
}
