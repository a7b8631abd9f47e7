//! What quotas add to a call: its takes, all at once, and its settlement.

#![expect(clippy::panic, reason = "a bench that cannot be set up has nothing to say but that")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use switchboard::{
    shared::{CounterId, Shared, Take, WhenDown, Window},
    types::Clock,
};

criterion_group!(benches, memory);
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
