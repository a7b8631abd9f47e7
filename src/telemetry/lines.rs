//! The way out for log text: one buffer, one writer thread, one write per batch.
//!
//! Whoever logs appends to a buffer in memory and goes on. A thread of its own takes what has gathered and writes it
//! in one go: standard error may be a pipe whose reader has stopped, and such a write blocks, which no thread that
//! serves calls may do. When the reader is that slow, the buffer fills to its bound and further lines are dropped and
//! counted.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use prometheus::IntCounter;

/// The most text that waits to be written; beyond it lines are dropped.
const MAX_PENDING: usize = 4 * 1024 * 1024;

/// How long text may gather before it is written. Under load the writer so wakes up fifty times a second, not once per
/// line, and no call pays for waking it.
const GATHER: Duration = Duration::from_millis(20);

/// A buffer that a burst has grown beyond this is given back.
const KEEP: usize = 256 * 1024;

/// A sink for whole lines. Cheap to clone; the last clone writes out what is left and ends the thread.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    queue: Arc<Queue>,
    dropped: IntCounter,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    /// Wakes the writer.
    filled: Condvar,
    /// Wakes those who wait in [`Lines::flush`].
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    /// The writer sleeps until it is notified. Notifying costs a system call, so nobody does it in vain.
    idle: bool,
    /// The writer holds text that is not yet out.
    writing: bool,
    /// Someone waits for the text to be out; it should not gather any longer.
    urgent: bool,
    closed: bool,
}

impl Lines {
    /// A sink that writes to `out` and counts what it had to drop.
    ///
    /// # Errors
    /// When the system has no thread left for it.
    pub fn new(out: impl Write + Send + 'static, dropped: IntCounter) -> io::Result<Self> {
        let queue = Arc::<Queue>::default();
        let source = queue.clone();
        // Not one of the counted tasks: it lives as long as there is something to log, shutdown included.
        thread::Builder::new().name("log".to_owned()).stack_size(128 * 1024).spawn(move || source.write_to(out))?;
        Ok(Self(Arc::new(Handle { queue, dropped })))
    }

    /// Appends one line, which `write` puts together straight in the shared buffer; the line feed is added here. A
    /// line that `write` gives up is taken back.
    pub fn append(&self, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
        let mut state = self.0.queue.lock();
        if state.pending.len() >= MAX_PENDING {
            self.0.dropped.inc();
            return;
        }
        let before = state.pending.len();
        if write(&mut state.pending).is_err() {
            state.pending.truncate(before);
            return;
        }
        if state.pending.last() != Some(&b'\n') {
            state.pending.push(b'\n');
        }
        if std::mem::take(&mut state.idle) {
            drop(state);
            self.0.queue.filled.notify_one();
        }
    }

    /// Waits until everything appended so far has been written, but no longer than `at_most`: before the process
    /// exits, and in tests.
    pub fn flush(&self, at_most: Duration) {
        let queue = &self.0.queue;
        let mut state = queue.lock();
        state.urgent = true;
        queue.filled.notify_one();
        let waiting = |state: &mut State| state.writing || !state.pending.is_empty();
        drop(queue.written.wait_timeout_while(state, at_most, waiting).unwrap_or_else(PoisonError::into_inner));
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A line whose formatting panicked is cut short by the next one's line feed at worst.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's life. An output that fails (a closed standard error) is no reason to stop taking lines: it may be
    /// a disk that is full for a while.
    fn write_to(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        while self.take(&mut batch) {
            let _ = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            batch.shrink_to(KEEP);
            self.lock().writing = false;
            self.written.notify_all();
        }
    }

    /// Waits for text and swaps it into the empty `batch`. `false`: there is none left and there will be none.
    fn take(&self, batch: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        while state.pending.is_empty() {
            if state.closed {
                return false;
            }
            state.urgent = false;
            state.idle = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let gathering = |state: &mut State| !(state.closed || state.urgent) && state.pending.len() < KEEP;
        let waited = self.filled.wait_timeout_while(state, GATHER, gathering);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::swap(&mut state.pending, batch);
        state.writing = true;
        true
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.filled.notify_one();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::mpsc;

    use super::*;

    /// An output that can be read back.
    #[derive(Clone, Default)]
    pub(in crate::telemetry) struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        pub(in crate::telemetry) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output that blocks until it is told how to go on.
    struct Stuck(mpsc::Receiver<io::Result<usize>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().unwrap_or(Ok(bytes.len())).map(|n| n.min(bytes.len()))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(in crate::telemetry) fn counter() -> IntCounter {
        IntCounter::new("dropped", "dropped").unwrap()
    }

    fn text(line: &str) -> impl FnOnce(&mut Vec<u8>) -> io::Result<()> + use<'_> {
        move |out| out.write_all(line.as_bytes())
    }

    #[test]
    fn lines_of_many_threads_come_out_whole_and_a_failed_one_leaves_no_trace() {
        let page = Page::default();
        let lines = Lines::new(page.clone(), counter()).unwrap();
        thread::scope(|scope| {
            for writer in 0..4 {
                let lines = lines.clone();
                scope.spawn(move || (0..100).for_each(|n| lines.append(text(&format!("writer {writer} line {n}")))));
            }
        });
        lines.append(|out| {
            out.extend_from_slice(b"half");
            Err(io::ErrorKind::InvalidData.into())
        });
        lines.flush(Duration::from_secs(5));
        let text = page.text();
        assert_eq!(text.lines().count(), 400);
        assert!(text.lines().all(|line| line.starts_with("writer ") && line.contains(" line ")), "{text}");
    }

    #[test]
    fn a_reader_that_has_stopped_costs_lines_and_not_time_or_memory() {
        let (go_on, told) = mpsc::channel();
        let dropped = counter();
        let lines = Lines::new(Stuck(told), dropped.clone()).unwrap();
        let long = "x".repeat(64 * 1024);
        for _ in 0..1_000 {
            lines.append(text(&long));
        }
        assert!(dropped.get() > 800, "{}", dropped.get());
        assert!(lines.0.queue.lock().pending.len() <= MAX_PENDING + long.len() + 1);
        drop(go_on);
    }

    #[test]
    fn an_output_that_fails_does_not_end_the_writer() {
        let (go_on, told) = mpsc::channel();
        let lines = Lines::new(Stuck(told), counter()).unwrap();
        for answer in [Err(io::ErrorKind::BrokenPipe.into()), Ok(usize::MAX)] {
            lines.append(text("line"));
            go_on.send(answer).unwrap();
            lines.flush(Duration::from_secs(5));
            assert!(lines.0.queue.lock().pending.is_empty());
        }
    }

    #[test]
    fn dropping_the_last_handle_writes_what_is_left() {
        let page = Page::default();
        let lines = Lines::new(page.clone(), counter()).unwrap();
        let queue = lines.0.queue.clone();
        lines.append(text("last words"));
        drop(lines);
        drop(queue.written.wait_timeout_while(queue.lock(), Duration::from_secs(5), |state| {
            state.writing || !state.pending.is_empty()
        }));
        assert_eq!(page.text(), "last words\n");
    }
}
