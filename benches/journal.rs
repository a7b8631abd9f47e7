//! What the journal adds to a call: a record before it is sent, and one when it has ended. In CPU time of the thread, as
//! the kernel accounts for it, so that what else runs on the machine matters less. Linux only.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to say but that"
)]

use std::{fs, hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use switchboard::{
    accounting::journal::{Buffer, Cursor, Found, Journal, Kind, header},
    store::ledger::{AttemptRow, CallRow, Who},
    types::{Clock, Nanos, Outcome, RequestId, Usage, UsageSource},
};

criterion_group!(benches, writing, reading);
criterion_main!(benches);

/// Into a file of the system's temporary directory. Time is dominated by the system call.
fn writing(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut group = criterion.benchmark_group("journal");

    let mut buffer = Buffer::new(1);
    let one = call(Outcome::Lost);
    group.bench_function("encode a record", |bencher| {
        bencher.iter_custom(|rounds| {
            cpu(rounds, || {
                buffer.clear();
                assert!(buffer.push(Kind::Opened, black_box(&one)).is_ok());
            })
        });
    });

    let mut journal = Journal::open(dir.path(), 1 << 30, Clock::Real).expect("a journal");
    let calls: Vec<_> = (0..1_000).map(|_| call(Outcome::Lost)).collect();
    let mut next = 0;
    group.bench_function("opened", |bencher| {
        bencher.iter_custom(|rounds| {
            cpu(rounds, || {
                next = (next + 1) % calls.len();
                if next == 0 {
                    sweep(&mut journal);
                }
                assert!(journal.opened(black_box(&calls[next])));
            })
        });
    });

    let batch: Vec<_> = (0..32).map(|_| call(Outcome::Ok)).collect();
    group.throughput(Throughput::Elements(batch.len() as u64));
    group.bench_function("opened and settled, in batches of 32", |bencher| {
        bencher.iter_custom(|rounds| {
            cpu(rounds, || {
                for row in &batch {
                    assert!(journal.opened(row));
                }
                let places = journal.settled(black_box(&batch));
                for (row, place) in batch.iter().zip(places) {
                    journal.shipped(&row.id, place);
                }
                sweep(&mut journal);
            })
        });
    });
    group.finish();
}

/// What a start has to read after a crash.
fn reading(criterion: &mut Criterion) {
    let mut buffer = Buffer::new(1);
    for _ in 0..10_000 {
        buffer.push(Kind::Settled, &call(Outcome::Ok)).expect("a row of usual length");
    }
    let bytes = [&header(1)[..], buffer.as_bytes()].concat();
    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("read a segment", |bencher| {
        bencher.iter_custom(|rounds| {
            cpu(rounds, || {
                let mut cursor = Cursor::new(&bytes).expect("a segment");
                let mut rows = 0;
                while let Some(Found::Record(record)) = cursor.next(&bytes) {
                    rows += usize::from(record.row().is_some());
                }
                assert_eq!(rows, 10_000);
            })
        });
    });
    group.finish();
}

/// The CPU time that so many rounds take.
fn cpu(rounds: u64, mut round: impl FnMut()) -> Duration {
    let before = on_cpu();
    (0..rounds).for_each(|_| round());
    // Short runs end within one tick of the kernel's accounting; criterion will not take zero.
    on_cpu().saturating_sub(before).max(Duration::from_nanos(1))
}

fn on_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds"))
}

fn sweep(journal: &mut Journal) {
    for path in journal.finished(false) {
        fs::remove_file(path).unwrap();
    }
}

/// A call as most are: one attempt, a key, no tags.
fn call(outcome: Outcome) -> CallRow {
    let now = Clock::Real.unix_millis();
    CallRow {
        id: RequestId::new(now).to_string().into(),
        at: now.cast_signed(),
        instance: "gateway-7d9f4b6c5-x2x4v".into(),
        operation: "chat".into(),
        requested: "gpt-5.5".into(),
        model: "gpt-5.5".into(),
        who: Who {
            project: "default".into(),
            key_id: RequestId::new(now).to_string().into(),
            key_name: "research".into(),
            ..Who::default()
        },
        client: Some("192.0.2.1".into()),
        stream: false,
        status: 200,
        outcome,
        error_code: None,
        finish_reason: Some("stop".into()),
        first_output_ms: None,
        duration_ms: 1_500,
        overhead_us: 85,
        bytes_in: 1_024,
        bytes_out: 4_096,
        notes: None,
        attempts: vec![AttemptRow {
            number: 1,
            at: now.cast_signed(),
            target: "openai/gpt-5.5".into(),
            provider: "openai".into(),
            upstream_model: "gpt-5.5".into(),
            provider_key: 0,
            outcome,
            status: Some(200),
            provider_id: Some("chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz".into()),
            usage: Usage { input: 350, output: 170, ..Usage::default() },
            usage_source: UsageSource::Reported,
            cost: Some(Nanos(2_500)),
            reported_cost: None,
            price: "openai/gpt-5.5@2026-04-01".into(),
            service_tier: None,
            first_token_ms: None,
            duration_ms: 1_400,
        }],
    }
}
