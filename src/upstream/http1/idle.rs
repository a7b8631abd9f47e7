//! Connections that wait for their next call.
//!
//! The one used last is taken first: the others so get old and are closed, and a provider sees no more connections than
//! the load of the moment needs. No connection is watched while it waits; it is looked at before it is used, and all of
//! them now and then.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use super::Connection;
use crate::types::{Clock, Tasks};

/// Idle connections kept at most.
const MAX_IDLE: usize = 1024;

/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(5);

/// A connection that has been idle for this long may have been closed without the runtime having heard of it yet; under
/// load connections are used again much sooner, and spared the question.
const FRESH: Duration = Duration::from_millis(10);

/// The idle connections to one origin.
#[derive(Debug)]
pub(in crate::upstream) struct Idle {
    /// How long a connection is kept.
    keep: Duration,
    clock: Clock,
    tasks: Tasks,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// With the moment since which it has been idle; the oldest in front.
    connections: VecDeque<(Instant, Connection)>,
    /// Whether the task that looks at them runs.
    swept: bool,
}

impl Idle {
    pub(in crate::upstream) fn new(keep: Duration, clock: Clock, tasks: Tasks) -> Self {
        Self { keep, clock, tasks, shelf: Mutex::default() }
    }

    /// The connection used last that is still good.
    pub(in crate::upstream) fn take(&self) -> Option<Connection> {
        let now = self.clock.now();
        loop {
            let (since, mut connection) = self.shelf().connections.pop_back()?;
            let idle = now.saturating_duration_since(since);
            if idle < self.keep && connection.is_quiet(idle >= FRESH) {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next call.
    pub(in crate::upstream) fn put(self: &Arc<Self>, connection: Connection) {
        let mut shelf = self.shelf();
        let superfluous = if shelf.connections.len() >= MAX_IDLE { shelf.connections.pop_front() } else { None };
        shelf.connections.push_back((self.clock.now(), connection));
        let swept = std::mem::replace(&mut shelf.swept, true);
        drop(shelf);
        drop(superfluous);
        if !swept {
            self.tasks.spawn_untracked(sweep(Arc::downgrade(self), self.clock.clone(), self.keep.min(SWEEP)));
        }
    }

    /// Closes what is too old or was closed. Says whether anything is left; if not, the next `put` starts a new task.
    fn sweep(&self) -> bool {
        let now = self.clock.now();
        let mut shelf = self.shelf();
        shelf.connections.retain_mut(|(since, connection)| {
            now.saturating_duration_since(*since) < self.keep && connection.is_quiet(true)
        });
        shelf.swept = !shelf.connections.is_empty();
        shelf.swept
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the idle connections until none is left, or nobody wants them any more.
async fn sweep(idle: Weak<Idle>, clock: Clock, every: Duration) {
    loop {
        clock.sleep(every).await;
        let Some(idle) = idle.upgrade() else { return };
        if !idle.sweep() {
            return;
        }
    }
}
