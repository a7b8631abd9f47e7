//! What must survive a restart. One enum over the databases and plain functions, a file for each table. The SQL is one
//! text for all databases: ids are text, times are Unix milliseconds, lists are JSON text that no query looks into, and
//! every value is bound, never spliced in.

pub mod keys;
pub mod ledger;
pub mod secrets;
mod sqlite;

use std::path::{Path, PathBuf};

use sqlx::{SqlitePool, migrate::MigrateError};

pub use keys::{KeyEdit, KeyHash, KeyRow, NewKey};

/// An open database. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Db {
    Sqlite(SqlitePool),
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

    #[error(
        "the database {} was written by a newer version (its migration {found} is not known here). Run that version or \
         a later one, or restore a backup from before the upgrade",
        path.display()
    )]
    NewerSchema { path: PathBuf, found: i64 },

    #[error("cannot bring the database {} up to date: {source}", path.display())]
    Migrate { path: PathBuf, source: MigrateError },

    #[error("the database did not answer in time")]
    NoAnswer,

    #[error("the database did not answer as it should: {0}")]
    Query(#[from] sqlx::Error),
}

impl Db {
    /// Opens the SQLite database in `data_dir`, making both when missing, and brings its tables up to date.
    ///
    /// # Errors
    /// When the directory or the file cannot be written, or the database was written by a newer version.
    pub async fn open(data_dir: &Path) -> Result<Self, StoreError> {
        sqlite::open(data_dir).await.map(Self::Sqlite)
    }

    /// Whether there is a database in `data_dir`.
    pub fn exists(data_dir: &Path) -> bool {
        data_dir.join(sqlite::FILE).exists()
    }

    /// Closes every connection, after the queries that are under way. Later queries fail.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
        }
    }
}

#[cfg(test)]
mod conformance;
