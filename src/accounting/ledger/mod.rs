//! The ledger's near side: what calls hand over, kept until the store has it.
//!
//! A call that goes upstream is written to the journal first ([`Ledger::opened`]); a call that has ended is written
//! there again ([`Ledger::settled`]) and waits in memory for the writer, which ships rows to the store in batches. When
//! the store is away for longer than memory lasts, rows wait in the journal alone and are read back later. When the
//! journal cannot be written they wait in memory alone; and when that is full as well, [`Ledger::admits`] says no.
//!
//! Half of the memory is for rows that are in the journal as well, three quarters are open to new calls, and the last
//! quarter is for those already in flight. Nothing here waits for the store but the writer.

mod inherit;
mod lost;
#[cfg(test)]
mod script;
mod ship;
mod sink;
mod writer;

use std::{
    collections::VecDeque,
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::{lost::Lost, ship::Shipper, writer::Work};
use super::{
    journal::Journal,
    settings::{Settings, WhenFull},
};
use crate::{
    store::ledger::CallRow,
    telemetry::Metrics,
    types::{Clock, Tasks},
};

pub use sink::Sink;

/// Rows that go to the store at once, a multiple of the longest statement that SQLite is given. Each transaction costs
/// its own: larger ones cost less for a row, and hold up the calls of a machine with one core for longer.
const BATCH: usize = 1_024;

/// The folder of journals in the data directory.
const FOLDER: &str = "journal";

/// Where calls are written down. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger(Option<Arc<Inner>>);

/// Why the ledger could not be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write the ledger's journal in {}: {source}. Give the folder to the user this runs as, or name another one \
     (data_dir)",
    folder.display()
)]
pub struct LedgerError {
    folder: PathBuf,
    source: io::Error,
}

/// Rows that were not in the store when the gateway ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// They are in the journal, and the next start ships them.
    pub journaled: u64,
    /// They were in memory alone, and are gone.
    pub gone: u64,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    admits: AtomicBool,
    settings: Settings,
    clock: Clock,
    metrics: Arc<Metrics>,
    shipper: Shipper,
    /// There is something for the writer.
    work: Notify,
    /// There is so much, or somebody waits for it, that it should not wait for more.
    enough: Notify,
    /// Rows have come into the store, or what dead gateways left has.
    progress: Notify,
    /// Calls of dead gateways whose end nobody knows, for whoever counts what was spent.
    lost: Lost,
    /// Nothing new comes; the writer ends when nothing is left.
    closing: CancellationToken,
    tasks: Tasks,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    queue: Queue,
    /// Rows are kept in the journal alone until what is there has been read back.
    spilling: bool,
    /// Settled rows that are not in the store.
    unshipped: u64,
    /// What dead gateways left behind at the start is not all in the store yet.
    inherits: bool,
    /// Rows are being given up.
    dropping: bool,
}

/// Rows in memory.
#[derive(Debug, Default)]
struct Queue {
    rows: VecDeque<Waiting>,
    /// What they take, those that the writer has in hand included.
    bytes: usize,
    /// When the oldest that the writer has in hand settled, in Unix milliseconds.
    in_hand_since: Option<u64>,
    /// Rows that ever came in, and those of them that went to the store. They go in the order in which they came.
    came: u64,
    went: u64,
}

/// What was owed to the store at some moment.
#[derive(Clone, Copy, Debug)]
struct Owed {
    /// As many rows had come into memory.
    came: u64,
    /// The last segment that rows may have been kept in alone.
    segment: u64,
}

/// A row in memory that is not known to be in the store.
struct Waiting {
    row: CallRow,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// The segment that holds it as well.
    segment: Option<u64>,
    /// What it takes in memory.
    bytes: usize,
    /// When it came, in Unix milliseconds.
    since: u64,
}

impl Ledger {
    /// Opens a journal in `data_dir` and begins to ship rows to `sink`, those that dead gateways left in `data_dir`
    /// among them. What is there is read in the background.
    ///
    /// # Errors
    /// When the journal cannot be made.
    pub async fn start(
        settings: Settings,
        data_dir: &Path,
        sink: Sink,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LedgerError> {
        let root = data_dir.join(FOLDER);
        let journal = blocking({
            let (root, bound, clock) = (root.clone(), settings.max_journal.0, clock.clone());
            move || Journal::open(&root, bound, clock)
        });
        let journal = journal.await.unwrap_or_else(|| Err(io::Error::other("it was interrupted")));
        let journal = journal.map_err(|source| LedgerError { folder: root.clone(), source })?;
        metrics.ledger_store_up.set(1);
        let inner = Arc::new(Inner {
            shipper: Shipper::new(sink, root.clone(), clock.clone(), metrics.clone()),
            state: Mutex::new(State {
                journal,
                queue: Queue::default(),
                spilling: false,
                unshipped: 0,
                inherits: true,
                dropping: false,
            }),
            admits: AtomicBool::new(true),
            settings,
            clock,
            metrics,
            work: Notify::new(),
            enough: Notify::new(),
            progress: Notify::new(),
            lost: Lost::default(),
            closing: CancellationToken::new(),
            tasks: Tasks::new(),
        });
        inner.tasks.spawn(writer::write_all(inner.clone()));
        inner.tasks.spawn(inherit::inherit(inner.clone(), root));
        inner.tasks.spawn(watch(inner.clone()));
        Ok(Self(Some(inner)))
    }

    /// A ledger that keeps nothing and admits everything.
    pub fn off() -> Self {
        Self(None)
    }

    /// Writes down that an attempt of this call is about to be sent: the whole call so far, the attempt as its last, with
    /// its outcome as [`crate::types::Outcome::Lost`] and its usage as estimated. It is one small write to a file; what it
    /// could not write is counted, and the call goes on.
    pub fn opened(&self, row: &CallRow) {
        let Some(inner) = &self.0 else { return };
        let mut state = inner.lock();
        if !state.journal.opened(row) {
            inner.metrics.ledger_unjournaled.inc();
        }
        inner.look_at_room(&state);
    }

    /// Takes rows of calls that have ended; each of them will be in the store once. A write to a file and no more: it does
    /// not wait for the store. Hand over what there is at once, that is one write.
    pub fn settled(&self, rows: Vec<CallRow>) {
        let Some(inner) = &self.0 else { return };
        let mut state = inner.lock();
        let now = inner.clock.unix_millis();
        let before = state.queue.rows.len();
        let segments = state.journal.settled(&rows);
        for (row, segment) in rows.into_iter().zip(segments) {
            let place = Place { segment, bytes: weight(&row), since: now };
            inner.take_in(&mut state, Waiting { row, place });
        }
        inner.look_at_room(&state);
        let after = state.queue.rows.len();
        drop(state);
        if before == 0 {
            inner.work.notify_one();
        }
        if before < BATCH && after >= BATCH {
            inner.enough.notify_one();
        }
    }

    /// Whether a new call may be served: there is room to keep what it will cost.
    pub fn admits(&self) -> bool {
        self.0.as_ref().is_none_or(|inner| inner.admits.load(Relaxed))
    }

    /// Waits until every row that settled before this call is in the store, or set aside because the store refuses it,
    /// and so is what dead gateways had left in the data directory at the start. `false`: the deadline passed first.
    /// Calls that have ended are settled a moment later, in batches: what is counted here is what [`Ledger::settled`] was
    /// given.
    pub async fn flush(&self, deadline: Instant) -> bool {
        let Some(inner) = &self.0 else { return true };
        let owed = inner.lock().owed();
        let paid = async {
            loop {
                let progress = inner.progress.notified();
                if inner.lock().has_paid(owed) {
                    return;
                }
                inner.enough.notify_one();
                progress.await;
            }
        };
        inner.clock.timeout_at(deadline, paid).await.is_ok()
    }

    /// Waits for calls of dead gateways that were booked as lost since this was asked last. What they consumed is in no
    /// counter: nobody was left to settle it. Of very many the first are dropped.
    pub async fn lost(&self) -> Vec<CallRow> {
        let Some(inner) = &self.0 else { return std::future::pending().await };
        inner.lost.take().await
    }

    /// Ships what is there for at most `grace`, ends, and says what was left. Call it when the last call has settled.
    pub async fn stop(&self, grace: Duration) -> Remaining {
        let Some(inner) = &self.0 else { return Remaining::default() };
        inner.closing.cancel();
        let deadline = inner.clock.now() + grace;
        let _ = inner.clock.timeout_at(deadline, inner.tasks.finished()).await;
        inner.tasks.shut_down(&inner.clock, Duration::from_secs(1)).await;
        let (remaining, finished) = inner.lock().close();
        writer::remove(finished).await;
        inner.lock().journal.folder().remove_if_empty();
        if remaining.journaled > 0 {
            tracing::warn!(
                rows = remaining.journaled,
                "the database did not take all of the ledger's rows; the next start ships them"
            );
        }
        if remaining.gone > 0 {
            tracing::error!(
                rows = remaining.gone,
                "rows of the ledger are lost: neither the database nor the disk took them"
            );
        }
        remaining
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that is held here can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a settled row where there is room for it.
    fn take_in(&self, state: &mut State, waiting: Waiting) {
        let most = self.settings.max_memory.bytes();
        let after = state.queue.bytes + waiting.place.bytes;
        match waiting.place.segment {
            Some(segment) if state.spilling || after > most / 2 => {
                state.spilling = true;
                state.journal.spill(segment);
            }
            None if after > most => {
                self.metrics.ledger_rows_dropped.inc();
                state.journal.shipped(&waiting.row.id, None);
                if !std::mem::replace(&mut state.dropping, true) {
                    tracing::error!(
                        "rows of the ledger are being lost: neither the database, nor the journal, nor memory takes them \
                         (switchboard_ledger_rows_dropped_total counts them)"
                    );
                }
                return;
            }
            segment => {
                if segment.is_none() {
                    self.metrics.ledger_unjournaled.inc();
                }
                state.queue.bytes = after;
                state.queue.came += 1;
                state.queue.rows.push_back(waiting);
            }
        }
        state.unshipped += 1;
    }

    /// Decides whether new calls are admitted.
    fn look_at_room(&self, state: &State) {
        let most = self.settings.max_memory.bytes();
        let room = state.journal.is_writable() || state.queue.bytes < most / 4 * 3;
        let admits = room || self.settings.when_full == WhenFull::Serve;
        if self.admits.swap(admits, Relaxed) != admits {
            if admits {
                tracing::info!("the ledger has room again: new calls are served");
            } else {
                tracing::error!("the ledger has no room left: new calls are refused until it has (ledger.when_full)");
            }
        }
    }

    /// Brings the gauges up to date.
    fn observe(&self) {
        let state = self.lock();
        let waits_in_memory = state.queue.rows.front().map(|waiting| waiting.place.since);
        let oldest = [waits_in_memory, state.queue.in_hand_since, state.journal.oldest_spilled()];
        let age = oldest.into_iter().flatten().min().map_or(0, |since| self.clock.unix_millis().saturating_sub(since));
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.ledger_journal_bytes.set(signed(state.journal.bytes()));
        self.metrics.ledger_journal_segments.set(signed(state.journal.segments() as u64));
        self.metrics.ledger_rows_waiting.set(signed(state.unshipped));
        self.metrics.ledger_oldest_row_seconds.set(signed(age / 1_000));
        self.metrics.ledger_journal_up.set(state.journal.is_writable().into());
    }
}

impl State {
    /// The next rows for the store: those in memory first, they came before what was kept in the journal alone.
    fn take(&mut self) -> Option<Work> {
        if !self.queue.rows.is_empty() {
            let count = self.queue.rows.len().min(BATCH);
            let rows: Vec<_> = self.queue.rows.drain(..count).collect();
            self.queue.in_hand_since = rows.first().map(|waiting| waiting.place.since);
            return Some(Work::Rows(rows));
        }
        let (number, path, is_last) = self.journal.next_spilled()?;
        // What settles from here on is in later segments, and may wait in memory again.
        self.spilling &= !is_last;
        Some(Work::Segment(number, path))
    }

    /// A row that was in memory is in the store, or set aside.
    fn shipped(&mut self, id: &str, place: Place) {
        self.journal.shipped(id, place.segment);
        self.queue.bytes = self.queue.bytes.saturating_sub(place.bytes);
        self.queue.in_hand_since = None;
        self.queue.went += 1;
        self.unshipped = self.unshipped.saturating_sub(1);
        self.dropping = false;
    }

    fn owed(&self) -> Owed {
        Owed { came: self.queue.came, segment: self.journal.last_segment() }
    }

    fn has_paid(&self, owed: Owed) -> bool {
        !self.inherits && self.queue.went >= owed.came && !self.journal.has_spilled_up_to(owed.segment)
    }

    /// Leaves in the journal what was not shipped, and gives the segments that are not needed.
    fn close(&mut self) -> (Remaining, Vec<PathBuf>) {
        // A disk that was full may have room by now.
        let rows: Vec<CallRow> = std::mem::take(&mut self.queue.rows)
            .into_iter()
            .filter_map(|waiting| waiting.place.segment.is_none().then_some(waiting.row))
            .collect();
        let gone = self.journal.settled(&rows).iter().filter(|segment| segment.is_none()).count() as u64;
        let remaining = Remaining { journaled: self.unshipped.saturating_sub(gone), gone };
        (remaining, self.journal.finished(true))
    }
}

impl Queue {
    /// Takes back rows that were not shipped.
    fn put_back(&mut self, waiting: impl DoubleEndedIterator<Item = Waiting>) {
        for waiting in waiting.rev() {
            self.rows.push_front(waiting);
        }
        self.in_hand_since = None;
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("id", &self.row.id).field("place", &self.place).finish()
    }
}

/// Keeps the gauges up to date while nothing else happens.
async fn watch(ledger: Arc<Inner>) {
    const EVERY: Duration = Duration::from_secs(1);
    let stop = ledger.tasks.stopping();
    loop {
        ledger.lock().journal.look_at_folder();
        ledger.observe();
        tokio::select! {
            () = ledger.closing.cancelled() => return,
            () = stop.cancelled() => return,
            () = ledger.clock.sleep(EVERY) => {}
        }
    }
}

/// Runs file I/O on a thread that may wait for a disk. `None` if it was interrupted, as at the end of the process.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// About what a row takes in memory. Names that calls share are counted once, with whoever holds them.
fn weight(row: &CallRow) -> usize {
    const ALLOCATION: usize = 16;
    let texts =
        [&row.client, &row.error_code, &row.finish_reason, &row.who.end_user, &row.who.workflow, &row.who.session];
    let of_call: usize = texts.iter().map(|text| text.as_ref().map_or(0, |text| text.len() + ALLOCATION)).sum();
    let of_attempts: usize =
        row.attempts.iter().map(|attempt| attempt.provider_id.as_ref().map_or(0, |id| id.len())).sum();
    let of_tags: usize = row.who.tags.iter().map(|tag| tag.len() + 2 * ALLOCATION).sum();
    let of_notes = row.notes.as_ref().map_or(0, |notes| {
        let of_limits = size_of_val(&*notes.limits) + size_of_val(&*notes.about) + 2 * ALLOCATION;
        let subjects = notes.about.iter().flat_map(|about| &about.subject);
        let of_subjects: usize = subjects.map(|part| size_of_val(part) + part.1.len() + 2 * ALLOCATION).sum();
        size_of_val(&**notes)
            + ALLOCATION
            + of_limits
            + of_subjects
            + notes.lossy.as_ref().map_or(0, |places| places.len())
    });
    size_of::<Waiting>()
        + row.id.len()
        + row.requested.len()
        + of_call
        + of_tags
        + of_attempts
        + of_notes
        + row.attempts.len() * (size_of::<crate::store::ledger::AttemptRow>() + ALLOCATION)
        + 4 * ALLOCATION
}

#[cfg(test)]
mod tests;
