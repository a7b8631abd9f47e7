//! The composition root: from a configuration to a running gateway, in the order in which parts depend on each other;
//! reloading it; and taking it down again without losing anything.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    sync::{OnceCell, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::{
    accounting::{Books, Ledger, LedgerError, Sink, Till, settle_all},
    auth::{DeclaredKeys, Draft, Keys, ManageError},
    catalog::Catalog,
    config::{self, Complaint, Complaints, Environment, Flags, Loaded, Settings, Source},
    gateway::{Gateway, Outlet, Prices, Snapshot},
    http::{self, Phase, Server, Shutdown, Surface, Tls, settings::Settings as ServerSettings},
    mock::{Behaviour, Mock},
    providers::{
        Deadlines, MOCK, Operation, Provider,
        settings::{HttpVersion, Timeout},
    },
    routing::{RetryBudget, Routes, Target},
    store::{self, Db, KeyHash, StoreError},
    telemetry::{
        self, CallLog, Lines, Metrics,
        metrics::{BreakerSample, BreakerState},
    },
    types::{Clock, Period, Secret, Tasks},
    upstream::{Connections, Http, PoolKey, Trust},
};

/// Settlements that may wait to be written, beside those of calls in flight.
const UNSETTLED: usize = 4_096;

/// How often the configuration file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Names the mark in the store that says that the first key was made.
const FIRST_KEY: &str = "first_key";

/// How long the database may take for the last rows of the ledger before they are left to the next start.
const LAST_ROWS: Duration = Duration::from_secs(5);

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
    pub metrics: Arc<Metrics>,
    pub shutdown: Shutdown,
    settings: Settings,
    reloads: Arc<Reloads>,
    clock: Clock,
    /// Everything that should end when serving has ended.
    tasks: Tasks,
    /// Settling outlives serving: it ends when the last charge has.
    settling: Tasks,
    serving: Tasks,
    lines: Lines,
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
    Tls(#[from] http::tls::TlsError),
    #[error("{0}")]
    Log(#[from] telemetry::logging::InitError),
}

/// What a new snapshot is made from, beside the configuration itself.
#[derive(Debug)]
struct Reloads {
    env: Environment,
    file: Option<PathBuf>,
    gateway: Arc<Gateway>,
    keys: Keys,
    connections: Connections,
    metrics: Arc<Metrics>,
    /// Where the built-in mock provider listens, once a configuration has asked for it.
    mock: OnceCell<String>,
    tasks: Tasks,
    /// What can only be set at a start.
    fixed: Settings,
    flags: Flags,
    /// One reload at a time.
    turn: tokio::sync::Mutex<config::Watch>,
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
        if let Some(warning) = too_few_descriptors(&settings.server, telemetry::process::descriptor_limit()) {
            tracing::warn!("{warning}");
        }
        let (tasks, settling, serving) = (Tasks::new(), Tasks::new(), Tasks::new());

        let (db, without_store) = open_store(&settings, &clock, &tasks).await?;
        let sink = Sink::Store(db.clone());
        let ledger =
            Ledger::start(settings.ledger.clone(), &settings.data_dir, sink, clock.clone(), metrics.clone()).await?;
        let keys = Keys::new(db.clone(), clock.clone(), &settings.auth);
        if !without_store {
            // From here on the watch follows it, as it does when the store answers later.
            keys.load_admin_key().await?;
        }
        keys.declare_admin_key(settings.admin.key.as_ref());
        tasks.spawn(keys.clone().watch(tasks.stopping()));

        let mock = OnceCell::new();
        let its_address = mock_address(&mock, &settings, &clock, &tasks).await?;
        let connections = Connections::new(clock.clone(), tasks.clone());
        let parts = Parts { connections: &connections, metrics: &metrics, mock: its_address };
        let (snapshot, declared) = parts.assemble(&loaded, None).map_err(StartError::Config)?;
        keys.declare(declared);
        metrics.config_in_force(&snapshot.hash);

        let places = settings.server.max_in_flight.saturating_add(UNSETTLED);
        let books = Arc::new(Books {
            metrics: metrics.clone(),
            log: CallLog::new(&settings.log, &lines),
            ledger: ledger.clone(),
            instance: instance(),
        });
        let (till, settlements) = Till::new(places, clock.clone(), books.clone());
        settling.spawn(settle_all(settlements, books));
        let gateway = Arc::new(Gateway {
            snapshot: ArcSwap::from_pointee(snapshot),
            till,
            retries: RetryBudget::new(settings.retries.max_share),
            metrics: metrics.clone(),
            clock: clock.clone(),
            cut: CancellationToken::new(),
        });
        show_breakers(&metrics, &gateway);

        let shutdown = Shutdown::new();
        let surface = surface(&gateway, &keys, &db, &settings.server, &shutdown);
        let tls = settings.tls.as_ref().map(Tls::load).transpose()?;
        let (listener, address) = listen(settings.listen, "`listen` in the configuration or `--listen`").await?;
        let (admin_listener, admin_address) = match settings.admin.listen {
            Some(address) => listen(address, "`admin.listen`").await.map(|(socket, at)| (Some(socket), Some(at)))?,
            None => (None, None),
        };
        let server = Server {
            settings: settings.server.clone(),
            clock: clock.clone(),
            tasks: serving.clone(),
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            tls,
        };
        match admin_listener {
            Some(admin_listener) => {
                serving.spawn(server.clone().serve(admin_listener, http::router(surface.clone(), http::Side::Admin)));
                serving.spawn(server.serve(listener, http::router(surface, http::Side::Calls)));
            }
            None => serving.spawn(server.serve(listener, http::router(surface, http::Side::Both))),
        }
        tasks.spawn(cut_at_the_end(shutdown.clone(), gateway.cut.clone(), tasks.stopping()));

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
            keys: keys.clone(),
            connections,
            metrics: metrics.clone(),
            mock,
            tasks: tasks.clone(),
        });
        if reloads.file.is_some() {
            tasks.spawn(reloads.clone().follow_file(clock.clone(), tasks.stopping()));
        }
        Ok(Self {
            address,
            admin_address,
            keys,
            db,
            without_store,
            ledger,
            gateway,
            metrics,
            shutdown,
            settings,
            reloads,
            clock,
            tasks,
            settling,
            serving,
            lines,
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
        let (_, secret) = self.keys.create(Draft::new("first", &["*".to_owned()], None)).await?;
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
        let Self { db, ledger, gateway, reloads, settling, clock, lines, .. } = self;
        drop(reloads);
        drop(gateway);
        if !settling.shut_down(&clock, Duration::from_secs(5)).await {
            tracing::warn!("calls were still unsettled at the end");
        }
        ledger.stop(LAST_ROWS).await;
        db.close().await;
        lines.flush(Duration::from_secs(1));
    }
}

impl Reloads {
    /// Looks at the configuration file now and then, and reloads it when it has changed.
    async fn follow_file(self: Arc<Self>, clock: Clock, stop: CancellationToken) {
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

    async fn reload(&self) -> bool {
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
        let parts = Parts { connections: &self.connections, metrics: &self.metrics, mock };
        let previous = self.gateway.snapshot.load_full();
        match parts.assemble(&loaded, Some(&previous.routes)) {
            Err(complaints) => self.rejected(&complaints),
            Ok((snapshot, declared)) => {
                self.note_fixed(&loaded.settings);
                self.metrics.config_reload(Ok(&snapshot.hash));
                tracing::info!(version = snapshot.hash, "configuration reloaded: {}", loaded.summary());
                self.gateway.snapshot.store(Arc::new(snapshot));
                self.keys.declare(declared);
                self.keys.declare_admin_key(loaded.settings.admin.key.as_ref());
                drop(previous);
                self.connections.prune();
                true
            }
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
            ("tls", old.tls != new.tls),
            ("server", old.server != server),
            ("log", old.log != new.log),
            ("ledger", old.ledger != new.ledger),
            ("auth", old.auth != new.auth),
            ("admin.listen", old.admin.listen != new.admin.listen),
            ("retries.max_share", old.retries.max_share != new.retries.max_share),
        ];
        for (name, _) in changed.iter().filter(|(_, changed)| *changed) {
            tracing::warn!("`{name}` was changed; the change takes a restart");
        }
    }
}

/// What a snapshot is assembled with.
struct Parts<'a> {
    connections: &'a Connections,
    metrics: &'a Metrics,
    mock: &'a str,
}

impl Parts<'_> {
    /// Builds everything that a configuration says, or nothing.
    fn assemble(&self, loaded: &Loaded, previous: Option<&Routes>) -> Result<(Snapshot, DeclaredKeys), Complaints> {
        let settings = &loaded.settings;
        let providers = self.providers(loaded)?;
        let deadlines = |name: &str| {
            let own = settings.providers.get(name).map(|provider| provider.timeout).unwrap_or_default();
            resolve(own.or(settings.timeout))
        };
        let complain = |path: &[String], message: String| loaded.complain(path, message, None);
        let routes =
            Routes::build(&settings.models, &settings.aliases, &providers, &deadlines, &settings.health, previous)
                .map_err(|errors| Complaints(errors.into_iter().map(|e| complain(&e.path, e.message)).collect()))?;
        let declared = DeclaredKeys::new(&settings.keys).map_err(|bad| {
            let at = |index: usize, field: &str| vec!["keys".to_owned(), index.to_string(), field.to_owned()];
            Complaints(bad.into_iter().map(|b| complain(&at(b.index, b.field), b.message)).collect())
        })?;
        let snapshot = Snapshot::new(
            routes,
            |target| self.outlet(loaded, target),
            settings.retries.clone(),
            settings.health.clone(),
            settings.server.keepalive.0,
            loaded.hash.clone(),
            self.metrics,
        )
        .map_err(|complaint| Complaints(vec![complaint]))?;
        Ok((snapshot, declared))
    }

    fn providers(&self, loaded: &Loaded) -> Result<BTreeMap<String, Arc<Provider>>, Complaints> {
        let mut providers = BTreeMap::new();
        let mut complaints = Vec::new();
        for (name, settings) in &loaded.settings.providers {
            match Provider::build(name, settings, Some(self.mock).filter(|url| !url.is_empty())) {
                Ok(provider) => {
                    providers.insert(name.clone(), Arc::new(provider));
                }
                Err(bad) => {
                    let path = ["providers".to_owned(), name.clone(), bad.member.to_owned()];
                    complaints.push(loaded.complain(&path, bad.message, None));
                }
            }
        }
        if complaints.is_empty() { Ok(providers) } else { Err(Complaints(complaints)) }
    }

    /// Where a target leads: its pool of connections, its addresses, its counters.
    fn outlet(&self, loaded: &Loaded, target: &Target) -> Result<Outlet, Complaint> {
        let provider = &target.provider;
        let settings = loaded.settings.providers.get(&*provider.name).cloned().unwrap_or_default();
        let complain = |member: &str, message: String| {
            loaded.complain(&["providers".to_owned(), provider.name.to_string(), member.to_owned()], message, None)
        };
        let key = PoolKey {
            scheme: provider.origin.scheme.clone(),
            authority: provider.origin.authority.clone(),
            http: match settings.http {
                HttpVersion::Auto => Http::Auto,
                HttpVersion::Http1 => Http::One,
                HttpVersion::Http2 => Http::Two,
            },
            connect_timeout: target.deadlines.connect,
            trust: settings.ca_file.map_or(Trust::Web, Trust::File),
        };
        let pool = self.connections.pool(&key).map_err(|error| complain("ca_file", error.to_string()))?;
        let mut uris = Vec::with_capacity(Operation::ALL.len());
        for operation in Operation::ALL {
            uris.push(provider.uri(operation).map_err(|error| complain("base_url", error.to_string()))?);
        }
        let uris = uris.try_into().map_err(|_| complain("base_url", "it leads nowhere".into()))?;
        let prices = Prices::new(Catalog::embedded(), provider.name.clone(), provider.kind, target.fixed_model());
        Ok(Outlet { pool, uris, metrics: self.metrics.target(&target.label), prices: Arc::new(prices) })
    }
}

/// Everything about a configuration that can be known without starting it.
///
/// # Errors
/// Every complaint of the stage that found one.
pub fn check(loaded: &Loaded) -> Result<(), Complaints> {
    let connections = Connections::new(Clock::Real, Tasks::new());
    let parts = Parts { connections: &connections, metrics: &Metrics::new(), mock: "http://127.0.0.1:9/v1" };
    parts.assemble(loaded, None).map(|_| ())
}

/// The name of this gateway in its rows: that of the machine, or of the container.
fn instance() -> Arc<str> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "switchboard".into(),
        name => name.into(),
    }
}

/// The deadlines of a provider, with those of last resort for what nobody has set.
fn resolve(timeout: Timeout) -> Deadlines {
    let Timeout { connect, first_output, between_chunks, total } = timeout.or(Settings::TIMEOUT);
    let or_never = |period: Option<Period>| period.map_or(Duration::from_secs(86_400), |period| period.0);
    Deadlines {
        connect: or_never(connect),
        first_output: or_never(first_output),
        between_chunks: or_never(between_chunks),
        total: or_never(total),
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

/// What the routes may reach.
fn surface(
    gateway: &Arc<Gateway>,
    keys: &Keys,
    db: &Db,
    settings: &ServerSettings,
    shutdown: &Shutdown,
) -> Arc<Surface> {
    Arc::new(Surface {
        gateway: gateway.clone(),
        keys: keys.clone(),
        db: db.clone(),
        metrics: gateway.metrics.clone(),
        clock: gateway.clock.clone(),
        in_flight: Arc::new(Semaphore::new(settings.max_in_flight.min(Semaphore::MAX_PERMITS))),
        settings: settings.clone(),
        shutdown: shutdown.clone(),
    })
}

/// A socket at `address`, and where it really is. `setting` is named when there can be none.
async fn listen(address: SocketAddr, setting: &'static str) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |cause| StartError::Listen { address, setting, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// The database, and whether it is still awaited: a server that is not there is tried until it answers.
async fn open_store(settings: &Settings, clock: &Clock, tasks: &Tasks) -> Result<(Db, bool), StoreError> {
    let (db, waiting) = Db::open_or_wait(&settings.data_dir, settings.database.as_ref()).await?;
    let Some(waiting) = waiting else { return Ok((db, false)) };
    tracing::error!(
        "{}. Starting without it: keys declared in the configuration work, others are answered 503 until it answers",
        waiting.why
    );
    tasks.spawn(waiting.run(clock.clone(), tasks.stopping()));
    Ok((db, true))
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

/// When the patience of shutdown is over, streams still open end with an error event. A gateway that has nothing in
/// flight stops without ever getting there.
async fn cut_at_the_end(shutdown: Shutdown, cut: CancellationToken, stop: CancellationToken) {
    tokio::select! {
        () = shutdown.reached(Phase::Cut) => cut.cancel(),
        () = stop.cancelled() => {}
    }
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
