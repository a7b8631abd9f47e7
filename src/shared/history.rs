//! Whether the counters know what was spent before they existed. A gateway that counts in memory forgets it all when it
//! ends, Redis when it is flushed; the ledger knows, and whoever can read it fills them again.

use std::time::Duration;

use tokio::sync::watch;

use crate::types::Clock;

/// How long a take that needs history waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What this process knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// Nobody is rebuilding the counters.
    Lost,
    /// Somebody is.
    Rebuilding,
    Known,
}

#[derive(Debug)]
pub(super) struct History {
    past: watch::Sender<Past>,
}

impl History {
    pub(super) fn new(past: Past) -> Self {
        Self { past: watch::Sender::new(past) }
    }

    pub(super) fn is_known(&self) -> bool {
        *self.past.borrow() == Past::Known
    }

    pub(super) fn set(&self, past: Past) {
        self.past.send_if_modified(|before| std::mem::replace(before, past) != past);
    }

    /// `Lost` becomes `Rebuilding`, for one caller.
    pub(super) fn begin(&self) -> bool {
        self.past.send_if_modified(|past| {
            let lost = *past == Past::Lost;
            if lost {
                *past = Past::Rebuilding;
            }
            lost
        })
    }

    /// Ends when history is lost and nobody is rebuilding it.
    pub(super) async fn lost(&self) {
        // The sender is `self`, so there is no end to wait for.
        let _ = self.past.subscribe().wait_for(|past| *past == Past::Lost).await;
    }

    /// Waits until history is known, but not for long. Says whether it is.
    pub(super) async fn known(&self, clock: &Clock) -> bool {
        if self.is_known() {
            return true;
        }
        let mut past = self.past.subscribe();
        let known = past.wait_for(|past| *past == Past::Known);
        clock.timeout_at(clock.now() + PATIENCE, known).await.is_ok()
    }
}
