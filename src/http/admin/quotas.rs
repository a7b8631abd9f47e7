//! `/admin/v1/quotas`: making, seeing, changing and deleting quotas.

use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    endpoint::{Answer, Change},
    keys::NoParams,
    params::Limit,
    undone,
};
use crate::{
    auth::manage::{ManageError, OwnQuota, QuotaChange, QuotaPage, QuotaView},
    error::Error,
    http::Surface,
    quotas::settings::{Action, QuotaSettings},
    store::{QuotaFilter, QuotaRow},
};

pub(super) const LIST: &str =
    "All quotas: the stored ones, oldest first, then those that the configuration file declares";
pub(super) const CREATE: &str = "Make a quota";
pub(super) const GET: &str = "One quota";
pub(super) const EDIT: &str = "Change what a quota says; members that are left out stay as they are";
pub(super) const DELETE: &str = "Delete a quota, for good";

/// Quotas on a page unless the query says.
const LIMIT: u32 = 100;

/// Quotas on the largest page.
const MAX_LIMIT: u32 = 1_000;

/// What the list takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ListParams {
    /// Quotas of the key with this id.
    key: Option<String>,
    /// Quotas of the project with this id.
    project: Option<String>,
    /// Quotas of this name.
    name: Option<String>,
    /// The `next_cursor` of the page before; all else as it was.
    cursor: Option<String>,
    /// How many quotas at most.
    #[serde(default)]
    limit: Limit<LIMIT, MAX_LIMIT>,
}

/// Which quota, and whose use of it.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct GetParams {
    /// The quota's id.
    id: String,
    /// Whose counter to show: a value of the scope (a key also by its name); of a scope of several words a value for each, with
    /// commas. Left out: those that the quota names, or the ten that the ledger has most of.
    subject: Option<String>,
}

/// What a quota is named by.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct OneParams {
    /// The quota's id.
    id: String,
}

/// The quota as it was made.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct MadeQuota(QuotaView);

impl Answer for QuotaPage {}

impl Answer for QuotaView {
    fn version(&self) -> Option<i64> {
        Some(self.version)
    }
}

impl Answer for MadeQuota {
    const STATUS: StatusCode = StatusCode::CREATED;

    fn version(&self) -> Option<i64> {
        self.0.version()
    }
}

pub(super) async fn list(surface: Arc<Surface>, params: ListParams) -> Result<QuotaPage, Error> {
    let ListParams { key, project, name, cursor, limit } = params;
    if key.is_some() && project.is_some() {
        let why = "A quota is of a key or of a project: ask for one of them.";
        return Err(Error::bad_field("invalid_parameter", "project", why));
    }
    let owner = key.map(|key| ("key", key)).or(project.map(|project| ("project", project)));
    let filter = QuotaFilter { owner, name };
    let mut page = surface.keys.list_quotas(&filter, cursor.as_deref(), limit.0).await.map_err(undone)?;
    surface.keys.add_use(&surface.gateway.quotas, &mut page.data).await.map_err(undone)?;
    Ok(page)
}

pub(super) async fn get(surface: Arc<Surface>, params: GetParams) -> Result<QuotaView, Error> {
    let GetParams { id, subject } = params;
    let mut view = surface.keys.quota(&id).await.map_err(undone)?;
    let (quotas, subject) = (&surface.gateway.quotas, subject.as_deref());
    surface.keys.add_use_of(quotas, &mut view, subject).await.map_err(|error| match error {
        ManageError::Invalid { path, message } => {
            Error::bad_field("invalid_parameter", path, super::sentence(&message))
        }
        other => undone(other),
    })?;
    Ok(view)
}

pub(super) async fn create(change: Change, _: NoParams, body: QuotaSettings) -> Result<MadeQuota, Error> {
    let Change { surface, actor, .. } = change;
    known_model(&surface, &body.action, String::new)?;
    let row = surface.keys.create_quota(&body, &actor).await.map_err(undone)?;
    shown(&surface, &row).await.map(MadeQuota)
}

pub(super) async fn edit(change: Change, params: OneParams, body: QuotaChange) -> Result<QuotaView, Error> {
    let Change { surface, actor, expected } = change;
    body.action.iter().try_for_each(|action| known_model(&surface, action, String::new))?;
    let row = surface.keys.update_quota(&params.id, body, expected, &actor).await.map_err(undone)?;
    shown(&surface, &row).await
}

pub(super) async fn delete(change: Change, params: OneParams) -> Result<QuotaView, Error> {
    let Change { surface, actor, expected } = change;
    let row = surface.keys.delete_quota(&params.id, expected, &actor).await.map_err(undone)?;
    shown(&surface, &row).await
}

/// Refuses quotas that lead calls to a model that is not there, as in the file.
pub(super) fn known_models(surface: &Surface, own: &[OwnQuota]) -> Result<(), Error> {
    let known =
        |(index, quota): (usize, &OwnQuota)| known_model(surface, &quota.action, || format!("quotas[{index}]."));
    own.iter().enumerate().try_for_each(known)
}

fn known_model(surface: &Surface, action: &Action, within: impl FnOnce() -> String) -> Result<(), Error> {
    let Action::Downgrade(to) = action else { return Ok(()) };
    if to.is_empty() || to.contains('*') || surface.gateway.snapshot.load().routes.resolve(to).is_some() {
        return Ok(());
    }
    let name: String = to.chars().take(60).flat_map(char::escape_debug).collect();
    Err(Error::bad_field("invalid_body", within() + "action.downgrade", format!("There is no model `{name}`.")))
}

/// The quota, once it is in force here. Where that fails, it will be within a second.
async fn shown(surface: &Surface, row: &QuotaRow) -> Result<QuotaView, Error> {
    take_over(surface).await;
    QuotaView::of_row(row).map_err(undone)
}

/// Puts stored quotas in force here at once.
pub(super) async fn take_over(surface: &Surface) {
    if let Err(error) = surface.stored_quotas.refresh().await {
        tracing::debug!(%error, "a change of quotas was not taken over at once");
    }
}
