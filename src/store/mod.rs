//! What must survive a restart. One enum over the databases and plain functions, a file for each table. The SQL is one
//! text for all databases: ids are text, times are Unix milliseconds, lists are JSON text that no query looks into, and
//! every value is bound, never spliced in.

pub mod audit;
pub mod changes;
pub mod keys;
pub mod ledger;
mod postgres;
pub mod projects;
pub mod quotas;
mod run;
mod schema;
pub mod secrets;
pub mod settings;
mod sqlite;
mod values;
mod waiting;

use std::path::{Path, PathBuf};

use sqlx::{PgPool, SqlitePool, migrate::MigrateError};

pub use audit::{Act, Actor, AuditFilter, AuditRow};
pub use changes::{Changed, Markers};
pub use keys::{KeyEdit, KeyFilter, KeyHash, KeyRow, KeyState, NewKey, OldSecret, Rotation};
pub use projects::{ProjectEdit, ProjectRow};
pub use quotas::{QuotaEdit, QuotaFilter, QuotaRow};
pub use schema::Step;
pub use settings::DatabaseSettings;
pub use waiting::Waiting;

/// An open database. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Db {
    /// A file in the data directory, for one gateway; and a connection of its own for the ledger.
    Sqlite(SqlitePool, sqlite::Writer),
    /// A server, which any number of gateways may share.
    Postgres(PgPool),
}

/// Why the database could not be opened or asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "cannot write to the data directory {}: {source}. Give it to the user this runs as, or name another one \
         (data_dir)",
        path.display()
    )]
    Directory { path: PathBuf, source: std::io::Error },

    #[error(
        "cannot open the database {}: {source}. Check the file, and that this user may write to its directory",
        path.display()
    )]
    Open { path: PathBuf, source: sqlx::Error },

    #[error("the URL of the database cannot be used: {0}. Write postgres://user:password@host:5432/database")]
    Url(String),

    #[error("the database {at} cannot be reached: {why}. Check that it runs, and its host and port")]
    Unreachable { at: String, why: String },

    #[error("the database {at} refuses: {source}. Check the user, the password, the database's name and sslmode")]
    Refused { at: String, source: sqlx::Error },

    #[error(
        "the database {at} was changed by a newer version: it needs one that knows migration {needed}, and this one \
         knows those up to {known}. Run the newer version, or restore a backup from before the upgrade"
    )]
    NewerSchema { at: String, needed: i64, known: i64 },

    #[error(
        "the database {at} lacks {}: {}. Run `switchboard migrate`, or set `database.migrate: auto`",
        if steps.len() == 1 { "a migration" } else { "migrations" },
        steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Pending { at: String, steps: Vec<Step> },

    #[error("cannot bring the database {at} up to date: {source}")]
    Migrate { at: String, source: MigrateError },

    /// A question that has no answer: what is wrong with it, and what to ask instead.
    #[error("{0}")]
    BadQuery(String),

    #[error("the database did not answer in time")]
    NoAnswer,

    #[error("the database did not answer as it should: {0}")]
    Query(sqlx::Error),

    /// As [`StoreError::Query`], of the connection that writes the ledger to SQLite.
    #[error("the database did not answer as it should: {0}")]
    Write(rusqlite::Error),
}

impl Db {
    /// Opens the database of these settings and brings its tables up to date: the PostgreSQL server that is named,
    /// else the SQLite file in `data_dir`, which is made when missing.
    ///
    /// # Errors
    /// When the database cannot be reached or written, or was changed by a newer version; when migrations are missing
    /// that the operator wants to apply by hand.
    pub async fn open(data_dir: &Path, database: Option<&DatabaseSettings>) -> Result<Self, StoreError> {
        match database {
            None => {
                let (pool, writer) = sqlite::open(data_dir).await?;
                Ok(Self::Sqlite(pool, writer))
            }
            Some(settings) => {
                let server = postgres::Server::new(settings)?;
                server.prepare().await?;
                Ok(Self::Postgres(server.pool()))
            }
        }
    }

    /// As [`Db::open`], but a server that is not there is no error: its functions fail until it is, and [`Waiting`]
    /// must be run to bring its tables up to date then.
    ///
    /// # Errors
    /// As [`Db::open`], but for an absent server.
    pub async fn open_or_wait(
        data_dir: &Path,
        database: Option<&DatabaseSettings>,
    ) -> Result<(Self, Option<Waiting>), StoreError> {
        let Some(settings) = database else { return Ok((Self::open(data_dir, None).await?, None)) };
        let server = postgres::Server::new(settings)?;
        let pool = server.pool();
        match server.prepare().await {
            Ok(_) => Ok((Self::Postgres(pool), None)),
            Err(why @ StoreError::Unreachable { .. }) => {
                Ok((Self::Postgres(pool.clone()), Some(Waiting { server, pool, why })))
            }
            Err(error) => Err(error),
        }
    }

    /// The migrations that are still to be applied. Nothing is changed, and no file is made.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub async fn pending(data_dir: &Path, database: Option<&DatabaseSettings>) -> Result<Vec<Step>, StoreError> {
        match database {
            None => sqlite::pending(data_dir).await,
            Some(settings) => Box::pin(postgres::Server::new(settings)?.pending()).await,
        }
    }

    /// Applies the migrations that are missing, and says which they were.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub async fn migrate(data_dir: &Path, database: Option<&DatabaseSettings>) -> Result<Vec<Step>, StoreError> {
        match database {
            None => sqlite::migrate(data_dir).await,
            Some(settings) => Box::pin(postgres::Server::new(settings)?.migrate()).await,
        }
    }

    /// Whether there is a database in `data_dir`.
    pub fn exists(data_dir: &Path) -> bool {
        data_dir.join(sqlite::FILE).exists()
    }

    /// Closes every connection, after the queries that are under way. Later queries fail.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(pool, writer) => {
                pool.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut => Self::NoAnswer,
            error => Self::Query(error),
        }
    }
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod outages;
#[cfg(test)]
pub(crate) mod testing;
