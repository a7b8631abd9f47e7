//! What a snapshot is assembled from.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    auth::Declared,
    catalog::Book,
    config::{Complaint, Complaints, Loaded, Settings},
    gateway::{Outlet, Prices, Snapshot, Terms},
    providers::{
        Deadlines, Operation, Provider,
        settings::{HttpVersion, Timeout},
    },
    quotas::{Quotas, Rule},
    routing::{Routes, Target},
    telemetry::Metrics,
    types::{Clock, Period, Tasks},
    upstream::{Connections, Http, PoolKey, Trust},
};

/// What a snapshot is assembled with.
pub(super) struct Parts<'a> {
    pub(super) connections: &'a Connections,
    pub(super) metrics: &'a Metrics,
    /// Where the built-in mock provider listens; empty while no configuration has asked for it.
    pub(super) mock: &'a str,
    /// Prices that were fetched.
    pub(super) fetched: Option<Arc<Book>>,
}

/// What a configuration comes to.
pub(super) struct Assembled {
    pub(super) snapshot: Snapshot,
    pub(super) keys: Declared,
    pub(super) quotas: Vec<Arc<Rule>>,
}

impl Parts<'_> {
    /// Builds everything that a configuration says, or nothing.
    pub(super) fn assemble(&self, loaded: &Loaded, previous: Option<&Routes>) -> Result<Assembled, Complaints> {
        let settings = &loaded.settings;
        let providers = self.providers(loaded)?;
        let deadlines = |name: &str| {
            let own = settings.providers.get(name).map(|provider| provider.timeout).unwrap_or_default();
            resolve(own.or(settings.timeout))
        };
        let complain = |path: &[String], message: String| loaded.complain(path, message, None);
        let (models, aliases, health) = (&settings.models, &settings.aliases, &settings.health);
        let routes = Routes::build(models, aliases, &providers, &deadlines, settings.lossy, health, previous)
            .map_err(|errors| Complaints(errors.into_iter().map(|e| complain(&e.path, e.message)).collect()))?;
        let declared = Declared::new(&settings.keys, &settings.projects)
            .map_err(|bad| Complaints(bad.into_iter().map(|bad| complain(&bad.path, bad.message)).collect()))?
            .with_quotas(&settings.quotas);
        let quotas = Quotas::compile(&settings.quotas).map_err(|bad| {
            let at = |index: usize, path: Vec<String>| [vec!["quotas".to_owned(), index.to_string()], path].concat();
            Complaints(bad.into_iter().map(|(index, b)| complain(&at(index, b.path), b.message)).collect())
        })?;
        let snapshot = Snapshot::new(
            routes,
            |target| self.outlet(loaded, target),
            Terms {
                retries: settings.retries.clone(),
                health: settings.health.clone(),
                fetcher: self.connections.fetcher(&settings.fetch),
                keepalive: settings.server.keepalive.0,
                hash: loaded.hash.clone(),
            },
            self.metrics,
        )
        .map_err(|complaint| Complaints(vec![complaint]))?;
        Ok(Assembled { snapshot, keys: declared, quotas })
    }

    fn providers(&self, loaded: &Loaded) -> Result<BTreeMap<String, Arc<Provider>>, Complaints> {
        let mut providers = BTreeMap::new();
        let mut complaints = Vec::new();
        for (name, settings) in &loaded.settings.providers {
            match Provider::build(name, settings, Some(self.mock).filter(|url| !url.is_empty())) {
                Ok(provider) => {
                    providers.insert(name.clone(), Arc::new(provider));
                }
                Err(bad) => {
                    let path = ["providers".to_owned(), name.clone(), bad.member.to_owned()];
                    complaints.push(loaded.complain(&path, bad.message, None));
                }
            }
        }
        if complaints.is_empty() { Ok(providers) } else { Err(Complaints(complaints)) }
    }

    /// Where a target leads: its pool of connections, its addresses, its counters.
    fn outlet(&self, loaded: &Loaded, target: &Target) -> Result<Outlet, Complaint> {
        let provider = &target.provider;
        let settings = loaded.settings.providers.get(&*provider.name).cloned().unwrap_or_default();
        let complain = |member: &str, message: String| {
            loaded.complain(&["providers".to_owned(), provider.name.to_string(), member.to_owned()], message, None)
        };
        let key = PoolKey {
            scheme: provider.origin.scheme.clone(),
            authority: provider.origin.authority.clone(),
            http: match settings.http {
                HttpVersion::Auto => Http::Auto,
                HttpVersion::Http1 => Http::One,
                HttpVersion::Http2 => Http::Two,
            },
            connect_timeout: target.deadlines.connect,
            trust: settings.ca_file.map_or(Trust::Web, Trust::File),
        };
        let pool = self.connections.pool(&key).map_err(|error| complain("ca_file", error.to_string()))?;
        let mut uris = Vec::with_capacity(Operation::ALL.len());
        for operation in Operation::ALL {
            uris.push(provider.uri(operation).map_err(|error| complain("base_url", error.to_string()))?);
        }
        let uris = uris.try_into().map_err(|_| complain("base_url", "it leads nowhere".into()))?;
        let catalog = loaded.catalog.clone().with_fetched(self.fetched.clone());
        let prices = Prices::new(catalog, provider.name.clone(), provider.kind, target.fixed_model());
        Ok(Outlet { pool, uris, metrics: self.metrics.target(&target.label), prices: Arc::new(prices) })
    }
}

/// Everything about a configuration that can be known without starting it.
///
/// # Errors
/// Every complaint of the stage that found one.
pub fn check(loaded: &Loaded) -> Result<(), Complaints> {
    let connections = Connections::new(Clock::Real, Tasks::new());
    let metrics = Metrics::new();
    let mock = "http://127.0.0.1:9/v1";
    let parts = Parts { connections: &connections, metrics: &metrics, mock, fetched: None };
    parts.assemble(loaded, None).map(|_| ())
}

/// The deadlines of a provider, with those of last resort for what nobody has set.
fn resolve(timeout: Timeout) -> Deadlines {
    let Timeout { connect, first_output, between_chunks, total } = timeout.or(Settings::TIMEOUT);
    let or_never = |period: Option<Period>| period.map_or(Duration::from_secs(86_400), |period| period.0);
    Deadlines {
        connect: or_never(connect),
        first_output: or_never(first_output),
        between_chunks: or_never(between_chunks),
        total: or_never(total),
    }
}
