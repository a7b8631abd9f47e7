//! Projects: making and changing stored ones; listing them with those that the file declares. And reading the audit log.

use std::collections::BTreeMap;

use super::{AuditPage, AuditView, Lists, ManageError, OwnQuota, ProjectPage, ProjectView, check_name};
use crate::{
    auth::{
        Keys,
        labels::{check_project, check_tags},
    },
    quotas::settings::Dimension,
    store::{Actor, AuditFilter, Changed, ProjectEdit, ProjectRow, audit, projects},
};

/// A project that somebody wants.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectDraft {
    pub id: String,
    /// Left out: the id.
    pub name: Option<String>,
    pub tags: Vec<String>,
    pub models: Vec<String>,
    pub endpoints: Vec<String>,
    pub addresses: Vec<String>,
    /// Whether what calls of its keys say and are answered is logged; `None`: as the setting says.
    pub log_content: Option<bool>,
    /// Quotas of its own.
    pub quotas: Vec<OwnQuota>,
}

impl Keys {
    /// Makes a project.
    ///
    /// # Errors
    /// For what cannot be, an id that is taken, and when the store cannot be written.
    pub async fn create_project(&self, draft: ProjectDraft, actor: &Actor) -> Result<ProjectRow, ManageError> {
        let ProjectDraft { id, name, tags, models, endpoints, addresses, log_content, quotas } = draft;
        check_project(&id).map_err(|why| ManageError::invalid("id", why))?;
        if self.declared().projects.contains_key(id.as_str()) {
            return Err(ManageError::Declared(id));
        }
        let name = name.unwrap_or_else(|| id.clone());
        let own = self.own_quotas(quotas, Dimension::Project, &id)?;
        let row = ProjectRow {
            id: id.clone(),
            name,
            tags,
            models,
            endpoints,
            addresses,
            log_content,
            created: self.now(),
            archived: None,
            version: 0,
        };
        check(
            Some(&row.name),
            Some(&row.tags),
            Lists { models: Some(&row.models), endpoints: Some(&row.endpoints), addresses: Some(&row.addresses) },
        )?;
        let made = projects::create(self.db(), row, own, &self.act(actor, "project.create")).await?;
        self.refresh_after_write().await;
        made.ok_or(ManageError::Exists(id))
    }

    /// The project with this id: the one that the file declares, or the stored one.
    ///
    /// # Errors
    /// When there is none, and when the store cannot be read.
    pub async fn project(&self, id: &str) -> Result<ProjectView, ManageError> {
        if let Some(settings) = self.declared().project_settings.get(id) {
            return Ok(ProjectView::of_settings(id, settings));
        }
        let row = projects::get(self.db(), id).await?.ok_or_else(|| ManageError::NoProject(id.to_owned()))?;
        Ok(ProjectView::of_row(&row))
    }

    /// One page of all projects by id: those after the id `after`. A project that the file declares stands in place of
    /// the stored one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list_projects(&self, after: Option<&str>, limit: u32) -> Result<ProjectPage, ManageError> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        // One more tells whether there is another page.
        let rows = projects::list(self.db(), after, limit.saturating_add(1)).await?;
        let end = rows.last().map(|row| row.id.clone()).filter(|_| rows.len() > most);
        let mut views: BTreeMap<String, ProjectView> =
            rows.iter().map(|row| (row.id.clone(), ProjectView::of_row(row))).collect();
        for (id, settings) in &self.declared().project_settings {
            let is_after = after.is_none_or(|after| id.as_str() > after);
            if is_after && end.as_ref().is_none_or(|end| id <= end) {
                views.insert(id.clone(), ProjectView::of_settings(id, settings));
            }
        }
        let is_last = views.len() <= most;
        let data: Vec<_> = views.into_values().take(most).collect();
        let next_cursor = data.last().filter(|_| !is_last).map(|view| view.id.clone());
        Ok(ProjectPage { data, next_cursor })
    }

    /// Changes the project with this id, and adds `quotas` of its own; here at once and in other processes within a second. `expected` is the version
    /// that the change is meant for, if that matters.
    ///
    /// # Errors
    /// As [`Keys::create_project`]; for a project that is not there, declared in the file, or at another version.
    pub async fn update_project(
        &self,
        id: &str,
        edit: ProjectEdit,
        quotas: Vec<OwnQuota>,
        expected: Option<i64>,
        actor: &Actor,
    ) -> Result<ProjectRow, ManageError> {
        if self.declared().projects.contains_key(id) {
            return Err(ManageError::Declared(id.to_owned()));
        }
        check(
            edit.name.as_deref(),
            edit.tags.as_deref(),
            Lists {
                models: edit.models.as_deref(),
                endpoints: edit.endpoints.as_deref(),
                addresses: edit.addresses.as_deref(),
            },
        )?;
        let own = self.own_quotas(quotas, Dimension::Project, id)?;
        let action = match edit.archived {
            None => "project.update",
            Some(Some(_)) => "project.archive",
            Some(None) => "project.unarchive",
        };
        match projects::update(self.db(), id, edit, own, expected, &self.act(actor, action)).await? {
            Changed::Done(row) => {
                self.refresh_after_write().await;
                Ok(row)
            }
            Changed::Stale(row) => Err(ManageError::Stale { id: row.id, version: row.version }),
            Changed::Missing | Changed::Closed(_) => Err(ManageError::NoProject(id.to_owned())),
        }
    }

    /// Archives the project with this id, so that its keys may do nothing, or takes it out of the archive.
    ///
    /// # Errors
    /// As [`Keys::update_project`].
    pub async fn archive_project(
        &self,
        id: &str,
        is_archived: bool,
        expected: Option<i64>,
        actor: &Actor,
    ) -> Result<ProjectRow, ManageError> {
        let archived = Some(is_archived.then(|| self.now()));
        self.update_project(id, ProjectEdit { archived, ..ProjectEdit::default() }, Vec::new(), expected, actor).await
    }

    /// One page of the audit log, newest first: what `filter` takes before the row with the id `before`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<&str>,
        limit: u32,
    ) -> Result<AuditPage, ManageError> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let rows = audit::list(self.db(), filter, before, limit.saturating_add(1)).await?;
        let is_last = rows.len() <= most;
        let data: Vec<_> = rows.into_iter().take(most).map(AuditView::of_row).collect();
        let next_cursor = data.last().filter(|_| !is_last).map(|view| view.id.clone());
        Ok(AuditPage { data, next_cursor })
    }
}

fn check(name: Option<&str>, tags: Option<&[String]>, lists: Lists<'_>) -> Result<(), ManageError> {
    if let Some(name) = name {
        check_name(name).map_err(|why| ManageError::invalid("name", why))?;
    }
    if let Some(tags) = tags {
        check_tags(tags).map_err(ManageError::bad_tags)?;
    }
    lists.check()
}
