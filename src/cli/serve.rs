//! `switchboard serve`: start, say what is bound, run until told to stop.

use std::{net::SocketAddr, time::Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

use super::{ConfigFile, Failed, screen, store::PlaceArgs};
use crate::{
    app::{App, StartError},
    auth::ManageError,
    config::{self, Environment, Flags},
    http::Phase,
    types::{Clock, Secret},
};

/// Run the gateway.
///
/// SIGTERM and Ctrl-C drain it: readiness goes first, calls in flight finish within `server.drain.grace`. A second
/// signal ends it at once. SIGHUP, and any change of the file, reload the configuration; a wrong file changes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// The address to listen on, in place of the configuration's `listen`.
    #[arg(long, value_name = "ADDRESS:PORT", env = "SWITCHBOARD_LISTEN")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    place: PlaceArgs,
    /// The URL of a Redis that gateways share counters in, in place of the configuration's `redis`. It holds a password:
    /// better in the environment than here, where other users of the machine see it.
    #[arg(long, value_name = "URL", env = "SWITCHBOARD_REDIS", hide_env_values = true)]
    #[arg(value_parser = |url: &str| Ok::<_, std::convert::Infallible>(Secret::new(url)))]
    redis: Option<Secret>,
}

pub(super) fn run(args: Args) -> Result<(), Failed> {
    let clock = Clock::Real;
    let started = clock.now();
    let env = Environment::process();
    let mut loaded = config::load(args.config.config.as_deref(), &env).map_err(Failed::misconfigured)?;
    // An empty variable is how compose files say "unset".
    let redis = args.redis.filter(|url| !url.expose().is_empty());
    loaded.flags = Flags { listen: args.listen, redis, ..args.place.flags() };
    raise_open_files();
    runtime()?.block_on(async move {
        // Before anything can be asked of the gateway: without a handler a signal would end the process on the spot.
        let signals = Signals::listen().map_err(Failed::wrong)?;
        let screen = screen::Screen::of(&loaded);
        let screen = screen.with_redis(loaded.redis().as_ref());
        let app = App::start(loaded, env, clock.clone()).await.map_err(failed)?;
        announce(&app, screen, &clock, started).await;
        run_until_stopped(app, signals).await
    })
}

/// Many systems let a process open 1,024 files unless it asks, and far more if it does.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it cannot be raised, the start says whether it is enough.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// With one core to itself, a single-threaded runtime spares the wake-ups between threads.
pub(super) fn runtime() -> Result<Runtime, Failed> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = if cores == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.enable_all().build().map_err(Failed::wrong)
}

/// What the store knows of keys, and those made for a gateway that had none.
async fn ask_store(app: &App, made: &mut screen::Made) -> Result<(), ManageError> {
    made.first_key = app.first_key().await?;
    made.admin_key = app.keys.first_admin_key().await?;
    made.stored_keys = Some(app.stored_keys().await?);
    Ok(())
}

async fn announce(app: &App, screen: screen::Screen, clock: &Clock, started: Instant) {
    let mut made = screen::Made::new(app.address, app.admin_address);
    // Calls are served by now, so a database that goes away in this moment ends nothing.
    if !app.without_store
        && let Err(error) = ask_store(app, &mut made).await
    {
        tracing::error!("the database is asked for keys, and a first one is made, at the next start only: {error}");
    }
    made.redis_is_up = app.shared.is_up();
    made.redis_why = app.shared.why_away();
    made.ready_in = clock.now() - started;
    let screen = screen.with_unpriced(&app.gateway.snapshot.load().unpriced());
    screen.show(&made);
}

/// What the process listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

async fn run_until_stopped(app: App, signals: Signals) -> Result<(), Failed> {
    let Signals { mut terminate, mut interrupt, mut hang_up } = signals;
    loop {
        tokio::select! {
            _ = hang_up.recv() => { app.reload().await; }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!("draining: calls in flight may finish, a second signal ends them");
    let shutdown = app.shutdown.clone();
    let hurried = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.advance(Phase::Closed);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = app.stop() => Ok(()),
        () = hurried => Ok(()),
    }
}

fn failed(error: StartError) -> Failed {
    match error {
        StartError::Config(_) | StartError::Tls(_) | StartError::Log(_) | StartError::Shared(_) => {
            Failed::misconfigured(error)
        }
        StartError::Listen { .. } | StartError::Content { .. } | StartError::Store(_) | StartError::Ledger(_) => {
            Failed::wrong(error)
        }
    }
}
