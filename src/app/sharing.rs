//! Counters: in this process, or in Redis, where all gateways share them.

use std::{sync::Arc, time::Duration};

use crate::{
    config::Settings,
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
