//! The composition root: from a configuration to a running gateway, in the order in which parts depend on each other;
//! reloading it; and taking it down again without losing anything.

mod doors;
mod history;
mod parts;
mod reload;
mod sharing;
mod stores;
mod upkeep;
mod webhook;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, OnceCell};
use tokio_util::sync::CancellationToken;

pub use self::parts::check;
use self::{
    doors::listen,
    parts::{Assembled, Parts},
    reload::Reloads,
    stores::Stores,
};
use crate::{
    accounting::{Books, Ledger, LedgerError, Till, settle_all},
    auth::{Draft, Keys, ManageError},
    config::{Complaints, Environment, Loaded, Settings, Source},
    gateway::{Aside, Gateway, Schemas},
    http::{self, Shutdown},
    mock::{Behaviour, Mock},
    providers::MOCK,
    quotas::Quotas,
    refresh,
    routing::RetryBudget,
    shared::{Shared, SharedError},
    store::{self, Actor, Db, KeyHash, StoreError},
    telemetry::{
        self, CallLog, ContentLog, Lines, Metrics,
        metrics::{BreakerSample, BreakerState},
    },
    types::{Clock, Secret, Tasks},
    upstream::Connections,
};

/// Settlements that may wait to be written, beside those of calls in flight.
const UNSETTLED: usize = 4_096;

/// Names the mark in the store that says that the first key was made.
const FIRST_KEY: &str = "first_key";

/// How long the database may take for the last rows of the ledger before they are left to the next start.
const LAST_ROWS: Duration = Duration::from_secs(5);

/// What nearly every part stands on.
#[derive(Debug)]
struct Ground {
    settings: Settings,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// Everything that should end when serving has ended.
    tasks: Tasks,
}

/// A gateway that is running.
#[derive(Debug)]
pub struct App {
    pub address: SocketAddr,
    /// Where the admin API is, if it has an address of its own.
    pub admin_address: Option<SocketAddr>,
    pub keys: Keys,
    db: Db,
    /// Whether the database was not there, so that nobody knows what is in it.
    pub without_store: bool,
    /// Where calls are written down.
    pub ledger: Ledger,
    pub gateway: Arc<Gateway>,
    /// Counters, which replicas may share.
    pub shared: Shared,
    pub metrics: Arc<Metrics>,
    pub shutdown: Shutdown,
    settings: Settings,
    reloads: Arc<Reloads>,
    clock: Clock,
    /// Everything that should end when serving has ended.
    tasks: Tasks,
    /// Settling outlives serving: it ends when the last charge has.
    settling: Tasks,
    /// Redis is told of the last settlements, so this ends after them.
    sharing: Tasks,
    serving: Tasks,
    lines: Lines,
    content: ContentLog,
}

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Config(Complaints),
    #[error("cannot listen on {address}: {cause}. Choose another address with {setting}, or stop what is there")]
    Listen { address: SocketAddr, setting: &'static str, cause: std::io::Error },
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    #[error("{0}")]
    Shared(#[from] SharedError),
    #[error("{0}")]
    Tls(#[from] http::tls::TlsError),
    #[error("{0}")]
    Log(#[from] telemetry::logging::InitError),
    #[error("`log.content`: {to} cannot be written: {cause}")]
    Content { to: String, cause: std::io::Error },
}

impl App {
    /// Starts everything. When this returns, the listener accepts calls.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running but background tasks that end with the process.
    pub async fn start(loaded: Loaded, env: Environment, clock: Clock) -> Result<Self, StartError> {
        let mut settings = loaded.settings.clone();
        loaded.flags.apply(&mut settings);
        let metrics = Arc::new(Metrics::new());
        let lines = telemetry::logging::init(&settings.log, &metrics.log_lines_dropped)?;
        let content = open_content(&settings.log, &metrics)?;
        if let Some(warning) = too_few_descriptors(&settings.server, telemetry::process::descriptor_limit()) {
            tracing::warn!("{warning}");
        }
        let ground = Ground { settings, metrics, clock, tasks: Tasks::new() };
        let Ground { settings, metrics, clock, tasks } = &ground;
        // Boxed: what opening takes is not for the whole start to hold.
        let stores = Box::pin(Stores::open(&ground)).await?;

        let mock = OnceCell::new();
        let its_address = mock_address(&mock, settings, clock, tasks).await?;
        let connections = Connections::new(clock.clone(), tasks.clone());
        let fetched = refresh::kept(&settings.prices, &settings.data_dir).unwrap_or_else(|damaged| {
            tracing::error!("the prices that were fetched before cannot be used\n{damaged}");
            None
        });
        let parts = Parts { connections: &connections, metrics, mock: its_address, fetched: fetched.clone() };
        let Assembled { snapshot, keys: declared, quotas: rules } =
            parts.assemble(&loaded, None).map_err(StartError::Config)?;
        metrics.config_in_force(&snapshot.hash);
        stores.declare(declared).await?;
        let (quotas, stored_quotas) = stores.start_quotas(&ground, rules).await?;

        let settling = Tasks::new();
        let gateway = Arc::new(Gateway {
            snapshot: ArcSwap::from_pointee(snapshot),
            till: open_till(&ground, &stores, &quotas, &lines, &settling),
            quotas,
            retries: RetryBudget::new(settings.retries.max_share),
            memory: sharing::memory(settings, &stores.shared, clock),
            aside: Aside::default(),
            schemas: Schemas::default(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            cut: CancellationToken::new(),
        });
        show_breakers(metrics, &gateway);

        let (shutdown, serving) = (Shutdown::new(), Tasks::new());
        let surface = doors::surface(&gateway, &stores, stored_quotas, &content, &settings.server, &shutdown);
        let (address, admin_address) = doors::open(&ground, surface, &serving).await?;
        tasks.spawn(doors::cut_at_the_end(shutdown.clone(), gateway.cut.clone(), tasks.stopping()));
        tasks.spawn(upkeep::run(stores.db.clone(), settings.ledger.retention, clock.clone(), tasks.stopping()));
        let reloads = Arc::new(Reloads {
            file: match &loaded.source {
                Source::File(file) => Some(file.clone()),
                Source::Environment => None,
            },
            turn: tokio::sync::Mutex::new(loaded.watch()),
            fixed: settings.clone(),
            flags: loaded.flags.clone(),
            env,
            gateway: gateway.clone(),
            keys: stores.keys.clone(),
            connections,
            metrics: metrics.clone(),
            mock,
            tasks: tasks.clone(),
            fetched: ArcSwapOption::new(fetched),
            repriced: Notify::new(),
        });
        reloads.follow(settings, clock);
        let (Stores { db, without_store, ledger, shared, sharing, keys }, Ground { settings, metrics, clock, tasks }) =
            (stores, ground);
        Ok(Self {
            address,
            admin_address,
            keys,
            db,
            without_store,
            ledger,
            gateway,
            shared,
            metrics,
            shutdown,
            settings,
            reloads,
            clock,
            tasks,
            settling,
            sharing,
            serving,
            lines,
            content,
        })
    }

    /// How many keys the store holds.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stored_keys(&self) -> Result<u64, StoreError> {
        store::keys::count(&self.db).await
    }

    /// Makes the first key of a gateway that has none, stored or declared. It may use every model. Of gateways that
    /// start at once on one database, one makes it.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn first_key(&self) -> Result<Option<Secret>, ManageError> {
        if !self.settings.keys.is_empty() || self.stored_keys().await? > 0 {
            return Ok(None);
        }
        let now = i64::try_from(self.clock.unix_millis()).unwrap_or(i64::MAX);
        if !store::secrets::put_first(&self.db, FIRST_KEY, &KeyHash::of(FIRST_KEY), now).await? {
            return Ok(None);
        }
        let (_, secret) = self.keys.create(Draft::new("first", &["*".to_owned()], None), &Actor::GATEWAY).await?;
        Ok(Some(secret))
    }

    /// Loads the configuration again and puts it in force, or changes nothing and says why in the log.
    pub async fn reload(&self) -> bool {
        self.reloads.reload().await
    }

    /// Takes the gateway down: readiness first, then the listener, then calls in flight, then what they left behind.
    pub async fn stop(self) {
        tokio::select! {
            () = self.shutdown.stop(&self.clock, &self.settings.server.drain) => {}
            () = self.serving.finished() => {}
        }
        self.serving.shut_down(&self.clock, Duration::from_secs(2)).await;
        self.tasks.shut_down(&self.clock, Duration::from_secs(2)).await;
        // The last till goes with the gateway; settling then runs dry and ends.
        let Self { db, ledger, gateway, reloads, settling, sharing, clock, lines, content, .. } = self;
        drop(reloads);
        drop(gateway);
        if !settling.shut_down(&clock, Duration::from_secs(5)).await {
            tracing::warn!("calls were still unsettled at the end");
        }
        sharing.shut_down(&clock, sharing::LAST_WORDS).await;
        ledger.stop(LAST_ROWS).await;
        db.close().await;
        lines.flush(Duration::from_secs(1));
        content.flush(Duration::from_secs(1));
    }
}

/// Where what calls say and are answered goes.
fn open_content(settings: &telemetry::settings::Settings, metrics: &Metrics) -> Result<ContentLog, StartError> {
    let content = settings.content.as_ref();
    ContentLog::open(content, &metrics.content_lines_dropped).map_err(|cause| StartError::Content {
        to: content.map_or_else(String::new, |content| content.to.display().to_string()),
        cause,
    })
}

/// Where charges are settled, and the task that does so. It ends when the last charge has.
fn open_till(ground: &Ground, stores: &Stores, quotas: &Quotas, lines: &Lines, settling: &Tasks) -> Till {
    let Ground { settings, metrics, clock, .. } = ground;
    let books = Arc::new(Books {
        metrics: metrics.clone(),
        log: CallLog::new(&settings.log, lines),
        ledger: stores.ledger.clone(),
        quotas: quotas.clone(),
        instance: instance(),
    });
    let places = settings.server.max_in_flight.saturating_add(UNSETTLED);
    let (till, settlements) = Till::new(places, clock.clone(), books.clone());
    settling.spawn(settle_all(settlements, books));
    till
}

/// The name of this gateway in its rows: that of the machine, or of the container.
fn instance() -> Arc<str> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "switchboard".into(),
        name => name.into(),
    }
}

/// What to say of a limit of open files that is lower than what the settings allow: it would be found out under load.
fn too_few_descriptors(server: &http::settings::Settings, limit: Option<u64>) -> Option<String> {
    /// For the database, the log, the listener and the like.
    const OWN: usize = 64;
    // A connection to the client, and one to a provider for each call.
    let needed = server.max_connections.saturating_add(server.max_in_flight).saturating_add(OWN) as u64;
    let limit = limit.filter(|limit| *limit < needed)?;
    Some(format!(
        "this process may open {limit} files, but `server.max_connections` and `server.max_in_flight` together need \
         {needed}: beyond the limit, connections are refused. Raise it (`ulimit -n {needed}`, LimitNOFILE in systemd, \
         `ulimits` in compose) or lower the two settings"
    ))
}

/// Where the built-in mock provider is, if a provider wants it. It is started when the first one does, at the start or at
/// a reload, and then stays.
async fn mock_address<'m>(
    mock: &'m OnceCell<String>,
    settings: &Settings,
    clock: &Clock,
    tasks: &Tasks,
) -> Result<&'m str, StartError> {
    let wanted = settings.providers.iter().any(|(name, p)| p.kind.as_deref().unwrap_or(name) == MOCK);
    if wanted { Ok(mock.get_or_try_init(|| start_mock(clock, tasks)).await?) } else { Ok("") }
}

/// Starts the built-in mock provider on a free port of this machine.
async fn start_mock(clock: &Clock, tasks: &Tasks) -> Result<String, StartError> {
    let (listener, address) = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "the mock").await?;
    let mock = Mock::new(Behaviour::default(), clock.clone());
    let (stop, its_tasks) = (tasks.stopping(), tasks.clone());
    tasks.spawn(async move { mock.serve(listener, stop, &its_tasks).await });
    Ok(format!("http://{address}/v1"))
}

/// Lets a scrape see the breakers of the snapshot in force.
fn show_breakers(metrics: &Metrics, gateway: &Arc<Gateway>) {
    let gateway = Arc::downgrade(gateway);
    metrics.read_breakers_with(move || {
        let Some(gateway) = gateway.upgrade() else { return Vec::new() };
        let slots = gateway.snapshot.load().routes.snapshot(gateway.clock.now());
        let sample = |slot: crate::routing::SlotHealth| BreakerSample {
            state: match slot.state {
                crate::routing::SlotState::Closed => BreakerState::Closed,
                crate::routing::SlotState::HalfOpen => BreakerState::HalfOpen,
                _ => BreakerState::Open,
            },
            target: slot.target,
            key: slot.key,
        };
        // Behind a pattern each upstream model has health of its own under one label: the worst is shown.
        let mut worst = BTreeMap::new();
        for sample in slots.into_iter().map(sample) {
            let shown = worst.entry((sample.target, sample.key)).or_insert(sample.state);
            if (*shown as i64) < sample.state as i64 {
                *shown = sample.state;
            }
        }
        worst.into_iter().map(|((target, key), state)| BreakerSample { target, key, state }).collect()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_open_files_is_complained_about_when_the_settings_need_more() {
        let server = http::settings::Settings { max_connections: 100, max_in_flight: 50, ..Default::default() };
        assert_eq!(too_few_descriptors(&server, None), None);
        assert_eq!(too_few_descriptors(&server, Some(214)), None);
        let warning = too_few_descriptors(&server, Some(213)).unwrap();
        assert!(warning.contains("may open 213 files") && warning.contains("ulimit -n 214"), "{warning}");
    }
}
