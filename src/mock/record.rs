//! What the mock was sent, and what became of each answer.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Version};

use crate::types::Clock;

/// How many requests are remembered.
const MOST_REQUESTS: usize = 10_000;
/// How many bytes of request bodies are remembered.
const MOST_BYTES: usize = 256 << 20;

/// A request that the mock received.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Counts from 1, in order of arrival.
    pub number: u64,
    /// When the request head had arrived.
    pub at: Instant,
    pub method: Method,
    /// The path and the query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The model the body names.
    pub model: Option<String>,
    /// The key from `authorization`, `api-key` or `x-api-key`.
    pub api_key: Option<String>,
    pub http_version: Version,
    /// The number of the connection it came on, from 1.
    pub connection: u64,
    outcome: Arc<OnceLock<Outcome>>,
    billed: Arc<OnceLock<Billed>>,
}

/// What a whole answer is billed for, whether or not it says so and whether or not it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Billed {
    /// The answer's id; embeddings have none.
    pub id: Option<String>,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is being given, or awaited.
    Pending,
    /// All of it was handed to the network.
    Complete,
    /// The client went away before it was complete.
    Aborted {
        /// Bytes of the body sent until then.
        bytes_sent: u64,
        /// Time since the request arrived.
        after: Duration,
    },
    /// The script broke it off.
    Faulted,
}

/// What is remembered and counted.
#[derive(Debug, Default)]
pub(super) struct Log {
    kept: Mutex<Kept>,
    number: AtomicU64,
    open: AtomicUsize,
    aborted: AtomicUsize,
}

#[derive(Debug, Default)]
struct Kept {
    requests: VecDeque<Recorded>,
    bytes: usize,
}

/// An answer on its way. Whoever holds it says how it ended; if nobody does, the client went away.
#[derive(Debug)]
pub(super) struct Exchange {
    log: Arc<Log>,
    clock: Clock,
    outcome: Arc<OnceLock<Outcome>>,
    billed: Arc<OnceLock<Billed>>,
    pub(super) number: u64,
    pub(super) at: Instant,
    pub(super) bytes_sent: u64,
}

impl Recorded {
    /// What became of the answer, as of now.
    pub fn outcome(&self) -> Outcome {
        self.outcome.get().copied().unwrap_or(Outcome::Pending)
    }

    /// What the answer is billed for; `None` for a refusal.
    pub fn billed(&self) -> Option<&Billed> {
        self.billed.get()
    }
}

impl Log {
    /// A request has arrived.
    pub(super) fn open(self: &Arc<Self>, clock: &Clock) -> Exchange {
        self.open.fetch_add(1, Ordering::Relaxed);
        Exchange {
            log: self.clone(),
            clock: clock.clone(),
            outcome: Arc::default(),
            billed: Arc::default(),
            number: self.number.fetch_add(1, Ordering::Relaxed) + 1,
            at: clock.now(),
            bytes_sent: 0,
        }
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.kept().requests.iter().cloned().collect()
    }

    pub(super) fn recorded(&self) -> usize {
        self.kept().requests.len()
    }

    /// Forgets the requests, and how many were aborted.
    pub(super) fn clear(&self) {
        *self.kept() = Kept::default();
        self.aborted.store(0, Ordering::Relaxed);
    }

    pub(super) fn open_streams(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn aborted(&self) -> usize {
        self.aborted.load(Ordering::Relaxed)
    }

    pub(super) fn served(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while it is held.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, request: Recorded) {
        self.bytes += request.body.len();
        self.requests.push_back(request);
        while self.requests.len() > MOST_REQUESTS || self.bytes > MOST_BYTES {
            let Some(oldest) = self.requests.pop_front() else { return };
            self.bytes -= oldest.body.len();
        }
    }
}

impl Exchange {
    /// Remembers the request that this answers.
    pub(super) fn record(
        &self,
        head: &http::request::Parts,
        body: Bytes,
        model: Option<String>,
        api_key: Option<&str>,
        connection: u64,
    ) {
        let request = Recorded {
            number: self.number,
            at: self.at,
            method: head.method.clone(),
            path: head.uri.path_and_query().map_or_else(|| head.uri.path().to_owned(), ToString::to_string),
            headers: head.headers.clone(),
            body,
            model,
            api_key: api_key.map(str::to_owned),
            http_version: head.version,
            connection,
            outcome: self.outcome.clone(),
            billed: self.billed.clone(),
        };
        self.log.kept().push(request);
    }

    /// The answer will be billed for this.
    pub(super) fn bill(&self, billed: Billed) {
        let _ = self.billed.set(billed);
    }

    /// All of the answer was handed over.
    pub(super) fn complete(&self) {
        let _ = self.outcome.set(Outcome::Complete);
    }

    /// The script broke the answer off.
    pub(super) fn faulted(&self) {
        let _ = self.outcome.set(Outcome::Faulted);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let after = self.clock.now().saturating_duration_since(self.at);
        if self.outcome.set(Outcome::Aborted { bytes_sent: self.bytes_sent, after }).is_ok() {
            self.log.aborted.fetch_add(1, Ordering::Relaxed);
        }
        self.log.open.fetch_sub(1, Ordering::Relaxed);
    }
}
