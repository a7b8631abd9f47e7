//! What quotas add to a call: its takes, all at once, and its settlement; and all of its account, which finds the quotas that
//! concern the call, names their counters, takes of them, settles, and says what the receipt will.

#![expect(clippy::panic, reason = "a bench that cannot be set up has nothing to say but that")]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use serde_json::json;
use switchboard::{
    quotas::{Consumed, Demand, Place, Quotas, Subject, settings::QuotaSettings},
    shared::{CounterId, Shared, Take, WhenDown, Window},
    telemetry::Metrics,
    types::{Clock, Nanos},
};

criterion_group!(benches, memory, account);
criterion_main!(benches);

/// Counters in this process.
fn memory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("quotas/memory");
    for count in [1, 3, 10] {
        let shared = Shared::memory(Clock::Real);
        let takes: Vec<Take> = (0..count).map(take).collect();
        let actual: Vec<_> = takes.iter().map(|take| (take.counter, 1)).collect();
        group.bench_function(format!("{count} takes, settled"), |bencher| {
            bencher.iter(|| {
                let Ok(mut hold) = shared.hold() else { panic!("no place") };
                // Without history to wait for, nothing is waited for.
                let Some(Ok(())) = hold.take(black_box(&takes)).now_or_never() else { panic!("refused") };
                hold.settle(black_box(&actual));
            });
        });
    }
    group.bench_function("10 takes, the last refused", |bencher| {
        let shared = Shared::memory(Clock::Real);
        let mut takes: Vec<Take> = (0..10).map(take).collect();
        takes[9].limit = 1;
        bencher.iter(|| {
            let Ok(mut hold) = shared.hold() else { panic!("no place") };
            assert!(hold.take(black_box(&takes)).now_or_never().is_some_and(|answer| answer.is_err()));
        });
    });
    group.finish();
}

/// Of every kind: slots, a budget by the month, and windows that roll.
fn take(index: usize) -> Take {
    let window = match index % 3 {
        0 => Window::Rolling { millis: 60_000 },
        1 => Window::Period { ends: u64::MAX / 2 },
        _ => Window::Slots,
    };
    let counter = CounterId::of([b"rule".as_slice(), &index.to_le_bytes()]);
    Take { counter, window, amount: 2, limit: 1 << 60, when_down: WhenDown::Open, needs_history: false }
}

/// The whole account of a call with counters in this process, from the rules to the lines of its receipt.
fn account(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("quotas/account");
    let tags = [Arc::from("batch")];
    let subject = Subject {
        project: "research",
        key: "01M7X2AY2ZB1VKM2378N50BNC8",
        key_name: "ci",
        end_user: Some("user-7"),
        session: None,
        tags: &tags,
    };
    let place = Place { model: "gpt-5.5", provider: "openai", target: "openai/gpt-5.5" };
    for count in [1, 3, 10] {
        let quotas = quotas(count);
        let consumed = Consumed { input: 100, output: 200, cost: Some(Nanos(2_250_000)) };
        group.bench_function(format!("{count} quotas, opened, entered, settled"), |bencher| {
            bencher.iter(|| {
                let Ok(Some(mut account)) = quotas.open(black_box(&subject)) else { panic!("no account") };
                let demand = Demand { estimate: consumed, spent: &[] };
                let entered = account.enter(&subject, &place, demand, &[], Clock::Real.unix_millis()).now_or_never();
                assert!(entered.is_some_and(|entered| entered.is_ok()));
                let lines = account.settle(quotas.shared(), black_box(&[consumed]));
                assert_eq!(lines.len(), count);
                lines
            });
        });
    }
    group.finish();
}

/// The first `count` of ten that concern the call: of every measure, rolling and by the calendar.
fn quotas(count: usize) -> Quotas {
    let ten = [
        ("key", "requests", Some("1m")),
        ("project", "usd", Some("month")),
        ("key", "tokens", Some("1m")),
        ("key", "concurrent", None),
        ("end_user", "usd", Some("day")),
        ("global", "tokens", Some("1h")),
        ("model", "output_tokens", Some("1m")),
        ("provider", "input_tokens", Some("1m")),
        ("tag", "usd", Some("week")),
        ("target", "requests", Some("1s")),
    ];
    let settings = ten.iter().take(count).map(|(scope, measure, window)| {
        // More dollars than these do not fit a counter.
        let limit = if *measure == "usd" { 1_000_000 } else { 1_u64 << 50 };
        let settings = json!({ "scope": scope, "measure": measure, "limit": limit, "window": window });
        match serde_json::from_value::<QuotaSettings>(settings) {
            Ok(settings) => settings,
            Err(error) => panic!("{scope} {measure}: {error}"),
        }
    });
    let Ok(rules) = Quotas::compile(&settings.collect::<Vec<_>>()) else { panic!("no rules") };
    let shared = Shared::memory(Clock::Real);
    let known = async {
        match shared.begin_rebuild().await {
            Some(rebuild) => rebuild.finish().await.is_ok(),
            None => false,
        }
    };
    assert_eq!(known.now_or_never(), Some(true), "counters in memory begin at once");
    let quotas = Quotas::new(shared, Clock::Real, Arc::new(Metrics::new()), None);
    quotas.declare(rules);
    quotas
}
