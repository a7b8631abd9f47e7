//! Providers and keys that the environment knows of.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    environment::Environment,
    settings::Settings,
    vendors::{self, MOCK},
};
use crate::{
    providers::settings::ProviderSettings,
    routing::settings::{ModelSettings, TargetSettings},
    types::Secret,
};

/// The settings of a gateway without a file, and a sentence on each thing found.
///
/// Every vendor with a key in its usual variable becomes a provider of its name and is served as `provider/model`. A
/// single one answers every other model name, too. When there is none, the built-in mock answers everything, so that
/// a newcomer's first call works.
pub fn discover<'v>(
    env: &Environment,
    vendors: impl Iterator<Item = (&'v str, &'v [&'v str])>,
) -> (Settings, Vec<String>) {
    let mut settings = Settings::default();
    let mut notes = Vec::new();
    let mut taken = BTreeSet::new();
    for (name, variables) in vendors {
        // Regions of one vendor share a variable: its key belongs to the first of them.
        let found = env.first(variables).filter(|(variable, _)| taken.insert(*variable));
        if let Some((variable, key)) = found {
            let provider = ProviderSettings { api_key: Some(Secret::new(key)), ..ProviderSettings::default() };
            settings.providers.insert(name.to_owned(), provider);
            notes.push(format!("provider {name}: its key is in {variable}"));
        }
    }
    if settings.providers.is_empty() {
        let mock = ProviderSettings { kind: Some(MOCK.to_owned()), ..ProviderSettings::default() };
        settings.providers.insert(MOCK.to_owned(), mock);
        notes.push("no provider key in the environment: the built-in mock answers every call".to_owned());
    }
    settings.models = settings.providers.keys().map(|name| everything(name, format!("{name}/*"))).collect();
    if settings.providers.len() == 1 {
        settings.models.extend(settings.providers.keys().map(|name| everything(name, "*".to_owned())));
    }
    (settings, notes)
}

/// A model `pattern` that passes whatever `*` stands for to `provider`.
fn everything(provider: &str, pattern: String) -> (String, ModelSettings) {
    let target = TargetSettings { model: format!("{provider}/*"), ..TargetSettings::default() };
    (pattern, ModelSettings { targets: vec![target], ..ModelSettings::default() })
}

/// Gives each provider without keys the key in its vendor's usual variable, and says so.
pub(super) fn fill_keys(settings: &mut Settings, env: &Environment) -> Vec<String> {
    let mut notes = Vec::new();
    let without = settings.providers.iter_mut().filter(|(_, p)| p.api_key.is_none() && p.api_keys.is_empty());
    for (name, provider) in without {
        let vendor = vendors::find(provider.kind.as_deref().unwrap_or(name));
        if let Some((variable, key)) = vendor.and_then(|vendor| env.first(vendor.key_env)) {
            provider.api_key = Some(Secret::new(key));
            notes.push(format!("provider {name}: its key is in {variable}"));
        }
    }
    notes
}

/// The variable that holds the admin key when the file does not.
pub(super) const ADMIN_KEY_VARIABLE: &str = "SWITCHBOARD_ADMIN_KEY";

/// Takes the admin key from its variable when the file has none, and says so.
pub(super) fn fill_admin_key(settings: &mut Settings, env: &Environment) -> Option<String> {
    if settings.admin.key.is_some() {
        return None;
    }
    let (variable, key) = env.first(&[ADMIN_KEY_VARIABLE])?;
    settings.admin.key = Some(Secret::new(key));
    Some(format!("the admin key is in {variable}"))
}

/// What a gateway without providers or models is told: it would answer every call with "no such model".
pub(super) fn example(providers: &BTreeMap<String, ProviderSettings>) -> String {
    let name = providers.keys().next().map_or("openai", String::as_str);
    format!("for example \"{name}/*\": {{ targets: [\"{name}/*\"] }}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const VENDORS: [(&str, &[&str]); 4] =
        [("one", &["ONE_API_KEY"]), ("two", &["TWO_API_KEY", "TWO_TOKEN"]), ("two_cn", &["TWO_TOKEN"]), ("local", &[])];

    fn found(variables: &[(&str, &str)]) -> (Settings, Vec<String>) {
        discover(&Environment::of(variables.iter().copied()), VENDORS.into_iter())
    }

    fn served(settings: &Settings) -> Vec<(&str, &str)> {
        settings.models.iter().map(|(name, model)| (name.as_str(), model.targets[0].model.as_str())).collect()
    }

    #[test]
    fn a_single_provider_answers_every_name() {
        let (settings, notes) = found(&[("TWO_API_KEY", " "), ("TWO_TOKEN", "token-2\n")]);
        assert_eq!(settings.providers["two"].api_key, Some(Secret::new("token-2")));
        assert_eq!(settings.providers.len(), 1);
        assert_eq!(served(&settings), [("*", "two/*"), ("two/*", "two/*")]);
        assert_eq!(notes, ["provider two: its key is in TWO_TOKEN"]);
    }

    #[test]
    fn several_providers_are_served_under_their_names_alone() {
        let (settings, notes) = found(&[("ONE_API_KEY", "token-1"), ("TWO_API_KEY", "token-2")]);
        assert_eq!(served(&settings), [("one/*", "one/*"), ("two/*", "two/*")]);
        assert!(!format!("{settings:?}{notes:?}").contains("token-"), "a key was printed");
    }

    #[test]
    fn without_any_key_the_mock_answers() {
        let (settings, notes) = found(&[("ONE_API_KEY", "")]);
        assert_eq!(settings.providers["mock"].kind.as_deref(), Some("mock"));
        assert_eq!(served(&settings), [("*", "mock/*"), ("mock/*", "mock/*")]);
        assert!(notes[0].contains("mock"));
    }
}
