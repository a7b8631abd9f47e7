//! Servers for tests, and replicas on them.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use std::time::Duration;

use super::super::{Inner, Shared, redis::Redis, settings::RedisSettings};
use crate::{
    telemetry::Metrics,
    types::{Clock, Period, Secret, Tasks},
};

#[path = "../../../tests/it/harness/redis.rs"]
mod harness;

pub(in crate::shared) use harness::PrivateRedis;
pub(super) use harness::{PrivateCluster, SlowProxy, sentinel};

/// One for all tests that do it no harm.
static SERVER: LazyLock<PrivateRedis> = LazyLock::new(PrivateRedis::start);

/// A gateway's side of Redis.
pub(super) struct Replica {
    pub(super) shared: Shared,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tasks: Tasks,
}

impl std::ops::Deref for Replica {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Replica {
    /// What it is called in Redis.
    pub(super) fn session(&self) -> String {
        match &self.shared.inner {
            Inner::Redis(redis) => redis.session().to_owned(),
            Inner::Memory(_) => panic!("not in Redis"),
        }
    }

    /// Waits until it stands with Redis like this.
    pub(super) async fn is_up(&self, up: bool) {
        for _ in 0..1_000 {
            if self.shared.is_up() == up {
                return;
            }
            Clock::Real.sleep(Duration::from_millis(10)).await;
        }
        panic!("Redis is {}", if up { "away" } else { "there" });
    }
}

pub(in crate::shared) fn settings(url: &str, timeout: u64) -> RedisSettings {
    let timeout = Period::from_millis(timeout);
    RedisSettings { timeout, ..RedisSettings::at(Secret::new(url)) }
}

/// A replica. Without a sign of life from it for `lease`, others take it for dead.
pub(super) async fn replica(settings: &RedisSettings, lease: Duration) -> Replica {
    let (tasks, metrics) = (Tasks::new(), Arc::new(Metrics::new()));
    let redis = Redis::start(settings, lease, Clock::Real, &tasks, metrics.clone()).await.unwrap();
    Replica { shared: Shared { inner: Inner::Redis(redis) }, metrics, tasks }
}

/// A replica with the usual lease, on counters that have a history.
pub(super) async fn usual(settings: &RedisSettings) -> Replica {
    let replica = replica(settings, Duration::from_secs(20)).await;
    if let Some(rebuild) = replica.begin_rebuild().await {
        rebuild.finish().await.unwrap();
    }
    replica.is_up(true).await;
    replica
}

/// Counters for a test that must hold anywhere, under a prefix of its own.
pub(super) async fn conforming(name: &str) -> Shared {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    // A busy machine is no outage.
    let mut settings = settings(&SERVER.url(), 5_000);
    settings.prefix = format!("test-{}", COUNT.fetch_add(1, Relaxed));
    if name.starts_with("history") || name.starts_with("what_was_spent_before") {
        return replica(&settings, Duration::from_secs(20)).await.shared;
    }
    usual(&settings).await.shared
}
