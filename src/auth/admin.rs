//! The admin key: it opens the admin API and makes no calls. A key that is known to every application would pass every
//! limit, so neither kind of key works on the other's routes.
//!
//! There is one. The configuration may declare it (`admin.key`, or `SWITCHBOARD_ADMIN_KEY`); otherwise it is made at the
//! first start, shown once, and kept as its hash. While one is declared, the stored one does not work.

use std::net::IpAddr;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, StatusCode};

use super::{
    Keys, ManageError,
    manage::{PREFIX, random_key},
    presented::{NoKey, presented_key},
};
use crate::{
    error::Error,
    store::{Actor, Db, KeyHash, StoreError, secrets},
    types::Secret,
};

/// What an admin route lets its caller do. Every route declares one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Sums of what was used.
    Usage,
    /// Single calls, which name end users.
    Requests,
    /// The description of the admin API.
    Contract,
    /// Seeing keys, never their secrets.
    ReadKeys,
    /// Making and changing keys.
    WriteKeys,
    /// Seeing projects.
    ReadProjects,
    /// Making and changing projects.
    WriteProjects,
    /// Seeing quotas.
    ReadQuotas,
    /// Making and changing quotas.
    WriteQuotas,
    /// What administrators did.
    Audit,
}

/// Who calls an admin route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Whoever holds the admin key.
    AdminKey,
}

/// The admin key in force, as hashes.
#[derive(Default)]
pub(super) struct AdminKeys {
    declared: ArcSwapOption<KeyHash>,
    stored: ArcSwapOption<KeyHash>,
}

/// Under which name the store has the hash.
const NAME: &str = "admin";

impl Operator {
    /// Whether the operator may do this.
    pub fn may(self, permission: Permission) -> bool {
        match (self, permission) {
            (
                Self::AdminKey,
                Permission::Usage
                | Permission::Requests
                | Permission::Contract
                | Permission::ReadKeys
                | Permission::WriteKeys
                | Permission::ReadProjects
                | Permission::WriteProjects
                | Permission::ReadQuotas
                | Permission::WriteQuotas
                | Permission::Audit,
            ) => true,
        }
    }

    /// The operator as the audit log names it, at this address.
    pub fn actor(self, address: IpAddr) -> Actor {
        match self {
            Self::AdminKey => Actor::admin_key(address),
        }
    }
}

impl Permission {
    /// Its word in the OpenAPI document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Requests => "requests",
            Self::Contract => "contract",
            Self::ReadKeys => "keys.read",
            Self::WriteKeys => "keys.write",
            Self::ReadProjects => "projects.read",
            Self::WriteProjects => "projects.write",
            Self::ReadQuotas => "quotas.read",
            Self::WriteQuotas => "quotas.write",
            Self::Audit => "audit",
        }
    }
}

impl AdminKeys {
    /// Whether this is the admin key.
    pub(super) fn is(&self, hash: &KeyHash) -> bool {
        let declared = self.declared.load();
        match &*declared {
            Some(declared) => declared.matches(hash),
            None => self.stored.load().as_ref().is_some_and(|stored| stored.matches(hash)),
        }
    }

    fn is_set(&self) -> bool {
        self.declared.load().is_some() || self.stored.load().is_some()
    }

    /// Takes over the stored key, which another process may have replaced.
    pub(super) async fn refresh(&self, db: &Db) -> Result<(), StoreError> {
        self.stored.store(secrets::get(db, NAME).await?.map(Into::into));
        Ok(())
    }
}

impl Keys {
    /// Puts the admin key of the configuration in place of the one declared before; `None`: it declares none.
    pub fn declare_admin_key(&self, key: Option<&Secret>) {
        self.shared.admin.declared.store(key.map(|key| KeyHash::of(key.expose()).into()));
    }

    /// Reads the stored admin key. Later changes are followed by [`Keys::watch`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn load_admin_key(&self) -> Result<(), StoreError> {
        self.shared.admin.refresh(self.db()).await
    }

    /// Makes the admin key of a gateway that has none, declared or stored. Of several processes that start at once, one
    /// makes it.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn first_admin_key(&self) -> Result<Option<Secret>, ManageError> {
        self.load_admin_key().await?;
        if self.shared.admin.is_set() {
            return Ok(None);
        }
        let secret = random_admin_key()?;
        let hash = KeyHash::of(secret.expose());
        let made = secrets::put_first(self.db(), NAME, &hash, self.now().as_millisecond()).await?;
        self.load_admin_key().await?;
        Ok(made.then_some(secret))
    }

    /// Makes a new admin key in place of the stored one, which stops working here at once and elsewhere within a second.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn rotate_admin_key(&self, actor: &Actor) -> Result<Secret, ManageError> {
        let secret = random_admin_key()?;
        let act = self.act(actor, "admin_key.rotate");
        secrets::put(self.db(), NAME, &KeyHash::of(secret.expose()), &act).await?;
        self.load_admin_key().await?;
        Ok(secret)
    }

    /// Whether the store has an admin key.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn has_stored_admin_key(&self) -> Result<bool, StoreError> {
        self.load_admin_key().await?;
        Ok(self.shared.admin.stored.load().is_some())
    }

    /// The caller of an admin route, if it may do this.
    ///
    /// # Errors
    /// 401 without the admin key, 403 for a key that makes calls, 429 after too many wrong keys from the address, 503
    /// when a key is not known here and the store cannot be asked.
    pub async fn authenticate_admin(
        &self,
        headers: &HeaderMap,
        address: IpAddr,
        permission: Permission,
    ) -> Result<Operator, Error> {
        let key = match presented_key(headers) {
            Ok(key) => key,
            Err(NoKey::Missing) => return Err(Error::client(StatusCode::UNAUTHORIZED, "missing_admin_key", MISSING)),
            Err(NoKey::Malformed) => return Err(self.wrong_key(address, invalid())),
        };
        let hash = KeyHash::of(key);
        if self.shared.admin.is(&hash) && Operator::AdminKey.may(permission) {
            return Ok(Operator::AdminKey);
        }
        let known = match self.known(&hash) {
            Some(known) => Some(known),
            None => self.look_up(&hash, address).await?,
        };
        Err(match known {
            Some(_) => Error::client(StatusCode::FORBIDDEN, "admin_key_required", REQUIRED),
            None => self.wrong_key(address, invalid()),
        })
    }
}

const MISSING: &str =
    "This route takes the gateway's admin key, and none was sent. Send it as `Authorization: Bearer <key>`.";
const INVALID: &str = "This is not the gateway's admin key. It is what `admin.key` or SWITCHBOARD_ADMIN_KEY says, or was \
                       shown at the first start; `switchboard keys admin --rotate` makes a new one.";
const REQUIRED: &str = "This API key makes calls to models. Admin routes take the gateway's admin key alone.";
const NOT_HERE: &str = "This is the gateway's admin key, which makes no calls to models: it would pass every limit. Use \
                        an API key; `switchboard keys create` makes one.";

/// What a call with the admin key is told.
pub(super) fn not_here() -> Error {
    Error::client(StatusCode::FORBIDDEN, "admin_key_not_allowed_here", NOT_HERE)
}

fn invalid() -> Error {
    Error::client(StatusCode::UNAUTHORIZED, "invalid_admin_key", INVALID)
}

/// An admin key looks like one, so that it is noticed where it should not be.
fn random_admin_key() -> Result<Secret, ManageError> {
    Ok(random_key(&format!("{PREFIX}admin-"))?)
}
