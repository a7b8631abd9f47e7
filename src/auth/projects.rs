//! Known projects in memory. A key may do what its project allows, so every call looks here; what was said of keys in
//! `cache` is so for projects, too, but that there are few of them: one map, replaced as a whole.
//!
//! That a project does *not* exist is remembered as well: its keys may do nothing, and asking the store each time would
//! let them do that to the store.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;

use super::rights::Rights;
use crate::store::ProjectRow;

/// What calls must know of a project. Never changed: an edit makes a new one.
#[derive(Debug, PartialEq)]
pub struct Project {
    pub id: Arc<str>,
    /// What its keys may do.
    pub rights: Rights,
    /// Whether what is said in their calls is logged, if it has a say in that.
    pub log_content: Option<bool>,
    /// Its keys may do nothing.
    pub is_archived: bool,
}

/// The cache.
#[derive(Default)]
pub(super) struct ProjectCache {
    map: ArcSwap<Map>,
    /// How often a change was noticed. Held by whoever writes.
    generation: Mutex<u64>,
}

/// `None`: there is no such project.
type Map = HashMap<Arc<str>, Option<Arc<Project>>>;

/// The bound of the map. Of a project that had to give way, the next call asks the store once.
const MAX: usize = 10_000;

impl Project {
    pub(super) fn of_row(row: &ProjectRow) -> Self {
        Self {
            id: row.id.as_str().into(),
            rights: Rights::of_row(&row.id, &row.models, &row.endpoints, &row.addresses),
            log_content: row.log_content,
            is_archived: row.archived.is_some(),
        }
    }

    /// A project of which nobody could say anything yet: it takes nothing away.
    pub(super) fn open(id: Arc<str>) -> Self {
        Self { id, rights: Rights::all(), log_content: None, is_archived: false }
    }
}

impl ProjectCache {
    /// What is known of the project: `None` is nothing, `Some(None)` that it does not exist.
    pub(super) fn get(&self, id: &str) -> Option<Option<Arc<Project>>> {
        self.map.load().get(id).cloned()
    }

    /// To be asked for before the store is.
    pub(super) fn generation(&self) -> u64 {
        *self.lock()
    }

    /// Keeps what the store said, unless a change was noticed since `asked`.
    pub(super) fn put(&self, id: &str, project: Option<Arc<Project>>, asked: u64) {
        let generation = self.lock();
        if *generation != asked {
            return;
        }
        let mut next = Map::clone(&self.map.load());
        if next.len() >= MAX
            && let Some(victim) = next.keys().nth(fastrand::usize(..next.len())).cloned()
        {
            next.remove(&victim);
        }
        next.insert(id.into(), project);
        self.map.store(Arc::new(next));
    }

    /// Takes over rows that have changed. Projects that nobody has asked for yet stay out.
    pub(super) fn apply(&self, changed: &[ProjectRow]) {
        let mut generation = self.lock();
        *generation += 1;
        let known = self.map.load();
        let changed: Vec<_> = changed.iter().filter(|row| known.contains_key(row.id.as_str())).collect();
        if changed.is_empty() {
            return;
        }
        let mut next = Map::clone(&known);
        for row in changed {
            next.insert(row.id.as_str().into(), Some(Arc::new(Project::of_row(row))));
        }
        self.map.store(Arc::new(next));
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        let mut generation = self.lock();
        *generation += 1;
        self.map.store(Arc::default());
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        // A number has no broken state that a panic could leave behind.
        self.generation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn row(id: &str, models: &[&str]) -> ProjectRow {
        let all = vec!["*".to_owned()];
        ProjectRow {
            id: id.to_owned(),
            name: id.to_owned(),
            tags: Vec::new(),
            models: models.iter().map(|&model| model.to_owned()).collect(),
            endpoints: all.clone(),
            addresses: all,
            log_content: None,
            created: Timestamp::UNIX_EPOCH,
            archived: None,
            version: 1,
        }
    }

    fn allows(cache: &ProjectCache, id: &str, model: &str) -> Option<bool> {
        cache.get(id).map(|project| project.is_some_and(|project| project.rights.models.allows(model)))
    }

    #[test]
    fn a_change_wins_over_a_row_that_was_read_before_it() {
        let cache = ProjectCache::default();
        let asked = cache.generation();
        cache.put("a", Some(Arc::new(Project::of_row(&row("a", &["*"])))), asked);
        cache.put("gone", None, asked);
        assert_eq!((allows(&cache, "a", "m"), allows(&cache, "gone", "m")), (Some(true), Some(false)));
        cache.apply(&[row("a", &[]), row("gone", &["m"]), row("unasked", &["*"])]);
        assert_eq!((allows(&cache, "a", "m"), allows(&cache, "gone", "m")), (Some(false), Some(true)));
        assert_eq!(allows(&cache, "unasked", "m"), None);
        cache.put("a", Some(Arc::new(Project::of_row(&row("a", &["*"])))), asked);
        assert_eq!(allows(&cache, "a", "m"), Some(false));
        cache.clear();
        assert_eq!(allows(&cache, "a", "m"), None);
    }

    #[test]
    fn a_row_that_nobody_can_read_grants_nothing() {
        let mut bad = row("a", &["*"]);
        bad.addresses = vec!["10.0.0.0/99".to_owned()];
        let project = Project::of_row(&bad);
        assert_eq!(project.rights, Rights::default());
    }

    #[test]
    fn the_map_is_bounded() {
        let cache = ProjectCache::default();
        // Filled at once: putting in each by itself would copy the map each time.
        let full = (0..MAX).map(|n| (Arc::from(format!("p{n}")), None)).collect::<Map>();
        cache.map.store(Arc::new(full));
        cache.put("one more", None, 0);
        assert_eq!(cache.map.load().len(), MAX);
        assert!(cache.get("one more").is_some());
    }
}
