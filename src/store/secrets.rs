//! Hashes of secrets that the gateway has made for itself, by what they are for: the admin key. The secrets themselves
//! are never stored.

use serde_json::Map;
use sqlx::Connection;

use super::{Act, Db, KeyHash, StoreError, audit, run::on};

/// The hash of the secret that `name` stands for.
///
/// # Errors
/// When the database cannot be read.
pub async fn get(db: &Db, name: &str) -> Result<Option<KeyHash>, StoreError> {
    const BY_NAME: &str = "select hash from secrets where name = $1";
    on!(db, |connection| {
        let hash: Option<String> = sqlx::query_scalar(BY_NAME).bind(name).fetch_optional(connection).await?;
        Ok(hash.as_deref().and_then(KeyHash::from_hex))
    })
}

/// Stores a hash in place of the one before. The audit log tells that it was done.
///
/// # Errors
/// When the database cannot be written.
pub async fn put(db: &Db, name: &str, hash: &KeyHash, act: &Act) -> Result<(), StoreError> {
    const PUT: &str = "insert into secrets (name, hash, created_at) values ($1, $2, $3) \
                       on conflict (name) do update set hash = excluded.hash, created_at = excluded.created_at";
    on!(db, |connection| {
        let mut transaction = connection.begin().await?;
        sqlx::query(PUT).bind(name).bind(hash.to_string()).bind(act.at).execute(&mut *transaction).await?;
        audit::append!(&mut *transaction, act.row(name, &Map::new(), &Map::new()));
        transaction.commit().await?;
        Ok(())
    })
}

/// Stores a hash unless there is one, and says whether it did: of gateways that start at once, one makes the secret.
///
/// # Errors
/// When the database cannot be written.
pub async fn put_first(db: &Db, name: &str, hash: &KeyHash, at: i64) -> Result<bool, StoreError> {
    const PUT: &str = "insert into secrets (name, hash, created_at) values ($1, $2, $3) on conflict (name) do nothing";
    on!(db, |connection| {
        let put = sqlx::query(PUT).bind(name).bind(hash.to_string()).bind(at).execute(connection).await?;
        Ok(put.rows_affected() == 1)
    })
}
