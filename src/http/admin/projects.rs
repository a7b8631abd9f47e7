//! `/admin/v1/projects`: making, seeing, changing and archiving projects.

use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    endpoint::{Answer, Change},
    keys::NoParams,
    params::Limit,
    quotas::{known_models, take_over},
    undone,
};
use crate::{
    auth::{
        ProjectDraft,
        manage::{OwnQuota, ProjectPage, ProjectView},
    },
    error::Error,
    http::Surface,
    store::ProjectEdit,
    types::present,
};

pub(super) const LIST: &str = "All projects by id";
pub(super) const CREATE: &str = "Make a project";
pub(super) const GET: &str = "One project";
pub(super) const EDIT: &str =
    "Change what a project is and what its keys may do; members that are left out stay as they are";
pub(super) const ARCHIVE: &str = "Archive a project: its keys may do nothing until it is taken out again";
pub(super) const UNARCHIVE: &str = "Take a project out of the archive";

/// Projects on a page unless the query says.
const LIMIT: u32 = 100;

/// Projects on the largest page.
const MAX_LIMIT: u32 = 1_000;

/// What the list takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ListParams {
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many projects at most.
    #[serde(default)]
    limit: Limit<LIMIT, MAX_LIMIT>,
}

/// What a project is named by.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct OneParams {
    /// The project's id.
    id: String,
}

/// A project that is wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewProject {
    /// By what keys and the ledger name it: lower-case letters, digits, `-`, `_`, `.`. It never changes.
    id: String,
    /// For people. Left out: the id.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    name: Option<String>,
    /// What to sort projects by.
    #[serde(default)]
    tags: Vec<String>,
    /// Names and patterns of the models that its keys may use; `["*"]` is all, an empty list none.
    models: Vec<String>,
    /// The operations that its keys may use: `chat`, `completions`, `embeddings`, `messages`, `count_tokens`, `models`.
    /// Left out: all.
    #[serde(default = "super::all")]
    endpoints: Vec<String>,
    /// The addresses and ranges that its keys may be used from, as `192.0.2.7` or `10.0.0.0/8`. Left out: all.
    #[serde(default = "super::all")]
    addresses: Vec<String>,
    /// Whether what calls of its keys say and are answered is logged, if anything is; `false` binds its keys. Left out or
    /// `null`: as the gateway is set.
    #[serde(default)]
    log_content: Option<bool>,
    /// Quotas of its own: rows of their own, made with it.
    #[serde(default)]
    quotas: Vec<OwnQuota>,
}

/// What to change about a project.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EditProject {
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    name: Option<String>,
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
    /// `null`: as the gateway is set.
    #[serde(default, deserialize_with = "present")]
    log_content: Option<Option<bool>>,
    /// Quotas of its own to add. Those it has are changed at `/admin/v1/quotas`.
    #[serde(default)]
    quotas: Vec<OwnQuota>,
}

/// There is nothing to say.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// The project as it was made.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct MadeProject(ProjectView);

impl Answer for ProjectPage {}

impl Answer for ProjectView {
    fn version(&self) -> Option<i64> {
        Some(self.version)
    }
}

impl Answer for MadeProject {
    const STATUS: StatusCode = StatusCode::CREATED;

    fn version(&self) -> Option<i64> {
        self.0.version()
    }
}

pub(super) async fn list(surface: Arc<Surface>, params: ListParams) -> Result<ProjectPage, Error> {
    surface.keys.list_projects(params.cursor.as_deref(), params.limit.0).await.map_err(undone)
}

pub(super) async fn get(surface: Arc<Surface>, params: OneParams) -> Result<ProjectView, Error> {
    surface.keys.project(&params.id).await.map_err(undone)
}

pub(super) async fn create(change: Change, _: NoParams, body: NewProject) -> Result<MadeProject, Error> {
    let Change { surface, actor, .. } = change;
    let NewProject { id, name, tags, models, endpoints, addresses, log_content, quotas } = body;
    known_models(&surface, &quotas)?;
    let draft = ProjectDraft { id, name, tags, models, endpoints, addresses, log_content, quotas };
    let row = surface.keys.create_project(draft, &actor).await.map_err(undone)?;
    take_over(&surface).await;
    Ok(MadeProject(ProjectView::of_row(&row)))
}

pub(super) async fn edit(change: Change, params: OneParams, body: EditProject) -> Result<ProjectView, Error> {
    let Change { surface, actor, expected } = change;
    let EditProject { name, tags, models, endpoints, addresses, log_content, quotas } = body;
    let edit = ProjectEdit { name, tags, models, endpoints, addresses, log_content, archived: None };
    known_models(&surface, &quotas)?;
    let row = surface.keys.update_project(&params.id, edit, quotas, expected, &actor).await.map_err(undone)?;
    take_over(&surface).await;
    Ok(ProjectView::of_row(&row))
}

pub(super) async fn archive(change: Change, params: OneParams, _: Nothing) -> Result<ProjectView, Error> {
    put_away(change, params, true).await
}

pub(super) async fn unarchive(change: Change, params: OneParams, _: Nothing) -> Result<ProjectView, Error> {
    put_away(change, params, false).await
}

async fn put_away(change: Change, params: OneParams, is_archived: bool) -> Result<ProjectView, Error> {
    let Change { surface, actor, expected } = change;
    let row = surface.keys.archive_project(&params.id, is_archived, expected, &actor).await.map_err(undone)?;
    Ok(ProjectView::of_row(&row))
}
