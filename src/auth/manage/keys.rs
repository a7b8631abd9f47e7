//! Keys: making, finding, changing, rotating and revoking stored ones; listing them with those that the file declares.

use std::time::Duration;

use jiff::Timestamp;
use ulid::Ulid;

use super::{
    KeyPage, KeyView, Lists, ManageError, OwnQuota, PREFIX, are_stored_wanted, check_name, check_stored, hint, page,
    random_key,
};
use crate::{
    auth::{
        Keys,
        declared::DECLARED,
        labels::{DEFAULT_PROJECT, check_project, check_tags},
    },
    quotas::settings::Dimension,
    store::{Actor, Changed, KeyEdit, KeyFilter, KeyHash, KeyRow, NewKey, Rotation, keys, projects},
    types::Secret,
};

/// A key that somebody wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub name: String,
    pub models: Vec<String>,
    pub endpoints: Vec<String>,
    pub addresses: Vec<String>,
    pub max_tokens: Option<u32>,
    /// Whether what its calls say and are answered is logged; `None`: as its project says.
    pub log_content: Option<bool>,
    pub expires: Option<Timestamp>,
    /// `false`: it is refused until it is enabled.
    pub enabled: bool,
    /// The id of an existing project.
    pub project: String,
    pub tags: Vec<String>,
    /// Quotas of its own.
    pub quotas: Vec<OwnQuota>,
}

impl Draft {
    /// A key of the default project, without tags, for all endpoints from everywhere.
    pub fn new(name: &str, models: &[String], expires: Option<Timestamp>) -> Self {
        let all = vec!["*".to_owned()];
        Self {
            name: name.to_owned(),
            models: models.to_vec(),
            endpoints: all.clone(),
            addresses: all,
            max_tokens: None,
            log_content: None,
            expires,
            enabled: true,
            project: DEFAULT_PROJECT.to_owned(),
            tags: Vec::new(),
            quotas: Vec::new(),
        }
    }

    /// The draft as an edit of everything, which is checked the same way.
    fn as_edit(&self) -> KeyEdit {
        let Self { name, models, endpoints, addresses, max_tokens, log_content, expires, project, tags, .. } =
            self.clone();
        KeyEdit {
            name: Some(name),
            project: Some(project),
            tags: Some(tags),
            models: Some(models),
            endpoints: Some(endpoints),
            addresses: Some(addresses),
            max_tokens: Some(max_tokens),
            log_content: Some(log_content),
            enabled: None,
            expires: Some(expires),
        }
    }
}

impl Keys {
    /// Makes a key and stores its hash. The secret is nowhere but in the answer: show it once.
    ///
    /// # Errors
    /// For what cannot be, a project that is not, an expiry in the past, and when the store cannot be written.
    pub async fn create(&self, draft: Draft, actor: &Actor) -> Result<(KeyRow, Secret), ManageError> {
        self.check_edit(&draft.as_edit()).await?;
        let Draft { name, models, endpoints, addresses, max_tokens, log_content, .. } = draft;
        let Draft { expires, enabled, project, tags, quotas, .. } = draft;
        let secret = random_key(PREFIX)?;
        let id = Ulid::from_parts(self.clock().unix_millis(), fastrand::u128(..)).to_string();
        let own = self.own_quotas(quotas, Dimension::Key, &id)?;
        let row = NewKey {
            id,
            name,
            hash: KeyHash::of(secret.expose()),
            hint: hint(&secret),
            project,
            tags,
            models,
            endpoints,
            addresses,
            max_tokens,
            log_content,
            expires,
            enabled,
            created: self.now(),
        };
        let row = keys::create(self.db(), row, own, &self.act(actor, "key.create")).await?;
        Ok((row, secret))
    }

    /// The one key that a person means by its id, its name, its last four characters, or the whole of it.
    ///
    /// # Errors
    /// When there is none or more than one, and when the store cannot be read.
    pub async fn find(&self, text: &str) -> Result<KeyRow, ManageError> {
        check_stored(text)?;
        if text.starts_with(PREFIX) {
            // Not echoed: it may well be a key.
            let found = keys::find_by_hash(self.db(), &KeyHash::of(text)).await?;
            return found.ok_or_else(|| ManageError::NoKey(format!("{PREFIX}…")));
        }
        let mut found = keys::find(self.db(), text.trim_start_matches('…')).await?;
        match (found.pop(), found.is_empty()) {
            (Some(row), true) => Ok(row),
            (None, _) => Err(ManageError::NoKey(text.to_owned())),
            (Some(last), false) => {
                found.push(last);
                let ids = found.into_iter().map(|row| row.id).collect();
                Err(ManageError::Ambiguous { text: text.to_owned(), ids })
            }
        }
    }

    /// The key with this id, stored or declared in the file.
    ///
    /// # Errors
    /// When there is none, and when the store cannot be read.
    pub async fn key(&self, id: &str) -> Result<KeyView, ManageError> {
        if let Some(name) = id.strip_prefix(DECLARED) {
            let declared = self.declared();
            let found = declared.key_settings.iter().find(|settings| settings.name == name);
            return found
                .map(|settings| KeyView::of_settings(settings, self.now()))
                .ok_or_else(|| ManageError::NoKey(id.to_owned()));
        }
        let row = keys::get(self.db(), id).await?.ok_or_else(|| ManageError::NoKey(id.to_owned()))?;
        Ok(KeyView::of_row(&row, self.now()))
    }

    /// One page of the keys that `filter` takes: the stored ones, oldest first, then those that the file declares, by
    /// name. `after` is the id that the page before ended with.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list_keys(&self, filter: &KeyFilter, after: Option<&str>, limit: u32) -> Result<KeyPage, ManageError> {
        let now = self.now();
        let rows = match are_stored_wanted(after) {
            true => keys::list(self.db(), filter, after, limit.saturating_add(1)).await?,
            false => Vec::new(),
        };
        let stored = rows.iter().map(|row| KeyView::of_row(row, now)).collect();
        let declared = self.declared();
        let declared = declared.key_settings.iter().map(|settings| KeyView::of_settings(settings, now));
        let declared = declared
            .filter(|view| filter.project.as_ref().is_none_or(|project| *project == view.project))
            .filter(|view| filter.name.as_ref().is_none_or(|name| *name == view.name))
            .filter(|view| filter.state.is_none_or(|(state, _)| state.as_str() == view.state));
        let (data, next_cursor) = page(stored, declared, after, limit, |view| &view.id);
        Ok(KeyPage { data, next_cursor })
    }

    /// Changes the key with this id, and adds `quotas` of its own; here at once and in other processes within a second. `expected` is the version that
    /// the change is meant for, if that matters.
    ///
    /// # Errors
    /// As [`Keys::create`]; for a key that is not there, revoked, declared in the file, or at another version.
    pub async fn update(
        &self,
        id: &str,
        edit: KeyEdit,
        quotas: Vec<OwnQuota>,
        expected: Option<i64>,
        actor: &Actor,
    ) -> Result<KeyRow, ManageError> {
        check_stored(id)?;
        self.check_edit(&edit).await?;
        let own = self.own_quotas(quotas, Dimension::Key, id)?;
        let changed = keys::update(self.db(), id, edit, own, expected, &self.act(actor, "key.update")).await?;
        self.settled(id, changed).await
    }

    /// Gives the key with this id a new secret, which is nowhere but in the answer. The one it had goes on working for
    /// `overlap`; one from a rotation before ends now. Id, name and all else stay.
    ///
    /// # Errors
    /// As [`Keys::update`].
    pub async fn rotate(
        &self,
        id: &str,
        overlap: Duration,
        expected: Option<i64>,
        actor: &Actor,
    ) -> Result<(KeyRow, Secret), ManageError> {
        check_stored(id)?;
        let until = self.now().checked_add(overlap).map_err(|_| {
            ManageError::invalid("overlap", "the overlap leads beyond the calendar; write less, for example 24h")
        })?;
        let secret = random_key(PREFIX)?;
        let rotation = Rotation { hash: KeyHash::of(secret.expose()), hint: hint(&secret), until };
        let changed = keys::rotate(self.db(), id, rotation, expected, &self.act(actor, "key.rotate")).await?;
        Ok((self.settled(id, changed).await?, secret))
    }

    /// Revokes the key with this id for good, here at once and in other processes within a second. Revoking it again
    /// changes nothing.
    ///
    /// # Errors
    /// For a key that is not there, declared in the file, or at another version.
    pub async fn revoke(&self, id: &str, expected: Option<i64>, actor: &Actor) -> Result<KeyRow, ManageError> {
        check_stored(id)?;
        let changed = keys::revoke(self.db(), id, self.now(), expected, &self.act(actor, "key.revoke")).await?;
        self.settled(id, changed).await
    }

    async fn settled(&self, id: &str, changed: Changed<KeyRow>) -> Result<KeyRow, ManageError> {
        match changed {
            Changed::Done(row) => {
                self.refresh_after_write().await;
                Ok(row)
            }
            Changed::Missing => Err(ManageError::NoKey(id.to_owned())),
            Changed::Stale(row) => Err(ManageError::Stale { id: row.id, version: row.version }),
            Changed::Closed(row) => Err(ManageError::Revoked(row.id)),
        }
    }

    async fn check_edit(&self, edit: &KeyEdit) -> Result<(), ManageError> {
        if let Some(name) = &edit.name {
            check_name(name).map_err(|why| ManageError::invalid("name", why))?;
        }
        let KeyEdit { models, endpoints, addresses, .. } = edit;
        Lists { models: models.as_deref(), endpoints: endpoints.as_deref(), addresses: addresses.as_deref() }
            .check()?;
        if edit.max_tokens == Some(Some(0)) {
            let why = "a ceiling of 0 lets no call through; leave it out, or write null, for none";
            return Err(ManageError::invalid("max_tokens", why));
        }
        if let Some(Some(at)) = edit.expires
            && at <= self.now()
        {
            return Err(ManageError::invalid("expires", format!("the key would expire at {at}, which is in the past")));
        }
        if let Some(tags) = &edit.tags {
            check_tags(tags).map_err(ManageError::bad_tags)?;
        }
        match &edit.project {
            Some(id) => self.check_membership(id).await,
            None => Ok(()),
        }
    }

    /// Whether a key may come to belong to this project.
    async fn check_membership(&self, id: &str) -> Result<(), ManageError> {
        check_project(id).map_err(|why| ManageError::invalid("project", why))?;
        let declared = self.declared().projects.get(id).map(|project| project.is_archived);
        let archived = match declared {
            Some(is_archived) => Some(is_archived),
            None => projects::get(self.db(), id).await?.map(|row| row.archived.is_some()),
        };
        let why = match archived {
            Some(false) => return Ok(()),
            Some(true) => "is archived",
            None => "does not exist; make it with `switchboard projects create`",
        };
        Err(ManageError::invalid("project", format!("the project `{id}` {why}")))
    }
}
