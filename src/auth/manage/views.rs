//! Keys, projects and the audit log as the admin API and `--json` give them: the same members everywhere, never a secret.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{
    auth::{
        declared::DECLARED,
        settings::{KeySettings, ProjectSettings},
    },
    store::{AuditRow, KeyRow, KeyState, ProjectRow},
};

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Key")]
pub struct KeyView {
    /// Made by the gateway; `declared:NAME` for a key that the configuration file declares.
    pub id: String,
    pub name: String,
    /// The last four characters of the secret; `null` for a declared key.
    pub hint: Option<String>,
    /// The secret before the last rotation, as long as it works.
    pub old_secret: Option<OldSecretView>,
    /// The id of its project.
    pub project: String,
    pub tags: Vec<String>,
    /// Names and patterns of models it may use, as far as its project allows them; an empty list is none.
    pub models: Vec<String>,
    /// Operations it may use, as far as its project allows them; an empty list is none.
    pub endpoints: Vec<String>,
    /// Addresses and ranges it may be used from, as far as its project allows them; an empty list is none.
    pub addresses: Vec<String>,
    /// The most output tokens that a call may ask for.
    pub max_tokens: Option<u32>,
    /// Whether what its calls say and are answered is logged, if anything is; `null`: as its project says.
    pub log_content: Option<bool>,
    /// `active`, `disabled`, `expired` or `revoked`.
    pub state: &'static str,
    pub enabled: bool,
    /// When it stops working.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub expires: Option<Timestamp>,
    /// `null` for a declared key.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub created: Option<Timestamp>,
    /// When it was revoked, for good.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub revoked: Option<Timestamp>,
    /// Declared in the configuration file, and to be changed there alone.
    pub declared: bool,
    /// The number of the last change, for `If-Match`; 0 for a declared key.
    pub version: i64,
}

/// A secret that was replaced and still works.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "OldSecret")]
pub struct OldSecretView {
    /// Its last four characters.
    pub hint: String,
    /// When it stops working.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub until: Timestamp,
}

/// A page of keys.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct KeyPage {
    pub data: Vec<KeyView>,
    /// Ask again with it as `cursor` for the next page; `null` on the last.
    pub next_cursor: Option<String>,
}

/// A project.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Project")]
pub struct ProjectView {
    /// Chosen by people; it never changes.
    pub id: String,
    pub name: String,
    pub tags: Vec<String>,
    /// Names and patterns of models that its keys may use; an empty list is none.
    pub models: Vec<String>,
    /// Operations that its keys may use; an empty list is none.
    pub endpoints: Vec<String>,
    /// Addresses and ranges that its keys may be used from; an empty list is none.
    pub addresses: Vec<String>,
    /// Whether what calls of its keys say and are answered is logged, if anything is; `false` binds its keys; `null`: as the
    /// gateway is set.
    pub log_content: Option<bool>,
    /// Whether its keys may do nothing.
    pub is_archived: bool,
    /// Since when; `null` also where the configuration file says that it is.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub archived: Option<Timestamp>,
    /// `null` for a declared project.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub created: Option<Timestamp>,
    /// Declared in the configuration file, and to be changed there alone.
    pub declared: bool,
    /// The number of the last change, for `If-Match`; 0 for a declared project.
    pub version: i64,
}

/// A page of projects.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ProjectPage {
    pub data: Vec<ProjectView>,
    /// Ask again with it as `cursor` for the next page; `null` on the last.
    pub next_cursor: Option<String>,
}

/// One thing that somebody did.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "AuditEntry")]
pub struct AuditView {
    pub id: String,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// `admin_key`, `command` (whoever runs commands on the database) or `gateway` (at its first start).
    pub actor: String,
    /// The address that it was done from, over the admin API.
    pub address: Option<String>,
    /// The kind of the object and the verb: `key.create`.
    pub action: String,
    /// `key`, `project`, `admin_key`.
    pub kind: String,
    /// The object's id.
    pub object: String,
    /// What changed: for each member what it was `before` and is `after`.
    pub changes: Value,
}

/// A page of the audit log, newest first.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AuditPage {
    pub data: Vec<AuditView>,
    /// Ask again with it as `cursor` for the next page; `null` on the last.
    pub next_cursor: Option<String>,
}

impl KeyView {
    pub fn of_row(row: &KeyRow, now: Timestamp) -> Self {
        let row = row.clone();
        let state = row.state(now).as_str();
        let old = row.old.filter(|old| old.until > now);
        Self {
            id: row.id,
            name: row.name,
            hint: Some(row.hint),
            old_secret: old.map(|old| OldSecretView { hint: old.hint, until: old.until }),
            project: row.project,
            tags: row.tags,
            models: row.models,
            endpoints: row.endpoints,
            addresses: row.addresses,
            max_tokens: row.max_tokens,
            log_content: row.log_content,
            state,
            enabled: row.enabled,
            expires: row.expires,
            created: Some(row.created),
            revoked: row.revoked,
            declared: false,
            version: row.version,
        }
    }

    /// What the file declares, of which the secret is the file's.
    pub(super) fn of_settings(settings: &KeySettings, now: Timestamp) -> Self {
        let KeySettings { name, project, tags, models, endpoints, addresses, .. } = settings.clone();
        let KeySettings { max_tokens, log_content, expires, enabled, .. } = *settings;
        let state = match expires {
            _ if !enabled => KeyState::Disabled,
            Some(at) if at <= now => KeyState::Expired,
            _ => KeyState::Active,
        };
        Self {
            id: format!("{DECLARED}{name}"),
            name,
            hint: None,
            old_secret: None,
            project,
            tags,
            models,
            endpoints,
            addresses,
            max_tokens,
            log_content,
            state: state.as_str(),
            enabled,
            expires,
            created: None,
            revoked: None,
            declared: true,
            version: 0,
        }
    }
}

impl ProjectView {
    pub fn of_row(row: &ProjectRow) -> Self {
        let row = row.clone();
        Self {
            id: row.id,
            name: row.name,
            tags: row.tags,
            models: row.models,
            endpoints: row.endpoints,
            addresses: row.addresses,
            log_content: row.log_content,
            is_archived: row.archived.is_some(),
            archived: row.archived,
            created: Some(row.created),
            declared: false,
            version: row.version,
        }
    }

    pub(super) fn of_settings(id: &str, settings: &ProjectSettings) -> Self {
        let ProjectSettings { name, tags, models, endpoints, addresses, log_content, archived } = settings.clone();
        Self {
            name: name.unwrap_or_else(|| id.to_owned()),
            id: id.to_owned(),
            tags,
            models,
            endpoints,
            addresses,
            log_content,
            is_archived: archived,
            archived: None,
            created: None,
            declared: true,
            version: 0,
        }
    }
}

impl AuditView {
    pub(super) fn of_row(row: AuditRow) -> Self {
        let AuditRow { id, at, actor, address, action, object_kind, object_id, detail } = row;
        Self {
            id,
            at: Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH),
            actor,
            address,
            action,
            kind: object_kind,
            object: object_id,
            changes: serde_json::from_str(&detail).unwrap_or(Value::Null),
        }
    }
}
