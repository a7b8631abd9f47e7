//! Gateways in processes of their own that share counters in Redis: bursts, and the death of one.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use switchboard::{
    mock::{Behaviour, UsageScript},
    types::{Period, Tasks},
};

use crate::{
    redis::PrivateRedis,
    replicas::{Replica, provider_of},
};

const KEY: &str = "sk-counters-0123456789";

/// What gateways have in common, with these quotas.
fn config(redis: &PrivateRedis, quotas: &str) -> String {
    format!("redis: \"{}\"\n{}", redis.url(), alone(quotas))
}

/// The same, of a gateway that counts by itself.
fn alone(quotas: &str) -> String {
    format!(
        "keys: [{{ name: team, value: {KEY}, models: [\"*\"] }}]\n\
         prices: {{ models: {{ a/up: {{ input: 2.5, output: 10 }} }} }}\n\
         quotas:\n{quotas}\n"
    )
}

fn folder() -> Arc<tempfile::TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

/// A gateway for which Redis counts.
async fn start(folder: Arc<tempfile::TempDir>, provider: SocketAddr, config: &str) -> Replica {
    Replica::start_in(folder, provider, config).await.counts_in_redis().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_gateways_and_five_hundred_calls_at_once_spend_a_dollar_once() {
    let (redis, tasks) = (PrivateRedis::start(), Tasks::new());
    // A call sets aside, and costs, $0.0100225.
    let usage = UsageScript { prompt_tokens: Some(9), completion_tokens: Some(1_000), ..UsageScript::default() };
    let provider = provider_of(Behaviour { usage, ..Behaviour::default() }, &tasks).await;
    let config = config(&redis, "  - { name: team, scope: project, measure: usd, limit: 1, window: month }");
    let gateways = join_all((0..4).map(|_| start(folder(), provider, &config))).await;
    let ask = |gateway: &Replica| {
        let body = json!({ "model": "m", "max_tokens": 1000, "messages": [{ "role": "user", "content": "Hello" }] });
        let request = gateway.request(KEY, "m", false).body(body.to_string());
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let answers = join_all((0..500).map(|call| ask(&gateways[call % 4]))).await;
    let served = answers.iter().filter(|status| **status == 200).count();
    assert!(answers.iter().all(|status| [200, 429].contains(status)), "{answers:?}");
    assert_eq!(served, 99);
    drop(gateways);
    tasks.stopping().cancel();
}

/// One call: its error, and how many more the quota of requests says there may be.
async fn call(gateway: &Replica) -> (String, usize) {
    let answer = gateway.request(KEY, "m", false).send().await.unwrap();
    let left = answer.headers().get("x-ratelimit-remaining-requests").and_then(|left| left.to_str().ok()?.parse().ok());
    let body = answer.json::<serde_json::Value>().await.unwrap();
    (body["error"]["code"].as_str().unwrap_or_default().to_owned(), left.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_gives_back_its_places_in_time_and_what_its_calls_consumed_counts_once() {
    const LIMIT: usize = 1_000;
    let (redis, tasks) = (PrivateRedis::start(), Tasks::new());
    let behaviour =
        Behaviour { chunks: Some(1_000), chunk_delay: Some(Period::from_millis(100)), ..Behaviour::default() };
    let provider = provider_of(behaviour, &tasks).await;
    let config = config(
        &redis,
        "  - { name: places, scope: project, measure: concurrent, limit: 4 }\n  \
         - { name: calls, scope: project, measure: requests, limit: 1000, window: 1h }",
    );
    let one = start(folder(), provider, &config).await;
    let other = start(folder(), provider, &config).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = one.request(KEY, "m", true).send().await.unwrap();
        assert!(stream.status().is_success());
        stream.chunk().await.unwrap().expect("a first piece");
        streams.push(stream);
    }
    assert_eq!(call(&other).await.0, "concurrency_limit_exceeded");

    let kept = one.folder();
    // Kill -9.
    drop(one);
    let killed = Instant::now();
    let mut left = loop {
        match call(&other).await {
            (code, left) if code.is_empty() => break left,
            (code, _) => assert_eq!(code, "concurrency_limit_exceeded"),
        }
        assert!(killed.elapsed() < Duration::from_secs(30), "the places of a dead gateway are still taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // What it held of the other quota came back as well, and nobody knows yet of what its calls consumed.
    let mut calls = 1;
    assert_eq!(left, LIMIT - calls);

    // Its successors find its journal. The first counts four lost calls, the second finds nothing to count.
    for successor in 0..2 {
        let next = start(kept.clone(), provider, &config).await;
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            calls += 1;
            left = call(&other).await.1;
            if successor == 0 && left == LIMIT - calls - 4 {
                break;
            }
        }
        assert_eq!(left, LIMIT - calls - 4, "with successor {successor}");
        drop(next);
    }
    drop((streams, other));
    tasks.stopping().cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_calls_of_a_killed_gateway_that_counts_alone_consumed_counts_once_as_well() {
    const LIMIT: usize = 1_000;
    let tasks = Tasks::new();
    let behaviour =
        Behaviour { chunks: Some(1_000), chunk_delay: Some(Period::from_millis(100)), ..Behaviour::default() };
    let provider = provider_of(behaviour, &tasks).await;
    // Both kinds: one waits for what the ledger says, the other counts meanwhile.
    for window in ["24h", "1h"] {
        let config =
            alone(&format!("  - {{ name: calls, scope: project, measure: requests, limit: 1000, window: {window} }}"));
        let folder = folder();
        let mut gateway = Replica::start_in(folder.clone(), provider, &config).await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            let mut stream = gateway.request(KEY, "m", true).send().await.unwrap();
            stream.chunk().await.unwrap().expect("a first piece");
            streams.push(stream);
        }
        let mut calls = streams.len();
        for _ in 0..2 {
            // Kill -9. The next one finds its journal, and the one after that nothing new.
            drop(gateway);
            gateway = Replica::start_in(folder.clone(), provider, &config).await;
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                calls += 1;
                call(&gateway).await;
            }
            calls += 1;
            assert_eq!(call(&gateway).await, (String::new(), LIMIT - calls), "{window}");
        }
    }
    tasks.stopping().cancel();
}
