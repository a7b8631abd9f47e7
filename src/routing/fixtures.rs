//! Small settings and providers for the tests of routing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION, uri};

use super::{
    build::BuildError,
    routes::Routes,
    settings::{HealthSettings, Lossy, ModelSettings, TargetSettings},
};
use crate::{
    providers::{Betas, Deadlines, Formats, Origin, Provider, ProviderKey, Quirks, settings::MaxTokensField},
    wire::openai_chat::convert::ReasoningField,
};

pub(super) const DEADLINES: Deadlines = Deadlines {
    connect: Duration::from_secs(1),
    first_output: Duration::from_secs(2),
    between_chunks: Duration::from_secs(3),
    total: Duration::from_secs(4),
};

/// The parts that routes are built of.
#[derive(Clone, Default)]
pub(super) struct Setup {
    pub(super) models: BTreeMap<String, ModelSettings>,
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) providers: BTreeMap<String, Arc<Provider>>,
    pub(super) lossy: Lossy,
    pub(super) health: HealthSettings,
}

/// A provider with these keys.
pub(super) fn provider(name: &str, keys: &[&str]) -> Arc<Provider> {
    let keys = keys.iter().enumerate().map(|(index, key)| {
        let value = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
        Arc::new(ProviderKey { index, header: Some((AUTHORIZATION, value)), secret: None })
    });
    Arc::new(Provider {
        kind: "openai_compatible",
        region: None,
        name: name.into(),
        origin: Origin {
            scheme: uri::Scheme::HTTPS,
            authority: uri::Authority::try_from(format!("{name}.example")).unwrap(),
        },
        prefix: "/v1".to_owned(),
        keys: keys.collect(),
        headers: HeaderMap::new(),
        forward_headers: Vec::new(),
        quirks: Quirks {
            ask_usage: true,
            takes_stream_options: true,
            max_tokens: MaxTokensField::Both,
            reasoning: ReasoningField::None,
            cache_control: false,
            top_k: false,
            takes_urls: true,
        },
        formats: Formats { openai: true, messages: None },
        betas: Betas::default(),
    })
}

pub(super) fn targets<'a>(models: impl IntoIterator<Item = &'a str>) -> Vec<TargetSettings> {
    let target = |model: &str| TargetSettings { model: model.to_owned(), ..TargetSettings::default() };
    models.into_iter().map(target).collect()
}

impl Setup {
    /// The providers `openai` (two keys) and `azure` (one).
    pub(super) fn new() -> Self {
        let providers = [provider("openai", &["a", "b"]), provider("azure", &["c"])];
        let providers = providers.into_iter().map(|provider| (provider.name.to_string(), provider)).collect();
        Self { providers, ..Self::default() }
    }

    /// Adds a model with these targets.
    pub(super) fn model(mut self, name: &str, to: &[&str]) -> Self {
        let settings = ModelSettings { targets: targets(to.iter().copied()), ..ModelSettings::default() };
        self.models.insert(name.to_owned(), settings);
        self
    }

    pub(super) fn alias(mut self, name: &str, model: &str) -> Self {
        self.aliases.insert(name.to_owned(), model.to_owned());
        self
    }

    /// Changes the settings of a model that is there.
    pub(super) fn edit(mut self, name: &str, edit: impl FnOnce(&mut ModelSettings)) -> Self {
        edit(self.models.get_mut(name).unwrap());
        self
    }

    pub(super) fn try_build(&self, previous: Option<&Routes>) -> Result<Routes, Vec<BuildError>> {
        Routes::build(&self.models, &self.aliases, &self.providers, &|_| DEADLINES, self.lossy, &self.health, previous)
    }

    pub(super) fn build(&self) -> Routes {
        self.try_build(None).unwrap()
    }
}
