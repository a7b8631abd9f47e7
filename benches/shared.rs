//! What an admission in Redis costs this process and the server, and how many there are in a second.
//!
//! Starts a `redis-server` of its own. Callers at once take and settle; processor time is what the system says of each
//! process, so other load on the machine matters little.
//!
//! ```console
//! cargo bench --bench shared
//! ```

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot be set up has nothing to say but that"
)]

use std::{fs, sync::Arc, time::Duration};

use switchboard::{
    shared::{CounterId, Shared, Take, WhenDown, Window, settings::RedisSettings},
    telemetry::Metrics,
    types::{Clock, Period, Secret, Tasks},
};

#[path = "../tests/it/harness/redis.rs"]
mod harness;

const CALLERS: u64 = 64;
const CALLS: u64 = 2_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for count in [3, 10] {
            measure(count).await;
        }
    });
}

async fn measure(count: u64) {
    let server = harness::PrivateRedis::start();
    let mut settings = RedisSettings::at(Secret::new(server.url()));
    settings.timeout = Period::from_secs(10);
    let (tasks, metrics) = (Tasks::new(), Arc::new(Metrics::new()));
    let shared = Shared::redis(&settings, Clock::Real, &tasks, metrics.clone()).await.unwrap();
    shared.history_lost().await;
    shared.begin_rebuild().await.unwrap().finish().await.unwrap();
    while !shared.is_up() {
        Clock::Real.sleep(Duration::from_millis(10)).await;
    }
    let its_pid: u32 = server
        .command(&["INFO", "server"])
        .lines()
        .find_map(|line| line.trim().strip_prefix("process_id:")?.parse().ok())
        .unwrap();
    let (ours, theirs, began) = (cpu(std::process::id()), cpu(its_pid), Clock::Real.now());
    let (sender, mut done) = tokio::sync::mpsc::channel(64);
    for caller in 0..CALLERS {
        let (shared, sender) = (shared.clone(), sender.clone());
        tasks.spawn(async move {
            // Half of the counters are everybody's, half are this caller's.
            let takes: Vec<Take> =
                (0..count).map(|index| take(index, if index % 2 == 0 { 0 } else { caller })).collect();
            let actual: Vec<_> = takes.iter().map(|take| (take.counter, 1)).collect();
            for _ in 0..CALLS {
                let Ok(mut hold) = shared.hold() else { panic!("no place") };
                if hold.take(&takes).await.is_err() {
                    panic!("refused");
                }
                hold.settle(&actual);
            }
            sender.send(()).await.unwrap();
        });
    }
    drop(sender);
    while done.recv().await.is_some() {}
    while metrics.quota_settlements_waiting.get() > 0 {
        Clock::Real.sleep(Duration::from_millis(1)).await;
    }
    let (calls, seconds) = (CALLERS * CALLS, (Clock::Real.now() - began).as_secs_f64());
    assert_eq!(metrics.quota_takes_alone.get(), 0, "Redis was away for a moment");
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let each = |micros: u64| micros as f64 / calls as f64;
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let rate = calls as f64 / seconds;
    println!(
        "{count} quotas: {rate:.0} admissions a second with their settlements; µs of processor time for each: {:.1} here, {:.1} in Redis",
        each(cpu(std::process::id()) - ours),
        each(cpu(its_pid) - theirs),
    );
}

/// Processor time that a process has used, in microseconds; the system counts in hundredths of a second.
fn cpu(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap() * 10_000).sum()
}

fn take(index: u64, name: u64) -> Take {
    let window = match index % 3 {
        0 => Window::Rolling { millis: 60_000 },
        1 => Window::Period { ends: 1 << 50 },
        _ => Window::Slots,
    };
    let counter = CounterId::of([b"rule".as_slice(), &index.to_le_bytes(), &name.to_le_bytes()]);
    Take { counter, window, amount: 2, limit: 1 << 50, when_down: WhenDown::Open, needs_history: false }
}
