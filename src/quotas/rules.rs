//! All quotas in force, and which of them concern a call.
//!
//! Thousands of quotas are usually about one key or one project each. They are found by that name; the others are looked
//! at for every call.

use std::{collections::HashMap, sync::Arc};

use smallvec::SmallVec;

use super::{rule::Rule, settings::Dimension, subject::Subject};

/// Quotas, by whom they are about.
#[derive(Debug, Default)]
pub(super) struct Rules {
    by_key: HashMap<Box<str>, Vec<Arc<Rule>>>,
    by_project: HashMap<Box<str>, Vec<Arc<Rule>>>,
    by_end_user: HashMap<Box<str>, Vec<Arc<Rule>>>,
    others: Vec<Arc<Rule>>,
}

/// The quotas that concern a call, wherever it goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Concern(SmallVec<[Arc<Rule>; 4]>);

impl Rules {
    pub(super) fn new(rules: impl IntoIterator<Item = Arc<Rule>>) -> Self {
        let mut all = Self::default();
        for rule in rules {
            let named = rule.filters.iter().find_map(|(dimension, filter)| {
                let of_names = matches!(dimension, Dimension::Key | Dimension::Project | Dimension::EndUser);
                Some((*dimension, filter.names().filter(|_| of_names)?))
            });
            let Some((dimension, names)) = named else {
                all.others.push(rule);
                continue;
            };
            let by = match dimension {
                Dimension::Key => &mut all.by_key,
                Dimension::Project => &mut all.by_project,
                _ => &mut all.by_end_user,
            };
            for name in names {
                let of_name: &mut Vec<Arc<Rule>> = by.entry(name.into()).or_default();
                if !of_name.iter().any(|known| Arc::ptr_eq(known, &rule)) {
                    of_name.push(rule.clone());
                }
            }
        }
        all
    }

    /// Those that may concern a call on behalf of `subject`.
    pub(super) fn concerning(&self, subject: &Subject<'_>) -> Concern {
        let named = [
            self.by_key.get(subject.key),
            self.by_key.get(subject.key_name).filter(|_| subject.key != subject.key_name),
            self.by_project.get(subject.project),
            subject.end_user.and_then(|user| self.by_end_user.get(user)),
        ];
        let mut concern = Concern::default();
        for rule in named.into_iter().flatten().flatten().chain(&self.others) {
            // A key whose name is another's id would find a rule twice.
            if !concern.0.iter().any(|known| Arc::ptr_eq(known, rule)) {
                concern.0.push(rule.clone());
            }
        }
        concern
    }

    pub(super) fn is_empty(&self) -> bool {
        self.others.is_empty() && self.by_key.is_empty() && self.by_project.is_empty() && self.by_end_user.is_empty()
    }

    /// Each of them once.
    pub(super) fn all(&self) -> Vec<Arc<Rule>> {
        let named = [&self.by_key, &self.by_project, &self.by_end_user];
        let mut all: Vec<Arc<Rule>> = named.into_iter().flat_map(HashMap::values).flatten().cloned().collect();
        all.extend(self.others.iter().cloned());
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all.dedup_by(|a, b| Arc::ptr_eq(a, b));
        all
    }
}

impl Concern {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.0.iter()
    }
}
