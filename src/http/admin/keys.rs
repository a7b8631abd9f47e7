//! `/admin/v1/keys`: making, seeing, changing, rotating and revoking keys.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    endpoint::{Answer, Change},
    params::Limit,
    quotas::{known_models, take_over},
    undone,
};
use crate::{
    auth::{
        Draft,
        labels::DEFAULT_PROJECT,
        manage::{KeyPage, KeyView, OwnQuota},
    },
    error::Error,
    http::Surface,
    store::{KeyEdit, KeyFilter, KeyRow, KeyState},
    types::{Moment, Period, Secret, Zone, present},
};

pub(super) const LIST: &str =
    "All keys: the stored ones, oldest first, then those that the configuration file declares";
pub(super) const CREATE: &str = "Make a key; its secret is in this answer and nowhere else";
pub(super) const GET: &str = "One key, without its secret";
pub(super) const EDIT: &str = "Change what a key is and may do; members that are left out stay as they are";
pub(super) const REVOKE: &str = "Revoke a key, for good";
pub(super) const ROTATE: &str = "Give a key a new secret, beside which the one it had works for a while";

/// Keys on a page unless the query says.
const LIMIT: u32 = 100;

/// Keys on the largest page.
const MAX_LIMIT: u32 = 1_000;

/// How long a replaced secret works unless the body says.
const OVERLAP: Period = Period(Duration::from_secs(24 * 3_600));

/// What the list takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ListParams {
    /// Keys of the project with this id.
    project: Option<String>,
    /// Keys of this name.
    name: Option<String>,
    /// Keys that are `active`, `disabled`, `expired` or `revoked`.
    state: Option<State>,
    /// The `next_cursor` of the page before; all else as it was.
    cursor: Option<String>,
    /// How many keys at most.
    #[serde(default)]
    limit: Limit<LIMIT, MAX_LIMIT>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum State {
    Active,
    Disabled,
    Expired,
    Revoked,
}

/// What a key is named by.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct OneParams {
    /// The key's id.
    id: String,
}

/// There are none.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NoParams {}

/// A key that is wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// Who uses it, for people and logs.
    name: String,
    /// The id of its project. Left out: `default`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    project: Option<String>,
    /// What its calls are sorted by.
    #[serde(default)]
    tags: Vec<String>,
    /// Names and patterns of the models it may use; `["*"]` is all, an empty list none.
    models: Vec<String>,
    /// The operations it may use: `chat`, `completions`, `embeddings`, `messages`, `count_tokens`, `models`. Left out:
    /// all.
    #[serde(default = "super::all")]
    endpoints: Vec<String>,
    /// The addresses and ranges it may be used from, as `192.0.2.7` or `10.0.0.0/8`. Left out: all.
    #[serde(default = "super::all")]
    addresses: Vec<String>,
    /// The most output tokens that a call may ask for: more is lowered to it, and a call that says nothing asks for it.
    #[serde(default)]
    #[schemars(range(min = 1))]
    max_tokens: Option<u32>,
    /// Whether what its calls say and are answered is logged, if anything is. Left out or `null`: as its project says.
    #[serde(default)]
    log_content: Option<bool>,
    /// When it stops working: a time with its offset, or a date, which is its midnight in UTC. Left out: never.
    #[serde(default)]
    expires: Option<Moment>,
    /// `false` refuses the key until it is `true`.
    #[serde(default = "yes")]
    enabled: bool,
    /// Quotas of its own: rows of their own, made with it.
    #[serde(default)]
    quotas: Vec<OwnQuota>,
}

/// What to change about a key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EditKey {
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    name: Option<String>,
    /// The project that its calls are booked on from now on.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    project: Option<String>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<String>")]
    tags: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<String>")]
    models: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<String>")]
    endpoints: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<String>")]
    addresses: Option<Vec<String>>,
    /// `null` removes the ceiling.
    #[serde(default, deserialize_with = "present")]
    #[schemars(range(min = 1))]
    max_tokens: Option<Option<u32>>,
    /// `null`: as its project says.
    #[serde(default, deserialize_with = "present")]
    log_content: Option<Option<bool>>,
    /// `false` refuses the key until it is `true` again.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "bool")]
    enabled: Option<bool>,
    /// `null` removes the expiry.
    #[serde(default, deserialize_with = "present")]
    expires: Option<Option<Moment>>,
    /// Quotas of its own to add. Those it has are changed at `/admin/v1/quotas`.
    #[serde(default)]
    quotas: Vec<OwnQuota>,
}

/// How to rotate a key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotate {
    /// How long the present secret goes on working, as `24h`; `0s` ends it at once. One that was replaced before ends now.
    /// Left out: 24h.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Period")]
    overlap: Option<Period>,
}

/// A key with its secret, which is shown this once.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct MadeKey {
    /// The secret. Only its hash is kept.
    key: String,
    #[serde(flatten)]
    about: KeyView,
}

/// A key with its new secret, which is shown this once.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RotatedKey {
    /// The new secret. Only its hash is kept.
    key: String,
    #[serde(flatten)]
    about: KeyView,
}

impl Answer for KeyPage {}

impl Answer for KeyView {
    fn version(&self) -> Option<i64> {
        Some(self.version)
    }
}

impl Answer for MadeKey {
    const STATUS: StatusCode = StatusCode::CREATED;

    fn version(&self) -> Option<i64> {
        self.about.version()
    }
}

impl Answer for RotatedKey {
    fn version(&self) -> Option<i64> {
        self.about.version()
    }
}

pub(super) async fn list(surface: Arc<Surface>, params: ListParams) -> Result<KeyPage, Error> {
    let ListParams { project, name, state, cursor, limit } = params;
    let state = state.map(|state| match state {
        State::Active => KeyState::Active,
        State::Disabled => KeyState::Disabled,
        State::Expired => KeyState::Expired,
        State::Revoked => KeyState::Revoked,
    });
    let filter = KeyFilter { project, name, state: state.map(|state| (state, now(&surface))) };
    surface.keys.list_keys(&filter, cursor.as_deref(), limit.0).await.map_err(undone)
}

pub(super) async fn get(surface: Arc<Surface>, params: OneParams) -> Result<KeyView, Error> {
    surface.keys.key(&params.id).await.map_err(undone)
}

pub(super) async fn create(change: Change, _: NoParams, body: NewKey) -> Result<MadeKey, Error> {
    let Change { surface, actor, .. } = change;
    let NewKey { name, project, tags, models, endpoints, addresses, .. } = body;
    let NewKey { max_tokens, log_content, expires, enabled, quotas, .. } = body;
    let draft = Draft {
        name,
        models,
        endpoints,
        addresses,
        max_tokens,
        log_content,
        expires: expires.map(at).transpose()?,
        enabled,
        project: project.unwrap_or_else(|| DEFAULT_PROJECT.to_owned()),
        tags,
        quotas,
    };
    known_models(&surface, &draft.quotas)?;
    let (row, secret) = surface.keys.create(draft, &actor).await.map_err(undone)?;
    take_over(&surface).await;
    let (key, about) = shown(&surface, &row, &secret);
    Ok(MadeKey { key, about })
}

pub(super) async fn edit(change: Change, params: OneParams, body: EditKey) -> Result<KeyView, Error> {
    let Change { surface, actor, expected } = change;
    let EditKey { name, project, tags, models, endpoints, addresses, .. } = body;
    let EditKey { max_tokens, log_content, enabled, expires, quotas, .. } = body;
    let expires = expires.map(|moment| moment.map(at).transpose()).transpose()?;
    let edit = KeyEdit { name, project, tags, models, endpoints, addresses, max_tokens, log_content, enabled, expires };
    known_models(&surface, &quotas)?;
    let row = surface.keys.update(&params.id, edit, quotas, expected, &actor).await.map_err(undone)?;
    take_over(&surface).await;
    Ok(KeyView::of_row(&row, now(&surface)))
}

pub(super) async fn revoke(change: Change, params: OneParams) -> Result<KeyView, Error> {
    let Change { surface, actor, expected } = change;
    let row = surface.keys.revoke(&params.id, expected, &actor).await.map_err(undone)?;
    Ok(KeyView::of_row(&row, now(&surface)))
}

pub(super) async fn rotate(change: Change, params: OneParams, body: Rotate) -> Result<RotatedKey, Error> {
    let Change { surface, actor, expected } = change;
    let overlap = body.overlap.unwrap_or(OVERLAP).0;
    let (row, secret) = surface.keys.rotate(&params.id, overlap, expected, &actor).await.map_err(undone)?;
    let (key, about) = shown(&surface, &row, &secret);
    Ok(RotatedKey { key, about })
}

fn shown(surface: &Surface, row: &KeyRow, secret: &Secret) -> (String, KeyView) {
    (secret.expose().to_owned(), KeyView::of_row(row, now(surface)))
}

fn yes() -> bool {
    true
}

fn at(moment: Moment) -> Result<Timestamp, Error> {
    moment.at(&Zone::UTC).map_err(|why| Error::bad_field("invalid_body", "expires", why))
}

fn now(surface: &Surface) -> Timestamp {
    Timestamp::try_from(surface.clock.wall()).unwrap_or(Timestamp::MAX)
}
