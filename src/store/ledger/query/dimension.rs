//! What usage can be grouped and filtered by.

use super::sql::Sql;
use crate::store::{Db, ledger::rollup::Rollup};

/// Something about a call, or about its attempts, that usage can be grouped and filtered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// The id of the project.
    Project,
    /// The id of the key.
    Key,
    /// The configured model that served the call; empty when none was reached.
    Model,
    /// The provider of an attempt; empty for a call that was never sent.
    Provider,
    /// The target of an attempt; empty for a call that was never sent.
    Target,
    /// A tag. A call counts under each of its tags.
    Tag,
    EndUser,
    Workflow,
    Session,
    Step,
    Operation,
    /// How the call ended.
    Outcome,
}

/// A dimension and the values it may have.
pub(super) type Wanted<'a> = (Dimension, Vec<&'a str>);

impl Dimension {
    pub const ALL: [Self; 12] = [
        Self::Project,
        Self::Key,
        Self::Model,
        Self::Provider,
        Self::Target,
        Self::Tag,
        Self::EndUser,
        Self::Workflow,
        Self::Session,
        Self::Step,
        Self::Operation,
        Self::Outcome,
    ];

    /// The word used in the usage API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Key => "key",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Target => "target",
            Self::Tag => "tag",
            Self::EndUser => "end_user",
            Self::Workflow => "workflow",
            Self::Session => "session",
            Self::Step => "step",
            Self::Operation => "operation",
            Self::Outcome => "outcome",
        }
    }

    /// The dimension of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.as_str() == word)
    }

    /// Its column in the roll-up `rollup`, if it has one there.
    pub(super) fn in_rollup(self, rollup: Rollup) -> Option<&'static str> {
        let column = match (self, rollup) {
            (Self::Project, _) => "project",
            (Self::Key, _) => "key_id",
            (Self::Model, _) => "model",
            (Self::Provider, _) => "provider",
            (Self::Target, _) => "target",
            (Self::Tag, Rollup::ByTag) | (Self::EndUser, Rollup::ByUser) => "facet",
            (Self::EndUser, Rollup::ByUserAndDay) => "end_user",
            (Self::Workflow, Rollup::ByWorkflow) => "workflow",
            (Self::Step, Rollup::ByWorkflow) => "step",
            (Self::Operation, Rollup::ByOutcome) => "operation",
            (Self::Outcome, Rollup::ByOutcome) => "outcome",
            _ => return None,
        };
        rollup.key().contains(&column).then_some(column)
    }

    /// Its value for a row of `requests` (`r`), joined with a row of `attempts` (`a`) or none, and with a tag (`t`).
    pub(super) fn in_rows(self, db: &Db) -> &'static str {
        match self {
            Self::Project => "r.project",
            Self::Key => "r.key_id",
            Self::Model => "r.model",
            Self::Provider => "coalesce(a.provider, '')",
            Self::Target => "coalesce(a.target, '')",
            Self::Tag => tag_value(db),
            Self::EndUser => "r.end_user",
            Self::Workflow => "r.workflow",
            Self::Session => "r.session",
            Self::Step => "r.step",
            Self::Operation => "r.operation",
            Self::Outcome => "r.outcome",
        }
    }

    /// Its column in `requests`, if a call need not have a value. Calls without one are in no group.
    pub(super) const fn optional(self) -> Option<&'static str> {
        match self {
            Self::Tag => Some("r.tags"),
            Self::EndUser => Some("r.end_user"),
            Self::Workflow => Some("r.workflow"),
            Self::Session => Some("r.session"),
            Self::Step => Some("r.step"),
            _ => None,
        }
    }

    /// Whether it is about an attempt, not about the call.
    pub(super) const fn is_of_attempt(self) -> bool {
        matches!(self, Self::Provider | Self::Target)
    }
}

/// The filters by dimension. Several values for one mean any of them; several dimensions mean all.
pub(super) fn gathered(filters: &[(Dimension, String)]) -> Vec<Wanted<'_>> {
    let mut gathered: Vec<Wanted<'_>> = Vec::new();
    for (dimension, value) in filters {
        match gathered.iter_mut().find(|(known, _)| known == dimension) {
            Some((_, values)) => values.push(value),
            None => gathered.push((*dimension, vec![value])),
        }
    }
    gathered
}

/// A table of the tags of the request `r`, named `t`.
pub(super) const fn tags_of_request(db: &Db) -> &'static str {
    match db {
        Db::Sqlite(..) => "json_each(r.tags) as t",
        Db::Postgres(_) => "json_array_elements_text(r.tags::json) as t(value)",
    }
}

/// Adds `and …` for each of the filters on a call that hold for the call as a whole.
pub(super) fn filter_call(sql: &mut Sql, db: &Db, (dimension, values): &Wanted<'_>) {
    sql.push(" and ");
    match dimension {
        Dimension::Tag => {
            sql.push("exists (select 1 from ").push(tags_of_request(db)).push(" where ");
            sql.one_of(tag_value(db), values).push(")");
        }
        Dimension::Provider | Dimension::Target => {
            sql.push("exists (select 1 from attempts a where a.at = r.at and a.id = r.id and ");
            sql.one_of(if *dimension == Dimension::Provider { "a.provider" } else { "a.target" }, values).push(")");
        }
        _ => {
            sql.one_of(dimension.in_rows(db), values);
        }
    }
}

const fn tag_value(db: &Db) -> &'static str {
    match db {
        Db::Sqlite(..) => "t.value",
        // What comes out of JSON would be compared by language.
        Db::Postgres(_) => "(t.value collate \"C\")",
    }
}
