//! Who is calling, and whether the key is in good standing.

use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;

use super::{access::ModelAccess, labels::sorted};
use crate::{error::Error, store::KeyRow, types::Clock};

/// The caller, as one key names it. Never changed: an edit of the key makes a new one, and calls in flight keep theirs.
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
    /// The models it may use.
    pub models: ModelAccess,
    /// When the key stops working.
    pub expires: Option<Timestamp>,
}

/// A key the gateway knows.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) principal: Arc<Principal>,
    pub(super) standing: Standing,
}

/// What its owner made of a key. Expiry is not here: time passes without anybody doing anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    Disabled,
    Revoked,
}

impl Known {
    /// A stored pattern that can mean nothing, because somebody edited the table by hand, takes the whole list with it:
    /// the key may use no model.
    pub(super) fn from_row(row: &KeyRow) -> Self {
        let models = ModelAccess::new(&row.models).unwrap_or_else(|error| {
            tracing::warn!(key = row.id, %error, "the models of a stored key cannot be used: it may use none");
            ModelAccess::default()
        });
        let standing = match row {
            KeyRow { revoked: Some(_), .. } => Standing::Revoked,
            KeyRow { enabled: false, .. } => Standing::Disabled,
            _ => Standing::Good,
        };
        let principal = Principal {
            id: row.id.as_str().into(),
            name: row.name.as_str().into(),
            project: row.project.as_str().into(),
            tags: sorted(&row.tags),
            models,
            expires: row.expires,
        };
        Self { principal: Arc::new(principal), standing }
    }

    /// The caller, unless the key may no longer be used.
    ///
    /// # Errors
    /// 401 with the reason.
    pub(super) fn admit(&self, clock: &Clock) -> Result<Arc<Principal>, Error> {
        match self.standing {
            Standing::Good => {}
            Standing::Disabled => return Err(refused("disabled_api_key", DISABLED)),
            Standing::Revoked => return Err(refused("revoked_api_key", REVOKED)),
        }
        match self.principal.expires {
            Some(at) if has_passed(at, clock) => Err(Error::client(
                StatusCode::UNAUTHORIZED,
                "expired_api_key",
                format!("This API key expired at {at}. Ask whoever runs this gateway to extend it, or use another."),
            )),
            _ => Ok(self.principal.clone()),
        }
    }
}

const DISABLED: &str = "This API key is disabled. Ask whoever runs this gateway to enable it, or use another.";
const REVOKED: &str = "This API key was revoked. Use another one.";

fn refused(code: &'static str, message: &'static str) -> Error {
    Error::client(StatusCode::UNAUTHORIZED, code, message)
}

fn has_passed(at: Timestamp, clock: &Clock) -> bool {
    i64::try_from(clock.unix_millis()).unwrap_or(i64::MAX) >= at.as_millisecond()
}
