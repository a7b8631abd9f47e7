//! What outlives a call: the database, the ledger, the counters, the keys and the quotas.

use tokio::sync::mpsc;

use super::{Ground, StartError, history, sharing, webhook};
use crate::{
    accounting::{Ledger, Sink},
    auth::{Declared, Keys},
    quotas::{Quotas, Rule, Stored},
    shared::Shared,
    store::{Db, StoreError},
    types::Tasks,
    upstream::Connections,
};

/// What a gateway keeps, here or where others share it.
pub(super) struct Stores {
    pub db: Db,
    /// Whether the database was not there, so that nobody knows what is in it.
    pub without_store: bool,
    pub ledger: Ledger,
    pub shared: Shared,
    /// Redis is told of the last settlements, so this ends after them.
    pub sharing: Tasks,
    pub keys: Keys,
}

impl Stores {
    /// Opens all of them. A database or a Redis that is away is waited for in the background.
    ///
    /// # Errors
    /// When the settings cannot be used, or the data directory.
    pub async fn open(ground: &Ground) -> Result<Self, StartError> {
        let Ground { settings, metrics, clock, tasks } = ground;
        let (db, without_store) = open_store(ground).await?;
        let sink = Sink::Store(db.clone());
        let ledger =
            Ledger::start(settings.ledger.clone(), &settings.data_dir, sink, clock.clone(), metrics.clone()).await?;
        let (shared, sharing) = sharing::open(settings, clock, metrics).await?;
        let keys = Keys::new(db.clone(), clock.clone(), &settings.auth);
        if !without_store {
            // From here on the watch follows it, as it does when the store answers later.
            keys.load_admin_key().await?;
        }
        keys.declare_admin_key(settings.admin.key.as_ref());
        tasks.spawn(keys.clone().watch(tasks.stopping()));
        Ok(Self { db, without_store, ledger, shared, sharing, keys })
    }

    /// Takes the keys of the configuration in force.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn declare(&self, keys: Declared) -> Result<(), StartError> {
        self.keys.declare(keys);
        if !self.without_store {
            // What declared keys may do within their projects is known before the first call.
            self.keys.refresh().await?;
        }
        Ok(())
    }

    /// The quotas of the configuration and of the store; who is told when one fills up; and where their counters come
    /// from.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start_quotas(
        &self,
        ground: &Ground,
        rules: Vec<std::sync::Arc<Rule>>,
    ) -> Result<(Quotas, Stored), StartError> {
        let Ground { settings, metrics, clock, tasks } = ground;
        let webhook = settings.webhook.clone().map(|webhook| {
            let (warnings, due) = mpsc::channel(webhook::WAITING);
            let connections = Connections::new(clock.clone(), tasks.clone());
            tasks.spawn(webhook::send_all(webhook, due, connections, clock.clone(), tasks.stopping()));
            warnings
        });
        let quotas = Quotas::new(self.shared.clone(), clock.clone(), metrics.clone(), webhook);
        quotas.declare(rules);
        let stored = Stored::new(quotas.clone(), self.db.clone(), clock.clone());
        if !self.without_store {
            stored.refresh().await?;
        }
        let (db, ledger) = (self.db.clone(), self.ledger.clone());
        tasks.spawn(stored.clone().watch(tasks.stopping()));
        tasks.spawn(history::keep(quotas.clone(), ledger, db, clock.clone(), tasks.stopping()));
        Ok((quotas, stored))
    }
}

/// The database, and whether it is still awaited: a server that is not there is tried until it answers.
async fn open_store(ground: &Ground) -> Result<(Db, bool), StoreError> {
    let Ground { settings, clock, tasks, .. } = ground;
    let (db, waiting) = Db::open_or_wait(&settings.data_dir, settings.database.as_ref()).await?;
    let Some(waiting) = waiting else { return Ok((db, false)) };
    tracing::error!(
        "{}. Starting without it: keys declared in the configuration work, others are answered 503 until it answers",
        waiting.why
    );
    tasks.spawn(waiting.run(clock.clone(), tasks.stopping()));
    Ok((db, true))
}
