//! Following the store: what any process changes about keys and projects holds here within a second.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Keys, STORE_DEADLINE, Shared};
use crate::store::{Markers, StoreError, changes, keys, projects};

/// How often the store is asked whether anything changed. With the time to ask, a revocation holds within a second.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Changed rows fetched at a time.
pub(super) const PAGE: u32 = 500;

/// Which changes in the store have been taken over.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The numbers of the last ones; `None` before the first look.
    markers: Mutex<Option<Markers>>,
    /// Whether there was a look at all: read by calls, which do not wait for the one that is under way.
    any: std::sync::atomic::AtomicBool,
}

impl Seen {
    pub(super) fn is_any(&self) -> bool {
        self.any.load(std::sync::atomic::Ordering::Acquire)
    }

    #[cfg(test)]
    pub(super) async fn markers(&self) -> Option<Markers> {
        *self.markers.lock().await
    }
}

impl Keys {
    /// Follows the changes that any process makes to the store, until `stop`. Errors are logged and tried again.
    pub async fn watch(self, stop: CancellationToken) {
        const PRUNE_EVERY: u32 = 20;
        let mut failing = false;
        let mut ticks = 0_u32;
        loop {
            let outcome = self.refresh().await;
            match &outcome {
                Ok(()) if failing => tracing::info!("the key store answers again"),
                Err(error) if !failing => {
                    tracing::error!(%error, "the key store cannot be read: known keys go on working, changes wait");
                }
                _ => {}
            }
            failing = outcome.is_err();
            ticks = ticks.wrapping_add(1);
            if ticks.is_multiple_of(PRUNE_EVERY) {
                self.shared.guard.prune();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.shared.clock.sleep(WATCH_INTERVAL) => {}
            }
        }
    }

    /// Takes over what has changed in the store since the last look.
    ///
    /// # Errors
    /// When the store cannot be asked; what was not taken over will be by the next look.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let deadline = self.shared.clock.now() + STORE_DEADLINE;
        self.shared.clock.timeout_at(deadline, self.take_over_changes()).await.unwrap_or(Err(StoreError::NoAnswer))
    }

    async fn take_over_changes(&self) -> Result<(), StoreError> {
        let Shared { db, seen, admin, .. } = &*self.shared;
        admin.refresh(db).await?;
        // Held to the end: of two looks at once, the older could otherwise have the last word.
        let mut markers = seen.markers.lock().await;
        let now = changes::markers(db).await?;
        match &mut *markers {
            Some(before) if before.keys <= now.keys && before.projects <= now.projects => {
                self.take_over_keys(&mut before.keys, now.keys).await?;
                self.take_over_projects(&mut before.projects, now.projects).await?;
            }
            // The first look, or the database was put back to an earlier state: what was known may be wrong.
            before => {
                self.shared.cache.clear();
                self.shared.projects.clear();
                *before = Some(now);
            }
        }
        seen.any.store(true, std::sync::atomic::Ordering::Release);
        self.know_declared().await
    }

    async fn take_over_keys(&self, seen: &mut i64, marker: i64) -> Result<(), StoreError> {
        while *seen < marker {
            let changed = keys::changed_since(&self.shared.db, *seen, PAGE).await?;
            self.shared.cache.apply(&changed);
            *seen = changed.last().map_or(marker, |row| row.version);
        }
        Ok(())
    }

    async fn take_over_projects(&self, seen: &mut i64, marker: i64) -> Result<(), StoreError> {
        while *seen < marker {
            let changed = projects::changed_since(&self.shared.db, *seen, PAGE).await?;
            self.shared.projects.apply(&changed);
            *seen = changed.last().map_or(marker, |row| row.version);
        }
        Ok(())
    }

    /// Asks for the projects of declared keys before a call does: these keys are to work when the store is away.
    async fn know_declared(&self) -> Result<(), StoreError> {
        let declared = self.declared();
        for known in declared.keys.values() {
            let id = &*known.project;
            if !declared.projects.contains_key(id) && self.shared.projects.get(id).is_none() {
                self.ask_for_project(id, None).await?;
            }
        }
        Ok(())
    }
}
