//! Making and changing keys and projects: one way for the admin API and for commands. Everything is checked before
//! anything is written; a change and the audit log's row about it are written together.

mod keys;
mod projects;
mod quotas;
mod used;
mod views;

use jiff::Timestamp;
use rand::{TryRng, rngs::SysRng};

use super::{Keys, declared::DECLARED, rights::Rights};
use crate::{
    store::{Act, Actor, StoreError},
    types::Secret,
};

pub use keys::Draft;
pub use projects::ProjectDraft;
pub use quotas::{OwnQuota, QuotaChange, QuotaPage, QuotaView};
pub use used::{CounterView, UseView};
pub use views::{AuditPage, AuditView, KeyPage, KeyView, OldSecretView, ProjectPage, ProjectView};

/// What every key made here begins with, so that people and secret scanners recognise one.
pub const PREFIX: &str = "sk-sb-";

/// Why a key or a project could not be made or changed. Each is a sentence for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// `path` names the member at fault, as `models[3]`.
    #[error("{message}")]
    Invalid { path: String, message: String },
    #[error("no key has the id, name or last four characters `{}`, or it is revoked already", .0.escape_debug())]
    NoKey(String),
    #[error("there is no project `{}`", .0.escape_debug())]
    NoProject(String),
    #[error("there is no quota `{}`", .0.escape_debug())]
    NoQuota(String),
    #[error("`{}` may mean any of {}; name one by its id", text.escape_debug(), ids.join(", "))]
    Ambiguous { text: String, ids: Vec<String> },
    #[error("there is a project `{0}` already")]
    Exists(String),
    #[error("the key {0} is revoked, and a revoked key stays so; make a new one")]
    Revoked(String),
    #[error("`{}` is declared in the gateway's configuration file, which is its only truth: change it there", .0.escape_debug())]
    Declared(String),
    #[error("`{id}` has been changed meanwhile: it is at version {version}. Read it again, then change that")]
    Stale { id: String, version: i64 },
    #[error("the system gave no random numbers: {0}")]
    Randomness(#[from] rand::rngs::SysError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ManageError {
    pub(super) fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { path: path.into(), message: message.into() }
    }

    fn bad_tags((entry, message): (Option<usize>, String)) -> Self {
        let path = entry.map_or_else(|| "tags".to_owned(), |entry| format!("tags[{entry}]"));
        Self::invalid(path, message)
    }
}

/// Lists of rights as somebody wrote them; `None` was not written.
#[derive(Clone, Copy, Debug)]
struct Lists<'a> {
    models: Option<&'a [String]>,
    endpoints: Option<&'a [String]>,
    addresses: Option<&'a [String]>,
}

impl Lists<'_> {
    fn check(self) -> Result<(), ManageError> {
        let Self { models, endpoints, addresses } = self;
        let [models, endpoints, addresses] = [models, endpoints, addresses].map(Option::unwrap_or_default);
        let bad = Rights::new(models, endpoints, addresses).err().into_iter().flatten().next();
        bad.map_or(Ok(()), |bad| Err(ManageError::Invalid { path: bad.path(), message: bad.message }))
    }
}

impl Keys {
    /// The change is made; if it cannot be read back now, the watch takes it over as it does those of other processes.
    async fn refresh_after_write(&self) {
        if let Err(error) = self.refresh().await {
            tracing::debug!(%error, "a change was not taken over at once");
        }
    }

    /// Somebody does something, now.
    pub(super) fn act(&self, actor: &Actor, action: &'static str) -> Act {
        actor.clone().does(action, self.now().as_millisecond())
    }

    pub(super) fn now(&self) -> Timestamp {
        // To the millisecond, as it is stored. No clock shows a date that a timestamp cannot hold.
        i64::try_from(self.clock().unix_millis())
            .ok()
            .and_then(|millis| Timestamp::from_millisecond(millis).ok())
            .unwrap_or(Timestamp::MAX)
    }
}

/// A name is for people, in one line of a log or a table.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    const MAX_CHARS: usize = 100;
    if name.trim().is_empty() {
        return Err("the name is empty; write, for example, who uses it and where: everything needs a name".to_owned());
    }
    if name.chars().count() > MAX_CHARS {
        return Err(format!("the name is longer than {MAX_CHARS} characters"));
    }
    if name.contains(char::is_control) {
        return Err("the name holds a control character".to_owned());
    }
    Ok(())
}

/// A key or quota that the file declares is not the store's.
fn check_stored(id: &str) -> Result<(), ManageError> {
    if id.starts_with(DECLARED) { Err(ManageError::Declared(id.to_owned())) } else { Ok(()) }
}

/// Whether a page that follows the id `after` may hold anything stored: such ids are digits and capitals, and come before
/// those of what the file declares.
fn are_stored_wanted(after: Option<&str>) -> bool {
    after.is_none_or(|after| after < DECLARED)
}

/// The first `limit` of what is stored, of which one more was asked for, and then of what the file declares, by id, after
/// `after`. And the id that the next page follows, if there is one.
fn page<V>(
    stored: Vec<V>,
    declared: impl Iterator<Item = V>,
    after: Option<&str>,
    limit: u32,
    id: impl Fn(&V) -> &str,
) -> (Vec<V>, Option<String>) {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut data = stored;
    if data.len() <= most {
        let mut declared: Vec<V> = declared.filter(|view| after.is_none_or(|after| id(view) > after)).collect();
        declared.sort_by(|one, other| id(one).cmp(id(other)));
        data.extend(declared);
    }
    let is_last = data.len() <= most;
    data.truncate(most);
    let next = data.last().filter(|_| !is_last).map(|view| id(view).to_owned());
    (data, next)
}

const HINT_LENGTH: usize = 4;

fn hint(secret: &Secret) -> String {
    let key = secret.expose();
    key[key.len() - HINT_LENGTH..].to_owned()
}

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
