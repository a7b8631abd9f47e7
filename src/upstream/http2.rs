//! HTTP/2 to a provider: connections that carry many calls, driven by hyper in a task each.
//!
//! A provider allows only so many streams on a connection (100 is common), and the library would queue the rest. So there
//! are several *lanes*, each with a connection of its own, and one is added when the others are full. A lane is opened by
//! the first call in it; the next ones wait for that one connection instead of opening more.

use std::{
    error::Error as StdError,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, Connection, SendRequest},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::OnceCell;

use super::{OutBody, SendError, deepest, stream::Stream};
use crate::types::{Clock, Tasks};

/// Streams on one connection before another is opened. Providers commonly allow 100.
const STREAMS: usize = 90;

/// Connections to one origin at most. Beyond it calls queue on the least busy one.
const MAX_LANES: usize = 64;

/// The HTTP/2 connections to one origin.
#[derive(Debug)]
pub(super) struct Lanes {
    /// How long a connection without calls is kept.
    keep: Duration,
    clock: Clock,
    tasks: Tasks,
    list: Mutex<Vec<Arc<Lane>>>,
}

/// One connection, open or to be opened.
#[derive(Debug)]
pub(super) struct Lane {
    sender: OnceCell<SendRequest<OutBody>>,
    in_flight: AtomicUsize,
    /// Whether an answer has come over it.
    answered: AtomicBool,
    /// When it was last begun to be of use: milliseconds since `made`.
    used: AtomicU64,
    made: Instant,
}

/// A call in a lane, counted for as long as its body lives.
#[derive(Debug)]
pub(super) struct Busy {
    lane: Arc<Lane>,
    clock: Clock,
}

impl Lanes {
    pub(super) fn new(keep: Duration, clock: Clock, tasks: Tasks) -> Self {
        Self { keep, clock, tasks, list: Mutex::default() }
    }

    /// The lane for one more call.
    pub(super) fn enter(&self) -> Busy {
        let mut list = self.list();
        list.retain(|lane| !lane.is_closed());
        let free = list.iter().find(|lane| lane.in_flight() < STREAMS);
        let least = || list.iter().min_by_key(|lane| lane.in_flight());
        let lane = match free.or_else(|| least().filter(|_| list.len() >= MAX_LANES)) {
            Some(lane) => lane.clone(),
            None => {
                list.push(Arc::new(Lane::new(self.clock.now())));
                list[list.len() - 1].clone()
            }
        };
        // Counted before the list is free again, so that nobody takes the lane for idle.
        Busy::new(lane, self.clock.clone())
    }

    /// A lane for one call alone, which no other finds.
    pub(super) fn enter_new(&self) -> Busy {
        Busy::new(Arc::new(Lane::new(self.clock.now())), self.clock.clone())
    }

    /// Starts HTTP/2 on a connection that was opened for `lane`.
    ///
    /// # Errors
    /// [`SendError::Lost`].
    pub(super) async fn start(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        stream: Stream,
    ) -> Result<SendRequest<OutBody>, SendError> {
        let mut builder = Builder::new(Spawner(self.tasks.clone()));
        builder
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        let started = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = started.map_err(|error| SendError::Lost(deepest(&error)))?;
        self.tasks.spawn_untracked(drive(
            connection,
            Arc::downgrade(self),
            Arc::downgrade(lane),
            self.keep,
            self.clock.clone(),
        ));
        Ok(sender)
    }

    /// Takes `lane` off the list if it has been without calls for long enough. Says whether it may be closed.
    fn retire(&self, lane: &Arc<Lane>) -> bool {
        let mut list = self.list();
        let idle = lane.in_flight() == 0 && self.clock.now() >= lane.used_at() + self.keep;
        if idle {
            list.retain(|other| !Arc::ptr_eq(other, lane));
        }
        idle
    }

    /// How many lanes there are.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.list().len()
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<Lane>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn new(now: Instant) -> Self {
        Self {
            sender: OnceCell::new(),
            in_flight: AtomicUsize::new(0),
            answered: AtomicBool::new(false),
            used: AtomicU64::new(0),
            made: now,
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn is_closed(&self) -> bool {
        self.sender.get().is_some_and(SendRequest::is_closed)
    }

    fn used_at(&self) -> Instant {
        self.made + Duration::from_millis(self.used.load(Ordering::Relaxed))
    }
}

impl Busy {
    fn new(lane: Arc<Lane>, clock: Clock) -> Self {
        lane.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { lane, clock }
    }

    pub(super) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Has `open` open the lane's connection, unless it is open or another call is at it.
    ///
    /// # Errors
    /// Those of `open`; the next call then tries again.
    pub(super) async fn opened<E>(
        &self,
        open: impl Future<Output = Result<SendRequest<OutBody>, E>>,
    ) -> Result<SendRequest<OutBody>, E> {
        self.lane.sender.get_or_try_init(|| open).await.cloned()
    }

    /// Sends a call over `sender` and waits for the head of its answer. A call that was not sent because the connection
    /// was closing is given back.
    ///
    /// # Errors
    /// See [`SendError`].
    pub(super) async fn send(
        &self,
        mut sender: SendRequest<OutBody>,
        request: Request<OutBody>,
    ) -> Result<Result<Response<Incoming>, Request<OutBody>>, SendError> {
        match sender.try_send_request(request).await {
            Ok(response) => {
                self.lane.answered.store(true, Ordering::Relaxed);
                Ok(Ok(response))
            }
            Err(mut failed) => match failed.take_message() {
                Some(request) => Ok(Err(request)),
                None => Err(self.failed(failed.error())),
            },
        }
    }

    fn failed(&self, error: &hyper::Error) -> SendError {
        let text = deepest(error);
        match () {
            () if error.is_parse() || error.is_parse_too_large() => SendError::NotHttp(text),
            () if was_closed(error) && self.lane.answered.load(Ordering::Relaxed) => SendError::Stale(text),
            () => SendError::Lost(text),
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let used = self.clock.now().saturating_duration_since(self.lane.made);
        self.lane.used.store(u64::try_from(used.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.lane.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether the connection as such came to its end, and not just one stream on it.
fn was_closed(error: &hyper::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let cut =
        |error: &io::Error| matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
    error.is_incomplete_message() || find::<io::Error>(error).is_some_and(cut)
}

/// The first cause of type `E` along the chain of sources.
fn find<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // `io::Error` hides what it wraps from `source`.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref::<E>()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Drives a connection until it ends, or has been idle for too long. It ends by itself once nobody can send over it.
async fn drive(
    connection: Connection<TokioIo<Stream>, OutBody, Spawner>,
    lanes: Weak<Lanes>,
    lane: Weak<Lane>,
    keep: Duration,
    clock: Clock,
) {
    let mut connection = std::pin::pin!(connection);
    while clock.timeout_at(clock.now() + keep, connection.as_mut()).await.is_err() {
        let (Some(lanes), Some(lane)) = (lanes.upgrade(), lane.upgrade()) else { continue };
        if lanes.retire(&lane) {
            return;
        }
    }
}

/// Runs the connection's own tasks in the gateway's task set.
#[derive(Clone, Debug)]
pub(super) struct Spawner(Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn_untracked(future);
    }
}
