//! Rules and accounts over counters in memory: what is let through, what is refused, and what is left afterwards.

mod history;
mod touched;

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    Account, Consumed, Demand, Place, Quotas, Refused, Rule, Subject, Why,
    settings::{Measure, QuotaSettings},
};
use crate::{
    shared::Shared,
    telemetry::Metrics,
    types::{Clock, Nanos},
};

const PLACE: Place<'static> = Place { model: "gpt", provider: "openai", target: "openai/gpt-5.5" };

struct Bench {
    quotas: Quotas,
    clock: Clock,
}

fn rule(settings: &Value) -> Arc<Rule> {
    let settings: QuotaSettings = serde_json::from_value(settings.clone()).unwrap();
    let name = settings.name.clone().unwrap_or_else(|| settings.derived_name());
    Arc::new(Rule::new(&format!("declared:{name}"), &settings).unwrap())
}

async fn bench(rules: &[Value]) -> Bench {
    let clock = Clock::held();
    let shared = Shared::memory(clock.clone());
    shared.begin_rebuild().await.unwrap().finish().await.unwrap();
    let quotas = Quotas::new(shared, clock.clone(), Arc::new(Metrics::new()), None);
    quotas.declare(rules.iter().map(rule).collect());
    Bench { quotas, clock }
}

fn subject<'a>(key: &'a str, tags: &'a [Arc<str>]) -> Subject<'a> {
    Subject { project: "research", key, key_name: key, end_user: Some("u1"), session: None, tags }
}

fn usd(input: u64, output: u64, nanos: i64) -> Consumed {
    Consumed { input, output, cost: Some(Nanos(nanos)) }
}

impl Bench {
    fn open(&self, key: &str) -> Box<Account> {
        self.quotas.open(&subject(key, &[])).unwrap().unwrap()
    }

    async fn enter(&self, account: &mut Account, key: &str, estimate: Consumed) -> Result<(), Refused> {
        self.enter_at(account, key, &PLACE, Demand { estimate, spent: &[] }).await
    }

    async fn enter_at(
        &self,
        account: &mut Account,
        key: &str,
        place: &Place<'_>,
        demand: Demand<'_>,
    ) -> Result<(), Refused> {
        account.enter(&subject(key, &[]), place, demand, &[], self.clock.unix_millis()).await
    }

    /// One call that consumes `actual`, if it is let through.
    async fn call(&self, key: &str, estimate: Consumed, actual: Consumed) -> Result<(), Refused> {
        let mut account = self.open(key);
        self.enter(&mut account, key, estimate).await?;
        account.settle(self.quotas.shared(), &[actual]);
        Ok(())
    }
}

fn short(refused: &Refused) -> (u64, u64, u64) {
    match refused.why {
        Why::Short { used, limit, amount, .. } => (used, limit, amount),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_limit_lets_through_exactly_as_many_and_a_refusal_takes_nothing() {
    let bench = bench(&[
        json!({ "scope": "key", "measure": "requests", "limit": 3, "window": "1m" }),
        json!({ "scope": "project", "measure": "requests", "limit": 5, "window": "1m" }),
    ])
    .await;
    for _ in 0..3 {
        bench.call("a", usd(1, 1, 1), usd(1, 1, 1)).await.unwrap();
    }
    for _ in 0..10 {
        let refused = bench.call("a", usd(1, 1, 1), usd(1, 1, 1)).await.unwrap_err();
        assert_eq!((&*refused.rule.name, short(&refused)), ("key.requests.1m", (3, 3, 1)));
    }
    // What key `a` was refused has left the project's counter alone.
    bench.call("b", usd(1, 1, 1), usd(1, 1, 1)).await.unwrap();
    bench.call("b", usd(1, 1, 1), usd(1, 1, 1)).await.unwrap();
    let refused = bench.call("b", usd(1, 1, 1), usd(1, 1, 1)).await.unwrap_err();
    assert_eq!(&*refused.rule.name, "project.requests.1m");
    bench.clock.advance(Duration::from_secs(62));
    bench.call("a", usd(1, 1, 1), usd(1, 1, 1)).await.unwrap();
}

#[tokio::test]
async fn money_is_set_aside_and_turned_into_what_was_spent() {
    let bench =
        bench(&[json!({ "scope": "global", "measure": "usd", "limit": "0.000000100", "window": "month" })]).await;
    let mut first = bench.open("a");
    bench.enter(&mut first, "a", usd(1, 1, 60)).await.unwrap();
    let mut second = bench.open("b");
    let refused = bench.enter(&mut second, "b", usd(1, 1, 60)).await.unwrap_err();
    assert_eq!(short(&refused), (60, 100, 60));
    let error = refused.error();
    assert_eq!((error.status.as_u16(), error.code, error.retryable), (429, "insufficient_quota", false));
    assert!(error.message.contains("global.usd.month") && error.message.contains("$0.0000001"), "{}", error.message);
    first.settle(bench.quotas.shared(), &[usd(1, 1, 10)]);
    bench.enter(&mut second, "b", usd(1, 1, 60)).await.unwrap();
    // Dropped before anything was sent: everything is given back.
    drop(second);
    bench.call("c", usd(1, 1, 90), usd(1, 1, 200)).await.unwrap();
    let refused = bench.call("c", usd(1, 1, 1), usd(1, 1, 1)).await.unwrap_err();
    assert_eq!(short(&refused), (210, 100, 1));
    // What costs nothing passes.
    bench.call("c", usd(1, 1, 0), usd(1, 1, 0)).await.unwrap();
    // What costs nobody knows what does not.
    let unknown = Consumed { cost: None, ..usd(1, 1, 0) };
    let refused = bench.call("c", unknown, unknown).await.unwrap_err();
    assert_eq!((refused.why, refused.error().code), (Why::Unpriced, "price_unknown"));
}

#[tokio::test]
async fn a_fallback_takes_what_it_needs_beyond_what_earlier_attempts_consumed() {
    let bench = bench(&[
        json!({ "name": "all", "scope": "global", "measure": "tokens", "limit": 100, "window": "1m" }),
        json!({ "name": "each", "scope": "provider", "measure": "requests", "limit": 2, "window": "1m" }),
        json!({ "name": "slots", "scope": "provider", "measure": "concurrent", "limit": 1 }),
    ])
    .await;
    let other = Place { provider: "other", target: "other/m", ..PLACE };
    let mut account = bench.open("a");
    bench.enter(&mut account, "a", usd(10, 30, 1)).await.unwrap();
    let spent = [usd(10, 0, 1)];
    bench.enter_at(&mut account, "a", &other, Demand { estimate: usd(10, 30, 1), spent: &spent }).await.unwrap();
    // The place at the first provider is free again, that at the second is taken.
    bench.call("b", usd(1, 1, 1), usd(1, 1, 1)).await.unwrap();
    let mut third = bench.open("c");
    let demand = Demand { estimate: usd(1, 1, 1), spent: &[] };
    let refused = bench.enter_at(&mut third, "c", &other, demand).await.unwrap_err();
    assert_eq!((&*refused.rule.name, refused.error().code), ("slots", "concurrency_limit_exceeded"));
    account.settle(bench.quotas.shared(), &[usd(10, 0, 1), usd(10, 20, 1)]);
    // 42 of 100 tokens are spent; each provider has had what was sent there.
    let refused = bench.call("d", usd(58, 1, 1), usd(0, 0, 0)).await.unwrap_err();
    assert_eq!((&*refused.rule.name, short(&refused)), ("all", (42, 100, 59)));
    let refused = bench.call("d", usd(1, 1, 1), usd(1, 1, 1)).await.unwrap_err();
    assert_eq!((&*refused.rule.name, short(&refused)), ("each", (2, 2, 1)));
    assert!(refused.depends_on_place());
}

#[tokio::test]
async fn only_whom_a_quota_is_about_counts_in_it() {
    let bench = bench(&[
        json!({ "name": "ci", "scope": "key", "match": "ci-*", "measure": "requests", "limit": 1, "window": "1m" }),
        json!({ "name": "pair", "scope": ["key", "model"], "match": { "key": "pair", "model": "gpt*" },
                "measure": "requests", "limit": 1, "window": "1m" }),
        json!({ "name": "tag", "scope": "tag", "match": ["x", "y"], "measure": "requests", "limit": 1, "window": "1m" }),
    ])
    .await;
    for key in ["ci-1", "ci-2"] {
        bench.call(key, usd(1, 1, 1), usd(1, 1, 1)).await.unwrap();
        assert_eq!(&*bench.call(key, usd(1, 1, 1), usd(1, 1, 1)).await.unwrap_err().rule.name, "ci");
    }
    for _ in 0..5 {
        bench.call("else", usd(1, 1, 1), usd(1, 1, 1)).await.unwrap();
    }
    bench.call("pair", usd(1, 1, 1), usd(1, 1, 1)).await.unwrap();
    assert!(bench.call("pair", usd(1, 1, 1), usd(1, 1, 1)).await.is_err());
    let elsewhere = Place { model: "claude", ..PLACE };
    let mut account = bench.open("pair");
    let demand = Demand { estimate: usd(1, 1, 1), spent: &[] };
    bench.enter_at(&mut account, "pair", &elsewhere, demand).await.unwrap();

    let tags: Vec<Arc<str>> = vec!["x".into(), "z".into()];
    let tagged = subject("t", &tags);
    let now = bench.clock.unix_millis();
    let mut account = bench.quotas.open(&tagged).unwrap().unwrap();
    account.enter(&tagged, &PLACE, demand, &[], now).await.unwrap();
    account.settle(bench.quotas.shared(), &[usd(1, 1, 1)]);
    let mut account = bench.quotas.open(&tagged).unwrap().unwrap();
    assert_eq!(&*account.enter(&tagged, &PLACE, demand, &[], now).await.unwrap_err().rule.name, "tag");
    let other: Vec<Arc<str>> = vec!["y".into()];
    let other = subject("t", &other);
    let mut account = bench.quotas.open(&other).unwrap().unwrap();
    account.enter(&other, &PLACE, demand, &[], now).await.unwrap();
}

#[tokio::test]
async fn shadows_and_exempted_rules_count_and_let_through() {
    let bench = bench(&[
        json!({ "name": "s", "scope": "key", "measure": "requests", "limit": 1, "window": "1m", "action": "shadow" }),
        json!({ "name": "d", "scope": "key", "measure": "usd", "limit": 1, "window": "day", "action": { "downgrade": "m" } }),
    ])
    .await;
    let dollar = usd(1, 1, Nanos::DOLLAR);
    bench.call("a", dollar, dollar).await.unwrap();
    let mut account = bench.open("a");
    let refused = bench.enter(&mut account, "a", dollar).await.unwrap_err();
    assert_eq!(&*refused.rule.name, "d");
    let exempt = [refused.rule.id.clone()];
    let (now, demand) = (bench.clock.unix_millis(), Demand { estimate: dollar, spent: &[] });
    account.enter(&subject("a", &[]), &PLACE, demand, &exempt, now).await.unwrap();
    account.settle(bench.quotas.shared(), &[dollar]);
    let mut account = bench.open("a");
    let refused = bench.enter(&mut account, "a", dollar).await.unwrap_err();
    assert_eq!(short(&refused).0, 2 * Nanos::DOLLAR.unsigned_abs());
}

#[tokio::test]
async fn a_raise_ends_by_itself_and_a_period_begins_anew() {
    let clock = Clock::held();
    let until = jiff::Timestamp::from_millisecond(clock.unix_millis() as i64 + 10_000).unwrap();
    drop(clock);
    let bench = bench(&[json!({
        "scope": "global", "measure": "requests", "limit": 1, "window": "month",
        "raise": { "to": 2, "until": until.to_string() },
    })])
    .await;
    let one = usd(1, 1, 1);
    bench.call("a", one, one).await.unwrap();
    bench.call("a", one, one).await.unwrap();
    assert!(bench.call("a", one, one).await.is_err());
    bench.clock.advance(Duration::from_secs(20));
    assert_eq!(short(&bench.call("a", one, one).await.unwrap_err()), (2, 1, 1));
    bench.clock.advance(Duration::from_secs(32 * 86_400));
    bench.call("a", one, one).await.unwrap();
}

#[tokio::test]
async fn a_longer_answer_takes_more_or_is_told_that_there_is_none() {
    let bench = bench(&[
        json!({ "scope": "global", "measure": "tokens", "limit": 100, "window": "1m" }),
        json!({ "scope": "key", "measure": "requests", "limit": 100, "window": "1m" }),
    ])
    .await;
    let mut account = bench.open("a");
    bench.enter(&mut account, "a", usd(10, 40, 1)).await.unwrap();
    let now = bench.clock.unix_millis();
    let more = usd(0, 40, 1);
    let hold = account.extend(more, bench.quotas.shared(), now).unwrap().await.unwrap();
    account.granted(hold, more);
    assert_eq!(account.output_set_aside(), 80);
    let refused = account.extend(more, bench.quotas.shared(), now).unwrap().await.unwrap_err();
    assert_eq!(short(&refused), (90, 100, 40));
    // A future that is dropped has taken nothing.
    drop(account.extend(usd(0, 5, 1), bench.quotas.shared(), now));
    account.settle(bench.quotas.shared(), &[usd(10, 70, 1)]);
    bench.call("a", usd(10, 10, 1), usd(10, 10, 1)).await.unwrap();
    assert!(bench.call("a", usd(1, 0, 1), usd(1, 0, 1)).await.is_err());
}

#[tokio::test]
async fn answers_say_what_is_left_of_the_tightest_quota() {
    let bench = bench(&[
        json!({ "scope": "key", "measure": "requests", "limit": 10, "window": "1m" }),
        json!({ "scope": "global", "measure": "requests", "limit": 4, "window": "1m" }),
        json!({ "scope": "key", "measure": "tokens", "limit": 1000, "window": "1m" }),
        json!({ "name": "s", "scope": "key", "measure": "tokens", "limit": 1, "window": "1m", "action": "shadow" }),
    ])
    .await;
    let mut account = bench.open("a");
    bench.enter(&mut account, "a", usd(100, 200, 1)).await.unwrap();
    let limits = account.rate_limits(bench.clock.unix_millis());
    let requests = limits.requests.unwrap();
    assert_eq!((requests.limit, requests.remaining), (4, 3));
    let tokens = limits.tokens.unwrap();
    assert_eq!((tokens.limit, tokens.remaining), (1000, 700));
    assert!((1..=62).contains(&tokens.resets_in.as_secs()), "{tokens:?}");
    assert_eq!((limits.input_tokens, limits.output_tokens), (None, None));
}

#[tokio::test]
async fn of_quotas_that_are_equally_full_the_one_that_lasts_longer_is_told() {
    for windows in [["1m", "1h"], ["1h", "1m"]] {
        let rules =
            windows.map(|window| json!({ "scope": "key", "measure": "requests", "limit": 4, "window": window }));
        let bench = bench(&rules).await;
        let mut account = bench.open("a");
        bench.enter(&mut account, "a", usd(1, 1, 1)).await.unwrap();
        let requests = account.rate_limits(bench.clock.unix_millis()).requests.unwrap();
        assert!(requests.resets_in >= Duration::from_secs(3_600), "{windows:?}: {requests:?}");
    }
}

#[tokio::test]
async fn a_refused_client_hears_when_there_is_room_and_whether_waiting_is_worth_it() {
    let cases = [("1m", 59, true), ("1h", 3_599, false)];
    for (window, latest, retryable) in cases {
        let bench = bench(&[json!({ "scope": "key", "measure": "tokens", "limit": 100, "window": window })]).await;
        bench.call("a", usd(80, 0, 1), usd(80, 0, 1)).await.unwrap();
        // Half the window later the rest is taken, which takes all of it to come back.
        bench.clock.advance(Duration::from_secs(latest / 2));
        bench.call("a", usd(20, 0, 1), usd(20, 0, 1)).await.unwrap();
        let refused = bench.enter(&mut bench.open("a"), "a", usd(70, 0, 1)).await.unwrap_err();
        let error = refused.error();
        let wait = error.retry_after.unwrap().as_secs();
        assert!((latest / 3..=latest * 2 / 3).contains(&wait), "{window}: {wait} s");
        assert_eq!(error.retryable, retryable, "{window}");
        // What never fits is not worth waiting for, however short the window.
        let never = bench.enter(&mut bench.open("a"), "a", usd(101, 0, 1)).await.unwrap_err().error();
        assert!(!never.retryable && never.retry_after.is_some());
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    let base = json!({ "scope": "key", "measure": "requests", "limit": 600, "window": "1m" });
    let cases = [
        (json!({ "limit": -1 }), "limit", "negative"),
        (json!({ "limit": 1.5 }), "limit", "whole"),
        (json!({ "limit": "many" }), "limit", "not a number"),
        (json!({ "limit": "1e30" }), "limit", "more than"),
        (json!({ "measure": "usd", "limit": "0.0000000001" }), "limit", "nano"),
        (json!({ "window": null }), "window", "missing"),
        (json!({ "window": "500ms" }), "window", "at least 1s"),
        (json!({ "window": "400d" }), "window", "at most 366d"),
        (json!({ "measure": "concurrent" }), "window", "remove"),
        (json!({ "match": [] }), "match", "empty"),
        (json!({ "match": "a*b*" }), "match", "one `*`"),
        (json!({ "scope": "global", "match": "x" }), "match", "by dimension"),
        (json!({ "scope": ["key", "model"], "match": "x" }), "match", "by dimension"),
        (json!({ "warn_at": [0.0] }), "warn_at", "80 %"),
        (json!({ "action": { "downgrade": "a/*" } }), "action.downgrade", "name of a model"),
        (json!({ "raise": { "to": "x", "until": "2027-01-01T00:00:00Z" } }), "raise.to", "not a number"),
        (json!({ "name": " " }), "name", "control"),
    ];
    for (change, path, reason) in cases {
        let mut settings = base.clone();
        for (name, value) in change.as_object().unwrap() {
            settings[name] = value.clone();
        }
        let settings: QuotaSettings = serde_json::from_value(settings).unwrap();
        let wrong = Rule::new("declared:x", &settings).unwrap_err();
        assert_eq!(wrong[0].path.join("."), path, "{change}");
        assert!(wrong[0].message.contains(reason), "{change}: {}", wrong[0].message);
    }
}

proptest! {
    /// Any calls in any order, with any estimates and ends: what is counted afterwards is what was consumed, nothing is
    /// held, and no call was let through that did not fit.
    #[test]
    fn what_is_left_is_what_was_consumed(
        calls in prop::collection::vec((0_u8..3, 1_u64..40, 1_u64..40, 0_u64..80, 0_u8..4), 1..40),
        limit in 50_u64..400,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let bench = bench(&[
                json!({ "name": "t", "scope": "global", "measure": "tokens", "limit": limit, "window": "day" }),
                json!({ "name": "k", "scope": "key", "measure": "output_tokens", "limit": limit / 2, "window": "1h" }),
                json!({ "name": "c", "scope": "global", "measure": "concurrent", "limit": 3 }),
            ]).await;
            let mut open: Vec<(Box<Account>, u64)> = Vec::new();
            let (mut held, mut spent) = (0, 0);
            for (key, input, output, actual, end) in calls {
                let key = format!("k{key}");
                let mut account = bench.open(&key);
                match bench.enter(&mut account, &key, usd(input, output, 1)).await {
                    Ok(()) => {
                        assert!(held + spent + input + output <= limit && open.len() < 3);
                        held += input + output;
                        open.push((account, input + output));
                    }
                    Err(refused) => match &*refused.rule.name {
                        "t" => assert!(held + spent + input + output > limit),
                        "c" => assert_eq!(open.len(), 3),
                        name => assert_eq!(name, "k"),
                    },
                }
                for _ in 0..end {
                    if open.is_empty() { break }
                    let (account, was) = open.remove(0);
                    held -= was;
                    match end {
                        1 => drop(account),
                        2 => drop(account.settle(bench.quotas.shared(), &[])),
                        _ => {
                            account.settle(bench.quotas.shared(), &[usd(actual, 0, 1)]);
                            spent += actual;
                        }
                    }
                }
            }
            drop(open);
            let mut last = bench.open("probe");
            let refused = bench.enter(&mut last, "probe", usd(limit + 1, 0, 1)).await.unwrap_err();
            assert_eq!(short(&refused).0, spent);
        });
    }
}

#[test]
fn measures_have_words() {
    for measure in [Measure::Requests, Measure::Usd, Measure::Concurrent, Measure::InputTokens] {
        assert_eq!(serde_json::to_value(measure).unwrap(), json!(measure.as_str()));
    }
}

#[tokio::test]
async fn an_attempt_counts_in_the_period_in_which_it_was_let_through_and_there_alone() {
    let window = json!("hour");
    let bench = bench(&[
        json!({ "name": "calls", "scope": "key", "measure": "requests", "limit": 9, "window": window }),
        json!({ "name": "tokens", "scope": "key", "measure": "tokens", "limit": 1_000, "window": window }),
        json!({ "name": "there", "scope": "provider", "measure": "requests", "limit": 9, "window": window }),
        json!({ "name": "rolling", "scope": "key", "measure": "tokens", "limit": 1_000, "window": "2h" }),
    ])
    .await;
    let hour = 3_600_000;
    let left = hour - bench.clock.unix_millis() % hour;
    bench.clock.advance(Duration::from_millis(left - 1));
    let before = used(&bench).await;
    assert_eq!(before, [0, 0, 0, 0]);

    // The first attempt begins in the last millisecond of an hour, the second in the next one.
    let mut account = bench.open("a");
    bench.enter(&mut account, "a", usd(10, 40, 1)).await.unwrap();
    let first = used_at(&bench, bench.clock.unix_millis()).await;
    assert_eq!(first, [1, 50, 1, 50]);
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(used(&bench).await, [0, 0, 0, 50], "the new hour knows nothing of it");
    let spent = [usd(10, 5, 1)];
    bench.enter_at(&mut account, "a", &PLACE, Demand { estimate: usd(10, 90, 1), spent: &spent }).await.unwrap();
    assert_eq!(used(&bench).await, [0, 100, 1, 115], "one call, of which this attempt is all that happens here");
    let more = account.extend(usd(0, 50, 1), bench.quotas.shared(), bench.clock.unix_millis()).unwrap();
    account.granted(more.await.unwrap(), usd(0, 50, 1));
    assert_eq!(
        used_at(&bench, bench.clock.unix_millis() - 1).await[1],
        50,
        "what is set aside later is not the old hour's"
    );
    account.settle(bench.quotas.shared(), &[usd(10, 5, 1), usd(10, 20, 1)]);
    assert_eq!(used_at(&bench, bench.clock.unix_millis() - 1).await, [1, 15, 1, 45]);
    assert_eq!(used(&bench).await, [0, 30, 1, 45]);
}

/// What is used now of the quotas of key `a` and of the provider, by name.
async fn used(bench: &Bench) -> Vec<u64> {
    used_at(bench, bench.clock.unix_millis()).await
}

async fn used_at(bench: &Bench, unix_millis: u64) -> Vec<u64> {
    let mut counters = Vec::new();
    let rules = bench.quotas.rules();
    for name in ["calls", "tokens", "there", "rolling"] {
        let rule = rules.iter().find(|rule| &*rule.name == name).unwrap();
        let (window, period) = rule.window_at(unix_millis);
        rule.counters(&subject("a", &[]), Some(&PLACE), period, |counter, _| counters.push((counter, window)));
    }
    bench.quotas.shared().read(&counters).await.into_iter().map(|level| level.used).collect()
}

#[tokio::test]
async fn what_costs_nobody_knows_what_passes_quotas_that_refuse_nothing() {
    for action in ["warn", "shadow"] {
        let rules = [
            json!({ "scope": "key", "measure": "usd", "limit": "0.000000100", "window": "day", "action": action }),
            json!({ "scope": "key", "measure": "requests", "limit": 9, "window": "day" }),
        ];
        let bench = bench(&rules).await;
        let unknown = Consumed { cost: None, ..usd(1, 1, 0) };
        let mut account = bench.open("a");
        bench.enter(&mut account, "a", unknown).await.unwrap();
        assert!(account.extend(unknown, bench.quotas.shared(), 0).is_none(), "there is nothing to set aside");
        let limits = account.settle(bench.quotas.shared(), &[unknown]);
        let told: Vec<_> =
            limits.iter().map(|(limit, _)| (&*limit.measure, limit.held, limit.settled, limit.refused)).collect();
        assert_eq!(told, [("usd", 0, 0, false), ("requests", 1, 1, false)], "{action}");
        let would_refuse: Vec<_> = limits.iter().map(|(_, about)| about.would_refuse).collect();
        assert_eq!(would_refuse, [true, false], "{action}: one that rejects refuses what nobody knows the price of");
        // What is known of the price afterwards counts.
        bench.call("a", unknown, usd(1, 1, 70)).await.unwrap();
        let mut next = bench.open("a");
        bench.enter(&mut next, "a", usd(1, 1, 50)).await.unwrap();
        let money = next.levels().find(|(rule, _)| rule.measure == Measure::Usd).map(|(_, level)| level.used);
        assert_eq!(money, Some(120), "{action}: over its limit, and let through");
    }
}

#[tokio::test]
async fn a_threshold_is_passed_by_what_was_consumed_and_told_once_among_replicas() {
    let clock = Clock::held();
    let shared = Shared::memory(clock.clone());
    shared.begin_rebuild().await.unwrap().finish().await.unwrap();
    let (webhook, mut told) = tokio::sync::mpsc::channel(8);
    let settings =
        json!({ "name": "t", "scope": "key", "measure": "tokens", "limit": 1_000, "window": "day", "warn_at": [0.5] });
    let replicas: Vec<Bench> = (0..2)
        .map(|_| {
            let metrics = Arc::new(Metrics::new());
            let quotas = Quotas::new(shared.clone(), clock.clone(), metrics, Some(webhook.clone()));
            quotas.declare(vec![rule(&settings)]);
            Bench { quotas, clock: clock.clone() }
        })
        .collect();
    // The first sets aside 900 tokens; each consumes 300.
    for (call, replica) in replicas.iter().cycle().take(6).enumerate() {
        let mut account = replica.open("a");
        let estimate = if call == 0 { usd(400, 500, 1) } else { usd(10, 10, 1) };
        if replica.enter(&mut account, "a", estimate).await.is_err() {
            continue;
        }
        replica.quotas.watch(&account, &subject("a", &[]), &PLACE).await;
        account.settle(replica.quotas.shared(), &[usd(200, 100, 1)]);
    }
    let warning = told.try_recv().unwrap();
    assert_eq!((warning.threshold, warning.used.as_str(), warning.limit.as_str()), (0.5, "600", "1000"));
    assert!(told.try_recv().is_err(), "once in its period");
    // The next day it is news again.
    clock.advance(Duration::from_secs(86_400));
    for _ in 0..3 {
        let mut account = replicas[1].open("a");
        replicas[1].enter(&mut account, "a", usd(10, 10, 1)).await.unwrap();
        replicas[1].quotas.watch(&account, &subject("a", &[]), &PLACE).await;
        account.settle(replicas[1].quotas.shared(), &[usd(200, 100, 1)]);
    }
    assert_eq!(told.try_recv().unwrap().used, "600");
}
