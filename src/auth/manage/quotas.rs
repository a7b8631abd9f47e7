//! Quotas: making, changing and deleting stored ones; listing them with those that the file declares.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::{ManageError, UseView, are_stored_wanted, check_stored, page};
use crate::{
    auth::{Keys, declared::DECLARED},
    quotas::{
        BadQuota, Rule,
        settings::{
            Action, Amount, Dimension, Match, Measure, MidStream, QuotaSettings, Raise, Scope, WhenDown, WindowSettings,
        },
    },
    store::{Actor, Changed, QuotaEdit, QuotaFilter, QuotaRow, quotas},
    types::present,
};

/// A quota of one key or one project, which is said elsewhere: a quota without scope and names.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnQuota {
    /// A name for people. Left out: put together from what the quota says.
    #[serde(default)]
    pub name: Option<String>,
    /// What is counted.
    pub measure: Measure,
    /// The most there may be of it.
    pub limit: Amount,
    /// In which time. Concurrent calls have none.
    #[serde(default)]
    pub window: Option<WindowSettings>,
    /// What becomes of a call that does not fit.
    #[serde(default)]
    pub action: Action,
    /// Parts of the limit at which the webhook is told.
    #[serde(default)]
    pub warn_at: Vec<f64>,
    #[serde(default)]
    pub mid_stream: MidStream,
    #[serde(default)]
    pub when_down: WhenDown,
    /// Another limit for a time.
    #[serde(default)]
    pub raise: Option<Raise>,
}

/// What to change about a quota; members that are left out stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[schemars(rename = "EditQuota")]
#[serde(deny_unknown_fields)]
pub struct QuotaChange {
    /// `null`: it is put together from what the quota says.
    #[serde(default, deserialize_with = "present")]
    pub name: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Scope")]
    pub scope: Option<Scope>,
    #[serde(default, deserialize_with = "present", rename = "match")]
    #[schemars(with = "Match")]
    pub matching: Option<Match>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Measure")]
    pub measure: Option<Measure>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Amount")]
    pub limit: Option<Amount>,
    /// `null`: none, for concurrent calls.
    #[serde(default, deserialize_with = "present")]
    pub window: Option<Option<WindowSettings>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Action")]
    pub action: Option<Action>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<f64>")]
    pub warn_at: Option<Vec<f64>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "MidStream")]
    pub mid_stream: Option<MidStream>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "WhenDown")]
    pub when_down: Option<WhenDown>,
    /// `null` ends a temporary raise.
    #[serde(default, deserialize_with = "present")]
    pub raise: Option<Option<Raise>>,
    /// `false`: it is not in force.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "bool")]
    pub enabled: Option<bool>,
}

/// A quota.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Quota")]
pub struct QuotaView {
    /// Made by the gateway; `declared:NAME` for a quota that the configuration file declares.
    pub id: String,
    /// The name that answers and metrics call it by.
    pub name: String,
    /// What it says.
    pub quota: QuotaSettings,
    /// `false`: it is not in force.
    pub enabled: bool,
    /// `null` for a declared quota.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub created: Option<Timestamp>,
    /// When it was deleted, for good.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub deleted: Option<Timestamp>,
    /// Declared in the configuration file, and to be changed there alone.
    pub declared: bool,
    /// The number of the last change, for `If-Match`; 0 for a declared quota.
    pub version: i64,
    /// How much of it is used now. `null` in the answer to a change; where the quota is not in force, or does not know yet what
    /// came before it; and in a list, where it has a counter for each one that turns up: ask for that quota alone.
    pub used: Option<UseView>,
}

/// A page of quotas.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct QuotaPage {
    pub data: Vec<QuotaView>,
    /// Ask again with it as `cursor` for the next page; `null` on the last.
    pub next_cursor: Option<String>,
}

/// The most quotas that a key or a project is made with.
const MOST_OWN: usize = 20;

impl OwnQuota {
    fn of(self, dimension: Dimension, id: &str) -> QuotaSettings {
        let Self { name, measure, limit, window, action, warn_at, mid_stream, when_down, raise } = self;
        QuotaSettings {
            name,
            scope: Scope(vec![dimension]),
            matching: Match::Names(vec![id.to_owned()]),
            measure,
            limit,
            window,
            action,
            warn_at,
            mid_stream,
            when_down,
            raise,
        }
    }
}

impl QuotaChange {
    /// The settings after the change.
    fn apply(self, mut settings: QuotaSettings) -> (QuotaSettings, Option<bool>) {
        fn set<T>(member: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *member = value;
            }
        }
        let Self {
            name,
            scope,
            matching,
            measure,
            limit,
            window,
            action,
            warn_at,
            mid_stream,
            when_down,
            raise,
            enabled,
        } = self;
        set(&mut settings.name, name);
        set(&mut settings.scope, scope);
        set(&mut settings.matching, matching);
        set(&mut settings.measure, measure);
        set(&mut settings.limit, limit);
        set(&mut settings.window, window);
        set(&mut settings.action, action);
        set(&mut settings.warn_at, warn_at);
        set(&mut settings.mid_stream, mid_stream);
        set(&mut settings.when_down, when_down);
        set(&mut settings.raise, raise);
        (settings, enabled)
    }
}

impl Keys {
    /// Makes a quota. It is in force on every gateway within a second.
    ///
    /// # Errors
    /// For what makes no sense, and when the store cannot be written.
    pub async fn create_quota(&self, settings: &QuotaSettings, actor: &Actor) -> Result<QuotaRow, ManageError> {
        let row = self.quota_row(settings, "")?;
        let made = quotas::create(self.db(), vec![row], &self.act(actor, "quota.create")).await?;
        made.into_iter().next().ok_or_else(|| ManageError::NoQuota(String::new()))
    }

    /// Rows of quotas for the key or project with this id.
    pub(super) fn own_quotas(
        &self,
        own: Vec<OwnQuota>,
        dimension: Dimension,
        id: &str,
    ) -> Result<Vec<QuotaRow>, ManageError> {
        if own.len() > MOST_OWN {
            let message = format!("there are {} quotas; at most {MOST_OWN} are made at a time", own.len());
            return Err(ManageError::invalid("quotas", message));
        }
        let rows = own.into_iter().enumerate();
        rows.map(|(index, own)| self.quota_row(&own.of(dimension, id), &format!("quotas[{index}]."))).collect()
    }

    /// `at` stands before the paths of complaints.
    fn quota_row(&self, settings: &QuotaSettings, at: &str) -> Result<QuotaRow, ManageError> {
        let (owner_kind, owner) = owner(settings);
        Ok(QuotaRow {
            id: Ulid::from_parts(self.clock().unix_millis(), fastrand::u128(..)).to_string(),
            name: checked(settings, at)?,
            owner_kind,
            owner,
            spec: written(settings)?,
            enabled: true,
            created: self.now(),
            deleted: None,
            version: 0,
        })
    }

    /// The quota with this id, stored or declared in the file.
    ///
    /// # Errors
    /// When there is none, and when the store cannot be read.
    pub async fn quota(&self, id: &str) -> Result<QuotaView, ManageError> {
        let missing = || ManageError::NoQuota(id.to_owned());
        if id.starts_with(DECLARED) {
            let declared = self.declared();
            let mut views = declared.quota_settings.iter().map(QuotaView::of_settings);
            return views.find(|view| view.id == id).ok_or_else(missing);
        }
        let row = quotas::get(self.db(), id).await?.ok_or_else(missing)?;
        QuotaView::of_row(&row)
    }

    /// The one quota that a person means by its id or its name.
    ///
    /// # Errors
    /// When there is none or more than one, and when the store cannot be read.
    pub async fn find_quota(&self, text: &str) -> Result<QuotaRow, ManageError> {
        if let Some(row) = quotas::get(self.db(), &text.to_ascii_uppercase()).await? {
            return Ok(row);
        }
        let filter = QuotaFilter { name: Some(text.to_owned()), ..QuotaFilter::default() };
        let mut found = quotas::list(self.db(), &filter, None, 10).await?;
        match (found.pop(), found.is_empty()) {
            (Some(row), true) => Ok(row),
            (None, _) => Err(ManageError::NoQuota(text.to_owned())),
            (Some(last), false) => {
                found.push(last);
                let ids = found.into_iter().map(|row| row.id).collect();
                Err(ManageError::Ambiguous { text: text.to_owned(), ids })
            }
        }
    }

    /// As [`Keys::find_quota`], those that the file declares among them: by their name, or `declared:NAME`.
    ///
    /// # Errors
    /// As there.
    pub async fn find_any_quota(&self, text: &str) -> Result<QuotaView, ManageError> {
        let declared = self.declared();
        let named = |view: &QuotaView| view.name == text || view.id == text;
        let declared = declared.quota_settings.iter().map(QuotaView::of_settings).find(named);
        match (self.find_quota(text).await, declared) {
            (Err(ManageError::NoQuota(_)), Some(declared)) => Ok(declared),
            (Err(ManageError::Ambiguous { text, mut ids }), Some(declared)) => {
                ids.push(declared.id);
                Err(ManageError::Ambiguous { text, ids })
            }
            // An id is meant, whatever else has it for a name.
            (Ok(row), Some(declared)) if row.name == declared.name => {
                Err(ManageError::Ambiguous { text: text.to_owned(), ids: vec![row.id, declared.id] })
            }
            (row, _) => QuotaView::of_row(&row?),
        }
    }

    /// One page of the quotas that `filter` takes: the stored ones, oldest first, then those that the file declares.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list_quotas(
        &self,
        filter: &QuotaFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<QuotaPage, ManageError> {
        let mut stored: Vec<QuotaView> = Vec::new();
        if are_stored_wanted(after) {
            for row in &quotas::list(self.db(), filter, after, limit.saturating_add(1)).await? {
                stored.push(QuotaView::of_row(row)?);
            }
        }
        let declared = self.declared();
        let declared = declared
            .quota_settings
            .iter()
            .map(QuotaView::of_settings)
            .filter(|view| filter.name.as_ref().is_none_or(|name| *name == view.name))
            .filter(|view| {
                let (kind, id) = owner(&view.quota);
                filter.owner.as_ref().is_none_or(|(wanted, owner)| *wanted == kind && *owner == id)
            });
        let (data, next_cursor) = page(stored, declared, after, limit, |view| &view.id);
        Ok(QuotaPage { data, next_cursor })
    }

    /// Changes the quota with this id; on every gateway within a second. What has been counted stays, as long as what is
    /// counted is the same.
    ///
    /// # Errors
    /// As [`Keys::create_quota`]; for a quota that is not there, declared in the file, or at another version.
    pub async fn update_quota(
        &self,
        id: &str,
        change: QuotaChange,
        expected: Option<i64>,
        actor: &Actor,
    ) -> Result<QuotaRow, ManageError> {
        check_stored(id)?;
        let missing = || ManageError::NoQuota(id.to_owned());
        // What the change makes of it depends on what it is, so it is made for that version and no other.
        for _ in 0..3 {
            let found = quotas::get(self.db(), id).await?.ok_or_else(missing)?;
            if let Some(expected) = expected
                && expected != found.version
            {
                return Err(ManageError::Stale { id: found.id, version: found.version });
            }
            let (settings, enabled) = change.clone().apply(read(&found)?);
            let (owner_kind, owner) = owner(&settings);
            let edit = QuotaEdit {
                name: Some(checked(&settings, "")?),
                owner_kind: Some(owner_kind),
                owner: Some(owner),
                spec: Some(written(&settings)?),
                enabled,
                deleted: None,
            };
            let act = self.act(actor, "quota.update");
            match quotas::update(self.db(), id, edit, Some(found.version), &act).await? {
                Changed::Done(row) => return Ok(row),
                Changed::Stale(row) if expected.is_some() => {
                    return Err(ManageError::Stale { id: row.id, version: row.version });
                }
                // Somebody was faster.
                Changed::Stale(_) => {}
                Changed::Missing | Changed::Closed(_) => return Err(missing()),
            }
        }
        let version = quotas::get(self.db(), id).await?.ok_or_else(missing)?.version;
        Err(ManageError::Stale { id: id.to_owned(), version })
    }

    /// Deletes the quota with this id, for good; on every gateway within a second.
    ///
    /// # Errors
    /// For a quota that is not there, declared in the file, or at another version.
    pub async fn delete_quota(&self, id: &str, expected: Option<i64>, actor: &Actor) -> Result<QuotaRow, ManageError> {
        check_stored(id)?;
        let edit = QuotaEdit { deleted: Some(self.now()), ..QuotaEdit::default() };
        match quotas::update(self.db(), id, edit, expected, &self.act(actor, "quota.delete")).await? {
            Changed::Done(row) => Ok(row),
            Changed::Stale(row) => Err(ManageError::Stale { id: row.id, version: row.version }),
            Changed::Missing | Changed::Closed(_) => Err(ManageError::NoQuota(id.to_owned())),
        }
    }
}

impl QuotaView {
    /// # Errors
    /// When nobody can read what is stored.
    pub fn of_row(row: &QuotaRow) -> Result<Self, ManageError> {
        Ok(Self {
            id: row.id.clone(),
            name: row.name.clone(),
            quota: read(row)?,
            enabled: row.enabled,
            created: Some(row.created),
            deleted: row.deleted,
            declared: false,
            version: row.version,
            used: None,
        })
    }

    fn of_settings(settings: &QuotaSettings) -> Self {
        let name = name_of(settings);
        Self {
            id: format!("{DECLARED}{name}"),
            name,
            quota: settings.clone(),
            enabled: true,
            created: None,
            deleted: None,
            declared: true,
            version: 0,
            used: None,
        }
    }
}

fn name_of(settings: &QuotaSettings) -> String {
    settings.name.clone().unwrap_or_else(|| settings.derived_name())
}

/// The key or project that a quota is about, where it is one.
fn owner(settings: &QuotaSettings) -> (String, String) {
    match (settings.scope.0.as_slice(), &settings.matching) {
        ([dimension @ (Dimension::Key | Dimension::Project)], Match::Names(names)) => match names.as_slice() {
            [name] if !name.contains('*') => (dimension.as_str().to_owned(), name.clone()),
            _ => Default::default(),
        },
        _ => Default::default(),
    }
}

/// The name of a quota that makes sense.
fn checked(settings: &QuotaSettings, at: &str) -> Result<String, ManageError> {
    match Rule::new("", settings) {
        Ok(_) => Ok(name_of(settings)),
        Err(bad) => {
            let first = bad.into_iter().next();
            let BadQuota { path, message } =
                first.unwrap_or_else(|| BadQuota { path: Vec::new(), message: "this makes no sense".to_owned() });
            Err(ManageError::invalid(format!("{at}{}", path.join(".")), message))
        }
    }
}

fn written(settings: &QuotaSettings) -> Result<String, ManageError> {
    serde_json::to_string(settings).map_err(|error| ManageError::invalid("", error.to_string()))
}

fn read(row: &QuotaRow) -> Result<QuotaSettings, ManageError> {
    serde_json::from_str(&row.spec).map_err(|error| {
        ManageError::invalid("", format!("what is stored of the quota {} cannot be read: {error}", row.id))
    })
}
