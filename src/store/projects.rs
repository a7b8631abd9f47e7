//! The table of projects: whom keys belong to, and what all keys of a project together may do. How its changes are
//! numbered, `changes` says.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sqlx::{Connection, FromRow};

use super::{
    Act, Changed, Db, QuotaRow, StoreError, audit,
    keys::set,
    quotas,
    run::on,
    values::{from_json, timestamp, to_json},
};

/// A project as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectRow {
    /// Chosen by people; it never changes.
    pub id: String,
    pub name: String,
    /// For people to sort projects by; calls do not carry them.
    pub tags: Vec<String>,
    /// Names and patterns of the models that its keys may use; empty means none.
    pub models: Vec<String>,
    /// The operations that its keys may use; empty means none.
    pub endpoints: Vec<String>,
    /// Addresses and ranges that its keys may be used from; empty means none.
    pub addresses: Vec<String>,
    /// Whether what calls of its keys say and are answered is logged; `None`: as the setting says. `false` binds its keys.
    pub log_content: Option<bool>,
    pub created: Timestamp,
    /// Since when its keys may do nothing.
    pub archived: Option<Timestamp>,
    /// The number of the last change to this row.
    pub version: i64,
}

/// What to change about a project; `None` leaves a member as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProjectEdit {
    pub name: Option<String>,
    pub tags: Option<Vec<String>>,
    pub models: Option<Vec<String>>,
    pub endpoints: Option<Vec<String>>,
    pub addresses: Option<Vec<String>>,
    /// `Some(None)` leaves it to the setting.
    pub log_content: Option<Option<bool>>,
    /// `Some(None)` takes it out of the archive. One that is archived already keeps its time.
    pub archived: Option<Option<Timestamp>>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select id, name, tags, models, endpoints, addresses, log_content, created_at, archived_at, version \
             from projects ",
            $rest
        )
    };
}

/// Takes the next number of the counter, and with it the lock that makes writers go one after another.
const NEXT_VERSION: &str = "update changes set version = version + 1 where topic = 'projects' returning version";

/// Stores a new project, and quotas of its own with it; its version is given to it. `None` when there is one with its id.
///
/// # Errors
/// When the database cannot be written.
pub async fn create(
    db: &Db,
    project: ProjectRow,
    mut own: Vec<QuotaRow>,
    act: &Act,
) -> Result<Option<ProjectRow>, StoreError> {
    const INSERT: &str = "insert into projects (id, name, tags, created_at, archived_at, models, endpoints, addresses, \
                          version, log_content) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
                          on conflict (id) do nothing";
    on!(db, |connection| {
        let mut transaction = connection.begin().await?;
        let version: i64 = sqlx::query_scalar(NEXT_VERSION).fetch_one(&mut *transaction).await?;
        let row = ProjectRow { version, created: timestamp(project.created.as_millisecond()), ..project };
        let inserted = sqlx::query(INSERT)
            .bind(&row.id)
            .bind(&row.name)
            .bind(to_json(&row.tags))
            .bind(row.created.as_millisecond())
            .bind(row.archived.map(Timestamp::as_millisecond))
            .bind(to_json(&row.models))
            .bind(to_json(&row.endpoints))
            .bind(to_json(&row.addresses))
            .bind(row.version)
            .bind(row.log_content)
            .execute(&mut *transaction)
            .await?;
        if inserted.rows_affected() == 0 {
            return Ok(None);
        }
        audit::append!(&mut *transaction, act.row(&row.id, &Map::new(), &row.told()));
        quotas::insert!(transaction, &mut own, act);
        transaction.commit().await?;
        Ok(Some(row))
    })
}

/// The project with this id.
///
/// # Errors
/// When the database cannot be read.
pub async fn get(db: &Db, id: &str) -> Result<Option<ProjectRow>, StoreError> {
    const BY_ID: &str = select!("where id = $1");
    on!(db, |connection| { Ok(sqlx::query_as(BY_ID).bind(id).fetch_optional(connection).await?) })
}

/// One page of all projects by id: those after the id `after`.
///
/// # Errors
/// When the database cannot be read.
pub async fn list(db: &Db, after: Option<&str>, limit: u32) -> Result<Vec<ProjectRow>, StoreError> {
    const PAGE: &str = select!("where id > $1 order by id limit $2");
    on!(db, |connection| {
        let page = sqlx::query_as(PAGE).bind(after.unwrap_or("")).bind(i64::from(limit));
        Ok(page.fetch_all(connection).await?)
    })
}

/// Changes a project, and adds quotas of its own. `expected` is the version that the change is meant for, if that matters.
///
/// # Errors
/// When the database cannot be written.
pub async fn update(
    db: &Db,
    id: &str,
    edit: ProjectEdit,
    mut own: Vec<QuotaRow>,
    expected: Option<i64>,
    act: &Act,
) -> Result<Changed<ProjectRow>, StoreError> {
    const BY_ID: &str = select!("where id = $1");
    const UPDATE: &str = "update projects set name = $2, tags = $3, models = $4, endpoints = $5, addresses = $6, \
                          archived_at = $7, version = $8, log_content = $9 where id = $1";
    on!(db, |connection| {
        let mut transaction = connection.begin().await?;
        // First, because it takes the write lock: what is read below cannot change before it is written.
        let version: i64 = sqlx::query_scalar(NEXT_VERSION).fetch_one(&mut *transaction).await?;
        let found: Option<ProjectRow> = sqlx::query_as(BY_ID).bind(id).fetch_optional(&mut *transaction).await?;
        let Some(found) = found else { return Ok(Changed::Missing) };
        if expected.is_some_and(|expected| expected != found.version) {
            return Ok(Changed::Stale(found));
        }
        let mut row = edit.apply(found.clone());
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
            .bind(to_json(&row.tags))
            .bind(to_json(&row.models))
            .bind(to_json(&row.endpoints))
            .bind(to_json(&row.addresses))
            .bind(row.archived.map(Timestamp::as_millisecond))
            .bind(row.version)
            .bind(row.log_content)
            .execute(&mut *transaction)
            .await?;
        audit::append!(&mut *transaction, act.row(&row.id, &found.told(), &row.told()));
        quotas::insert!(transaction, &mut own, act);
        transaction.commit().await?;
        Ok(Changed::Done(row))
    })
}

/// The rows changed after the change `seen`, in the order of their changes, at most `limit`.
///
/// # Errors
/// When the database cannot be read.
pub async fn changed_since(db: &Db, seen: i64, limit: u32) -> Result<Vec<ProjectRow>, StoreError> {
    const CHANGED: &str = select!("where version > $1 order by version limit $2");
    on!(db, |connection| { Ok(sqlx::query_as(CHANGED).bind(seen).bind(i64::from(limit)).fetch_all(connection).await?) })
}

impl ProjectEdit {
    fn apply(self, mut row: ProjectRow) -> ProjectRow {
        let Self { name, tags, models, endpoints, addresses, log_content, archived } = self;
        set(&mut row.name, name);
        set(&mut row.tags, tags);
        set(&mut row.models, models);
        set(&mut row.endpoints, endpoints);
        set(&mut row.addresses, addresses);
        set(&mut row.log_content, log_content);
        row.archived = match archived {
            Some(Some(at)) => row.archived.or(Some(timestamp(at.as_millisecond()))),
            Some(None) => None,
            None => row.archived,
        };
        row
    }
}

impl ProjectRow {
    /// What the audit log tells of.
    fn told(&self) -> Map<String, Value> {
        let members = json!({
            "name": self.name,
            "tags": self.tags,
            "models": self.models,
            "endpoints": self.endpoints,
            "addresses": self.addresses,
            "log_content": self.log_content,
            "archived": self.archived,
        });
        match members {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }
}

impl<'r, R> FromRow<'r, R> for ProjectRow
where
    R: sqlx::Row,
    &'static str: sqlx::ColumnIndex<R>,
    String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    i64: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    bool: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let id: String = row.try_get("id")?;
        let list = |name: &'static str| Ok::<_, sqlx::Error>(from_json(&id, &row.try_get::<String, _>(name)?));
        Ok(Self {
            tags: list("tags")?,
            models: list("models")?,
            endpoints: list("endpoints")?,
            addresses: list("addresses")?,
            log_content: row.try_get("log_content")?,
            name: row.try_get("name")?,
            created: timestamp(row.try_get("created_at")?),
            archived: row.try_get::<Option<i64>, _>("archived_at")?.map(timestamp),
            version: row.try_get("version")?,
            id,
        })
    }
}
