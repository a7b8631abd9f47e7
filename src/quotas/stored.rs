//! Quotas that are made by API and command: what any process changes of them is in force here within a second.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Quotas, Rule, settings::QuotaSettings};
use crate::{
    store::{Db, QuotaRow, StoreError, changes, quotas},
    types::Clock,
};

/// How often the store is asked whether anything changed.
const EVERY: Duration = Duration::from_millis(500);

/// How long anybody waits for the store.
const DEADLINE: Duration = Duration::from_secs(2);

/// Changed rows fetched at a time.
const PAGE: u32 = 500;

/// The stored quotas, and how far their changes have been taken over. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Stored {
    quotas: Quotas,
    db: Db,
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The number of the last change; `None` before the first look.
    marker: Option<i64>,
    /// Those that are in force, by id.
    rules: BTreeMap<String, Arc<Rule>>,
}

impl Stored {
    pub fn new(quotas: Quotas, db: Db, clock: Clock) -> Self {
        Self { quotas, db, clock, seen: Arc::default() }
    }

    /// Follows the changes that any process makes, until `stop`. While the store is away, what is in force stays so.
    pub async fn watch(self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let outcome = self.refresh().await;
            if let Err(error) = &outcome
                && !failing
            {
                tracing::error!(%error, "stored quotas cannot be read: those in force stay so, changes wait");
            }
            failing = outcome.is_err();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(EVERY) => {}
            }
        }
    }

    /// Takes over what has changed in the store since the last look.
    ///
    /// # Errors
    /// When the store cannot be asked; what was not taken over will be by the next look.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let deadline = self.clock.now() + DEADLINE;
        self.clock.timeout_at(deadline, self.take_over()).await.unwrap_or(Err(StoreError::NoAnswer))
    }

    async fn take_over(&self) -> Result<(), StoreError> {
        // Held to the end: of two looks at once, the older could otherwise have the last word.
        let mut seen = self.seen.lock().await;
        let marker = changes::markers(&self.db).await?.quotas;
        let before = match seen.marker {
            Some(before) if before == marker => return Ok(()),
            Some(before) if before < marker => before,
            // The first look, or the database was put back to an earlier state: what was known may be wrong.
            _ => {
                seen.rules.clear();
                0
            }
        };
        let mut from = before;
        while from < marker {
            let changed = quotas::changed_since(&self.db, from, PAGE).await?;
            for row in &changed {
                match rule(row) {
                    Some(rule) => drop(seen.rules.insert(row.id.clone(), Arc::new(rule))),
                    None => drop(seen.rules.remove(&row.id)),
                }
            }
            from = changed.last().map_or(marker, |row| row.version);
        }
        seen.marker = Some(from);
        self.quotas.set_stored(seen.rules.values().cloned().collect());
        Ok(())
    }
}

/// The rule that a row says, if it is to be in force. One that nobody can read, because somebody edited the table by hand,
/// cannot be.
fn rule(row: &QuotaRow) -> Option<Rule> {
    if !row.enabled || row.deleted.is_some() {
        return None;
    }
    let read = serde_json::from_str::<QuotaSettings>(&row.spec).map_err(|error| error.to_string());
    let made = read.and_then(|settings| {
        Rule::new(&row.id, &settings)
            .map_err(|bad| bad.into_iter().map(|bad| bad.message).collect::<Vec<_>>().join("; "))
    });
    made.map_err(|why| tracing::error!(quota = row.id, why, "a stored quota cannot be read and is not in force")).ok()
}
