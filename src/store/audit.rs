//! The audit log: what administrators did. Rows are only ever added.

use sqlx::FromRow;
use ulid::Ulid;

use super::{Db, StoreError, run::on};
use crate::types::Clock;

/// One thing that somebody did.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    /// A ULID: rows sort by age.
    pub id: String,
    /// Unix milliseconds.
    pub at: i64,
    /// Who did it: `admin`, or the name of a command.
    pub actor: String,
    /// What was done: `key.create`.
    pub action: String,
    /// To what: `key`, and its id.
    pub object_kind: String,
    pub object_id: String,
    /// More of it as JSON, never a secret.
    pub detail: String,
}

impl AuditRow {
    /// A change that was made with a command of this program, or by itself at a start. `action` is the kind of the object
    /// and the verb: `key.create`.
    pub fn of_command(clock: &Clock, action: &str, object_id: &str, detail: &serde_json::Value) -> Self {
        let now = clock.unix_millis();
        Self {
            id: Ulid::from_parts(now, fastrand::u128(..)).to_string(),
            at: i64::try_from(now).unwrap_or(i64::MAX),
            actor: "switchboard".to_owned(),
            action: action.to_owned(),
            object_kind: action.split('.').next().unwrap_or_default().to_owned(),
            object_id: object_id.to_owned(),
            detail: detail.to_string(),
        }
    }
}

/// What to look for; `None` takes all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditFilter {
    pub object_kind: Option<String>,
    pub object_id: Option<String>,
}

/// The longest text in each of the short columns, in bytes; longer ones are cut.
const MAX_TEXT: usize = 200;

/// The longest `detail`, in bytes. A longer one is replaced: half a document is none.
const MAX_DETAIL: usize = 4_096;

/// Adds a row. One with the same id is there already only if this is a repetition, which changes nothing.
///
/// # Errors
/// When the database cannot be written.
pub async fn append(db: &Db, row: &AuditRow) -> Result<(), StoreError> {
    const INSERT: &str = "insert into audit (id, at, actor, action, object_kind, object_id, detail) \
                          values ($1, $2, $3, $4, $5, $6, $7) on conflict (id) do nothing";
    let detail = if row.detail.len() <= MAX_DETAIL { row.detail.as_str() } else { r#"{"too_long":true}"# };
    on!(db, |connection| {
        sqlx::query(INSERT)
            .bind(cut(&row.id))
            .bind(row.at)
            .bind(cut(&row.actor))
            .bind(cut(&row.action))
            .bind(cut(&row.object_kind))
            .bind(cut(&row.object_id))
            .bind(detail)
            .execute(connection)
            .await?;
        Ok(())
    })
}

/// One page, newest first: the rows before the id `before` that `filter` takes.
///
/// # Errors
/// When the database cannot be read.
pub async fn list(
    db: &Db,
    filter: &AuditFilter,
    before: Option<&str>,
    limit: u32,
) -> Result<Vec<AuditRow>, StoreError> {
    // An empty text stands for "all": `$1 is null` would leave the parameter without a type.
    const PAGE: &str = "select id, at, actor, action, object_kind, object_id, detail from audit \
                        where ($1 = '' or id < $1) and ($2 = '' or object_kind = $2) and ($3 = '' or object_id = $3) \
                        order by id desc limit $4";
    on!(db, |connection| {
        let page = sqlx::query_as(PAGE)
            .bind(before.unwrap_or(""))
            .bind(filter.object_kind.as_deref().unwrap_or(""))
            .bind(filter.object_id.as_deref().unwrap_or(""))
            .bind(i64::from(limit));
        Ok(page.fetch_all(connection).await?)
    })
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

impl<'r, R> FromRow<'r, R> for AuditRow
where
    R: sqlx::Row,
    &'static str: sqlx::ColumnIndex<R>,
    String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    i64: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            at: row.try_get("at")?,
            actor: row.try_get("actor")?,
            action: row.try_get("action")?,
            object_kind: row.try_get("object_kind")?,
            object_id: row.try_get("object_id")?,
            detail: row.try_get("detail")?,
        })
    }
}
