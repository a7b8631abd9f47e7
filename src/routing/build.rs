//! From settings to [`Routes`], with every complaint and its place.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use super::{
    health::{Known, Slots},
    instances::Instances,
    models::{Model, Resolved, Target, Upstream},
    params::{self, Params},
    pattern::{self, Pattern},
    routes::Routes,
    settings::{self, HealthSettings, Lossy, ModelSettings, Strategy, TargetSettings},
};
use crate::providers::{Deadlines, Provider};

/// Something wrong with the settings of routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError {
    /// Where, from the root of the settings: `["models", "gpt", "targets", "0", "model"]`.
    pub path: Vec<String>,
    /// What is wrong and what to do, in one sentence.
    pub message: String,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.join("."), self.message)
    }
}

impl std::error::Error for BuildError {}

/// The largest weight. Sums of weights must stay finite, and a share of less than a millionth is a typing error.
const MAX_WEIGHT: f64 = 1e6;
/// The longest time of the health settings: more is a typing error, and adding it to a time could overflow.
const MAX_REST: Duration = Duration::from_secs(30 * 86_400);

/// What building needs to know, and what it finds wrong.
struct Builder<'s> {
    providers: &'s BTreeMap<String, Arc<Provider>>,
    deadlines: &'s dyn Fn(&str) -> Deadlines,
    lossy: Lossy,
    health: Arc<HealthSettings>,
    known: Arc<Known>,
    previous: Option<&'s Routes>,
    targets: Vec<Arc<Target>>,
    errors: Vec<BuildError>,
}

pub(super) fn build(
    models: &BTreeMap<String, ModelSettings>,
    aliases: &BTreeMap<String, String>,
    providers: &BTreeMap<String, Arc<Provider>>,
    deadlines: &dyn Fn(&str) -> Deadlines,
    lossy: Lossy,
    health: &HealthSettings,
    previous: Option<&Routes>,
) -> Result<Routes, Vec<BuildError>> {
    let mut builder = Builder {
        providers,
        deadlines,
        lossy,
        health: Arc::new(health.clone()),
        known: previous.map(|routes| routes.known.clone()).unwrap_or_default(),
        previous,
        targets: Vec::new(),
        errors: Vec::new(),
    };
    builder.check_health(health);
    let models: Vec<_> = models.iter().map(|(name, model)| builder.model(name, model)).collect();
    let mut routes = Routes {
        targets: std::mem::take(&mut builder.targets),
        known: builder.known.clone(),
        ..Routes::with_models(models)
    };
    routes.aliases = builder.aliases(&routes, aliases);
    builder.check_fallbacks(&routes);
    if builder.errors.is_empty() { Ok(routes) } else { Err(builder.errors) }
}

impl Routes {
    fn with_models(models: Vec<Arc<Model>>) -> Self {
        let (mut patterns, exact): (Vec<_>, Vec<_>) = models.iter().cloned().partition(|model| model.is_pattern());
        // Equal ranks keep the order of their names.
        patterns.sort_by_key(|model| std::cmp::Reverse(model.pattern.as_ref().map(Pattern::rank)));
        let exact: HashMap<_, _> = exact.into_iter().map(|model| (model.name.clone(), model)).collect();
        Self { models, exact, patterns, ..Self::default() }
    }
}

impl Builder<'_> {
    fn complain(&mut self, path: &[&str], message: impl Into<String>) {
        let path = path.iter().map(ToString::to_string).collect();
        self.errors.push(BuildError { path, message: message.into() });
    }

    fn check_health(&mut self, health: &HealthSettings) {
        if health.consecutive_failures == 0 {
            self.complain(&["health", "consecutive_failures"], "must be at least 1");
        }
        if health.min_calls == 0 {
            self.complain(&["health", "min_calls"], "must be at least 1");
        }
        if !(0.0..=1.0).contains(&health.failure_ratio) {
            self.complain(&["health", "failure_ratio"], "must be a share from 0 to 1");
        }
        let times = [
            ("window", health.window),
            ("rest", health.rest),
            ("max_rest", health.max_rest),
            ("dead_key_rest", health.dead_key_rest),
            ("max_wait", health.max_wait),
        ];
        for (name, time) in times.into_iter().filter(|(_, time)| time.0 > MAX_REST) {
            self.complain(&["health", name], format!("{time} is too long; write at most 30d"));
        }
    }

    fn model(&mut self, name: &str, settings: &ModelSettings) -> Arc<Model> {
        let path = ["models", name];
        if name.is_empty() {
            self.complain(&path, "a model needs a name");
        }
        if name.matches('*').count() > 1 {
            self.complain(&path, format!("`{name}` has more than one `*`; a name may hold one"));
        }
        if settings.targets.is_empty() {
            self.complain(&path, format!("`{name}` has no targets; write at least one as `provider/model`"));
        }
        let own = settings::Params {
            defaults: settings.defaults.clone(),
            ceilings: settings.ceilings.clone(),
            overrides: settings.overrides.clone(),
        };
        self.check_params(&path, &own);
        let pattern = Pattern::parse(name);
        let weighted = settings.targets.iter().any(|target| target.weight.is_some());
        let strategy = settings.strategy.unwrap_or(if weighted { Strategy::Weighted } else { Strategy::Ordered });
        let targets = settings.targets.iter().enumerate();
        let targets: Vec<_> = targets
            .filter_map(|(index, target)| {
                let path = ["models", name, "targets", &index.to_string()];
                self.check_target(&path, target, pattern.is_some());
                self.target(&path, target, settings, &own)
            })
            .collect();
        let reserves = settings.targets.iter().all(|target| target.weight == Some(0.0));
        if strategy == Strategy::Weighted && reserves && !settings.targets.is_empty() {
            self.complain(&path, format!("every target of `{name}` has weight 0; give one of them a share"));
        }
        Arc::new(Model { name: name.into(), strategy, targets, fallbacks: settings.fallbacks.clone(), pattern })
    }

    fn check_target(&mut self, path: &[&str; 4], target: &TargetSettings, in_pattern: bool) {
        if let Some(weight) = target.weight
            && !(0.0..=MAX_WEIGHT).contains(&weight)
        {
            let path = [path.as_slice(), &["weight"]].concat();
            self.complain(&path, format!("the weight must be from 0 to {MAX_WEIGHT}, not {weight}"));
        }
        self.check_params(path, &target.params);
        let stars = target.model.matches('*').count();
        let path = [path.as_slice(), &["model"]].concat();
        if stars > 1 {
            self.complain(&path, format!("`{}` has more than one `*`; a target may hold one", target.model));
        } else if stars == 1 && !in_pattern {
            let message = "has a `*`, but the model's name has none that it could take over";
            self.complain(&path, format!("`{}` {message}", target.model));
        }
    }

    /// `None` if the target does not say where it leads.
    fn target(
        &mut self,
        path: &[&str; 4],
        target: &TargetSettings,
        model: &ModelSettings,
        model_params: &settings::Params,
    ) -> Option<Arc<Target>> {
        let path = [path.as_slice(), &["model"]].concat();
        let label = target.model.as_str();
        let Some((provider_name, upstream)) = label.split_once('/').filter(|(_, upstream)| !upstream.is_empty()) else {
            self.complain(&path, format!("`{label}` is not a target; write `provider/model`"));
            return None;
        };
        let Some(provider) = self.providers.get(provider_name) else {
            let near = suggestion(provider_name, self.providers.keys().map(String::as_str));
            self.complain(&path, format!("there is no provider `{provider_name}`{near}"));
            return None;
        };
        let (label, upstream): (Arc<str>, Arc<str>) = (label.into(), upstream.into());
        let pattern = Pattern::parse(&upstream);
        let built = Arc::new(Target {
            index: self.targets.len(),
            provider: provider.clone(),
            weight: target.weight.unwrap_or(1.0),
            deadlines: (self.deadlines)(provider_name).with(target.timeout.or(model.timeout)),
            params: Params::merge(model_params, &target.params),
            lossy: model.lossy.unwrap_or(self.lossy),
            slots: Slots::new(provider, &label, &upstream, &self.health, &self.known),
            instances: pattern.is_some().then(|| Instances::new(self.health.clone(), self.known.clone())),
            upstream: pattern.map_or(Upstream::Fixed(upstream), Upstream::Pattern),
            label,
        });
        self.take_over_instances(&built);
        self.targets.push(built.clone());
        Some(built)
    }

    /// Makes the upstream models known to a target with a `*` that its predecessors knew, so that their health, which
    /// nobody else holds, is passed on.
    fn take_over_instances(&self, target: &Arc<Target>) {
        let Some(instances) = &target.instances else { return };
        let predecessors = self.previous.into_iter().flat_map(Routes::targets);
        for predecessor in predecessors.filter(|predecessor| predecessor.label == target.label) {
            for (star, _) in predecessor.instances.iter().flat_map(Instances::all) {
                instances.get(&star, target);
            }
        }
    }

    fn check_params(&mut self, path: &[&str], settings: &settings::Params) {
        for ([map, member], message) in params::complaints(settings) {
            self.complain(&[path, &[&map, &member]].concat(), message);
        }
    }

    /// Aliases lead to a model or to a name that a pattern matches, in one step.
    fn aliases(&mut self, routes: &Routes, aliases: &BTreeMap<String, String>) -> BTreeMap<Arc<str>, Resolved> {
        let mut built = BTreeMap::new();
        for (alias, name) in aliases {
            let path = ["aliases", alias];
            if alias.is_empty() {
                self.complain(&path, "an alias needs a name");
            } else if alias.contains('*') {
                self.complain(&path, format!("the alias `{alias}` has a `*`; write a model with that name instead"));
            } else if routes.exact.contains_key(alias.as_str()) {
                self.complain(&path, format!("`{alias}` is a model; an alias of that name would never be used"));
            } else if aliases.contains_key(name) {
                self.complain(&path, format!("`{name}` is an alias itself; write the model that it leads to"));
            } else if let Some(resolved) = routes.resolve(name) {
                let alias: Arc<str> = alias.as_str().into();
                built.insert(alias.clone(), Resolved { via_alias: Some(alias), ..resolved });
            } else {
                self.complain(&path, unknown_model(name, routes));
            }
        }
        built
    }

    fn check_fallbacks(&mut self, routes: &Routes) {
        for model in &routes.models {
            for (list, names) in model.fallbacks.lists() {
                for (index, name) in names.iter().enumerate() {
                    let path = ["models", &model.name, "fallbacks", list, &index.to_string()];
                    match routes.resolve(name) {
                        None => self.complain(&path, unknown_model(name, routes)),
                        // A pattern may fall back to one of its own names: that is itself for this one name only.
                        Some(fallback) if Arc::ptr_eq(&fallback.model, model) && !model.is_pattern() => {
                            self.complain(&path, format!("`{}` falls back to itself", model.name));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
    }
}

fn unknown_model(name: &str, routes: &Routes) -> String {
    if name.contains('*') {
        return format!("`{name}` has a `*`; write the name of one model");
    }
    let names = routes.exact.keys().chain(routes.aliases.keys());
    format!("there is no model `{name}`{}", suggestion(name, names.map(|name| &**name)))
}

/// `; did you mean …?`, or a list of what there is, if that is short.
fn suggestion<'a>(name: &str, among: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = pattern::nearest(name, among.clone()) {
        return format!("; did you mean `{near}`?");
    }
    let mut all: Vec<_> = among.map(|name| format!("`{name}`")).collect();
    all.sort_unstable();
    match all.len() {
        0 => String::new(),
        1..=8 => format!("; there is {}", all.join(", ")),
        many => format!("; there are {many} others, none of them near"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{
        providers::settings::Timeout,
        routing::{
            fixtures::{DEADLINES, Setup},
            settings::Fallbacks,
        },
        types::Period,
    };

    fn good() -> Setup {
        Setup::new().model("gpt", &["openai/gpt-5.5", "azure/gpt-5.5"]).model("openai/*", &["openai/*"])
    }

    fn with_fallback(setup: Setup, name: &str) -> Setup {
        setup.edit("gpt", |model| model.fallbacks.timeout = Some(vec![name.to_owned()]))
    }

    fn with_weights(weights: &[f64]) -> Setup {
        good().edit("gpt", |model| {
            for (target, weight) in model.targets.iter_mut().zip(weights) {
                target.weight = Some(*weight);
            }
        })
    }

    #[test]
    fn every_mistake_is_found_at_its_place() {
        let health = |edit: fn(&mut HealthSettings)| {
            let mut setup = good();
            edit(&mut setup.health);
            setup
        };
        let cases = [
            (good().model("m", &[]), "models.m: `m` has no targets"),
            (good().model("", &["openai/x"]), "models.: a model needs a name"),
            (good().model("a*b*", &["openai/x"]), "models.a*b*: `a*b*` has more than one `*`"),
            (
                good().model("m", &["opnai/x"]),
                "models.m.targets.0.model: there is no provider `opnai`; did you mean `openai`?",
            ),
            (
                good().model("m", &["zzz/x"]),
                "models.m.targets.0.model: there is no provider `zzz`; there is `azure`, `openai`",
            ),
            (good().model("m", &["azure/x", "gpt-5.5"]), "models.m.targets.1.model: `gpt-5.5` is not a target"),
            (good().model("m", &["openai/"]), "models.m.targets.0.model: `openai/` is not a target"),
            (good().model("m", &["openai/*"]), "models.m.targets.0.model: `openai/*` has a `*`, but"),
            (good().model("m*", &["openai/*-*"]), "models.m*.targets.0.model: `openai/*-*` has more than one"),
            (with_weights(&[-1.0]), "models.gpt.targets.0.weight: the weight must be from 0 to 1000000, not -1"),
            (with_weights(&[1.0, f64::NAN]), "models.gpt.targets.1.weight: the weight must be"),
            (with_weights(&[f64::INFINITY]), "models.gpt.targets.0.weight: the weight must be"),
            (with_weights(&[0.0, 0.0]), "models.gpt: every target of `gpt` has weight 0"),
            (
                with_fallback(good(), "gtp"),
                "models.gpt.fallbacks.timeout.0: there is no model `gtp`; did you mean `gpt`?",
            ),
            (with_fallback(good(), "gpt"), "models.gpt.fallbacks.timeout.0: `gpt` falls back to itself"),
            (
                with_fallback(good().alias("a", "gpt"), "a"),
                "models.gpt.fallbacks.timeout.0: `gpt` falls back to itself",
            ),
            (with_fallback(good(), "openai/*"), "models.gpt.fallbacks.timeout.0: `openai/*` has a `*`"),
            (good().alias("gpt", "openai/x"), "aliases.gpt: `gpt` is a model"),
            (good().alias("a", "b"), "aliases.a: there is no model `b`"),
            (good().alias("a", "openai/*"), "aliases.a: `openai/*` has a `*`"),
            (good().alias("a*", "gpt"), "aliases.a*: the alias `a*` has a `*`"),
            (good().alias("", "gpt"), "aliases.: an alias needs a name"),
            (good().alias("a", "a"), "aliases.a: `a` is an alias itself"),
            (good().alias("a", "openai/x").alias("openai/x", "gpt"), "aliases.a: `openai/x` is an alias itself"),
            (
                good().edit("gpt", |model| _ = model.ceilings.insert("n".to_owned(), json!("4"))),
                "models.gpt.ceilings.n: the ceiling of `n` must be a number",
            ),
            (
                good()
                    .edit("gpt", |model| _ = model.targets[1].params.overrides.insert("model".to_owned(), json!("x"))),
                "models.gpt.targets.1.overrides.model: `model` is set by the gateway",
            ),
            (health(|health| health.failure_ratio = f64::NAN), "health.failure_ratio: must be a share"),
            (health(|health| health.consecutive_failures = 0), "health.consecutive_failures: must be at least 1"),
            (health(|health| health.min_calls = 0), "health.min_calls: must be at least 1"),
            (health(|health| health.rest = Period(Duration::MAX)), "health.rest: "),
        ];
        for (setup, expected) in cases {
            let found: Vec<String> = setup.try_build(None).unwrap_err().iter().map(ToString::to_string).collect();
            assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}\n{found:#?}");
        }
    }

    #[test]
    fn all_mistakes_are_found_at_once() {
        let setup = with_fallback(good(), "x").alias("a", "y").model("m", &["nobody/x"]).model("n", &[]);
        assert_eq!(setup.try_build(None).unwrap_err().len(), 4);
    }

    #[test]
    fn unusual_settings_are_no_mistakes() {
        let cases = [
            Setup::new(),
            with_fallback(good(), "openai/gpt-5.5"),
            with_fallback(good().alias("a", "openai/x"), "a"),
            good().edit("openai/*", |model| model.fallbacks.default = vec!["openai/gpt-5.5".to_owned()]),
            good().alias("openai/x", "gpt"),
            good().model("any*", &["openai/gpt-5.5"]),
            good().model("llama", &["openai/meta-llama/llama-4"]),
            with_weights(&[0.0, 1.0]),
            with_weights(&[0.0, 0.0]).edit("gpt", |model| model.strategy = Some(Strategy::Ordered)),
        ];
        for setup in cases {
            assert!(setup.try_build(None).is_ok());
        }
    }

    #[test]
    fn a_weight_makes_the_strategy_weighted_unless_it_is_named() {
        let strategy = |setup: Setup| setup.build().resolve("gpt").unwrap().model.strategy;
        assert_eq!(strategy(good()), Strategy::Ordered);
        assert_eq!(strategy(with_weights(&[2.0])), Strategy::Weighted);
        let ordered = with_weights(&[2.0]).edit("gpt", |model| model.strategy = Some(Strategy::Ordered));
        assert_eq!(strategy(ordered), Strategy::Ordered);
        let routes = with_weights(&[2.0]).build();
        let weights: Vec<f64> = routes.resolve("gpt").unwrap().model.targets.iter().map(|t| t.weight).collect();
        assert_eq!(weights, [2.0, 1.0]);
    }

    #[test]
    fn deadlines_come_from_the_target_then_the_model_then_the_provider() {
        let seconds = |seconds: u64| Some(Period::from_secs(seconds));
        let setup = good().edit("gpt", |model| {
            model.timeout = Timeout { first_output: seconds(20), total: seconds(40), ..Timeout::default() };
            model.targets[0].timeout = Timeout { total: seconds(400), ..Timeout::default() };
        });
        let routes = setup.build();
        let target = &routes.resolve("gpt").unwrap().model.targets[0];
        let expected =
            Deadlines { first_output: Duration::from_secs(20), total: Duration::from_secs(400), ..DEADLINES };
        assert_eq!(target.deadlines, expected);
    }

    #[test]
    fn what_may_be_lost_is_for_the_model_to_say_then_for_the_gateway() {
        use Lossy::{Declare, Strict};
        for (own, of_all, expected) in [
            (None, Declare, Declare),
            (None, Strict, Strict),
            (Some(Declare), Strict, Declare),
            (Some(Strict), Declare, Strict),
        ] {
            let setup = Setup { lossy: of_all, ..good() }.edit("gpt", |model| model.lossy = own);
            assert_eq!(setup.build().resolve("gpt").unwrap().model.targets[0].lossy, expected, "{own:?} {of_all:?}");
        }
    }

    #[test]
    fn targets_are_numbered_without_gaps() {
        let routes = good().model("zz", &["azure/a", "azure/b"]).build();
        assert!(routes.targets().enumerate().all(|(number, target)| target.index == number));
        assert_eq!(routes.targets().count(), 5);
    }

    #[test]
    fn an_explicitly_empty_fallback_list_is_kept() {
        let setup = good().edit("gpt", |model| {
            model.fallbacks = Fallbacks { timeout: Some(Vec::new()), ..Fallbacks::default() };
        });
        assert_eq!(setup.build().resolve("gpt").unwrap().model.fallbacks.timeout, Some(Vec::new()));
    }
}
