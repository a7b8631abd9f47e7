//! Shipping what dead gateways left behind: at the start, and now and then while running, for those that share the data
//! directory and are not coming back.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use super::{Inner, blocking};
use crate::accounting::journal::{Batch, Folder, Recovery};

/// How often it is looked for folders that nobody owns any more.
const EVERY: Duration = Duration::from_secs(60);

/// Looks for abandoned journals until it is told to stop.
pub(super) async fn inherit(ledger: Arc<Inner>, root: PathBuf) {
    let stop = ledger.tasks.stopping();
    // Locked for as long as this gateway lives, so that nobody looks at them again and again.
    let mut left: Vec<Folder> = Vec::new();
    loop {
        let found = blocking({
            let root = root.clone();
            move || Folder::abandoned(&root)
        });
        match found.await {
            Some(Ok(folders)) => {
                let begun = folders.into_iter().map(Recovery::begin).filter_map(Result::ok).collect();
                if ship_all(&ledger, begun, &mut left).await.is_none() {
                    return;
                }
            }
            Some(Err(error)) => tracing::warn!("cannot look for abandoned journals of the ledger: {error}"),
            None => return,
        }
        ledger.lock().inherits = false;
        ledger.progress.notify_waiters();
        tokio::select! {
            () = stop.cancelled() => return,
            () = ledger.closing.cancelled() => return,
            () = ledger.clock.sleep(EVERY) => {}
        }
    }
}

/// Ships what is in these journals, oldest first. `None`: it was told to stop.
async fn ship_all(ledger: &Arc<Inner>, mut begun: Vec<Recovery>, left: &mut Vec<Folder>) -> Option<()> {
    begun.reverse();
    loop {
        let inherited = begun.iter().map(Recovery::bytes).sum();
        ledger.lock().journal.inherit(inherited);
        let Some(recovery) = begun.pop() else { return Some(()) };
        let (name, bytes) = (recovery.name().to_owned(), recovery.bytes());
        ledger.lock().journal.inherit(inherited);
        match ship(ledger, recovery).await? {
            Ok((rows, lost, folder)) => {
                left.extend(folder);
                if bytes > 0 {
                    tracing::info!(journal = name, rows, lost, "shipped what a gateway that died had not");
                }
            }
            Err(error) => tracing::error!(journal = name, "an abandoned journal of the ledger cannot be read: {error}"),
        }
    }
}

/// Ships one journal: how many rows were new to the store, how many of them are of lost calls, and the folder if
/// something stays in it.
async fn ship(ledger: &Arc<Inner>, mut recovery: Recovery) -> Option<io::Result<(u64, u64, Option<Folder>)>> {
    let (mut rows, mut lost) = (0, 0);
    loop {
        let (returned, read) = blocking(move || {
            let read = recovery.next_batch();
            (recovery, read)
        })
        .await?;
        recovery = returned;
        match read {
            Ok(Some(batch)) => {
                let new = ship_batch(ledger, &batch).await?;
                rows += new;
                lost += if batch.lost { new } else { 0 };
            }
            Ok(None) => return Some(Ok((rows, lost, blocking(|| recovery.finish()).await?))),
            Err(error) => return Some(Err(error)),
        }
    }
}

async fn ship_batch(ledger: &Arc<Inner>, batch: &Batch) -> Option<u64> {
    let mut inserted = 0;
    for rows in batch.rows.chunks(super::BATCH) {
        let new = ledger.shipper.ship(&rows.into(), &ledger.tasks.stopping()).await?;
        if batch.lost {
            ledger.metrics.ledger_rows_lost.inc_by(new);
        }
        // Rows that were there already have been told of by whoever brought them.
        if batch.lost && new == rows.len() as u64 {
            ledger.lost.add(rows);
        }
        inserted += new;
    }
    Some(inserted)
}
