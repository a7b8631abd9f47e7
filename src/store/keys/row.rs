//! A key as it is stored, and as the audit log tells of it.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sqlx::FromRow;

use super::KeyHash;
use crate::store::values::{from_json, timestamp};

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
    /// The secret before the last rotation.
    pub old: Option<OldSecret>,
    /// The id of the project it belongs to.
    pub project: String,
    /// What its calls are sorted by, beside the project.
    pub tags: Vec<String>,
    /// Names and patterns of the models it may use; empty means none.
    pub models: Vec<String>,
    /// The operations it may use, by their names; empty means none.
    pub endpoints: Vec<String>,
    /// Addresses and ranges that it may be used from; empty means none.
    pub addresses: Vec<String>,
    /// The most output tokens that a call may ask for.
    pub max_tokens: Option<u32>,
    /// Whether what its calls say and are answered is logged; `None`: as its project says.
    pub log_content: Option<bool>,
    pub enabled: bool,
    /// When it stops working.
    pub expires: Option<Timestamp>,
    pub created: Timestamp,
    /// When it was revoked, for good.
    pub revoked: Option<Timestamp>,
    /// The number of the last change to this row; later changes have higher numbers.
    pub version: i64,
}

/// A secret that was replaced and goes on working for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldSecret {
    pub hash: KeyHash,
    pub hint: String,
    pub until: Timestamp,
}

/// What a key is at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    Active,
    Disabled,
    Expired,
    Revoked,
}

impl KeyRow {
    /// What the audit log tells of: everything but what follows from the change itself. Of secrets their last characters.
    pub(super) fn told(&self) -> Map<String, Value> {
        let members = json!({
            "name": self.name,
            "hint": self.hint,
            "old_hint": self.old.as_ref().map(|old| &old.hint),
            "old_until": self.old.as_ref().map(|old| old.until),
            "project": self.project,
            "tags": self.tags,
            "models": self.models,
            "endpoints": self.endpoints,
            "addresses": self.addresses,
            "max_tokens": self.max_tokens,
            "log_content": self.log_content,
            "enabled": self.enabled,
            "expires": self.expires,
            "revoked": self.revoked,
        });
        match members {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }

    pub fn state(&self, now: Timestamp) -> KeyState {
        match self {
            Self { revoked: Some(_), .. } => KeyState::Revoked,
            Self { enabled: false, .. } => KeyState::Disabled,
            Self { expires: Some(at), .. } if *at <= now => KeyState::Expired,
            _ => KeyState::Active,
        }
    }
}

impl KeyState {
    pub const ALL: [Self; 4] = [Self::Active, Self::Disabled, Self::Expired, Self::Revoked];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
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
        let id: String = row.try_get("id")?;
        let list = |name: &'static str| Ok::<_, sqlx::Error>(from_json(&id, &row.try_get::<String, _>(name)?));
        let old: Option<String> = row.try_get("old_hash")?;
        let old = match old {
            Some(hash) => Some(OldSecret {
                hash: hash_of("old_hash", &hash)?,
                hint: row.try_get::<Option<String>, _>("old_hint")?.unwrap_or_default(),
                until: timestamp(row.try_get::<Option<i64>, _>("old_until")?.unwrap_or(0)),
            }),
            None => None,
        };
        Ok(Self {
            project: row.try_get("project_id")?,
            tags: list("tags")?,
            models: list("models")?,
            endpoints: list("endpoints")?,
            addresses: list("addresses")?,
            max_tokens: row.try_get::<Option<i64>, _>("max_tokens")?.map(|most| u32::try_from(most).unwrap_or(0)),
            log_content: row.try_get("log_content")?,
            name: row.try_get("name")?,
            hash: hash_of("hash", &row.try_get::<String, _>("hash")?)?,
            hint: row.try_get("hint")?,
            old,
            enabled: row.try_get("enabled")?,
            expires: row.try_get::<Option<i64>, _>("expires_at")?.map(timestamp),
            created: timestamp(row.try_get("created_at")?),
            revoked: row.try_get::<Option<i64>, _>("revoked_at")?.map(timestamp),
            version: row.try_get("version")?,
            id,
        })
    }
}

fn hash_of(column: &str, text: &str) -> Result<KeyHash, sqlx::Error> {
    KeyHash::from_hex(text)
        .ok_or_else(|| sqlx::Error::ColumnDecode { index: column.into(), source: "not 64 hex digits".into() })
}
