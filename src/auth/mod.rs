//! Who is calling: from the key in a request's headers to the [`Principal`] it stands for.
//!
//! The way of a call: the key is hashed and looked for among those the file declares, then among those in memory; both
//! are a lookup in a table, without a lock and without waiting. Only a key never seen before is asked of the store. A
//! background task looks twice a second whether anything in the store has changed, and takes over just the changed
//! rows. So a revocation by another process holds here within a second, and while the store is away known keys go on
//! working.
//!
//! What an unknown key may cost is bounded: lookups from one client address go one by one, and few run at once. A store
//! that cannot be asked is a 503, never a 401: clients throw away a key that is called wrong.

pub mod access;
pub mod admin;
mod cache;
mod declared;
mod guard;
pub mod labels;
mod lookups;
pub mod manage;
mod presented;
mod principal;
pub mod settings;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::{HeaderMap, StatusCode};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

pub use access::{BadPattern, ModelAccess};
pub use admin::{Operator, Permission};
pub use declared::{BadDeclaredKey, DeclaredKeys};
pub use manage::{Draft, ManageError};
pub use principal::Principal;
pub use settings::Settings;

use self::{
    admin::AdminKeys,
    cache::KeyCache,
    guard::Guard,
    lookups::Lookups,
    presented::{NoKey, presented_key},
    principal::Known,
};
use crate::{
    error::Error,
    store::{Db, KeyHash, StoreError, keys},
    types::Clock,
};

/// How often the store is asked whether anything changed. With the time to ask, a revocation holds within a second.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// How long anybody waits for the store; a call is then answered 503.
const STORE_DEADLINE: Duration = Duration::from_secs(2);

/// Changed rows fetched at a time.
const PAGE: u32 = 500;

/// All keys that clients may present. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Keys {
    shared: Arc<Shared>,
}

struct Shared {
    db: Db,
    clock: Clock,
    declared: ArcSwap<DeclaredKeys>,
    cache: KeyCache,
    lookups: Lookups,
    guard: Guard,
    admin: AdminKeys,
    /// The number of the last change in the store that the cache has taken over; `None` before the first look.
    seen: Mutex<Option<i64>>,
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
            lookups: Lookups::new(),
            admin: AdminKeys::default(),
            seen: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Puts the file's keys in place of those declared before, at once. A declared key wins over a stored one.
    pub fn declare(&self, keys: DeclaredKeys) {
        self.shared.declared.store(Arc::new(keys));
    }

    /// The caller of a request with these headers, from this client address.
    ///
    /// # Errors
    /// 401 without a key or with one that may not be used, 403 for the admin key, 429 after too many wrong keys from the
    /// address, 503 when the key is not known here and the store cannot be asked.
    pub async fn authenticate(&self, headers: &HeaderMap, address: IpAddr) -> Result<Arc<Principal>, Error> {
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
        known.admit(&self.shared.clock)
    }

    /// Follows the changes that any process makes to the store, until `stop`. Errors are logged and tried again.
    pub async fn watch(self, stop: CancellationToken) {
        const PRUNE_EVERY: u32 = 20;
        let mut failing = false;
        let mut ticks = 0_u32;
        loop {
            let outcome = self.refresh().await;
            match &outcome {
                Ok(()) if failing => tracing::info!("the key store answers again"),
                Err(error) if !failing => {
                    tracing::error!(%error, "the key store cannot be read: known keys go on working, changes wait");
                }
                _ => {}
            }
            failing = outcome.is_err();
            ticks = ticks.wrapping_add(1);
            if ticks.is_multiple_of(PRUNE_EVERY) {
                self.shared.guard.prune();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.shared.clock.sleep(WATCH_INTERVAL) => {}
            }
        }
    }

    /// Takes over what has changed in the store since the last look.
    ///
    /// # Errors
    /// When the store cannot be asked; what was not taken over will be by the next look.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let deadline = self.shared.clock.now() + STORE_DEADLINE;
        self.shared.clock.timeout_at(deadline, self.take_over_changes()).await.unwrap_or(Err(StoreError::NoAnswer))
    }

    async fn take_over_changes(&self) -> Result<(), StoreError> {
        let Shared { db, cache, seen, admin, .. } = &*self.shared;
        admin.refresh(db).await?;
        // Held to the end: of two looks at once, the older could otherwise have the last word.
        let mut seen = seen.lock().await;
        let marker = keys::change_marker(db).await?;
        let mut from = match *seen {
            Some(seen) if seen == marker => return Ok(()),
            Some(seen) if seen < marker => seen,
            // The first look, or the database was put back to an earlier state: what was known may be wrong.
            _ => {
                cache.clear();
                *seen = Some(marker);
                return Ok(());
            }
        };
        while from < marker {
            let changed = keys::changed_since(db, from, PAGE).await?;
            cache.apply(&changed);
            from = changed.last().map_or(marker, |row| row.version);
            *seen = Some(from);
        }
        Ok(())
    }

    fn known(&self, hash: &KeyHash) -> Option<Arc<Known>> {
        self.shared.declared.load().keys.get(hash).cloned().or_else(|| self.shared.cache.get(hash))
    }

    async fn look_up(&self, hash: &KeyHash, address: IpAddr) -> Result<Option<Arc<Known>>, Error> {
        let deadline = self.shared.clock.now() + STORE_DEADLINE;
        match self.shared.clock.timeout_at(deadline, self.ask_store(hash, address)).await {
            Ok(Ok(known)) => Ok(known),
            Ok(Err(error)) => Err(store_unavailable().with_cause(error)),
            Err(_) => Err(store_unavailable().with_cause(StoreError::NoAnswer)),
        }
    }

    async fn ask_store(&self, hash: &KeyHash, address: IpAddr) -> Result<Option<Arc<Known>>, StoreError> {
        let Shared { db, cache, lookups, .. } = &*self.shared;
        let _turn = lookups.turn(address).await;
        if let Some(known) = self.known(hash) {
            return Ok(Some(known)); // A call with the same key was first.
        }
        let generation = cache.generation();
        let Some(row) = keys::find_by_hash(db, hash).await? else { return Ok(None) };
        let known = Arc::new(Known::from_row(&row));
        cache.put(*hash, known.clone(), generation);
        Ok(Some(known))
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
