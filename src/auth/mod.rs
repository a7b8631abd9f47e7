//! Who is calling: from the key in a request's headers to the [`Principal`] it stands for.
//!
//! The way of a call: the key is hashed and looked for among those the file declares, then among those in memory; both
//! are a lookup in a table, without a lock and without waiting. Its project is found the same way: what a key may do is
//! what both allow, and of a project that is archived or that nobody knows, a key may do nothing. Only a key or project
//! never seen before is asked of the store. A background task looks twice a second whether anything in the store has
//! changed, and takes over just the changed rows. So a revocation by another process holds here within a second, and
//! while the store is away known keys go on working.
//!
//! What an unknown key may cost is bounded: lookups from one client address go one by one, and few run at once. A store
//! that cannot be asked is a 503, never a 401: clients throw away a key that is called wrong.

pub mod access;
pub mod addresses;
pub mod admin;
mod cache;
mod declared;
pub mod endpoints;
mod guard;
pub mod labels;
mod lookups;
pub mod manage;
mod presented;
mod principal;
mod projects;
pub mod rights;
pub mod settings;
mod watch;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::{HeaderMap, StatusCode};

pub use access::{BadPattern, ModelAccess};
pub use admin::{Operator, Permission};
pub use declared::{BadDeclared, Declared};
pub use endpoints::Endpoint;
pub use manage::{Draft, ManageError, ProjectDraft};
pub use presented::presented;
pub use principal::Principal;
pub use projects::Project;
pub use rights::Rights;
pub use settings::Settings;
pub use watch::WATCH_INTERVAL;

use self::{
    admin::AdminKeys,
    cache::KeyCache,
    declared::DECLARED,
    guard::Guard,
    lookups::Lookups,
    presented::{NoKey, presented_key},
    principal::Known,
    projects::ProjectCache,
    watch::Seen,
};
use crate::{
    error::Error,
    store::{Db, KeyHash, StoreError, keys, projects as stored_projects},
    types::Clock,
};

/// How long anybody waits for the store; a call is then answered 503.
const STORE_DEADLINE: Duration = Duration::from_secs(2);

/// All keys that clients may present. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Keys {
    shared: Arc<Shared>,
}

struct Shared {
    db: Db,
    clock: Clock,
    declared: ArcSwap<Declared>,
    cache: KeyCache,
    projects: ProjectCache,
    lookups: Lookups,
    guard: Guard,
    admin: AdminKeys,
    seen: Seen,
}

impl Keys {
    /// Nothing is declared yet, and nothing watches the store: see [`Keys::declare`] and [`Keys::watch`].
    pub fn new(db: Db, clock: Clock, settings: &Settings) -> Self {
        let shared = Shared {
            guard: Guard::new(settings.wrong_keys_per_minute, clock.clone()),
            db,
            clock,
            declared: ArcSwap::default(),
            cache: KeyCache::new(),
            projects: ProjectCache::default(),
            lookups: Lookups::new(),
            admin: AdminKeys::default(),
            seen: Seen::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Puts the file's keys and projects in place of those declared before, at once. What is declared wins over what is
    /// stored.
    pub fn declare(&self, declared: Declared) {
        self.shared.declared.store(Arc::new(declared));
    }

    /// The caller of a request with these headers, from this client address, who wants to use this operation.
    ///
    /// # Errors
    /// 401 without a key or with one that may not be used, 403 for the admin key and for what key or project does not
    /// allow, 429 after too many wrong keys from the address, 503 when the key is not known here and the store cannot be
    /// asked.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        address: IpAddr,
        endpoint: Endpoint,
    ) -> Result<Arc<Principal>, Error> {
        let key = match presented_key(headers) {
            Ok(key) => key,
            Err(NoKey::Missing) => return Err(missing_key()),
            Err(NoKey::Malformed) => return Err(self.wrong_key(address, invalid_key())),
        };
        let hash = KeyHash::of(key);
        // First of all: whatever else this key may be, calls with it would bypass the limits of a key.
        if self.shared.admin.is(&hash) {
            return Err(admin::not_here());
        }
        let known = match self.known(&hash) {
            Some(known) => known,
            None => self.look_up(&hash, address).await?.ok_or_else(|| self.wrong_key(address, invalid_key()))?,
        };
        known.check_standing(&self.shared.clock)?;
        let principal = known.within(&self.project_of(&known, address).await?);
        principal.check(address, endpoint)?;
        Ok(principal)
    }

    fn known(&self, hash: &KeyHash) -> Option<Arc<Known>> {
        self.shared.declared.load().keys.get(hash).cloned().or_else(|| self.shared.cache.get(hash))
    }

    /// The project of a key, as it is now.
    ///
    /// # Errors
    /// 403 when there is none, 503 when it is not known here and the store cannot be asked.
    async fn project_of(&self, known: &Known, address: IpAddr) -> Result<Arc<Project>, Error> {
        let id = &*known.project;
        if let Some(project) = self.shared.declared.load().projects.get(id) {
            return Ok(project.clone());
        }
        let found = match self.shared.projects.get(id) {
            Some(found) => found,
            // A store that has never answered since the start cannot say what it knows of the project. The file can, and
            // it says that the key is to work.
            None if known.id.starts_with(DECLARED) && !self.shared.seen.is_any() => {
                return Ok(Arc::new(Project::open(known.project.clone())));
            }
            None => self.in_time(self.ask_for_project(id, Some(address))).await?,
        };
        found.ok_or_else(|| unknown_project(id))
    }

    async fn look_up(&self, hash: &KeyHash, address: IpAddr) -> Result<Option<Arc<Known>>, Error> {
        self.in_time(self.ask_for_key(hash, address)).await
    }

    /// What the store says, or a 503 when it does not say it in time.
    async fn in_time<T>(&self, question: impl Future<Output = Result<T, StoreError>>) -> Result<T, Error> {
        let deadline = self.shared.clock.now() + STORE_DEADLINE;
        match self.shared.clock.timeout_at(deadline, question).await {
            Ok(answer) => answer.map_err(|error| store_unavailable().with_cause(error)),
            Err(_) => Err(store_unavailable().with_cause(StoreError::NoAnswer)),
        }
    }

    async fn ask_for_key(&self, hash: &KeyHash, address: IpAddr) -> Result<Option<Arc<Known>>, StoreError> {
        let Shared { db, cache, lookups, .. } = &*self.shared;
        let _turn = lookups.turn(address).await;
        if let Some(known) = self.known(hash) {
            return Ok(Some(known)); // A call with the same key was first.
        }
        let generation = cache.generation();
        let Some(row) = keys::find_by_hash(db, hash).await? else { return Ok(None) };
        let Some(known) = Known::from_row(&row, hash).map(Arc::new) else { return Ok(None) };
        cache.put(*hash, known.clone(), generation);
        Ok(Some(known))
    }

    /// Without an address nobody waits for it, and nobody is made to wait.
    async fn ask_for_project(&self, id: &str, address: Option<IpAddr>) -> Result<Option<Arc<Project>>, StoreError> {
        let Shared { db, projects, lookups, .. } = &*self.shared;
        let _turn = match address {
            Some(address) => Some(lookups.turn(address).await),
            None => None,
        };
        if let Some(found) = projects.get(id) {
            return Ok(found); // A call of the same project was first.
        }
        let generation = projects.generation();
        let found = stored_projects::get(db, id).await?.map(|row| Arc::new(Project::of_row(&row)));
        projects.put(id, found.clone(), generation);
        Ok(found)
    }

    /// Counts a wrong key: `wrong` while the address may go on, then a 429.
    fn wrong_key(&self, address: IpAddr, wrong: Error) -> Error {
        match self.shared.guard.wrong_key(address) {
            Ok(()) => wrong,
            Err(wait) => {
                let seconds = wait.as_secs() + 1;
                let message = format!(
                    "Too many wrong keys came from your address. Correct the key, then try again in {seconds} s; a \
                     right key is accepted at any time."
                );
                Error::client(StatusCode::TOO_MANY_REQUESTS, "too_many_wrong_keys", message)
                    .with_retry_after(Duration::from_secs(seconds))
            }
        }
    }

    fn db(&self) -> &Db {
        &self.shared.db
    }

    fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    fn declared(&self) -> Arc<Declared> {
        self.shared.declared.load_full()
    }
}

const MISSING: &str =
    "No API key was sent. Send yours as `Authorization: Bearer <key>`, or in `x-api-key` or `api-key`.";
const INVALID: &str = "This API key is not known to the gateway. Check that it was copied whole, or ask whoever runs \
                       the gateway for one (`switchboard keys create`).";
const UNAVAILABLE: &str = "The key could not be checked because the gateway's key store did not answer. The key may well \
                           be right: keep it and try again.";

fn invalid_key() -> Error {
    Error::client(StatusCode::UNAUTHORIZED, "invalid_api_key", INVALID)
}

fn missing_key() -> Error {
    Error::client(StatusCode::UNAUTHORIZED, "missing_api_key", MISSING)
}

fn unknown_project(id: &str) -> Error {
    let message = format!(
        "This API key belongs to the project `{id}`, which does not exist, so it may do nothing. Whoever runs this \
         gateway can make it (`switchboard projects create`) or declare it (`projects` in the configuration)."
    );
    Error::client(StatusCode::FORBIDDEN, "project_unknown", message)
}

fn store_unavailable() -> Error {
    Error::gateway(StatusCode::SERVICE_UNAVAILABLE, "key_store_unavailable", UNAVAILABLE)
        .with_retry_after(Duration::from_secs(1))
}

/// What is known about keys stays out of logs.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("db", &self.shared.db).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
