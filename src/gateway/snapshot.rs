//! The configuration as calls see it: one immutable value, swapped whole. A call keeps the one it started with.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    providers::{Operation, Provider},
    routing::{
        Routes,
        settings::{HealthSettings, RetrySettings},
    },
    telemetry::metrics::{Metrics, ModelMetrics, TargetMetrics},
};

/// One configuration, resolved.
#[derive(Debug)]
pub struct Snapshot {
    pub routes: Routes,
    pub providers: BTreeMap<String, Arc<Provider>>,
    pub retries: RetrySettings,
    pub health: HealthSettings,
    /// Silence in a stream after which a comment is sent.
    pub keepalive: Duration,
    /// Short hex of the configuration's text: tells replicas and reloads apart.
    pub hash: String,
    handles: Handles,
}

/// Metrics resolved once per snapshot, so that a call looks up no label.
#[derive(Debug)]
struct Handles {
    /// By `Target::index`.
    targets: Vec<Arc<TargetMetrics>>,
    /// By model name and operation.
    models: BTreeMap<(Arc<str>, &'static str), Arc<ModelMetrics>>,
    other: Arc<ModelMetrics>,
}

impl Snapshot {
    pub fn new(
        routes: Routes,
        providers: BTreeMap<String, Arc<Provider>>,
        retries: RetrySettings,
        health: HealthSettings,
        keepalive: Duration,
        hash: String,
        metrics: &Metrics,
    ) -> Self {
        let handles = Handles::new(&routes, metrics);
        Self { routes, providers, retries, health, keepalive, hash, handles }
    }

    pub fn target_metrics(&self, index: usize) -> Arc<TargetMetrics> {
        self.handles.targets[index].clone()
    }

    pub fn model_metrics(&self, operation: Operation, model: &Arc<str>) -> Arc<ModelMetrics> {
        self.handles.models.get(&(model.clone(), operation.label())).unwrap_or(&self.handles.other).clone()
    }
}

impl Handles {
    fn new(routes: &Routes, metrics: &Metrics) -> Self {
        let mut targets: Vec<_> = routes.targets().map(|t| (t.index, metrics.target(&t.label))).collect();
        targets.sort_by_key(|(index, _)| *index);
        let mut models = BTreeMap::new();
        for model in routes.models() {
            for operation in Operation::ALL {
                let handle = metrics.model(operation.label(), &model.name);
                models.insert((model.name.clone(), operation.label()), handle);
            }
        }
        Self {
            targets: targets.into_iter().map(|(_, handle)| handle).collect(),
            models,
            other: metrics.model("chat", "other"),
        }
    }
}
