//! The configuration as calls see it: one immutable value, swapped whole. A call keeps the one it started with.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::Uri;

use super::Prices;
use crate::{
    catalog::Price,
    providers::Operation,
    routing::{
        Routes, Target,
        settings::{HealthSettings, RetrySettings},
    },
    telemetry::metrics::{Metrics, ModelMetrics, TargetMetrics},
    upstream::{Fetcher, Pool},
};

/// One configuration, resolved.
#[derive(Debug)]
pub struct Snapshot {
    pub routes: Routes,
    pub retries: RetrySettings,
    pub health: HealthSettings,
    /// Fetches what calls name by URL.
    pub fetcher: Arc<Fetcher>,
    /// Silence in a stream after which a comment is sent.
    pub keepalive: Duration,
    /// Short hex of the configuration's text: tells replicas and reloads apart.
    pub hash: String,
    /// By `Target::index`.
    outlets: Vec<Outlet>,
    /// By model name, then by operation.
    models: HashMap<Arc<str>, [Arc<ModelMetrics>; Operation::ALL.len()]>,
    other: Arc<ModelMetrics>,
}

/// What holds for every call of a snapshot; see its members.
#[derive(Debug)]
pub struct Terms {
    pub retries: RetrySettings,
    pub health: HealthSettings,
    pub fetcher: Arc<Fetcher>,
    pub keepalive: Duration,
    pub hash: String,
}

/// What a target leads to, resolved once per snapshot: a call looks up no address, pool or label.
#[derive(Clone, Debug)]
pub struct Outlet {
    pub pool: Arc<Pool>,
    /// Where each operation is served, in the order of [`Operation::ALL`].
    pub uris: [Uri; Operation::ALL.len()],
    pub metrics: Arc<TargetMetrics>,
    pub prices: Arc<Prices>,
}

impl Snapshot {
    /// # Errors
    /// Whatever `outlet` says of a target that cannot be reached.
    pub fn new<E>(
        routes: Routes,
        mut outlet: impl FnMut(&Target) -> Result<Outlet, E>,
        terms: Terms,
        metrics: &Metrics,
    ) -> Result<Self, E> {
        let mut targets: Vec<&Arc<Target>> = routes.targets().collect();
        targets.sort_by_key(|target| target.index);
        let outlets = targets.into_iter().map(|target| outlet(target)).collect::<Result<_, E>>()?;
        let handles = |name: &str| Operation::ALL.map(|operation| metrics.model(operation.label(), name));
        let models = routes.models().map(|model| (model.name.clone(), handles(&model.name))).collect();
        let other = metrics.model(Operation::Chat.label(), "other");
        let Terms { retries, health, fetcher, keepalive, hash } = terms;
        Ok(Self { routes, retries, health, fetcher, keepalive, hash, outlets, models, other })
    }

    pub fn outlet(&self, target: &Target) -> &Outlet {
        &self.outlets[target.index]
    }

    /// The labels of targets whose one model has no price that is known, in order.
    pub fn unpriced(&self) -> Vec<Arc<str>> {
        let is_unpriced = |target: &&Arc<Target>| self.outlet(target).prices.fixed().is_some_and(Price::is_unknown);
        let mut labels: Vec<_> = self.routes.targets().filter(is_unpriced).map(|target| target.label.clone()).collect();
        labels.sort();
        labels.dedup();
        labels
    }

    pub fn model_metrics(&self, operation: Operation, model: &str) -> &Arc<ModelMetrics> {
        self.models.get(model).map_or(&self.other, |handles| &handles[operation as usize])
    }
}
