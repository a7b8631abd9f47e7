//! Databases for tests: a file in a temporary folder, and a database of one server that all tests of a process share.

use std::sync::{
    LazyLock,
    atomic::{AtomicU32, Ordering},
};

use super::{DatabaseSettings, Db};
use crate::types::Secret;

#[path = "../../tests/it/harness/postgres.rs"]
mod private;

pub(crate) use private::PrivatePostgres;

/// An empty SQLite database. It goes with the folder.
pub(crate) async fn sqlite() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), None).await.unwrap();
    (dir, db)
}

/// An empty PostgreSQL database.
pub(crate) async fn postgres() -> Db {
    Db::open("unused".as_ref(), Some(&postgres_settings())).await.unwrap()
}

/// The settings of a PostgreSQL database in which nothing is yet.
pub(crate) fn postgres_settings() -> DatabaseSettings {
    static SERVER: LazyLock<PrivatePostgres> = LazyLock::new(PrivatePostgres::start);
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    DatabaseSettings::at(Secret::new(SERVER.create_database(&name)))
}
