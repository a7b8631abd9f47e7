//! The table of quotas. What one says is a text to the store. How changes are numbered, `changes` says; one that is deleted
//! keeps its row, by which other processes learn of that.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sqlx::{Connection, FromRow};

use super::{Act, Changed, Db, StoreError, audit, keys::set, run::on, values::timestamp};

/// A quota as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaRow {
    /// A ULID, so that quotas sort by age. Counters go by it.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it was made for: `key` or `project`, and the id; both empty where it is about more than one.
    pub owner_kind: String,
    pub owner: String,
    /// What it says, as JSON.
    pub spec: String,
    pub enabled: bool,
    pub created: Timestamp,
    /// When it was deleted, for good.
    pub deleted: Option<Timestamp>,
    /// The number of the last change to this row.
    pub version: i64,
}

/// What to change about a quota; `None` leaves a member as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuotaEdit {
    pub name: Option<String>,
    pub owner_kind: Option<String>,
    pub owner: Option<String>,
    pub spec: Option<String>,
    pub enabled: Option<bool>,
    /// Deletes it.
    pub deleted: Option<Timestamp>,
}

/// Which quotas to list; `None` takes all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuotaFilter {
    /// Those made for this: `key` or `project`, and the id.
    pub owner: Option<(&'static str, String)>,
    pub name: Option<String>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select id, name, owner_kind, owner_id, spec, enabled, created_at, deleted_at, version from quotas ",
            $rest
        )
    };
}

/// Takes the next number of the counter, and with it the lock that makes writers go one after another.
pub(super) const NEXT_VERSION: &str =
    "update changes set version = version + 1 where topic = 'quotas' returning version";

pub(super) const INSERT: &str = "insert into quotas (id, name, owner_kind, owner_id, spec, enabled, created_at, version) \
                                 values ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Stores new quotas within the transaction that `$connection` has open, each with its audit row; their versions are given
/// to them. A writer that takes the numbers of several topics takes this one last, so that no two wait for each other.
macro_rules! insert {
    ($connection:expr, $rows:expr, $act:expr) => {{
        let rows: &mut [$crate::store::QuotaRow] = $rows;
        for row in rows {
            row.version = sqlx::query_scalar($crate::store::quotas::NEXT_VERSION).fetch_one(&mut *$connection).await?;
            sqlx::query($crate::store::quotas::INSERT)
                .bind(&row.id)
                .bind(&row.name)
                .bind(&row.owner_kind)
                .bind(&row.owner)
                .bind(&row.spec)
                .bind(row.enabled)
                .bind(row.created.as_millisecond())
                .bind(row.version)
                .execute(&mut *$connection)
                .await?;
            let told = $act.row(&row.id, &serde_json::Map::new(), &row.told());
            $crate::store::audit::append!(&mut *$connection, told);
        }
    }};
}

pub(super) use insert;

/// Stores new quotas, all or none; their versions are given to them.
///
/// # Errors
/// When the database cannot be written.
pub async fn create(db: &Db, mut rows: Vec<QuotaRow>, act: &Act) -> Result<Vec<QuotaRow>, StoreError> {
    on!(db, |connection| {
        let mut transaction = connection.begin().await?;
        insert!(transaction, &mut rows, act);
        transaction.commit().await?;
        Ok(rows)
    })
}

/// The quota with this id, unless it is deleted.
///
/// # Errors
/// When the database cannot be read.
pub async fn get(db: &Db, id: &str) -> Result<Option<QuotaRow>, StoreError> {
    const BY_ID: &str = select!("where id = $1 and deleted_at is null");
    on!(db, |connection| { Ok(sqlx::query_as(BY_ID).bind(id).fetch_optional(connection).await?) })
}

/// One page of the quotas that `filter` takes, oldest first: those after the id `after`. None that is deleted.
///
/// # Errors
/// When the database cannot be read.
pub async fn list(db: &Db, filter: &QuotaFilter, after: Option<&str>, limit: u32) -> Result<Vec<QuotaRow>, StoreError> {
    // An empty text stands for "all": `$1 is null` would leave the parameter without a type.
    const PAGE: &str = select!(
        "where id > $1 and deleted_at is null and ($2 = '' or (owner_kind = $2 and owner_id = $3)) \
         and ($4 = '' or name = $4) order by id limit $5"
    );
    on!(db, |connection| {
        let (kind, owner) = filter.owner.as_ref().map_or(("", ""), |(kind, owner)| (*kind, owner.as_str()));
        let page = sqlx::query_as(PAGE)
            .bind(after.unwrap_or(""))
            .bind(kind)
            .bind(owner)
            .bind(filter.name.as_deref().unwrap_or(""))
            .bind(i64::from(limit));
        Ok(page.fetch_all(connection).await?)
    })
}

/// Changes a quota. `expected` is the version that the change is meant for, if that matters.
///
/// # Errors
/// When the database cannot be written.
pub async fn update(
    db: &Db,
    id: &str,
    edit: QuotaEdit,
    expected: Option<i64>,
    act: &Act,
) -> Result<Changed<QuotaRow>, StoreError> {
    const BY_ID: &str = select!("where id = $1 and deleted_at is null");
    const UPDATE: &str = "update quotas set name = $2, owner_kind = $3, owner_id = $4, spec = $5, enabled = $6, \
                          deleted_at = $7, version = $8 where id = $1";
    on!(db, |connection| {
        let mut transaction = connection.begin().await?;
        // First, because it takes the write lock: what is read below cannot change before it is written.
        let version: i64 = sqlx::query_scalar(NEXT_VERSION).fetch_one(&mut *transaction).await?;
        let found: Option<QuotaRow> = sqlx::query_as(BY_ID).bind(id).fetch_optional(&mut *transaction).await?;
        let Some(found) = found else { return Ok(Changed::Missing) };
        if expected.is_some_and(|expected| expected != found.version) {
            return Ok(Changed::Stale(found));
        }
        let mut row = edit.apply(found.clone());
        if row == found {
            return Ok(Changed::Done(found));
        }
        row.version = version;
        sqlx::query(UPDATE)
            .bind(&row.id)
            .bind(&row.name)
            .bind(&row.owner_kind)
            .bind(&row.owner)
            .bind(&row.spec)
            .bind(row.enabled)
            .bind(row.deleted.map(Timestamp::as_millisecond))
            .bind(row.version)
            .execute(&mut *transaction)
            .await?;
        audit::append!(&mut *transaction, act.row(&row.id, &found.told(), &row.told()));
        transaction.commit().await?;
        Ok(Changed::Done(row))
    })
}

/// The rows changed after the change `seen`, deleted ones included, in the order of their changes, at most `limit`.
///
/// # Errors
/// When the database cannot be read.
pub async fn changed_since(db: &Db, seen: i64, limit: u32) -> Result<Vec<QuotaRow>, StoreError> {
    const CHANGED: &str = select!("where version > $1 order by version limit $2");
    on!(db, |connection| { Ok(sqlx::query_as(CHANGED).bind(seen).bind(i64::from(limit)).fetch_all(connection).await?) })
}

impl QuotaEdit {
    fn apply(self, mut row: QuotaRow) -> QuotaRow {
        let Self { name, owner_kind, owner, spec, enabled, deleted } = self;
        set(&mut row.name, name);
        set(&mut row.owner_kind, owner_kind);
        set(&mut row.owner, owner);
        set(&mut row.spec, spec);
        set(&mut row.enabled, enabled);
        row.deleted = deleted.map(|at| timestamp(at.as_millisecond()));
        row
    }
}

impl QuotaRow {
    /// What the audit log tells of.
    pub(super) fn told(&self) -> Map<String, Value> {
        let spec: Value = serde_json::from_str(&self.spec).unwrap_or_default();
        let members = json!({ "name": self.name, "enabled": self.enabled, "deleted": self.deleted });
        let mut told = match members {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        // Each member by itself, so that a change of the limit is told as that.
        for (member, value) in spec.as_object().into_iter().flatten().filter(|(member, _)| *member != "name") {
            told.insert(member.clone(), value.clone());
        }
        told
    }
}

impl<'r, R> FromRow<'r, R> for QuotaRow
where
    R: sqlx::Row,
    &'static str: sqlx::ColumnIndex<R>,
    String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    i64: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    bool: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            owner_kind: row.try_get("owner_kind")?,
            owner: row.try_get("owner_id")?,
            spec: row.try_get("spec")?,
            enabled: row.try_get("enabled")?,
            created: timestamp(row.try_get("created_at")?),
            deleted: row.try_get::<Option<i64>, _>("deleted_at")?.map(timestamp),
            version: row.try_get("version")?,
        })
    }
}
