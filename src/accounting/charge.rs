//! The charge: one reserved place in the settlement queue, and the record that will be put there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use smallvec::SmallVec;
use tokio::sync::mpsc::{self, OwnedPermit};

use super::{
    attempt::{AttemptRecord, Destination},
    estimate::{KEPT_BY_STREAM, KEPT_TO_COUNT},
    settlement::{Books, Settlement},
};
use crate::{
    error::Error,
    providers::Operation,
    quotas::{Account, Consumed},
    store::ledger::{CallRow, Who},
    telemetry::{Metrics, ModelMetrics, Outcome, metrics::Counted},
    types::{Clock, Nanos, Usage, UsageSource},
    wire::openai_chat::{Said, Stated},
};

/// Where charges are opened. Its queue holds a place for every call in flight, so that settling never waits.
#[derive(Clone, Debug)]
pub struct Till {
    queue: mpsc::Sender<Box<Settlement>>,
    clock: Clock,
    books: Arc<Books>,
}

/// One call's account. It settles when it is told to, or when it is dropped, but once: settling takes the permit.
#[derive(Debug)]
pub struct Charge {
    permit: Option<OwnedPermit<Box<Settlement>>>,
    record: Option<Box<Settlement>>,
    clock: Clock,
    books: Arc<Books>,
    _in_flight: Counted,
    arrived: Instant,
    /// When the request body was complete: what comes before is the client's time, not the gateway's.
    ready: Instant,
    /// Time spent waiting for providers so far.
    waited: Duration,
}

impl Till {
    /// A till whose queue holds `places` charges, and the receiving end for [`super::settle_all`].
    pub fn new(places: usize, clock: Clock, books: Arc<Books>) -> (Self, mpsc::Receiver<Box<Settlement>>) {
        let (queue, settlements) = mpsc::channel(places.max(1));
        (Self { queue, clock, books }, settlements)
    }

    /// Opens a charge for a call; `record` holds what is known at its start.
    ///
    /// # Errors
    /// 503 when more calls are in flight or unsettled than there are places, or when the ledger has no room.
    pub fn open(&self, mut record: Settlement, arrived: Instant, ready: Instant) -> Result<Charge, Error> {
        if !self.books.ledger.admits() {
            return Err(ledger_full());
        }
        let permit = self.queue.clone().try_reserve_owned().map_err(|_| Error::full())?;
        record.pending = Some(Metrics::count(&self.books.metrics.settlements_pending));
        Ok(Charge {
            permit: Some(permit),
            record: Some(Box::new(record)),
            clock: self.clock.clone(),
            books: self.books.clone(),
            _in_flight: Metrics::count(&self.books.metrics.calls_in_flight),
            arrived,
            ready,
            waited: Duration::ZERO,
        })
    }
}

impl Charge {
    /// Notes the configured model that serves the call from here on, and what a `*` in its name stands for.
    pub fn served_by(&mut self, name: &Arc<str>, star: Option<&str>, metrics: &Arc<ModelMetrics>) {
        if let Some(record) = &mut self.record {
            record.star = star.map(Into::into);
            record.served = Some((name.clone(), metrics.clone()));
        }
    }

    /// Notes that bytes go upstream now: in the ledger's journal, before any does.
    pub fn attempt_started(&mut self, to: Destination) {
        let Some(record) = &mut self.record else { return };
        let mut attempt = AttemptRecord::new(to, self.clock.unix_millis(), self.clock.now());
        if record.operation == Operation::CountTokens {
            // Counting consumes nothing, however it ends.
            attempt.counted = Some((Usage::default(), UsageSource::None));
        }
        record.attempts.push(attempt);
        if let Some(row) = self.row() {
            self.books.ledger.opened(&row);
        }
    }

    /// The call's row if it never ended.
    pub(super) fn row(&self) -> Option<CallRow> {
        Some(self.record.as_ref()?.row(&self.books.instance))
    }

    /// Notes how the running attempt ended, or that it was committed (`Outcome::Ok`), and how long it was waited for.
    pub fn attempt_ended(&mut self, outcome: Outcome, status: Option<u16>) {
        let now = self.clock.now();
        if let Some(attempt) = self.record.as_mut().and_then(|record| record.attempts.last_mut()) {
            if attempt.outcome.is_none() {
                self.waited += now.saturating_duration_since(attempt.started);
            }
            attempt.outcome = Some(outcome);
            attempt.status = status.or(attempt.status);
            attempt.took = now.saturating_duration_since(attempt.started);
        }
    }

    /// Notes that the running attempt's connection had been idle and was found closed.
    pub fn attempt_unsent(&mut self) {
        if let Some(attempt) = self.last_attempt() {
            attempt.unsent = true;
        }
    }

    /// Notes time spent waiting on purpose, between attempts: it is not the gateway's own.
    pub fn slept(&mut self, time: Duration) {
        self.waited += time;
    }

    /// Notes that the answer is about to be committed to the client, and gives the gateway's own share of the time.
    pub fn committed(&mut self, status: u16, streamed: bool) -> Duration {
        let now = self.clock.now();
        let overhead = now.saturating_duration_since(self.ready).saturating_sub(self.waited);
        if let Some(record) = &mut self.record {
            record.status = status;
            record.overhead = overhead;
            if streamed {
                record.asked.keep(KEPT_BY_STREAM);
                record.first_output = Some(now.saturating_duration_since(self.arrived));
                if let Some(attempt) = record.attempts.last_mut() {
                    attempt.first_token = Some(now.saturating_duration_since(attempt.started));
                }
            }
        }
        overhead
    }

    /// Notes what the provider of the last attempt states about its answer, and what it said.
    pub fn heard(&mut self, stated: Stated, said: Option<Said>) {
        if let Some(attempt) = self.last_attempt() {
            let is_wanted = stated.usage.is_none() || stated.usage_is_early;
            attempt.said = said.filter(|said| is_wanted && !said.is_empty()).map(Box::new);
            attempt.stated = stated;
        }
    }

    /// What usage that the provider of the last attempt states costs. `None` if it states none, or its price is
    /// unknown.
    pub fn cost_of(&self, stated: &Stated) -> Option<Nanos> {
        self.record.as_ref()?.attempts.last()?.stated_cost(stated)
    }

    /// Notes what of the call could not be said in the other side's format, by its places.
    pub fn lossy(&mut self, places: &str) {
        if let Some(record) = &mut self.record {
            record.lossy = Some(places.into());
        }
    }

    pub fn finish_reason(&mut self, reason: &str) {
        if let Some(record) = &mut self.record {
            record.finish_reason = Some(reason.into());
        }
    }

    /// Notes bytes of the answer that were handed to the client's connection.
    pub fn sent(&mut self, bytes: usize) {
        if let Some(record) = &mut self.record {
            record.bytes_out += bytes as u64;
        }
    }

    /// The account of the call's quotas, where any concern it, and on whose behalf the call is made.
    pub fn account(&mut self) -> Option<(&mut Account, &Who)> {
        let record = self.record.as_mut()?;
        Some((record.account.as_deref_mut()?, &record.who))
    }

    /// What each attempt so far has consumed, as far as is known by now.
    pub fn consumed(&self) -> SmallVec<[Consumed; 2]> {
        let Some(record) = &self.record else { return SmallVec::new() };
        let of = |attempt: &AttemptRecord| {
            let (usage, _) = attempt.consumed(&record.asked);
            Consumed { input: usage.total_input(), output: usage.total_output(), cost: attempt.cost(&usage) }
        };
        record.attempts.iter().map(of).collect()
    }

    /// What the last attempt has consumed, as far as is known by now.
    pub fn usage(&self) -> Option<Usage> {
        let record = self.record.as_ref()?;
        Some(record.attempts.last()?.consumed(&record.asked).0)
    }

    /// How many tokens of input the call may have, rather too many than too few.
    pub fn input_at_most(&self) -> u64 {
        self.record.as_ref().map_or(0, |record| record.asked.at_most())
    }

    /// How many attempts were started.
    pub fn attempts(&self) -> usize {
        self.record.as_ref().map_or(0, |record| record.attempts.len())
    }

    /// Ends the charge with `outcome`.
    pub fn settle(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    /// Ends the charge of a call that failed with an error for the client.
    pub fn settle_error(mut self, outcome: Outcome, error_code: &'static str, status: u16) {
        self.end_attempt(outcome);
        if let Some(record) = &mut self.record {
            record.error_code = Some(error_code);
            record.status = status;
            record.overhead = self.clock.now().saturating_duration_since(self.ready).saturating_sub(self.waited);
        }
        self.end(outcome);
    }

    /// The one way out: takes the permit, so that there is no second.
    fn end(&mut self, outcome: Outcome) {
        self.end_attempt(outcome);
        let (Some(permit), Some(mut record)) = (self.permit.take(), self.record.take()) else { return };
        record.outcome = outcome;
        let now = self.clock.now();
        if outcome == Outcome::ClientCancel && record.status == 0 {
            // nginx's word for a client that closed before it was answered.
            record.status = 499;
            let running = record.attempts.last().filter(|attempt| attempt.outcome.is_none());
            self.waited += running.map_or(Duration::ZERO, |attempt| now.saturating_duration_since(attempt.started));
            record.overhead = now.saturating_duration_since(self.ready).saturating_sub(self.waited);
        }
        record.duration = now.saturating_duration_since(self.arrived);
        if let Some(account) = &mut record.account {
            account.ended();
        }
        // What waits to be settled must not hold large requests.
        match record.attempts.iter().any(AttemptRecord::is_uncounted) {
            true => record.asked.keep(KEPT_TO_COUNT),
            false => record.asked.let_go(),
        }
        permit.send(record);
    }

    /// Gives the last attempt the call's own end, unless it had one: it was still running, or it was committed and what
    /// became of the answer is what became of the attempt. A stream that died is no success of its target.
    fn end_attempt(&mut self, outcome: Outcome) {
        let now = self.clock.now();
        let Some(attempt) = self.record.as_mut().and_then(|record| record.attempts.last_mut()) else { return };
        match attempt.outcome {
            None => self.waited += now.saturating_duration_since(attempt.started),
            Some(Outcome::Ok) => {}
            Some(_) => return,
        }
        attempt.outcome = Some(outcome);
        attempt.took = now.saturating_duration_since(attempt.started);
    }

    fn last_attempt(&mut self) -> Option<&mut AttemptRecord> {
        self.record.as_mut()?.attempts.last_mut()
    }
}

fn ledger_full() -> Error {
    let message = "The gateway cannot keep account of more calls now: its database is away and its journal is full.";
    Error::gateway(StatusCode::SERVICE_UNAVAILABLE, "ledger_full", message).with_retry_after(Duration::from_secs(5))
}

impl Drop for Charge {
    /// Whoever drops a charge unsettled did so because the client went away: hyper drops the handler's future, or the
    /// response body, as soon as it sees the connection close. A panic unwinds through here as well.
    fn drop(&mut self) {
        let outcome = if std::thread::panicking() { Outcome::Internal } else { Outcome::ClientCancel };
        self.end(outcome);
    }
}
