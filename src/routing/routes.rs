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
    settings::{HealthSettings, Lossy, ModelSettings},
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
    /// What is known about the health of targets and keys; passed on from snapshot to snapshot.
    pub(super) known: Arc<Known>,
}

impl Routes {
    /// Checks the settings of models and aliases and puts them together.
    ///
    /// `deadlines` are those of a provider, by its name, where model and target say nothing, and `lossy` holds for models
    /// that say nothing. `previous` hands over what
    /// is known about targets and keys that are still there, attempts under way included.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place in the settings.
    pub fn build(
        models: &BTreeMap<String, ModelSettings>,
        aliases: &BTreeMap<String, String>,
        providers: &BTreeMap<String, Arc<Provider>>,
        deadlines: &dyn Fn(&str) -> Deadlines,
        lossy: Lossy,
        health: &HealthSettings,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<BuildError>> {
        build::build(models, aliases, providers, deadlines, lossy, health, previous)
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
        if name.contains('*') {
            return None;
        }
        self.patterns.iter().find_map(|model| {
            let star = model.pattern.as_ref()?.captures(name)?;
            model.accepts(star).then(|| Resolved { model: model.clone(), star: Some(star.into()), via_alias: None })
        })
    }

    /// The models and aliases that a caller may use, by what is `allowed` ([`Resolved::permitted`]), in the order of their
    /// names. Patterns are not among them: they are not names that a call could use.
    pub fn listed(&self, allowed: &dyn Fn(&[&str]) -> bool) -> Vec<&Arc<str>> {
        let names = self.models.iter().filter(|model| !model.is_pattern()).map(|model| &model.name);
        let mut listed: Vec<_> = names
            .chain(self.aliases.keys())
            .filter(|name| self.resolve(name).is_some_and(|resolved| resolved.permitted(name, allowed)))
            .collect();
        listed.sort_unstable();
        listed
    }

    /// The callable name nearest to one that resolves to nothing, among those that the caller may use.
    pub fn nearest(&self, name: &str, allowed: &dyn Fn(&[&str]) -> bool) -> Option<&str> {
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

    /// How each key of each target is doing, in the order of labels, upstream models and keys. Targets of several models
    /// that mean the same share their health and appear once.
    pub fn snapshot(&self, now: Instant) -> Vec<SlotHealth> {
        let all = self.targets.iter().flat_map(|target| target.snapshot(now));
        let ordered: BTreeMap<_, _> =
            all.map(|slot| ((slot.target.clone(), slot.model.clone(), slot.key), slot)).collect();
        ordered.into_values().collect()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{auth::ModelAccess, routing::fixtures::Setup};

    fn routes() -> Routes {
        Setup::new()
            .model("gpt", &["openai/gpt-5.5"])
            .model("openai/*", &["openai/*"])
            .model("openai/gpt-*", &["azure/gpt-*-eu"])
            .model("*-mini", &["openai/gpt-*"])
            .model("openai/exact", &["azure/exact"])
            .model("*/x", &["openai/fixed"])
            .model("o/*", &["openai/*"])
            .alias("best", "gpt")
            .alias("fast", "openai/gpt-4")
            .alias("openai/aliased", "gpt")
            .build()
    }

    /// What a key with this one list may use.
    fn any_of(access: &ModelAccess) -> impl Fn(&[&str]) -> bool {
        |names| names.iter().any(|name| access.allows(name))
    }

    #[test]
    fn names_resolve_exactly_then_by_alias_then_by_the_longest_pattern() {
        let cases = [
            ("gpt", Some(("gpt", "gpt-5.5"))),
            ("openai/exact", Some(("openai/exact", "exact"))),
            ("best", Some(("gpt", "gpt-5.5"))),
            ("fast", Some(("openai/gpt-*", "gpt-4-eu"))),
            ("openai/aliased", Some(("gpt", "gpt-5.5"))),
            ("openai/o3", Some(("openai/*", "o3"))),
            ("openai/meta/llama", Some(("openai/*", "meta/llama"))),
            ("openai/gpt-5", Some(("openai/gpt-*", "gpt-5-eu"))),
            ("openai/gpt-5-mini", Some(("openai/gpt-*", "gpt-5-mini-eu"))),
            ("claude-mini", Some(("*-mini", "gpt-claude"))),
            ("a/x", Some(("*/x", "fixed"))),
            // Equally long literal parts: the one that says more at the beginning.
            ("o/x", Some(("o/*", "x"))),
            // `*` may stand for nothing, but not where that leaves no model to call.
            ("-mini", Some(("*-mini", "gpt-"))),
            ("openai/gpt-", Some(("openai/gpt-*", "gpt--eu"))),
            ("openai/", None),
            ("openai/*", None),
            ("openai/gpt-*", None),
            ("GPT", None),
            ("gpt ", None),
            ("", None),
        ];
        let routes = routes();
        for (name, expected) in cases {
            let found = routes.resolve(name).map(|resolved| {
                let upstream = resolved.model.targets[0].upstream_model(resolved.star.as_deref());
                (resolved.model.name.to_string(), upstream.into_owned())
            });
            assert_eq!(found, expected.map(|(model, up)| (model.to_owned(), up.to_owned())), "{name}");
        }
        assert_eq!(routes.resolve("fast").unwrap().via_alias.as_deref(), Some("fast"));
        assert_eq!(routes.resolve("fast").unwrap().name(), "openai/gpt-4");
        assert_eq!(routes.resolve("gpt").unwrap().name(), "gpt");
    }

    #[test]
    fn a_key_may_use_a_model_by_any_of_its_names() {
        let cases: &[(&[&str], &str, bool)] = &[
            (&["*"], "gpt", true),
            (&[], "gpt", false),
            (&["gpt"], "gpt", true),
            (&["best"], "best", true),
            (&["best"], "gpt", false),
            (&["gpt"], "best", true),
            (&["openai/gpt-4"], "fast", true),
            (&["openai/gpt-5"], "fast", false),
            (&["openai/gpt-*"], "openai/gpt-4", true),
            (&["openai/gpt-4"], "openai/gpt-5", false),
            (&["openai/*"], "gpt", false),
            (&["open*"], "openai/gpt-4", true),
        ];
        let routes = routes();
        for (entries, name, expected) in cases {
            let access = ModelAccess::new(&entries.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
            let permitted = routes.resolve(name).unwrap().permitted(name, any_of(&access));
            assert_eq!(permitted, *expected, "{entries:?} {name}");
        }
    }

    #[test]
    fn suggestions_and_listings_show_only_what_the_key_may_use() {
        let routes = routes();
        let only = |entry: &'static str| move |names: &[&str]| names.contains(&entry);
        assert_eq!(routes.nearest("gptt", &|_| true), Some("gpt"));
        assert_eq!(routes.nearest("gptt", &only("openai/exact")), None);
        assert_eq!(routes.nearest("bestt", &only("gpt")), Some("best"));
        let listed = |allowed: &dyn Fn(&[&str]) -> bool| {
            routes.listed(allowed).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(listed(&|_| true), ["best", "fast", "gpt", "openai/aliased", "openai/exact"]);
        assert_eq!(listed(&only("gpt")), ["best", "gpt", "openai/aliased"]);
        assert_eq!(listed(&|_| false), [""; 0]);
    }

    /// Names from few letters, so that models, patterns, aliases and entries meet often.
    fn word() -> impl Strategy<Value = String> {
        "[ab/]{1,4}"
    }

    fn pattern_or_word() -> impl Strategy<Value = String> {
        prop_oneof![word(), "[ab/]{0,2}\\*[ab/]{0,2}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn resolver_access_and_listing_agree(
            models in prop::collection::btree_set(pattern_or_word(), 1..6),
            aliases in prop::collection::btree_map(word(), word(), 0..3),
            entries in prop::collection::vec(pattern_or_word(), 0..4),
            names in prop::collection::vec(word(), 1..20),
        ) {
            let mut setup = Setup::new();
            for model in &models {
                let target = if model.contains('*') { "openai/m*" } else { "openai/m" };
                setup = setup.model(model, &[target]);
            }
            setup.aliases = aliases;
            // Aliases that lead nowhere are left out.
            if let Err(errors) = setup.try_build(None) {
                setup.aliases.retain(|alias, _| errors.iter().all(|error| error.path[1] != *alias));
            }
            let routes = setup.build();
            let access = ModelAccess::new(&entries).unwrap();
            let allowed = any_of(&access);

            let listed: Vec<&str> = routes.listed(&allowed).into_iter().map(|name| &**name).collect();
            prop_assert!(listed.is_sorted());
            let known = routes.exact.keys().chain(routes.aliases.keys()).map(ToString::to_string);
            for name in known.chain(names) {
                let resolved = routes.resolve(&name);
                let permitted = resolved.as_ref().is_some_and(|resolved| resolved.permitted(&name, &allowed));
                let is_listable = routes.exact.contains_key(&*name) || routes.aliases.contains_key(&*name);
                prop_assert_eq!(listed.contains(&name.as_str()), permitted && is_listable, "{}", name);
                if let Some(resolved) = resolved {
                    // The full name leads to the same model, so asking by either is the same call.
                    let full = routes.resolve(&resolved.name());
                    if resolved.via_alias.is_none() {
                        prop_assert!(full.is_some_and(|full| full.is_same(&resolved)));
                    }
                    // Whoever may use a whole pattern may use each of its names.
                    prop_assert!(permitted || !access.allows(&resolved.model.name));
                } else {
                    prop_assert!(!models.contains(&name));
                }
            }
        }
    }
}
