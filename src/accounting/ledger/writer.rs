//! The writer: takes rows from memory, or from the journal when memory had no room for them, and ships them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{BATCH, Inner, Waiting, blocking};
use crate::{
    accounting::journal::{SegmentRows, copy_aside},
    store::ledger::Calls,
};

/// What the writer does next.
pub(super) enum Work {
    /// These rows were in memory.
    Rows(Vec<Waiting>),
    /// These have to be read from the journal.
    Segment(u64, PathBuf),
}

/// Writes until the ledger is closed and nothing is left, or until it is told to stop.
pub(super) async fn write_all(ledger: Arc<Inner>) {
    while let Some(work) = next(&ledger).await {
        let done = match work {
            Work::Rows(rows) => ship_rows(&ledger, rows).await,
            Work::Segment(number, path) => ship_segment(&ledger, number, path).await,
        };
        carry(&ledger).await;
        let finished = ledger.lock().journal.finished(false);
        remove(finished).await;
        ledger.observe();
        ledger.progress.notify_waiters();
        if done.is_none() {
            return;
        }
    }
}

/// Removes files of segments that are not needed any more. One that stays is shipped once more at the next start, which
/// does no harm.
pub(super) async fn remove(files: Vec<PathBuf>) {
    if files.is_empty() {
        return;
    }
    blocking(move || {
        for file in files {
            if let Err(error) = fs::remove_file(&file)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(file = %file.display(), "a segment that is in the database could not be removed: {error}");
            }
        }
    })
    .await;
}

/// Empties a segment that is kept for a few long calls.
async fn carry(ledger: &Inner) {
    let sparse = ledger.lock().journal.sparse();
    let Some((number, path, ids)) = sparse else { return };
    let read = blocking(move || SegmentRows::open(&path).map(|opened| opened.map(|mut segment| segment.opened(&ids))));
    // What cannot be read stays as it is, for the next start to complain about.
    let Some(Ok(Ok(rows))) = read.await else { return };
    for row in rows {
        ledger.lock().journal.carry(number, &row);
    }
}

/// Waits for work and lets rows gather. `None`: the ledger is closed and nothing is left, or it was told to stop.
async fn next(ledger: &Inner) -> Option<Work> {
    let stop = ledger.tasks.stopping();
    loop {
        if stop.is_cancelled() {
            return None;
        }
        let (waiting, spilled) = {
            let state = ledger.lock();
            (state.queue.rows.len(), state.journal.has_spilled())
        };
        if waiting == 0 && !spilled {
            if ledger.closing.is_cancelled() {
                return None;
            }
            tokio::select! {
                () = ledger.work.notified() => {}
                () = ledger.closing.cancelled() => {}
                () = stop.cancelled() => {}
            }
            continue;
        }
        if waiting > 0 && waiting < BATCH && !ledger.closing.is_cancelled() {
            let linger = ledger.clock.sleep(ledger.settings.linger.0);
            tokio::select! {
                () = linger => {}
                () = ledger.enough.notified() => {}
                () = ledger.closing.cancelled() => {}
                () = stop.cancelled() => continue,
            }
        }
        if let Some(work) = ledger.lock().take() {
            return Some(work);
        }
    }
}

/// `None`: it was told to stop. The rows go back to where they were taken from.
async fn ship_rows(ledger: &Inner, waiting: Vec<Waiting>) -> Option<()> {
    let (rows, places): (Vec<_>, Vec<_>) = waiting.into_iter().map(|waiting| (waiting.row, waiting.place)).unzip();
    let rows = Calls::from(rows);
    let shipped = ledger.shipper.ship(&rows, &ledger.tasks.stopping()).await;
    let mut state = ledger.lock();
    if shipped.is_none() {
        state.queue.put_back(rows.iter().cloned().zip(places).map(|(row, place)| Waiting { row, place }));
        return None;
    }
    for (row, place) in rows.iter().zip(places) {
        state.shipped(&row.id, place);
    }
    ledger.look_at_room(&state);
    Some(())
}

async fn ship_segment(ledger: &Inner, number: u64, path: PathBuf) -> Option<()> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let stop = ledger.tasks.stopping();
    let opened = blocking({
        let path = path.clone();
        move || SegmentRows::open(&path)
    });
    match opened.await? {
        Ok(Ok(mut segment)) => loop {
            let rows = segment.settled(&path);
            if rows.is_empty() {
                if segment.is_damaged() {
                    keep_damaged(&path).await;
                }
                break;
            }
            ledger.shipper.ship(&rows.into(), &stop).await?;
        },
        Ok(Err(_)) => keep_damaged(&path).await,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut state = ledger.lock();
            let gone = state.journal.read_back(number) as u64;
            state.unshipped = state.unshipped.saturating_sub(gone);
            ledger.metrics.ledger_rows_dropped.inc_by(gone);
            tracing::error!(file = %path.display(), rows = gone, "a segment of the ledger's journal is gone, and its rows with it");
            return Some(());
        }
        Err(error) => {
            // A disk that fails may answer later; there is nothing else to do with what is on it.
            tracing::error!(file = %path.display(), "a segment of the ledger's journal cannot be read: {error}");
            tokio::select! {
                () = stop.cancelled() => return None,
                () = ledger.clock.sleep(PATIENCE) => return Some(()),
            }
        }
    }
    let mut state = ledger.lock();
    let read_back = state.journal.read_back(number) as u64;
    state.unshipped = state.unshipped.saturating_sub(read_back);
    Some(())
}

/// Keeps a copy of a damaged segment: calls that are under way may still need the segment itself.
async fn keep_damaged(path: &Path) {
    let path = path.to_owned();
    match blocking(move || copy_aside(&path)).await {
        Some(Ok(to)) => tracing::error!(file = %to.display(), "a copy of the damaged segment was kept"),
        Some(Err(error)) => tracing::error!("no copy of the damaged segment could be kept: {error}"),
        None => {}
    }
}
