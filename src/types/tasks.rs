//! The one place that spawns: every background task is counted, so that shutdown can wait for all of them.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Clock;

/// The set of background tasks of one running gateway. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` in the background. It should end by itself soon after [`Tasks::stopping`] ends.
    #[expect(clippy::disallowed_methods, reason = "the task set is the one door to the executor")]
    pub fn spawn<F>(&self, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tracker.track_future(future));
    }

    /// Runs `future` in the background without shutdown waiting for it: for connection drivers, which live as long as
    /// the peer likes and end when their pool is dropped.
    #[expect(clippy::disallowed_methods, reason = "the task set is the one door to the executor")]
    pub fn spawn_untracked<F>(&self, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(future);
    }

    /// A token that is cancelled when the tasks are asked to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until every task has ended by itself.
    pub async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Asks all tasks to stop and waits for them at most `grace`. Says whether all have ended.
    pub async fn shut_down(&self, clock: &Clock, grace: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        clock.timeout_at(clock.now() + grace, self.tracker.wait()).await.is_ok()
    }
}
