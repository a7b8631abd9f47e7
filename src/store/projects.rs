//! The table of projects: whom keys belong to. Calls are booked on a project by its id, whether the table knows it or
//! not: keys declared in a file name projects, too.

use jiff::Timestamp;
use sqlx::FromRow;

use super::{
    Db, StoreError,
    keys::{from_json, timestamp, to_json},
    run::on,
};

/// A project as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectRow {
    /// Chosen by people; it never changes.
    pub id: String,
    pub name: String,
    /// For people to sort projects by; calls do not carry them.
    pub tags: Vec<String>,
    pub created: Timestamp,
    /// Since when no new key may belong to it.
    pub archived: Option<Timestamp>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!("select id, name, tags, created_at, archived_at from projects ", $rest)
    };
}

/// Stores a new project. `false` when there is one with its id.
///
/// # Errors
/// When the database cannot be written.
pub async fn create(db: &Db, project: &ProjectRow) -> Result<bool, StoreError> {
    const INSERT: &str = "insert into projects (id, name, tags, created_at, archived_at) values ($1, $2, $3, $4, $5) \
                          on conflict (id) do nothing";
    on!(db, |connection| {
        let inserted = sqlx::query(INSERT)
            .bind(&project.id)
            .bind(&project.name)
            .bind(to_json(&project.tags))
            .bind(project.created.as_millisecond())
            .bind(project.archived.map(Timestamp::as_millisecond))
            .execute(connection)
            .await?;
        Ok(inserted.rows_affected() == 1)
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

/// Archives a project, or takes it out of the archive. `None` when there is none with this id.
///
/// # Errors
/// When the database cannot be written.
pub async fn archive(db: &Db, id: &str, at: Option<Timestamp>) -> Result<Option<ProjectRow>, StoreError> {
    const UPDATE: &str = "update projects set archived_at = $2 where id = $1 \
                          returning id, name, tags, created_at, archived_at";
    on!(db, |connection| {
        let at = at.map(Timestamp::as_millisecond);
        Ok(sqlx::query_as(UPDATE).bind(id).bind(at).fetch_optional(connection).await?)
    })
}

impl<'r, R> FromRow<'r, R> for ProjectRow
where
    R: sqlx::Row,
    &'static str: sqlx::ColumnIndex<R>,
    String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    i64: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let (id, tags): (String, String) = (row.try_get("id")?, row.try_get("tags")?);
        Ok(Self {
            tags: from_json(&id, &tags),
            id,
            name: row.try_get("name")?,
            created: timestamp(row.try_get("created_at")?),
            archived: row.try_get::<Option<i64>, _>("archived_at")?.map(timestamp),
        })
    }
}
