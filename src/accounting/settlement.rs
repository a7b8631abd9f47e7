//! The facts about a call that has ended, and the task that spends them on metrics and the call log.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    providers::Operation,
    telemetry::{
        CallLine, CallLog, Metrics, ModelMetrics, Outcome, TargetMetrics,
        calls::{AttemptNote, Attempts},
        metrics::Counted,
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
    pub attempts: Vec<AttemptRecord>,
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
    /// Counts it as unsettled until it has been observed and logged.
    pub pending: Option<Counted>,
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
    /// From sending to the first real output of a stream.
    pub first_token: Option<Duration>,
}

/// Takes settlements until the last till is gone, and turns each into metrics and a line of the call log.
pub async fn settle_all(mut settlements: mpsc::Receiver<Box<Settlement>>, metrics: Arc<Metrics>, log: CallLog) {
    const BATCH: usize = 64;
    let mut batch = Vec::with_capacity(BATCH);
    while settlements.recv_many(&mut batch, BATCH).await > 0 {
        for settlement in batch.drain(..) {
            settlement.observe(&metrics);
            settlement.log(&log);
        }
    }
}

impl Settlement {
    fn observe(&self, metrics: &Metrics) {
        for attempt in &self.attempts {
            attempt.metrics.attempt(attempt.ended());
        }
        if let Some((_, model)) = &self.served {
            model.ended(self.outcome, self.duration);
        }
        // A client that has gone is answered nothing.
        if self.status >= 400 && self.outcome != Outcome::ClientCancel {
            metrics.error(self.outcome);
        }
        metrics.overhead.observe(self.overhead.as_secs_f64());
        let Some(last) = self.attempts.last() else { return };
        if let Some(first_token) = last.first_token {
            last.metrics.first_token(first_token);
        }
        if let Some(usage) = &self.usage {
            last.metrics.tokens(usage);
        }
    }

    fn log(&self, log: &CallLog) {
        let last = self.attempts.last();
        let notes = self.attempts.iter().map(|a| AttemptNote { target: a.target.clone(), outcome: a.ended() });
        let notes: Vec<AttemptNote> = notes.collect();
        log.line(&CallLine {
            unix_millis: self.at + u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
            request_id: self.id,
            key_id: Some(&self.key_id),
            key_name: Some(&self.key_name),
            operation: self.operation.label(),
            model: &self.model,
            target: last.map(|attempt| &*attempt.target),
            upstream_model: last.map(|attempt| &*attempt.upstream_model),
            stream: self.stream,
            status: self.status,
            outcome: self.outcome,
            error: self.error_code,
            attempts: Attempts(&notes),
            usage: self.usage,
            finish_reason: self.finish_reason.as_deref(),
            ttft: self.first_output,
            duration: self.duration,
            overhead: self.overhead,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            client: Some(self.client),
        });
    }
}

impl AttemptRecord {
    /// An attempt without an outcome of its own was cut short by whatever ended the call.
    fn ended(&self) -> Outcome {
        self.outcome.unwrap_or(Outcome::ClientCancel)
    }
}
