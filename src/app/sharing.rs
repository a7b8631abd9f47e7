//! Counters, and what is remembered of reasoning: in this process, or in Redis, where all gateways share them.

use std::{sync::Arc, time::Duration};

use crate::{
    config::Settings,
    gateway::Memory,
    shared::{Shared, SharedError},
    telemetry::Metrics,
    types::{Clock, Tasks},
};

/// How long the end waits until Redis has been told of the last settlements.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(3);

/// The counters, and the tasks that keep them: these end after the last call has been settled.
///
/// # Errors
/// When the settings of Redis cannot be used. A Redis that is absent is no error.
pub(super) async fn open(
    settings: &Settings,
    clock: &Clock,
    metrics: &Arc<Metrics>,
) -> Result<(Shared, Tasks), SharedError> {
    let tasks = Tasks::new();
    let shared = match &settings.redis {
        Some(redis) => Shared::redis(redis, clock.clone(), &tasks, metrics.clone()).await?,
        None => Shared::memory_with(clock.clone(), metrics),
    };
    Ok((shared, tasks))
}

/// What is remembered of reasoning, as far as the settings of Redis allow it shared.
pub(super) fn memory(settings: &Settings, shared: &Shared, clock: &Clock) -> Arc<Memory> {
    let room = settings.redis.as_ref().map_or(0, |redis| redis.thinking.bytes());
    Arc::new(Memory::shared_by(shared.clone(), room, clock.now()))
}
