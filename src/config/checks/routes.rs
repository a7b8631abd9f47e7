//! What only building the routes can tell: targets without a provider, fallbacks and aliases that lead nowhere. Asked
//! here, so that one look at a file finds everything that is wrong with it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    config::settings::Settings,
    providers::{Deadlines, MOCK, Provider, settings::ProviderSettings},
    routing::{BuildError, Routes},
};

/// Nothing is called: every address will do.
const ANYWHERE: Option<&str> = Some("http://127.0.0.1:9/v1");

/// The complaints of routing about `settings`.
pub(in crate::config) fn complaints(settings: &Settings) -> Vec<BuildError> {
    let providers: BTreeMap<String, Arc<Provider>> = settings
        .providers
        .iter()
        .filter_map(|(name, provider)| Some((name.clone(), Arc::new(stand_in(name, provider)?))))
        .collect();
    let day = Duration::from_secs(86_400);
    let deadlines = |_: &str| Deadlines { connect: day, first_output: day, between_chunks: day, total: day };
    let (models, aliases, health) = (&settings.models, &settings.aliases, &settings.health);
    Routes::build(models, aliases, &providers, &deadlines, settings.lossy, health, None).err().unwrap_or_default()
}

/// The provider, or one of its name: what is wrong with the provider itself is complained about elsewhere.
fn stand_in(name: &str, settings: &ProviderSettings) -> Option<Provider> {
    let mock = ProviderSettings { kind: Some(MOCK.to_owned()), ..ProviderSettings::default() };
    Provider::build(name, settings, ANYWHERE).or_else(|_| Provider::build(name, &mock, ANYWHERE)).ok()
}
