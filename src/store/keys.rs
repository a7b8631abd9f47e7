//! The table of API keys.
//!
//! Every write takes the next number of the `keys` counter and leaves it on its row, in one transaction. Because the
//! counter's row is locked by that, writers go one after another, and a reader that saw number `n` has seen every
//! change up to `n`. So another process learns of a change by comparing one number, and fetches only the rows that are
//! newer.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use sqlx::{Connection, FromRow};

use super::{Db, StoreError, run::on};

/// The SHA-256 of a key: all that is ever stored of one. Keys made by the gateway hold 256 random bits, so a hash
/// without salt or stretching cannot be turned back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyRow {
    /// A ULID, so that keys sort by age.
    pub id: String,
    /// For people; two keys may share one while a key is being replaced.
    pub name: String,
    pub hash: KeyHash,
    /// The last four characters of the key, by which people tell keys apart.
    pub hint: String,
    /// The id of the project it belongs to.
    pub project: String,
    /// What its calls are sorted by, beside the project.
    pub tags: Vec<String>,
    /// Names and patterns of the models it may use; empty means none.
    pub models: Vec<String>,
    pub enabled: bool,
    /// When it stops working.
    pub expires: Option<Timestamp>,
    pub created: Timestamp,
    /// When it was revoked, for good.
    pub revoked: Option<Timestamp>,
    /// The number of the last change to this row; later changes have higher numbers.
    pub version: i64,
}

/// A key about to be stored.
#[derive(Clone, Debug)]
pub struct NewKey {
    pub id: String,
    pub name: String,
    pub hash: KeyHash,
    pub hint: String,
    pub project: String,
    pub tags: Vec<String>,
    pub models: Vec<String>,
    pub expires: Option<Timestamp>,
    pub created: Timestamp,
}

/// What to change about a key; `None` leaves a member as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyEdit {
    pub name: Option<String>,
    pub project: Option<String>,
    pub tags: Option<Vec<String>>,
    pub models: Option<Vec<String>>,
    pub enabled: Option<bool>,
    /// `Some(None)` removes the expiry.
    pub expires: Option<Option<Timestamp>>,
}

/// A `select` of whole rows, as one literal: sqlx takes no SQL that was put together at run time.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select id, name, hash, hint, project_id, tags, models, enabled, expires_at, created_at, revoked_at, version \
             from keys ",
            $rest
        )
    };
}

/// Takes the next number of the counter, and with it the lock that makes writers go one after another.
const NEXT_VERSION: &str = "update changes set version = version + 1 where topic = 'keys' returning version";

/// Stores a new key.
///
/// # Errors
/// When the database cannot be written.
pub async fn create(db: &Db, key: NewKey) -> Result<KeyRow, StoreError> {
    const INSERT: &str = "insert into keys (id, name, hash, hint, models, enabled, expires_at, created_at, version, \
                          project_id, tags) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let version = on!(db, |connection| {
        let mut transaction = connection.begin().await?;
        let version: i64 = sqlx::query_scalar(NEXT_VERSION).fetch_one(&mut *transaction).await?;
        sqlx::query(INSERT)
            .bind(&key.id)
            .bind(&key.name)
            .bind(key.hash.to_string())
            .bind(&key.hint)
            .bind(to_json(&key.models))
            .bind(true)
            .bind(key.expires.map(Timestamp::as_millisecond))
            .bind(key.created.as_millisecond())
            .bind(version)
            .bind(&key.project)
            .bind(to_json(&key.tags))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(version)
    })?;
    let NewKey { id, name, hash, hint, project, tags, models, expires, created } = key;
    Ok(KeyRow { id, name, hash, hint, project, tags, models, enabled: true, expires, created, revoked: None, version })
}

/// The key with this hash, revoked ones included.
///
/// # Errors
/// When the database cannot be read.
pub async fn find_by_hash(db: &Db, hash: &KeyHash) -> Result<Option<KeyRow>, StoreError> {
    const BY_HASH: &str = select!("where hash = $1");
    on!(db, |connection| { Ok(sqlx::query_as(BY_HASH).bind(hash.to_string()).fetch_optional(connection).await?) })
}

/// The keys that a person may mean by `text`: the one with this id; else the live ones of this name; else the live ones
/// with this hint. At most ten.
///
/// # Errors
/// When the database cannot be read.
pub async fn find(db: &Db, text: &str) -> Result<Vec<KeyRow>, StoreError> {
    const ID: &str = select!("where id = $1");
    const NAME: &str = select!("where name = $1 and revoked_at is null order by id limit 10");
    const HINT: &str = select!("where hint = $1 and revoked_at is null order by id limit 10");
    on!(db, |connection| {
        let wanted = [(ID, text.to_ascii_uppercase()), (NAME, text.to_owned()), (HINT, text.to_owned())];
        for (sql, value) in wanted {
            let rows: Vec<KeyRow> = sqlx::query_as(sql).bind(value).fetch_all(&mut *connection).await?;
            if !rows.is_empty() {
                return Ok(rows);
            }
        }
        Ok(Vec::new())
    })
}

/// One page of all keys, oldest first: those after the id `after`.
///
/// # Errors
/// When the database cannot be read.
pub async fn list(db: &Db, after: Option<&str>, limit: u32) -> Result<Vec<KeyRow>, StoreError> {
    const PAGE: &str = select!("where id > $1 order by id limit $2");
    on!(db, |connection| {
        let page = sqlx::query_as(PAGE).bind(after.unwrap_or("")).bind(i64::from(limit));
        Ok(page.fetch_all(connection).await?)
    })
}

/// How many keys there are, revoked ones included.
///
/// # Errors
/// When the database cannot be read.
pub async fn count(db: &Db) -> Result<u64, StoreError> {
    on!(db, |connection| {
        let count: i64 = sqlx::query_scalar("select count(*) from keys").fetch_one(connection).await?;
        Ok(count.unsigned_abs())
    })
}

/// Changes a key. `None` when there is no key with this id.
///
/// # Errors
/// When the database cannot be written.
pub async fn update(db: &Db, id: &str, edit: KeyEdit) -> Result<Option<KeyRow>, StoreError> {
    change(db, id, |row| {
        row.name = edit.name.unwrap_or_else(|| std::mem::take(&mut row.name));
        row.project = edit.project.unwrap_or_else(|| std::mem::take(&mut row.project));
        row.tags = edit.tags.unwrap_or_else(|| std::mem::take(&mut row.tags));
        row.models = edit.models.unwrap_or_else(|| std::mem::take(&mut row.models));
        row.enabled = edit.enabled.unwrap_or(row.enabled);
        row.expires = edit.expires.unwrap_or(row.expires);
    })
    .await
}

/// Revokes a key for good; the time of a first revocation stays. `None` when there is no key with this id.
///
/// # Errors
/// When the database cannot be written.
pub async fn revoke(db: &Db, id: &str, at: Timestamp) -> Result<Option<KeyRow>, StoreError> {
    change(db, id, |row| row.revoked = row.revoked.or(Some(at))).await
}

/// The number of the last change to any key, by whatever process. Comparing it with the one seen before is the cheap
/// way to learn that nothing changed.
///
/// # Errors
/// When the database cannot be read.
pub async fn change_marker(db: &Db) -> Result<i64, StoreError> {
    const SEEN: &str = "select version from changes where topic = 'keys'";
    on!(db, |connection| { Ok(sqlx::query_scalar(SEEN).fetch_one(connection).await?) })
}

/// The rows changed after the change `seen`, in the order of their changes, at most `limit`.
///
/// # Errors
/// When the database cannot be read.
pub async fn changed_since(db: &Db, seen: i64, limit: u32) -> Result<Vec<KeyRow>, StoreError> {
    const CHANGED: &str = select!("where version > $1 order by version limit $2");
    on!(db, |connection| { Ok(sqlx::query_as(CHANGED).bind(seen).bind(i64::from(limit)).fetch_all(connection).await?) })
}

async fn change(db: &Db, id: &str, edit: impl FnOnce(&mut KeyRow)) -> Result<Option<KeyRow>, StoreError> {
    const BY_ID: &str = select!("where id = $1");
    const UPDATE: &str = "update keys set name = $2, models = $3, enabled = $4, expires_at = $5, revoked_at = $6, \
                          version = $7, project_id = $8, tags = $9 where id = $1";
    on!(db, |connection| {
        let mut transaction = connection.begin().await?;
        // First, because it takes the write lock: what is read below cannot change before it is written.
        let version: i64 = sqlx::query_scalar(NEXT_VERSION).fetch_one(&mut *transaction).await?;
        let row: Option<KeyRow> = sqlx::query_as(BY_ID).bind(id).fetch_optional(&mut *transaction).await?;
        let Some(mut row) = row else { return Ok(None) };
        edit(&mut row);
        row.version = version;
        sqlx::query(UPDATE)
            .bind(&row.id)
            .bind(&row.name)
            .bind(to_json(&row.models))
            .bind(row.enabled)
            .bind(row.expires.map(Timestamp::as_millisecond))
            .bind(row.revoked.map(Timestamp::as_millisecond))
            .bind(row.version)
            .bind(&row.project)
            .bind(to_json(&row.tags))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Some(row))
    })
}

impl KeyHash {
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// One byte that is spread evenly over keys, to divide tables by.
    pub fn first_byte(&self) -> u8 {
        self.0[0]
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        let differing = self.0.iter().zip(other.0).fold(0, |differing, (one, other)| differing | (one ^ other));
        std::hint::black_box(differing) == 0
    }

    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// Eight bytes of a hash tell as much to a table as all of it would.
impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [_, a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// Lower-case hex.
impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Hidden: an operator's own key, declared in the file, may be weak enough to be guessed from its hash.
impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

impl<'r, R> FromRow<'r, R> for KeyRow
where
    R: sqlx::Row,
    &'static str: sqlx::ColumnIndex<R>,
    String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    i64: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    bool: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let hash: String = row.try_get("hash")?;
        let hash = KeyHash::from_hex(&hash)
            .ok_or_else(|| sqlx::Error::ColumnDecode { index: "hash".into(), source: "not 64 hex digits".into() })?;
        let id: String = row.try_get("id")?;
        let (models, tags): (String, String) = (row.try_get("models")?, row.try_get("tags")?);
        Ok(Self {
            project: row.try_get("project_id")?,
            tags: from_json(&id, &tags),
            models: from_json(&id, &models),
            id,
            name: row.try_get("name")?,
            hash,
            hint: row.try_get("hint")?,
            enabled: row.try_get("enabled")?,
            expires: row.try_get::<Option<i64>, _>("expires_at")?.map(timestamp),
            created: timestamp(row.try_get("created_at")?),
            revoked: row.try_get::<Option<i64>, _>("revoked_at")?.map(timestamp),
            version: row.try_get("version")?,
        })
    }
}

pub(super) fn to_json(texts: &[String]) -> String {
    serde_json::Value::from(texts).to_string()
}

/// A list that cannot be read, because somebody edited the table by hand, is empty: it grants nothing.
pub(super) fn from_json(id: &str, text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::warn!(id, %error, "a stored list cannot be read: it counts as empty");
        Vec::new()
    })
}

/// Milliseconds outside of what a date can hold mean the nearest date.
pub(super) fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(if millis < 0 { Timestamp::MIN } else { Timestamp::MAX })
}
