//! What came before a quota, as the ledger has it.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::{bench, rule};
use crate::{
    quotas::Quotas,
    shared::Shared,
    store::{
        Db,
        ledger::{self, AttemptRow, CallRow, Who},
    },
    telemetry::Metrics,
    types::{Clock, Nanos, Outcome, RequestId, Usage, UsageSource},
};

const HOUR: u64 = 3_600_000;

fn call(at: u64) -> CallRow {
    let millis = i64::try_from(at).unwrap();
    CallRow {
        id: RequestId::new(at).to_string().into(),
        at: millis,
        instance: "gw".into(),
        operation: "chat".into(),
        requested: "m".into(),
        model: "m".into(),
        who: Who { project: "research".into(), key_id: "a".into(), key_name: "a".into(), ..Who::default() },
        client: None,
        stream: false,
        status: 200,
        outcome: Outcome::Ok,
        error_code: None,
        finish_reason: None,
        first_output_ms: None,
        duration_ms: 1,
        overhead_us: 1,
        bytes_in: 1,
        bytes_out: 1,
        attempts: vec![AttemptRow {
            number: 1,
            at: millis,
            target: "p/m".into(),
            provider: "p".into(),
            upstream_model: "m".into(),
            provider_key: 0,
            outcome: Outcome::Ok,
            status: Some(200),
            provider_id: None,
            usage: Usage { input: 10, output: 5, ..Usage::default() },
            usage_source: UsageSource::Reported,
            cost: Some(Nanos(7)),
            reported_cost: None,
            price: "free".into(),
            service_tier: None,
            first_token_ms: None,
            duration_ms: 1,
        }],
        notes: None,
    }
}

#[tokio::test]
async fn what_came_before_a_new_rolling_quota_leaves_it_by_its_age() {
    for (window, is_long) in [("24h", true), ("1h", false)] {
        let bench = bench(&[]).await;
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), None).await.unwrap();
        let now = bench.clock.unix_millis();
        let length = if is_long { 24 * HOUR } else { HOUR };
        // Two when nearly a window had passed, one in the middle of it.
        let ages = [length / 24 * 23, length / 24 * 23, length / 2];
        let calls: Vec<CallRow> = ages.into_iter().map(|age| call(now - age)).collect();
        assert_eq!(ledger::write(&db, &calls).await.unwrap().inserted, 3);
        let rule = rule(&json!({ "scope": "key", "measure": "requests", "limit": 9, "window": window }));
        bench.quotas.declare(vec![rule.clone()]);
        let asked = [(rule.clone(), vec![vec!["a".to_owned()]])];
        let before = bench.quotas.current(&asked).await.remove(0);
        assert_eq!(before.is_none(), is_long, "{window}: nobody knows yet");
        bench.quotas.fill_new(&db).await.unwrap();
        let used = async || {
            let asked = [(rule.clone(), vec![vec!["a".to_owned()]])];
            bench.quotas.current(&asked).await[0].as_ref().unwrap()[0].used
        };
        assert_eq!(used().await, 3, "{window}");
        // A twelfth of the window, by which each may be late, and a sixtieth, as for any call.
        bench.clock.advance(Duration::from_millis(length / 24 + length / 12 + length / 60));
        assert_eq!(used().await, 1, "{window}");
        bench.clock.advance(Duration::from_millis(length / 2));
        assert_eq!(used().await, 0, "{window}");
        db.close().await;
    }
}

#[tokio::test]
async fn what_came_before_counts_once_in_whichever_order_counters_are_filled() {
    for window in ["24h", "1h", "day"] {
        for new_first in [true, false] {
            let clock = Clock::held();
            // A moment of the day that is neither at its beginning nor at its end.
            clock.advance(Duration::from_millis(36 * HOUR - clock.unix_millis() % (24 * HOUR)));
            let quotas = Quotas::new(Shared::memory(clock.clone()), clock.clone(), Arc::new(Metrics::new()), None);
            let dir = tempfile::tempdir().unwrap();
            let db = Db::open(dir.path(), None).await.unwrap();
            let now = clock.unix_millis();
            let calls: Vec<CallRow> = [1, 2, 3].map(|age| call(now - age * 60_000)).into();
            assert_eq!(ledger::write(&db, &calls).await.unwrap().inserted, 3);
            let rule = rule(&json!({ "scope": "key", "measure": "requests", "limit": 9, "window": window }));
            quotas.declare(vec![rule.clone()]);
            for is_new in [new_first, !new_first] {
                if is_new {
                    assert!(quotas.fill_new(&db).await.unwrap());
                } else {
                    quotas.rebuild(&db).await.unwrap().expect("nobody else does it");
                }
            }
            let asked = [(rule.clone(), vec![vec!["a".to_owned()]])];
            let used = quotas.current(&asked).await[0].as_ref().unwrap()[0].used;
            assert_eq!(used, 3, "{window}, the new first: {new_first}");
            db.close().await;
        }
    }
}

#[tokio::test]
async fn lost_calls_count_once_where_they_still_count() {
    let bench = bench(&[]).await;
    // A moment of the day that is neither at its beginning nor at its end.
    bench.clock.advance(Duration::from_millis(36 * HOUR - bench.clock.unix_millis() % (24 * HOUR)));
    let now = bench.clock.unix_millis();
    let rule = |scope: &str, measure: &str, window: &str| {
        rule(&json!({ "scope": scope, "measure": measure, "limit": 1000, "window": window }))
    };
    let rules = [
        (rule("key", "requests", "1h"), "a", 1),
        (rule("provider", "requests", "1h"), "p", 2),
        (rule("key", "requests", "6h"), "a", 2),
        (rule("key", "tokens", "1h"), "a", 30),
        (rule("project", "usd", "day"), "research", 28),
        (rule("project", "requests", "day"), "research", 2),
        (rule("target", "requests", "day"), "p/m", 4),
    ];
    bench.quotas.declare(rules.iter().map(|(rule, ..)| rule.clone()).collect());
    rules.iter().for_each(|(rule, ..)| rule.filled());
    // Two attempts each: a moment ago, some hours ago, the day before.
    let lost = [1_000, 3 * HOUR, 24 * HOUR].map(|age| {
        let mut call = call(now - age);
        call.outcome = Outcome::Lost;
        call.attempts.push(AttemptRow { number: 2, ..call.attempts[0].clone() });
        call
    });
    bench.quotas.count_lost(&lost);
    for (rule, value, expected) in &rules {
        let asked = [(rule.clone(), vec![vec![(*value).to_owned()]])];
        let used = bench.quotas.current(&asked).await[0].as_ref().unwrap()[0].used;
        assert_eq!(used, *expected, "{}", rule.name);
    }
}
