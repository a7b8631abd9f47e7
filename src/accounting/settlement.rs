//! The facts about a call that has ended, and the task that spends them: on the ledger, on metrics and on the call log.

use std::{
    net::IpAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use smallvec::SmallVec;
use tokio::sync::mpsc;

use super::{
    attempt::{AttemptRecord, millis},
    estimate::{self, Asked, Vocabulary},
    ledger::Ledger,
};
use crate::{
    providers::Operation,
    quotas::{Account, Consumed, Quotas},
    store::ledger::{AttemptRow, CallRow, LimitNote, LimitRow, Notes, Who},
    telemetry::{
        CallLine, CallLog, Metrics, ModelMetrics, Outcome,
        calls::{AttemptNote, Attempts},
        metrics::Counted,
    },
    types::{RequestId, UsageSource},
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
    /// What the `*` in that name stood for.
    pub star: Option<Box<str>>,
    pub who: Who,
    pub client: IpAddr,
    pub stream: bool,
    /// What was asked, for as long as its tokens may have to be counted.
    pub asked: Asked,
    pub attempts: Vec<AttemptRecord>,
    /// How it ended; [`Outcome::Lost`] until it has.
    pub outcome: Outcome,
    /// The status the client saw.
    pub status: u16,
    /// The code of the error the client saw.
    pub error_code: Option<&'static str>,
    pub finish_reason: Option<Box<str>>,
    /// What could not be said in the other side's format, by its places; for the log and the receipt.
    pub lossy: Option<Box<str>>,
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
    /// What was set aside for it, where quotas concern it.
    pub account: Option<Box<Account>>,
}

/// What settlements are spent on.
#[derive(Clone, Debug)]
pub struct Books {
    pub metrics: Arc<Metrics>,
    pub log: CallLog,
    pub ledger: Ledger,
    pub quotas: Quotas,
    /// The name of this gateway in its rows.
    pub instance: Arc<str>,
}

/// With more settlements than this waiting, tokens are no longer counted but estimated by length: a provider that fails
/// every call must not keep the books from being written.
const BEHIND: usize = 256;

/// Takes settlements until the last till is gone, and spends each.
pub async fn settle_all(mut settlements: mpsc::Receiver<Box<Settlement>>, books: Arc<Books>) {
    const BATCH: usize = 64;
    let mut batch = Vec::with_capacity(BATCH);
    while settlements.recv_many(&mut batch, BATCH).await > 0 {
        let mut rows = Vec::with_capacity(batch.len());
        for mut settlement in batch.drain(..) {
            if settlements.len() < BEHIND {
                settlement.count().await;
            }
            let mut row = settlement.row(&books.instance);
            let (limits, about) = settlement.spend(&books.quotas, &row).into_iter().unzip();
            row.notes = Notes::new(settlement.lossy.as_deref().map(listed), limits, about);
            settlement.observe(&books.metrics, &row);
            settlement.log(&books.log, &row);
            rows.push(row);
        }
        books.ledger.settled(rows);
    }
}

impl Settlement {
    /// Its row in the ledger, as things stand. Of a call that has not ended, it is the row of one that never will. Notes
    /// are made at the end.
    pub fn row(&self, instance: &Arc<str>) -> CallRow {
        let attempts = self.attempts.iter().enumerate();
        CallRow {
            id: self.id.text(&mut [0; _]).into(),
            at: i64::try_from(self.at).unwrap_or(i64::MAX),
            instance: instance.clone(),
            operation: label(self.operation),
            requested: self.model.clone(),
            model: self.served_model(),
            who: self.who.clone(),
            client: Some(text_of(self.client)),
            stream: self.stream,
            status: self.status,
            outcome: self.outcome,
            error_code: self.error_code.map(Into::into),
            finish_reason: self.finish_reason.clone(),
            first_output_ms: self.first_output.map(millis),
            duration_ms: millis(self.duration),
            overhead_us: u32::try_from(self.overhead.as_micros()).unwrap_or(u32::MAX),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            attempts: attempts.map(|(index, attempt)| attempt.row(index + 1, &self.asked)).collect(),
            notes: None,
        }
    }

    /// Turns what was set aside into what was consumed, and remembers how long answers are. Says what was set aside.
    fn spend(&mut self, quotas: &Quotas, row: &CallRow) -> Vec<(LimitRow, LimitNote)> {
        let consumed = |attempt: &AttemptRow| Consumed {
            input: attempt.usage.total_input(),
            output: attempt.usage.total_output(),
            cost: attempt.cost,
        };
        let mut limits = Vec::new();
        if let Some(account) = self.account.take() {
            let attempts: SmallVec<[Consumed; 4]> = row.attempts.iter().map(consumed).collect();
            limits = account.settle(quotas.shared(), &attempts);
        }
        let answered = row.attempts.last().filter(|attempt| attempt.outcome == Outcome::Ok);
        if let (Some(answered), Some((model, _))) = (answered, &self.served)
            && quotas.are_any()
        {
            quotas.note_output(model, answered.usage.total_output());
        }
        limits
    }

    /// The model that served it. A pattern is filled in once a provider has worked for it: clients invent names.
    fn served_model(&self) -> Arc<str> {
        let Some((name, _)) = &self.served else { return "".into() };
        match &self.star {
            Some(star) if self.attempts.iter().any(AttemptRecord::was_worked_on) => name.replacen('*', star, 1).into(),
            _ => name.clone(),
        }
    }

    /// Counts the tokens that no provider has counted.
    pub(super) async fn count(&mut self) {
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.is_uncounted()) {
            let Some(vocabulary) = Vocabulary::of(&attempt.to.upstream_model) else {
                attempt.counted = Some(estimate::by_script(&self.asked, attempt.said.as_deref()));
                continue;
            };
            let (asked, said) = (self.asked.clone(), attempt.said.take());
            let counting = move || (estimate::by_vocabulary(&asked, said.as_deref(), vocabulary), said);
            // Loading a vocabulary takes a tenth of a second: not on a thread that serves calls.
            if let Ok((counted, said)) = tokio::task::spawn_blocking(counting).await {
                (attempt.counted, attempt.said) = (Some(counted), said);
            }
        }
    }

    fn observe(&self, metrics: &Metrics, row: &CallRow) {
        for (attempt, row) in self.attempts.iter().zip(&row.attempts) {
            let counters = &attempt.to.metrics;
            counters.attempt(row.outcome);
            if row.usage_source == UsageSource::Reported {
                counters.tokens(&row.usage);
            }
            match row.cost {
                Some(cost) => counters.cost(cost),
                None => note_unpriced(attempt, row),
            }
        }
        if let Some((_, model)) = &self.served {
            model.ended(self.outcome, self.duration);
        }
        // A client that has gone is answered nothing.
        if self.status >= 400 && self.outcome != Outcome::ClientCancel {
            metrics.error(self.outcome);
        }
        metrics.overhead.observe(self.overhead.as_secs_f64());
        let last = self.attempts.last();
        if let Some((attempt, first_token)) = last.and_then(|attempt| Some((attempt, attempt.first_token?))) {
            attempt.to.metrics.first_token(first_token);
        }
    }

    fn log(&self, log: &CallLog, row: &CallRow) {
        let last = self.attempts.last();
        let notes = row.attempts.iter().map(|a| AttemptNote { target: a.target.clone(), outcome: a.outcome });
        let notes: Vec<AttemptNote> = notes.collect();
        let usage = row.attempts.iter().any(|a| a.usage_source != UsageSource::None).then(|| row.usage());
        let is_stated =
            row.attempts.iter().all(|a| matches!(a.usage_source, UsageSource::Reported | UsageSource::None));
        log.line(&CallLine {
            unix_millis: self.at + u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
            request_id: self.id,
            key_id: Some(&self.who.key_id),
            key_name: Some(&self.who.key_name),
            project: &self.who.project,
            workflow: self.who.workflow.as_deref(),
            session: self.who.session.as_deref(),
            step: self.who.step.as_deref(),
            operation: self.operation.label(),
            model: &self.model,
            target: last.map(|attempt| &*attempt.to.target),
            upstream_model: last.map(|attempt| &*attempt.to.upstream_model),
            stream: self.stream,
            status: self.status,
            outcome: self.outcome,
            error: self.error_code,
            attempts: Attempts(&notes),
            usage,
            usage_is_ours: !is_stated,
            cost: last.map(|_| row.cost()),
            finish_reason: self.finish_reason.as_deref(),
            lossy: self.lossy.as_deref(),
            ttft: self.first_output,
            duration: self.duration,
            overhead: self.overhead,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            client: row.client.as_deref(),
        });
    }
}

/// The operation's label, shared: rows copy no text of what all of them say.
fn label(operation: Operation) -> Arc<str> {
    static LABELS: LazyLock<[Arc<str>; Operation::ALL.len()]> =
        LazyLock::new(|| Operation::ALL.map(|operation| operation.label().into()));
    LABELS[operation as usize].clone()
}

/// The places of what was lost, as many as a row keeps.
fn listed(places: &str) -> Box<str> {
    const MOST: usize = 16;
    const LONGEST: usize = 64;
    const MORE: &str = "and more";
    let mut list: Vec<&str> =
        places.split(", ").take(MOST).map(|place| &place[..place.floor_char_boundary(LONGEST)]).collect();
    if places.split(", ").nth(MOST).is_some() && list.last() != Some(&MORE) {
        list.push(MORE);
    }
    list.join(", ").into()
}

/// The address as a text. Asked for twice a call, so the usual kind is put together without the machinery of formats.
fn text_of(client: IpAddr) -> Box<str> {
    let IpAddr::V4(client) = client else { return client.to_string().into() };
    let mut text: SmallVec<[u8; 16]> = SmallVec::new();
    for (index, octet) in client.octets().into_iter().enumerate() {
        if index > 0 {
            text.push(b'.');
        }
        text.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
    }
    str::from_utf8(&text).unwrap_or_default().into()
}

/// Counts an attempt whose price is unknown; a target's first is logged.
fn note_unpriced(attempt: &AttemptRecord, row: &AttemptRow) {
    if attempt.to.metrics.unpriced() {
        tracing::warn!(
            place = &*row.target,
            model = &*row.upstream_model,
            "the price of a model is unknown, so what its calls cost is too; set one under `prices`"
        );
    }
}
