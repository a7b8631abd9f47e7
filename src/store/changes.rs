//! The counters of changes, one for each topic.
//!
//! Every write of a key, a project or a quota takes the next number of its topic and leaves it on its row, in one transaction.
//! Because the counter's row is locked by that, writers go one after another, and a reader that saw number `n` has seen
//! every change up to `n`. So another process learns of a change by comparing numbers, and fetches only the rows that
//! are newer.

use super::{Db, StoreError, run::on};

/// The number of the last change of each topic, by whatever process. Comparing them with those seen before is the cheap
/// way to learn that nothing changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Markers {
    pub keys: i64,
    pub projects: i64,
    pub quotas: i64,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Changed<T> {
    /// It holds now: the row as it is. A change that changes nothing leaves no trace, and is done, too.
    Done(T),
    /// There is no such row.
    Missing,
    /// Somebody else has changed it since the version that the change was meant for: the row as it is.
    Stale(T),
    /// The row takes no changes any more.
    Closed(T),
}

/// # Errors
/// When the database cannot be read.
pub async fn markers(db: &Db) -> Result<Markers, StoreError> {
    const ALL: &str = "select topic, version from changes";
    on!(db, |connection| {
        let mut markers = Markers::default();
        let rows: Vec<(String, i64)> = sqlx::query_as(ALL).fetch_all(connection).await?;
        for (topic, version) in rows {
            match topic.as_str() {
                "keys" => markers.keys = version,
                "projects" => markers.projects = version,
                "quotas" => markers.quotas = version,
                _ => {}
            }
        }
        Ok(markers)
    })
}

impl<T> Changed<T> {
    /// The row, if the change was made.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(row) => Some(row),
            Self::Missing | Self::Stale(_) | Self::Closed(_) => None,
        }
    }
}
