//! Opens a PostgreSQL database: its URL, a bounded pool, migrations under a lock that all replicas share.

use std::{fmt, io::ErrorKind, time::Duration};

use sqlx::{
    ConnectOptions, Connection, Executor, PgConnection, PgPool,
    migrate::{Migrate, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    StoreError,
    schema::{self, Found, Step},
    settings::{DatabaseSettings, MigrateMode},
};
use crate::types::Clock;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// How long a new connection may take, and a query wait for a free one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take to say that it is still there.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that was used this short a time ago is taken to be there still.
const FRESH: Duration = Duration::from_secs(1);

/// How long migrations may take, the wait for another replica's included.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(600);

/// The advisory lock that a migrating gateway holds: `sb` and a number nobody else would choose.
const MIGRATION_LOCK: i64 = 0x7362_6d69_6772_6174;

/// A server, and how to talk to it.
#[derive(Clone)]
pub(super) struct Server {
    options: PgConnectOptions,
    settings: DatabaseSettings,
    /// Its address without a password, for people.
    pub(super) at: String,
}

impl Server {
    /// # Errors
    /// When the URL is none that can be used. The message does not hold it.
    pub(super) fn new(settings: &DatabaseSettings) -> Result<Self, StoreError> {
        let options = settings.options().map_err(StoreError::Url)?;
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("switchboard"),
        };
        let at = spell(&options);
        Ok(Self { options, settings: settings.clone(), at })
    }

    /// A pool that opens its connections when they are needed.
    pub(super) fn pool(&self) -> PgPool {
        let timeout = self.settings.statement_timeout.0.as_millis().max(1);
        PgPoolOptions::new()
            .max_connections(self.settings.max_connections)
            .acquire_timeout(CONNECT_TIMEOUT)
            .idle_timeout(Duration::from_secs(600))
            .max_lifetime(Duration::from_secs(1_800))
            .test_before_acquire(false)
            .after_connect(move |connection, _| Box::pin(limit(connection, timeout)))
            .before_acquire(|connection, about| {
                Box::pin(async move {
                    if about.idle_for > FRESH {
                        ping(connection).await?;
                    }
                    Ok(true)
                })
            })
            // The pool asks a returned connection whether it is there, and would wait for the answer without end.
            .after_release(|connection, _| Box::pin(async move { ping(connection).await.map(|()| true) }))
            .connect_lazy_with(self.options.clone())
    }

    /// Brings the tables up to date, or checks that they are, as the settings say.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] when the server is not there, which may pass; anything else does not.
    pub(super) async fn prepare(&self) -> Result<Vec<Step>, StoreError> {
        // On the heap: this is done once, and would make every future large that starts a gateway.
        match self.settings.migrate {
            MigrateMode::Auto => Box::pin(self.migrate()).await,
            MigrateMode::Manual => match Box::pin(self.pending()).await? {
                steps if steps.is_empty() => Ok(steps),
                steps => Err(StoreError::Pending { at: self.at.clone(), steps }),
            },
        }
    }

    /// The migrations that are still to be applied.
    ///
    /// # Errors
    /// As [`Server::prepare`].
    pub(super) async fn pending(&self) -> Result<Vec<Step>, StoreError> {
        let mut connection = self.connect().await?;
        let found = self.bounded(CONNECT_TIMEOUT, find(&mut connection)).await?;
        let steps = schema::steps(&schema::pending(&found, &MIGRATIONS, &self.at)?);
        // What was asked has been answered; a connection that does not close in order costs the server a log line.
        let _ = connection.close().await;
        Ok(steps)
    }

    /// Applies the migrations that are missing and says which they were. Of gateways that do so at once, one works
    /// and the others wait and find it done.
    ///
    /// # Errors
    /// As [`Server::prepare`].
    pub(super) async fn migrate(&self) -> Result<Vec<Step>, StoreError> {
        if self.pending().await?.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connect().await?;
        let steps = self.bounded(MIGRATE_TIMEOUT, self.apply_missing(&mut connection)).await?;
        let _ = connection.close().await;
        Ok(steps)
    }

    /// The lock belongs to the transaction: it ends with it, also behind a pooler that shares connections.
    async fn apply_missing(&self, connection: &mut PgConnection) -> Result<Vec<Step>, StoreError> {
        let mut transaction = connection.begin().await?;
        // A change to a large table may take its time.
        transaction.execute("set local statement_timeout = 0").await?;
        sqlx::query("select pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *transaction).await?;
        let found = find(&mut transaction).await?;
        let missing = schema::pending(&found, &MIGRATIONS, &self.at)?;
        let apply = schema::apply(&mut *transaction, &missing).await;
        apply.map_err(|source| StoreError::Migrate { at: self.at.clone(), source })?;
        transaction.commit().await?;
        Ok(schema::steps(&missing))
    }

    async fn connect(&self) -> Result<PgConnection, StoreError> {
        let connecting = async { Ok(self.options.connect().await?) };
        self.bounded(CONNECT_TIMEOUT, connecting).await
    }

    /// Runs `work`, and sorts its failures into those that may pass and those that will not.
    async fn bounded<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let at = || self.at.clone();
        super::run::within(patience, work).await.map_err(|error| match error {
            StoreError::NoAnswer => StoreError::Unreachable { at: at(), why: "it does not answer".to_owned() },
            StoreError::Query(error) if self.is_absent(&error) => {
                StoreError::Unreachable { at: at(), why: error.to_string() }
            }
            StoreError::Query(source) => StoreError::Refused { at: at(), source },
            error => error,
        })
    }

    /// Whether the server was not there, was starting or was full, so that it may be there in a moment.
    fn is_absent(&self, error: &sqlx::Error) -> bool {
        /// `too_many_connections`, and the three ways in which a server says that it is starting or stopping.
        const PASSING: [&str; 4] = ["53300", "57P01", "57P02", "57P03"];
        match error {
            sqlx::Error::Io(error) => match error.kind() {
                // A certificate that is not trusted.
                ErrorKind::InvalidData => false,
                // Of a socket, the server is not there; of a certificate, the file is not.
                ErrorKind::NotFound | ErrorKind::PermissionDenied => self.options.get_socket().is_some(),
                _ => true,
            },
            sqlx::Error::Database(error) => error.code().is_some_and(|code| PASSING.contains(&&*code)),
            _ => false,
        }
    }
}

/// The options hold the password, and would print it.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("at", &self.at).finish_non_exhaustive()
    }
}

/// What the database says of its tables. Changes nothing.
async fn find(connection: &mut PgConnection) -> Result<Found, StoreError> {
    let exists: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(schema::TABLE)
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(Found::default());
    }
    let applied = connection.list_applied_migrations(schema::TABLE).await.map_err(plain)?;
    let has_floor = applied.iter().any(|one| one.version == schema::FLOOR_SINCE);
    let floor = match has_floor {
        true => sqlx::query_scalar("select version from schema_floor").fetch_one(&mut *connection).await?,
        false => 0,
    };
    Ok(Found { applied, floor })
}

fn plain(error: sqlx::migrate::MigrateError) -> sqlx::Error {
    match error {
        sqlx::migrate::MigrateError::Execute(error) => error,
        error => sqlx::Error::Migrate(Box::new(error)),
    }
}

/// Bounds what the server does for a connection whose client is gone or waits no more. Statements are not compiled to
/// machine code: for usage over many parts that takes seconds, and saves milliseconds.
async fn limit(connection: &mut PgConnection, statement_millis: u128) -> Result<(), sqlx::Error> {
    // The value is a number of ours; `set` takes no bound parameters, `set_config` does.
    const LIMIT: &str = "select set_config('statement_timeout', $1, false), \
                         set_config('idle_in_transaction_session_timeout', '60s', false), \
                         set_config('jit', 'off', false)";
    connection.execute(sqlx::query(LIMIT).bind(format!("{statement_millis}ms"))).await?;
    Ok(())
}

async fn ping(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let clock = Clock::Real;
    let deadline = clock.now() + PING_TIMEOUT;
    let silence = || std::io::Error::new(ErrorKind::TimedOut, "the server does not answer");
    clock.timeout_at(deadline, connection.ping()).await.unwrap_or_else(|_| Err(sqlx::Error::Io(silence())))
}

/// `postgres://switchboard@db:5432/switchboard`.
fn spell(options: &PgConnectOptions) -> String {
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    match options.get_socket() {
        Some(socket) => format!("postgres:///{database}?host={}&user={user}", socket.display()),
        None => format!("postgres://{user}@{}:{}/{database}", options.get_host(), options.get_port()),
    }
}
