//! From settings to [`Routes`], with every complaint and its place.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use super::{
    health::{Known, Slots},
    models::{Model, Resolved, Target, Upstream},
    params::{self, Params},
    pattern::{self, Pattern},
    routes::Routes,
    settings::{self, HealthSettings, ModelSettings, Strategy, TargetSettings},
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
    health: Arc<HealthSettings>,
    known: Known,
    targets: Vec<Arc<Target>>,
    errors: Vec<BuildError>,
}

pub(super) fn build(
    models: &BTreeMap<String, ModelSettings>,
    aliases: &BTreeMap<String, String>,
    providers: &BTreeMap<String, Arc<Provider>>,
    deadlines: &dyn Fn(&str) -> Deadlines,
    health: &HealthSettings,
    previous: Option<&Routes>,
) -> Result<Routes, Vec<BuildError>> {
    let mut builder = Builder {
        providers,
        deadlines,
        health: Arc::new(health.clone()),
        known: previous.map(Routes::known).unwrap_or_default(),
        targets: Vec::new(),
        errors: Vec::new(),
    };
    builder.check_health(health);
    let models: Vec<_> = models.iter().map(|(name, model)| builder.model(name, model)).collect();
    let mut routes = Routes { targets: std::mem::take(&mut builder.targets), ..Routes::with_models(models) };
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
        let label: Arc<str> = label.into();
        let built = Arc::new(Target {
            index: self.targets.len(),
            provider: provider.clone(),
            weight: target.weight.unwrap_or(1.0),
            deadlines: (self.deadlines)(provider_name).with(target.timeout.or(model.timeout)),
            params: Params::merge(model_params, &target.params),
            upstream: Pattern::parse(upstream).map_or_else(|| Upstream::Fixed(upstream.into()), Upstream::Pattern),
            slots: Slots::new(provider, &label, &self.health, &mut self.known),
            label,
        });
        self.targets.push(built.clone());
        Some(built)
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
