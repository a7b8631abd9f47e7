//! Who is calling, whether the key is in good standing, and what it may do.

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwapOption;
use http::StatusCode;
use jiff::Timestamp;

use super::{endpoints::Endpoint, labels::sorted, projects::Project, rights::Rights};
use crate::{
    error::Error,
    store::{KeyHash, KeyRow},
    types::Clock,
};

/// The caller, as one key and its project name it. Never changed: an edit makes a new one, and calls in flight keep
/// theirs.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// The id of a stored key, or `declared:NAME` for one declared in the file.
    pub id: Arc<str>,
    /// The key's name, for people.
    pub name: Arc<str>,
    /// The id of the project that the key belongs to.
    pub project: Arc<str>,
    /// The key's tags, in order, each once.
    pub tags: Arc<[Arc<str>]>,
    /// The most output tokens that one of its calls may ask for; what it asks for when it says nothing.
    pub max_tokens: Option<u32>,
    /// Whether what is said in its calls is logged, as its key says; [`Principal::log_content`] knows the project, too.
    pub key_logs_content: Option<bool>,
    /// When the key stops working.
    pub expires: Option<Timestamp>,
    /// What the key may do, as far as its project allows it.
    pub own: Arc<Rights>,
    /// What all keys of the project may do.
    pub within: Arc<Project>,
}

impl Principal {
    /// Whether it may use what goes by these names, as a call that names a model by an alias goes by several. Both the
    /// key and its project must list one of them. Ask again for every model a call is led to, fallbacks included.
    pub fn may_use(&self, names: &[&str]) -> bool {
        self.levels().all(|rights| names.iter().any(|name| rights.models.allows(name)))
    }

    /// Whether what is said in its calls is logged. `None`: nobody has chosen. A project that says no has the last word.
    pub fn log_content(&self) -> Option<bool> {
        match (self.key_logs_content, self.within.log_content) {
            (_, Some(false)) => Some(false),
            (of_key, of_project) => of_key.or(of_project),
        }
    }

    /// The names of models that the key or its project lists, without patterns: some of them it may use.
    pub fn listed_names(&self) -> impl Iterator<Item = &str> {
        self.levels().flat_map(|rights| rights.models.names())
    }

    fn levels(&self) -> impl Iterator<Item = &Rights> {
        [&*self.own, &self.within.rights].into_iter()
    }

    /// # Errors
    /// 403 when the project is archived, or the key or its project does not allow the address or the operation.
    pub(super) fn check(&self, address: IpAddr, endpoint: Endpoint) -> Result<(), Error> {
        if self.within.is_archived {
            let message = format!("The project `{}` of this API key is archived. Use a key of another.", self.project);
            return Err(forbidden("project_archived", message));
        }
        if !self.levels().all(|rights| rights.addresses.allows(address)) {
            let message = format!(
                "This API key may not be used from {}. Ask whoever runs this gateway to add it to the addresses of the \
                 key and its project.",
                address.to_canonical()
            );
            return Err(forbidden("address_not_allowed", message));
        }
        if !self.levels().all(|rights| rights.endpoints.allows(endpoint)) {
            let message = format!(
                "This API key may not use the endpoint `{}`. Ask whoever runs this gateway to add it to the endpoints of \
                 the key and its project.",
                endpoint.as_str()
            );
            return Err(forbidden("endpoint_not_allowed", message));
        }
        Ok(())
    }
}

/// A key the gateway knows, by one of its secrets.
#[derive(Debug)]
pub(super) struct Known {
    /// As [`Principal`] has them.
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) project: Arc<str>,
    pub(super) tags: Arc<[Arc<str>]>,
    pub(super) max_tokens: Option<u32>,
    pub(super) log_content: Option<bool>,
    pub(super) expires: Option<Timestamp>,
    pub(super) own: Arc<Rights>,
    pub(super) standing: Standing,
    /// When the secret stops working, if it has been replaced.
    pub(super) replaced: Option<Timestamp>,
    /// The key within its project as it was at the last call: nearly always what the next one needs.
    pub(super) last: ArcSwapOption<Principal>,
}

/// What its owner made of a key. Expiry is not here: time passes without anybody doing anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    Disabled,
    Revoked,
}

impl Known {
    /// The key as it is for whoever presents the secret of this hash. `None`: it is no secret of the key's any more.
    pub(super) fn from_row(row: &KeyRow, hash: &KeyHash) -> Option<Self> {
        let replaced = match &row.old {
            _ if row.hash == *hash => None,
            Some(old) if old.hash == *hash => Some(old.until),
            _ => return None,
        };
        let standing = match row {
            KeyRow { revoked: Some(_), .. } => Standing::Revoked,
            KeyRow { enabled: false, .. } => Standing::Disabled,
            _ => Standing::Good,
        };
        Some(Self {
            id: row.id.as_str().into(),
            name: row.name.as_str().into(),
            project: row.project.as_str().into(),
            tags: sorted(&row.tags),
            max_tokens: row.max_tokens,
            log_content: row.log_content,
            expires: row.expires,
            own: Arc::new(Rights::of_row(&row.id, &row.models, &row.endpoints, &row.addresses)),
            standing,
            replaced,
            last: ArcSwapOption::empty(),
        })
    }

    /// # Errors
    /// 401 with the reason why the key may no longer be used.
    pub(super) fn check_standing(&self, clock: &Clock) -> Result<(), Error> {
        match self.standing {
            Standing::Good => {}
            Standing::Disabled => return Err(refused("disabled_api_key", DISABLED)),
            Standing::Revoked => return Err(refused("revoked_api_key", REVOKED)),
        }
        match (self.replaced, self.expires) {
            (Some(at), _) if has_passed(at, clock) => Err(refused("rotated_api_key", ROTATED)),
            (_, Some(at)) if has_passed(at, clock) => Err(Error::client(
                StatusCode::UNAUTHORIZED,
                "expired_api_key",
                format!("This API key expired at {at}. Ask whoever runs this gateway to extend it, or use another."),
            )),
            _ => Ok(()),
        }
    }

    /// The caller, within its project as it is now.
    pub(super) fn within(&self, project: &Arc<Project>) -> Arc<Principal> {
        let last = self.last.load();
        if let Some(principal) = &*last
            && Arc::ptr_eq(&principal.within, project)
        {
            return principal.clone();
        }
        let principal = Arc::new(Principal {
            id: self.id.clone(),
            name: self.name.clone(),
            project: self.project.clone(),
            tags: self.tags.clone(),
            max_tokens: self.max_tokens,
            key_logs_content: self.log_content,
            expires: self.expires,
            own: self.own.clone(),
            within: project.clone(),
        });
        self.last.store(Some(principal.clone()));
        principal
    }
}

const DISABLED: &str = "This API key is disabled. Ask whoever runs this gateway to enable it, or use another.";
const REVOKED: &str = "This API key was revoked. Use another one.";
const ROTATED: &str =
    "This API key was replaced by a new one, and the time in which both worked is over. Use the new one.";

fn refused(code: &'static str, message: &'static str) -> Error {
    Error::client(StatusCode::UNAUTHORIZED, code, message)
}

fn forbidden(code: &'static str, message: String) -> Error {
    Error::client(StatusCode::FORBIDDEN, code, message)
}

fn has_passed(at: Timestamp, clock: &Clock) -> bool {
    i64::try_from(clock.unix_millis()).unwrap_or(i64::MAX) >= at.as_millisecond()
}
