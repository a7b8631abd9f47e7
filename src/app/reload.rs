//! Taking a changed configuration, or changed prices, in force.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, OnceCell};
use tokio_util::sync::CancellationToken;

use super::{
    mock_address,
    parts::{Assembled, Parts},
};
use crate::{
    auth::Keys,
    catalog::{Book, PriceSettings},
    config::{self, Environment, Flags, Settings},
    gateway::Gateway,
    http::settings::Settings as ServerSettings,
    refresh,
    telemetry::Metrics,
    types::{Clock, Tasks},
    upstream::Connections,
};

/// How often the configuration file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a new snapshot is made from, beside the configuration itself.
#[derive(Debug)]
pub(super) struct Reloads {
    pub(super) env: Environment,
    pub(super) file: Option<PathBuf>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) keys: Keys,
    pub(super) connections: Connections,
    pub(super) metrics: Arc<Metrics>,
    /// Where the built-in mock provider listens, once a configuration has asked for it.
    pub(super) mock: OnceCell<String>,
    pub(super) tasks: Tasks,
    /// What can only be set at a start.
    pub(super) fixed: Settings,
    pub(super) flags: Flags,
    /// One reload at a time.
    pub(super) turn: tokio::sync::Mutex<config::Watch>,
    /// Prices that were fetched.
    pub(super) fetched: ArcSwapOption<Book>,
    /// Some have come that are not in force.
    pub(super) repriced: Notify,
}

impl Reloads {
    /// Follows the configuration file, if there is one, and prices at an address, if one is configured.
    pub(super) fn follow(self: &Arc<Self>, settings: &Settings, clock: &Clock) {
        let stop = || self.tasks.stopping();
        if self.file.is_some() {
            self.tasks.spawn(self.clone().follow_file(clock.clone(), stop()));
        }
        if settings.prices.url.is_some() {
            self.tasks.spawn(self.clone().follow_prices(settings.prices.clone(), clock.clone(), stop()));
        }
    }

    /// Looks at the configuration file now and then, and reloads it when it has changed.
    pub(super) async fn follow_file(self: Arc<Self>, clock: Clock, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.sleep(LOOK_EVERY) => {}
            }
            let changed = self.turn.lock().await.changed();
            if changed {
                self.reload().await;
            }
        }
    }

    /// Loads the configuration again and puts it in force, or changes nothing and says why in the log.
    pub(super) async fn reload(&self) -> bool {
        let mut watch = self.turn.lock().await;
        let mut loaded = match config::load(self.file.as_deref(), &self.env) {
            Ok(loaded) => loaded,
            Err(complaints) => return self.rejected(&complaints),
        };
        *watch = loaded.watch();
        self.flags.apply(&mut loaded.settings);
        let mock = match mock_address(&self.mock, &loaded.settings, &self.gateway.clock, &self.tasks).await {
            Ok(address) => address,
            Err(error) => return self.rejected(&error),
        };
        let fetched = self.fetched.load_full();
        let parts = Parts { connections: &self.connections, metrics: &self.metrics, mock, fetched };
        let previous = self.gateway.snapshot.load_full();
        match parts.assemble(&loaded, Some(&previous.routes)) {
            Err(complaints) => self.rejected(&complaints),
            Ok(Assembled { snapshot, keys, quotas }) => {
                self.note_fixed(&loaded.settings);
                self.metrics.config_reload(Ok(&snapshot.hash));
                tracing::info!(version = snapshot.hash, "configuration reloaded: {}", loaded.summary());
                self.gateway.snapshot.store(Arc::new(snapshot));
                self.keys.declare(keys);
                self.gateway.quotas.declare(quotas);
                self.keys.declare_admin_key(loaded.settings.admin.key.as_ref());
                drop(previous);
                self.connections.prune();
                true
            }
        }
    }

    /// Fetches prices as `settings` say, and puts those that come in force, until `stop`.
    pub(super) async fn follow_prices(self: Arc<Self>, settings: PriceSettings, clock: Clock, stop: CancellationToken) {
        let take = |book| {
            self.metrics.price_fetches.with_label_values(&["ok"]).inc();
            self.fetched.store(Some(book));
            self.repriced.notify_one();
        };
        let failed = || self.metrics.price_fetches.with_label_values(&["failed"]).inc();
        let in_force = async {
            loop {
                self.repriced.notified().await;
                self.reload().await;
            }
        };
        let data_dir = &self.fixed.data_dir;
        tokio::select! {
            () = refresh::follow(&settings, data_dir, &self.connections, &clock, stop, take, failed) => {}
            () = in_force => {}
        }
    }

    fn rejected(&self, why: &impl std::fmt::Display) -> bool {
        self.metrics.config_reload(Err(()));
        tracing::error!("the changed configuration was not taken; the one before stays in force\n{why}");
        false
    }

    /// Some settings take a restart: better said than silently ignored.
    fn note_fixed(&self, new: &Settings) {
        let old = &self.fixed;
        // This one part of `server` belongs to the snapshot.
        let server = ServerSettings { keepalive: old.server.keepalive, ..new.server.clone() };
        let changed = [
            ("listen", old.listen != new.listen),
            ("data_dir", old.data_dir != new.data_dir),
            ("database", old.database != new.database),
            ("redis", old.redis != new.redis),
            ("prices.url", address(&old.prices) != address(&new.prices)),
            ("tls", old.tls != new.tls),
            ("server", old.server != server),
            ("log", old.log != new.log),
            ("ledger", old.ledger != new.ledger),
            ("auth", old.auth != new.auth),
            ("webhook", old.webhook != new.webhook),
            ("admin.listen", old.admin.listen != new.admin.listen),
            ("retries.max_share", old.retries.max_share != new.retries.max_share),
        ];
        for (name, _) in changed.iter().filter(|(_, changed)| *changed) {
            tracing::warn!("`{name}` was changed; the change takes a restart");
        }
    }
}

/// What of the prices is said once, at the start: where they are fetched, and how.
fn address(prices: &PriceSettings) -> impl PartialEq {
    (prices.url.clone(), prices.refresh, prices.timeout, prices.max_size)
}
