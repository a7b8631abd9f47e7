//! The audit log: what administrators did. Rows are only ever added, each in the transaction of the change that it is
//! about: neither is there without the other.

use std::{borrow::Cow, collections::BTreeSet, net::IpAddr};

use serde_json::{Map, Value, json};
use sqlx::FromRow;
use ulid::Ulid;

use super::{Db, StoreError, run::on};

/// One thing that somebody did.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    /// A ULID: rows sort by age.
    pub id: String,
    /// Unix milliseconds.
    pub at: i64,
    /// Who did it: see [`Actor`].
    pub actor: String,
    /// The address of whoever did it, if it came over the network.
    pub address: Option<String>,
    /// What was done: `key.create`.
    pub action: String,
    /// To what: `key`, and its id.
    pub object_kind: String,
    pub object_id: String,
    /// More of it as JSON, never a secret: for each member that changed what it was `before` and is `after`.
    pub detail: String,
}

/// Who changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// `admin_key`: whoever holds the admin key; `command`: whoever may run commands on the database; `gateway`: the
    /// gateway by itself, at its first start.
    pub name: Cow<'static, str>,
    pub address: Option<IpAddr>,
}

/// Somebody does something, now. The object follows, once it is known what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Act {
    pub actor: Actor,
    /// The kind of the object and the verb: `key.create`.
    pub action: &'static str,
    /// Unix milliseconds.
    pub at: i64,
}

/// What to look for; `None` takes all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditFilter {
    pub object_kind: Option<String>,
    pub object_id: Option<String>,
    pub actor: Option<String>,
    pub action: Option<String>,
    /// Unix milliseconds: what was done then or later.
    pub since: Option<i64>,
    /// Unix milliseconds: what was done before this.
    pub until: Option<i64>,
}

/// The longest text in each of the short columns, in bytes; longer ones are cut.
const MAX_TEXT: usize = 200;

/// The longest `detail`, in bytes: room for two of the largest objects. A longer one is replaced: half a document is none.
const MAX_DETAIL: usize = 256 * 1_024;

pub(super) const INSERT: &str = "insert into audit (id, at, actor, action, object_kind, object_id, detail, address) \
                                 values ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Adds a row within the transaction that `connection` has open.
macro_rules! append {
    ($connection:expr, $row:expr) => {{
        let row: $crate::store::AuditRow = $row;
        sqlx::query($crate::store::audit::INSERT)
            .bind(row.id)
            .bind(row.at)
            .bind(row.actor)
            .bind(row.action)
            .bind(row.object_kind)
            .bind(row.object_id)
            .bind(row.detail)
            .bind(row.address)
            .execute($connection)
            .await?;
    }};
}

pub(super) use append;

impl Actor {
    /// Whoever may run commands on the database.
    pub const COMMAND: Self = Self { name: Cow::Borrowed("command"), address: None };

    /// The gateway by itself.
    pub const GATEWAY: Self = Self { name: Cow::Borrowed("gateway"), address: None };

    /// Whoever holds the admin key, from this address.
    pub fn admin_key(address: IpAddr) -> Self {
        Self { name: Cow::Borrowed("admin_key"), address: Some(address) }
    }

    pub fn does(self, action: &'static str, at: i64) -> Act {
        Act { actor: self, action, at }
    }
}

impl Act {
    /// The row that tells of it, with members of the object `before` and `after`; of an object that is made, `before` is
    /// empty.
    pub(super) fn row(&self, object_id: &str, before: &Map<String, Value>, after: &Map<String, Value>) -> AuditRow {
        let detail = differences(before, after).to_string();
        AuditRow {
            id: Ulid::from_parts(u64::try_from(self.at).unwrap_or(0), fastrand::u128(..)).to_string(),
            at: self.at,
            actor: cut(&self.actor.name),
            address: self.actor.address.map(|address| address.to_canonical().to_string()),
            action: cut(self.action),
            object_kind: cut(self.action.split('.').next().unwrap_or_default()),
            object_id: cut(object_id),
            detail: if detail.len() <= MAX_DETAIL { detail } else { r#"{"too_long":true}"#.to_owned() },
        }
    }
}

/// The members that differ, each with what it was and what it is. Nothing is `null`.
fn differences(before: &Map<String, Value>, after: &Map<String, Value>) -> Value {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let both = names
        .into_iter()
        .map(|name| (name, before.get(name).unwrap_or(&Value::Null), after.get(name).unwrap_or(&Value::Null)));
    let changed = both.filter(|(_, was, is)| was != is);
    changed.map(|(name, was, is)| (name.clone(), json!({ "before": was, "after": is }))).collect()
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
    const PAGE: &str = "select id, at, actor, action, object_kind, object_id, detail, address from audit \
                        where id >= $1 and id < $2 and ($3 = '' or object_kind = $3) and ($4 = '' or object_id = $4) \
                        and ($5 = '' or actor = $5) and ($6 = '' or action = $6) order by id desc limit $7";
    let first = filter.since.map_or_else(String::new, id_at);
    let bounds = [filter.until.map(id_at), before.map(str::to_owned)];
    // Ids are made of digits and capitals.
    let end = bounds.into_iter().flatten().min().unwrap_or_else(|| "~".to_owned());
    on!(db, |connection| {
        let page = sqlx::query_as(PAGE)
            .bind(first)
            .bind(end)
            .bind(filter.object_kind.as_deref().unwrap_or(""))
            .bind(filter.object_id.as_deref().unwrap_or(""))
            .bind(filter.actor.as_deref().unwrap_or(""))
            .bind(filter.action.as_deref().unwrap_or(""))
            .bind(i64::from(limit));
        Ok(page.fetch_all(connection).await?)
    })
}

/// The first id that can have been made at this time.
fn id_at(millis: i64) -> String {
    Ulid::from_parts(u64::try_from(millis).unwrap_or(0), 0).to_string()
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
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
            address: row.try_get("address")?,
            action: row.try_get("action")?,
            object_kind: row.try_get("object_kind")?,
            object_id: row.try_get("object_id")?,
            detail: row.try_get("detail")?,
        })
    }
}
