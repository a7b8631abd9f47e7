//! Making, changing and revoking stored keys.

use jiff::Timestamp;
use rand::{TryRng, rngs::SysRng};
use serde_json::json;
use ulid::Ulid;

use super::{
    Keys,
    access::ModelAccess,
    labels::{DEFAULT_PROJECT, check_project, check_tags},
};
use crate::{
    store::{AuditRow, KeyEdit, KeyHash, KeyRow, NewKey, StoreError, audit, keys, projects},
    types::Secret,
};

/// What every key made here begins with, so that people and secret scanners recognise one.
pub const PREFIX: &str = "sk-sb-";

/// A key that somebody wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub name: String,
    pub models: Vec<String>,
    pub expires: Option<Timestamp>,
    /// The id of an existing project.
    pub project: String,
    pub tags: Vec<String>,
}

/// Why a key could not be made or changed. Each is a sentence for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    #[error("{0}")]
    Invalid(String),
    #[error("no key has the id, name or last four characters `{}`, or it is revoked already", .0.escape_debug())]
    NotFound(String),
    #[error("`{}` may mean any of {}; name one by its id", text.escape_debug(), ids.join(", "))]
    Ambiguous { text: String, ids: Vec<String> },
    #[error("the key {0} is revoked, and a revoked key stays so; make a new one")]
    Revoked(String),
    #[error("the system gave no random numbers: {0}")]
    Randomness(#[from] rand::rngs::SysError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Keys {
    /// Makes a key and stores its hash. The secret is nowhere but in the answer: show it once.
    ///
    /// # Errors
    /// For a name, tag or pattern that cannot be, a project that is not, an expiry in the past, and when the store
    /// cannot be written.
    pub async fn create(&self, draft: Draft) -> Result<(KeyRow, Secret), ManageError> {
        let Draft { name, models, expires, project, tags } = draft;
        self.check(Some(&name), Some(&models), expires)?;
        self.check_labels(Some(&project), Some(&tags)).await?;
        let created = self.now();
        let secret = random_key(PREFIX)?;
        let key = secret.expose();
        let row = NewKey {
            id: Ulid::from_parts(self.clock().unix_millis(), fastrand::u128(..)).to_string(),
            name,
            hash: KeyHash::of(key),
            hint: key[key.len() - HINT_LENGTH..].to_owned(),
            project,
            tags,
            models,
            expires,
            created,
        };
        let row = keys::create(self.db(), row).await?;
        let detail = json!({ "name": row.name, "models": row.models, "project": row.project });
        self.note("key.create", &row.id, &detail).await?;
        Ok((row, secret))
    }

    /// The one key that a person means by its id, its name, its last four characters, or the whole of it.
    ///
    /// # Errors
    /// When there is none or more than one, and when the store cannot be read.
    pub async fn find(&self, text: &str) -> Result<KeyRow, ManageError> {
        if text.starts_with(PREFIX) {
            // Not echoed: it may well be a key.
            let found = keys::find_by_hash(self.db(), &KeyHash::of(text)).await?;
            return found.ok_or_else(|| ManageError::NotFound(format!("{PREFIX}…")));
        }
        let mut found = keys::find(self.db(), text.trim_start_matches('…')).await?;
        match (found.pop(), found.is_empty()) {
            (Some(row), true) => Ok(row),
            (None, _) => Err(ManageError::NotFound(text.to_owned())),
            (Some(last), false) => {
                found.push(last);
                let ids = found.into_iter().map(|row| row.id).collect();
                Err(ManageError::Ambiguous { text: text.to_owned(), ids })
            }
        }
    }

    /// Changes the key that `text` names (see [`Keys::find`]), here at once and in other processes within a second.
    ///
    /// # Errors
    /// As [`Keys::find`] and [`Keys::create`], and for a revoked key.
    pub async fn update(&self, text: &str, edit: KeyEdit) -> Result<KeyRow, ManageError> {
        self.check(edit.name.as_deref(), edit.models.as_deref(), edit.expires.flatten())?;
        self.check_labels(edit.project.as_deref(), edit.tags.as_deref()).await?;
        let found = self.find(text).await?;
        if found.revoked.is_some() {
            return Err(ManageError::Revoked(found.id));
        }
        let row = keys::update(self.db(), &found.id, edit).await?.ok_or(ManageError::NotFound(found.id))?;
        let detail = json!({ "name": row.name, "models": row.models, "enabled": row.enabled, "project": row.project });
        self.note("key.update", &row.id, &detail).await?;
        self.refresh_after_write().await;
        Ok(row)
    }

    /// Revokes the key that `text` names (see [`Keys::find`]) for good, here at once and in other processes within a
    /// second. Revoking it again changes nothing.
    ///
    /// # Errors
    /// As [`Keys::find`].
    pub async fn revoke(&self, text: &str) -> Result<KeyRow, ManageError> {
        let found = self.find(text).await?;
        let row = keys::revoke(self.db(), &found.id, self.now()).await?.ok_or(ManageError::NotFound(found.id))?;
        self.note("key.revoke", &row.id, &json!({})).await?;
        self.refresh_after_write().await;
        Ok(row)
    }

    /// Adds a change to the audit log.
    pub(super) async fn note(&self, action: &str, id: &str, detail: &serde_json::Value) -> Result<(), StoreError> {
        audit::append(self.db(), &AuditRow::of_command(self.clock(), action, id, detail)).await
    }

    /// The change is made; if it cannot be read back now, the watch takes it over as it does those of other processes.
    async fn refresh_after_write(&self) {
        if let Err(error) = self.refresh().await {
            tracing::debug!(%error, "a change of keys was not taken over at once");
        }
    }

    fn check(
        &self,
        name: Option<&str>,
        models: Option<&[String]>,
        expires: Option<Timestamp>,
    ) -> Result<(), ManageError> {
        if let Some(name) = name {
            check_name(name).map_err(ManageError::Invalid)?;
        }
        if let Some(models) = models {
            ModelAccess::new(models).map_err(|bad| ManageError::Invalid(bad.to_string()))?;
        }
        match expires {
            Some(at) if at <= self.now() => {
                Err(ManageError::Invalid(format!("the key would expire at {at}, which is in the past")))
            }
            _ => Ok(()),
        }
    }

    async fn check_labels(&self, project: Option<&str>, tags: Option<&[String]>) -> Result<(), ManageError> {
        if let Some(tags) = tags {
            check_tags(tags).map_err(ManageError::Invalid)?;
        }
        let Some(id) = project else { return Ok(()) };
        check_project(id).map_err(ManageError::Invalid)?;
        let why = match projects::get(self.db(), id).await? {
            Some(project) if project.archived.is_none() => return Ok(()),
            Some(_) => "is archived",
            None => "does not exist; make it with `switchboard projects create`",
        };
        Err(ManageError::Invalid(format!("the project `{id}` {why}")))
    }

    pub(super) fn now(&self) -> Timestamp {
        // To the millisecond, as it is stored. No clock shows a date that a timestamp cannot hold.
        i64::try_from(self.clock().unix_millis())
            .ok()
            .and_then(|millis| Timestamp::from_millisecond(millis).ok())
            .unwrap_or(Timestamp::MAX)
    }
}

impl Draft {
    /// A key of the default project, without tags.
    pub fn new(name: &str, models: &[String], expires: Option<Timestamp>) -> Self {
        let project = DEFAULT_PROJECT.to_owned();
        Self { name: name.to_owned(), models: models.to_vec(), expires, project, tags: Vec::new() }
    }
}

/// A name is for people, in one line of a log or a table.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    const MAX_CHARS: usize = 100;
    if name.trim().is_empty() {
        return Err("a key needs a name, for example who uses it and where".to_owned());
    }
    if name.chars().count() > MAX_CHARS {
        return Err(format!("the name is longer than {MAX_CHARS} characters"));
    }
    if name.contains(char::is_control) {
        return Err("the name holds a control character".to_owned());
    }
    Ok(())
}

const HINT_LENGTH: usize = 4;

/// 43 characters of 62 hold 256 bits. They are letters and digits only, so that a double click takes the whole.
pub(super) fn random_key(prefix: &str) -> Result<Secret, rand::rngs::SysError> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let length = prefix.len() + 43;
    let mut key = String::with_capacity(length);
    key.push_str(prefix);
    while key.len() < length {
        let mut random = [0; 64];
        SysRng.try_fill_bytes(&mut random)?;
        // 248 is the largest multiple of 62 in a byte; taking what lies above would favour the first characters.
        let characters =
            random.iter().filter(|&&byte| byte < 248).map(|&byte| char::from(ALPHABET[usize::from(byte % 62)]));
        key.extend(characters.take(length - key.len()));
    }
    Ok(Secret::new(key))
}
