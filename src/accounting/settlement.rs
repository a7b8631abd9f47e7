//! The facts about a call that has ended, and the task that spends them on metrics and the call log.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use smallvec::SmallVec;
use tokio::sync::mpsc;

use crate::{
    providers::Operation,
    telemetry::{
        calls::{CallLine, CallLog},
        metrics::{Metrics, ModelMetrics, Outcome, TargetMetrics},
    },
    types::{RequestId, Usage},
};

/// Everything worth knowing about one call once it has ended.
#[derive(Debug)]
pub struct Settlement {
    pub id: RequestId,
    /// Wall clock at arrival, Unix milliseconds.
    pub at: u64,
    pub operation: Operation,
    /// The model as the client named it.
    pub model: Box<str>,
    /// The configured model that served it; its name is the bounded label of metrics.
    pub served: Option<(Arc<str>, Arc<ModelMetrics>)>,
    pub key_id: Arc<str>,
    pub key_name: Arc<str>,
    pub client: IpAddr,
    pub stream: bool,
    pub attempts: SmallVec<[AttemptRecord; 2]>,
    /// How it ended.
    pub outcome: Outcome,
    /// The status the client saw.
    pub status: u16,
    /// The code of the error the client saw.
    pub error_code: Option<&'static str>,
    pub usage: Option<Usage>,
    pub finish_reason: Option<Box<str>>,
    /// From arrival to the first real output.
    pub first_output: Option<Duration>,
    /// From arrival to the end.
    pub duration: Duration,
    /// What the gateway itself added before the answer was committed: time not spent waiting for a provider.
    pub overhead: Duration,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// One dispatch to a provider.
#[derive(Debug)]
pub struct AttemptRecord {
    pub target: Arc<str>,
    pub metrics: Arc<TargetMetrics>,
    /// The model's name at the provider.
    pub upstream_model: Arc<str>,
    /// The place of the provider's key in its list.
    pub key: usize,
    pub started: Instant,
    /// `None` while it runs.
    pub outcome: Option<Outcome>,
    /// The provider's status, where there was one.
    pub status: Option<u16>,
}

/// Takes settlements until the last till is gone, and turns each into metrics and a line of the call log.
pub async fn settle_all(mut settlements: mpsc::Receiver<Box<Settlement>>, metrics: Arc<Metrics>, log: Option<CallLog>) {
    const BATCH: usize = 64;
    let mut batch = Vec::with_capacity(BATCH);
    while settlements.recv_many(&mut batch, BATCH).await > 0 {
        for settlement in batch.drain(..) {
            settlement.observe(&metrics);
            if let Some(log) = &log {
                log.line(&settlement.line());
            }
        }
    }
}

impl Settlement {
    fn observe(&self, metrics: &Metrics) {
        for attempt in &self.attempts {
            attempt.metrics.attempt(attempt.outcome.unwrap_or(Outcome::ClientCancel));
        }
        if let Some((_, model)) = &self.served {
            model.call(self.outcome);
        }
        metrics.call_ended(self.operation.label(), self.outcome, self.duration, self.overhead);
        if let Some(last) = self.attempts.last() {
            if let Some(first_output) = self.first_output {
                last.metrics.first_token(first_output);
            }
            if let Some(usage) = &self.usage {
                last.metrics.tokens(usage);
            }
        }
    }

    fn line(&self) -> CallLine<'_> {
        let last = self.attempts.last();
        CallLine {
            at: self.at,
            id: self.id,
            key_id: &self.key_id,
            key_name: &self.key_name,
            operation: self.operation.label(),
            model: &self.model,
            served: self.served.as_ref().map(|(name, _)| &**name),
            target: last.map(|attempt| &*attempt.target),
            upstream_model: last.map(|attempt| &*attempt.upstream_model),
            stream: self.stream,
            status: self.status,
            outcome: self.outcome,
            error_code: self.error_code,
            attempts: self.attempts.iter().map(|a| (&*a.target, a.outcome.unwrap_or(Outcome::ClientCancel))).collect(),
            usage: self.usage,
            finish_reason: self.finish_reason.as_deref(),
            first_output: self.first_output,
            duration: self.duration,
            overhead: self.overhead,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            client: self.client,
        }
    }
}
