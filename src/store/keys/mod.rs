//! The table of API keys. How its changes are numbered, `changes` says.

mod hash;
mod row;

use jiff::Timestamp;
use sqlx::Connection;

use super::{
    Act, Changed, Db, QuotaRow, StoreError, audit, quotas,
    run::on,
    values::{timestamp, to_json},
};

pub use hash::KeyHash;
pub use row::{KeyRow, KeyState, OldSecret};

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
    pub endpoints: Vec<String>,
    pub addresses: Vec<String>,
    pub max_tokens: Option<u32>,
    pub log_content: Option<bool>,
    pub expires: Option<Timestamp>,
    pub enabled: bool,
    pub created: Timestamp,
}

/// What to change about a key; `None` leaves a member as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyEdit {
    pub name: Option<String>,
    pub project: Option<String>,
    pub tags: Option<Vec<String>>,
    pub models: Option<Vec<String>>,
    pub endpoints: Option<Vec<String>>,
    pub addresses: Option<Vec<String>>,
    /// `Some(None)` removes the ceiling.
    pub max_tokens: Option<Option<u32>>,
    /// `Some(None)` leaves it to the project.
    pub log_content: Option<Option<bool>>,
    pub enabled: Option<bool>,
    /// `Some(None)` removes the expiry.
    pub expires: Option<Option<Timestamp>>,
}

/// A secret that takes the place of a key's present one, which goes on working until `until`. One before that ends now.
#[derive(Clone, Debug)]
pub struct Rotation {
    pub hash: KeyHash,
    pub hint: String,
    pub until: Timestamp,
}

/// Which keys to list; `None` takes all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyFilter {
    pub project: Option<String>,
    pub name: Option<String>,
    /// What the key is at that time.
    pub state: Option<(KeyState, Timestamp)>,
}

/// A `select` of whole rows, as one literal: sqlx takes no SQL that was put together at run time.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select id, name, hash, hint, old_hash, old_hint, old_until, project_id, tags, models, endpoints, addresses, \
             max_tokens, log_content, enabled, expires_at, created_at, revoked_at, version from keys ",
            $rest
        )
    };
}

/// Takes the next number of the counter, and with it the lock that makes writers go one after another.
const NEXT_VERSION: &str = "update changes set version = version + 1 where topic = 'keys' returning version";

/// Stores a new key, and quotas of its own with it.
///
/// # Errors
/// When the database cannot be written.
pub async fn create(db: &Db, key: NewKey, mut own: Vec<QuotaRow>, act: &Act) -> Result<KeyRow, StoreError> {
    const INSERT: &str = "insert into keys (id, name, hash, hint, models, enabled, expires_at, created_at, version, \
                          project_id, tags, endpoints, addresses, max_tokens, log_content) \
                          values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
    let NewKey { id, name, hash, hint, project, tags, models, endpoints, addresses, max_tokens, .. } = key;
    let NewKey { log_content, expires, enabled, created, .. } = key;
    let (old, revoked) = (None, None);
    // To the millisecond, as it will be read.
    let (expires, created) = (expires.map(whole), whole(created));
    let row = KeyRow {
        id,
        name,
        hash,
        hint,
        old,
        project,
        tags,
        models,
        endpoints,
        addresses,
        max_tokens,
        log_content,
        enabled,
        expires,
        created,
        revoked,
        version: 0,
    };
    on!(db, |connection| {
        let mut transaction = connection.begin().await?;
        let version: i64 = sqlx::query_scalar(NEXT_VERSION).fetch_one(&mut *transaction).await?;
        sqlx::query(INSERT)
            .bind(&row.id)
            .bind(&row.name)
            .bind(row.hash.to_string())
            .bind(&row.hint)
            .bind(to_json(&row.models))
            .bind(row.enabled)
            .bind(row.expires.map(Timestamp::as_millisecond))
            .bind(row.created.as_millisecond())
            .bind(version)
            .bind(&row.project)
            .bind(to_json(&row.tags))
            .bind(to_json(&row.endpoints))
            .bind(to_json(&row.addresses))
            .bind(row.max_tokens.map(i64::from))
            .bind(row.log_content)
            .execute(&mut *transaction)
            .await?;
        audit::append!(&mut *transaction, act.row(&row.id, &serde_json::Map::new(), &row.told()));
        quotas::insert!(transaction, &mut own, act);
        transaction.commit().await?;
        Ok(KeyRow { version, ..row })
    })
}

/// The key with this secret, the present or the old one; revoked keys included.
///
/// # Errors
/// When the database cannot be read.
pub async fn find_by_hash(db: &Db, hash: &KeyHash) -> Result<Option<KeyRow>, StoreError> {
    const BY_HASH: &str = select!("where hash = $1 or old_hash = $1");
    on!(db, |connection| { Ok(sqlx::query_as(BY_HASH).bind(hash.to_string()).fetch_optional(connection).await?) })
}

/// The key with this id.
///
/// # Errors
/// When the database cannot be read.
pub async fn get(db: &Db, id: &str) -> Result<Option<KeyRow>, StoreError> {
    const BY_ID: &str = select!("where id = $1");
    on!(db, |connection| { Ok(sqlx::query_as(BY_ID).bind(id).fetch_optional(connection).await?) })
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

/// One page of the keys that `filter` takes, oldest first: those after the id `after`.
///
/// # Errors
/// When the database cannot be read.
pub async fn list(db: &Db, filter: &KeyFilter, after: Option<&str>, limit: u32) -> Result<Vec<KeyRow>, StoreError> {
    // An empty text stands for "all": `$1 is null` would leave the parameter without a type.
    const PAGE: &str = select!(
        "where id > $1 and ($2 = '' or project_id = $2) and ($3 = '' or name = $3) and ($4 = '' or $4 = case \
         when revoked_at is not null then 'revoked' when not enabled then 'disabled' \
         when expires_at is not null and expires_at <= $5 then 'expired' else 'active' end) order by id limit $6"
    );
    on!(db, |connection| {
        let (state, now) = filter.state.map_or(("", 0), |(state, now)| (state.as_str(), now.as_millisecond()));
        let page = sqlx::query_as(PAGE)
            .bind(after.unwrap_or(""))
            .bind(filter.project.as_deref().unwrap_or(""))
            .bind(filter.name.as_deref().unwrap_or(""))
            .bind(state)
            .bind(now)
            .bind(i64::from(limit));
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

/// Changes a key, and adds quotas of its own. `expected` is the version that the change is meant for, if that matters. A
/// revoked key is closed.
///
/// # Errors
/// When the database cannot be written.
pub async fn update(
    db: &Db,
    id: &str,
    edit: KeyEdit,
    own: Vec<QuotaRow>,
    expected: Option<i64>,
    act: &Act,
) -> Result<Changed<KeyRow>, StoreError> {
    change(db, id, own, expected, act, |row| {
        let KeyEdit { name, project, tags, models, endpoints, addresses, max_tokens, log_content, enabled, expires } =
            edit;
        set(&mut row.name, name);
        set(&mut row.project, project);
        set(&mut row.tags, tags);
        set(&mut row.models, models);
        set(&mut row.endpoints, endpoints);
        set(&mut row.addresses, addresses);
        set(&mut row.max_tokens, max_tokens);
        set(&mut row.log_content, log_content);
        set(&mut row.enabled, enabled);
        set(&mut row.expires, expires.map(|at| at.map(whole)));
        row.revoked.is_none()
    })
    .await
}

/// Gives a key a new secret. A revoked key is closed.
///
/// # Errors
/// When the database cannot be written.
pub async fn rotate(
    db: &Db,
    id: &str,
    rotation: Rotation,
    expected: Option<i64>,
    act: &Act,
) -> Result<Changed<KeyRow>, StoreError> {
    change(db, id, Vec::new(), expected, act, |row| {
        let Rotation { hash, hint, until } = rotation;
        let (hash, hint) = (std::mem::replace(&mut row.hash, hash), std::mem::replace(&mut row.hint, hint));
        row.old = Some(OldSecret { hash, hint, until: whole(until) });
        row.revoked.is_none()
    })
    .await
}

/// Revokes a key for good; the time of a first revocation stays.
///
/// # Errors
/// When the database cannot be written.
pub async fn revoke(
    db: &Db,
    id: &str,
    at: Timestamp,
    expected: Option<i64>,
    act: &Act,
) -> Result<Changed<KeyRow>, StoreError> {
    change(db, id, Vec::new(), expected, act, |row| {
        row.revoked = row.revoked.or(Some(whole(at)));
        true
    })
    .await
}

/// The number of the last change to any key: a question to ask when all that matters is whether there is an answer.
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

/// `edit` says whether the row takes the change.
async fn change(
    db: &Db,
    id: &str,
    mut own: Vec<QuotaRow>,
    expected: Option<i64>,
    act: &Act,
    edit: impl FnOnce(&mut KeyRow) -> bool,
) -> Result<Changed<KeyRow>, StoreError> {
    const BY_ID: &str = select!("where id = $1");
    const UPDATE: &str = "update keys set name = $2, models = $3, enabled = $4, expires_at = $5, revoked_at = $6, \
                          version = $7, project_id = $8, tags = $9, endpoints = $10, addresses = $11, max_tokens = $12, \
                          hash = $13, hint = $14, old_hash = $15, old_hint = $16, old_until = $17, log_content = $18 where id = $1";
    on!(db, |connection| {
        let mut transaction = connection.begin().await?;
        // First, because it takes the write lock: what is read below cannot change before it is written.
        let version: i64 = sqlx::query_scalar(NEXT_VERSION).fetch_one(&mut *transaction).await?;
        let found: Option<KeyRow> = sqlx::query_as(BY_ID).bind(id).fetch_optional(&mut *transaction).await?;
        let Some(found) = found else { return Ok(Changed::Missing) };
        if expected.is_some_and(|expected| expected != found.version) {
            return Ok(Changed::Stale(found));
        }
        let mut row = found.clone();
        if !edit(&mut row) {
            return Ok(Changed::Closed(found));
        }
        if row == found {
            if !own.is_empty() {
                quotas::insert!(transaction, &mut own, act);
                transaction.commit().await?;
            }
            return Ok(Changed::Done(found));
        }
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
            .bind(to_json(&row.endpoints))
            .bind(to_json(&row.addresses))
            .bind(row.max_tokens.map(i64::from))
            .bind(row.hash.to_string())
            .bind(&row.hint)
            .bind(row.old.as_ref().map(|old| old.hash.to_string()))
            .bind(row.old.as_ref().map(|old| old.hint.clone()))
            .bind(row.old.as_ref().map(|old| old.until.as_millisecond()))
            .bind(row.log_content)
            .execute(&mut *transaction)
            .await?;
        audit::append!(&mut *transaction, act.row(&row.id, &found.told(), &row.told()));
        quotas::insert!(transaction, &mut own, act);
        transaction.commit().await?;
        Ok(Changed::Done(row))
    })
}

pub(super) fn set<T>(member: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *member = value;
    }
}

/// To the millisecond, as times are stored: an answer tells what a later look finds.
fn whole(at: Timestamp) -> Timestamp {
    timestamp(at.as_millisecond())
}
