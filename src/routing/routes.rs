//! The models, aliases and patterns of one snapshot, and the one resolver of their names.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use super::{
    build::{self, BuildError},
    health::{Known, SlotHealth},
    models::{Model, Resolved, Target, Upstream},
    pattern,
    settings::{HealthSettings, ModelSettings},
};
use crate::providers::{Deadlines, Provider};

/// Everything that can be called, as one snapshot of the settings has it. Never changes; only health moves in it.
#[derive(Debug, Default)]
pub struct Routes {
    /// In the order of their names.
    pub(super) models: Vec<Arc<Model>>,
    /// Models without `*`, by name.
    pub(super) exact: HashMap<Arc<str>, Arc<Model>>,
    /// What each alias leads to.
    pub(super) aliases: BTreeMap<Arc<str>, Resolved>,
    /// Models with `*`, the most specific first.
    pub(super) patterns: Vec<Arc<Model>>,
    pub(super) targets: Vec<Arc<Target>>,
}

impl Routes {
    /// Checks the settings of models and aliases and puts them together.
    ///
    /// `deadlines` are those of a provider, by its name, where model and target say nothing. `previous` hands over what
    /// is known about targets and keys that are still there, attempts under way included.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place in the settings.
    pub fn build(
        models: &BTreeMap<String, ModelSettings>,
        aliases: &BTreeMap<String, String>,
        providers: &BTreeMap<String, Arc<Provider>>,
        deadlines: &dyn Fn(&str) -> Deadlines,
        health: &HealthSettings,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<BuildError>> {
        build::build(models, aliases, providers, deadlines, health, previous)
    }

    /// The one resolver of names: exact model, then alias, then the pattern with the longest literal part. A name with
    /// a `*` is no name: it resolves to nothing.
    pub fn resolve(&self, name: &str) -> Option<Resolved> {
        if let Some(model) = self.exact.get(name) {
            return Some(Resolved { model: model.clone(), star: None, via_alias: None });
        }
        if let Some(resolved) = self.aliases.get(name) {
            return Some(resolved.clone());
        }
        self.patterns.iter().filter(|_| !name.contains('*')).find_map(|model| {
            let star = model.pattern.as_ref()?.captures(name)?;
            model.accepts(star).then(|| Resolved { model: model.clone(), star: Some(star.into()), via_alias: None })
        })
    }

    /// The models and aliases that a key which `allowed` names may use, in the order of their names. Patterns are not
    /// among them: they are not names that a call could use.
    pub fn listed(&self, allowed: &dyn Fn(&str) -> bool) -> Vec<&Arc<str>> {
        let names = self.models.iter().filter(|model| !model.is_pattern()).map(|model| &model.name);
        let mut listed: Vec<_> = names
            .chain(self.aliases.keys())
            .filter(|name| self.resolve(name).is_some_and(|resolved| resolved.permitted(name, allowed)))
            .collect();
        listed.sort_unstable();
        listed
    }

    /// The callable name nearest to one that resolves to nothing, among those that the key may use.
    pub fn nearest(&self, name: &str, allowed: &dyn Fn(&str) -> bool) -> Option<&str> {
        pattern::nearest(name, self.listed(allowed).into_iter().map(|name| &**name))
    }

    /// All models, patterns included, in the order of their names.
    pub fn models(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.iter()
    }

    /// All aliases and what they lead to, in the order of their names.
    pub fn aliases(&self) -> impl Iterator<Item = (&Arc<str>, &Resolved)> {
        self.aliases.iter()
    }

    /// All targets of all models, by their index.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.targets.iter()
    }

    /// How each key of each target is doing, in the order of labels. Targets with one label share their health and
    /// appear once.
    pub fn snapshot(&self, now: Instant) -> Vec<SlotHealth> {
        let targets: BTreeMap<&str, &Arc<Target>> =
            self.targets.iter().map(|target| (&*target.label, target)).collect();
        targets.values().flat_map(|target| target.snapshot(now)).collect()
    }

    /// What is known about the health of targets and keys.
    pub(super) fn known(&self) -> Known {
        let mut known = Known::default();
        for target in &self.targets {
            target.slots.hand_over(&target.provider, &mut known);
        }
        known
    }
}

impl Model {
    /// Whether every target has a model to call when `*` stands for `star`: for `openai/*` it cannot stand for nothing.
    fn accepts(&self, star: &str) -> bool {
        let named = |target: &Arc<Target>| match &target.upstream {
            Upstream::Fixed(_) => true,
            Upstream::Pattern(pattern) => pattern.rank().0 > 0,
        };
        !star.is_empty() || self.targets.iter().all(named)
    }
}
