//! Opens the SQLite database: its directory and file for this user alone, write-ahead logging, migrations.

use std::{io, path::Path, time::Duration};

use sqlx::{
    Connection, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::fs::{DirBuilder, OpenOptions};

use super::StoreError;

/// The name of the database file in the data directory.
const FILE: &str = "switchboard.db";

/// Each connection is a thread. Lookups of keys are few (they are cached), and one more waits for changes.
const CONNECTIONS: u32 = 5;

/// How long a writer waits for another process's write, and a query for a free connection.
const PATIENCE: Duration = Duration::from_secs(5);

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

pub(super) async fn open(data_dir: &Path) -> Result<SqlitePool, StoreError> {
    let path = data_dir.join(FILE);
    make_private(data_dir, &path)
        .await
        .map_err(|source| StoreError::Directory { path: data_dir.to_path_buf(), source })?;

    // With a write-ahead log readers never wait for a writer. FULL: a revocation that was reported as done must
    // survive a power cut.
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(PATIENCE);
    let pool = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(PATIENCE)
        // A file does not hang up: asking each time whether it is still there would double the cost of a lookup.
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .map_err(|source| StoreError::Open { path: path.clone(), source })?;

    match migrate(&pool).await {
        Ok(()) => Ok(pool),
        Err(MigrateError::VersionMissing(found)) => Err(StoreError::NewerSchema { path, found }),
        Err(source) => Err(StoreError::Migrate { path, source }),
    }
}

/// Makes the directory (mode 0700) and an empty file (mode 0600) where they are missing. SQLite gives its log files
/// the mode of the database file.
async fn make_private(data_dir: &Path, path: &Path) -> io::Result<()> {
    let mut directory = DirBuilder::new();
    directory.recursive(true);
    let mut file = OpenOptions::new();
    file.create(true).append(true);
    #[cfg(unix)]
    {
        directory.mode(0o700);
        file.mode(0o600);
    }
    directory.create(data_dir).await?;
    file.open(path).await?;
    Ok(())
}

/// Two processes may start at once on a fresh directory. Holding the write lock from the first look at the tables to the
/// commit makes the second one find the work done.
async fn migrate(pool: &SqlitePool) -> Result<(), MigrateError> {
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin_with("begin immediate").await?;
    MIGRATIONS.run(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}
