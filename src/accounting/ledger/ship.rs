//! Getting rows into the store, however long that takes: deadlines, patience, and what to do with rows it does not want.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{blocking, sink::Sink};
use crate::{
    accounting::journal::keep_refused,
    store::ledger::{CallRow, Calls, Refused, Written},
    telemetry::Metrics,
    types::Clock,
};

/// A store that has not answered for this long is taken for dead. The write may have happened all the same.
const DEADLINE: Duration = Duration::from_secs(10);

/// The first wait after a failure. It doubles up to [`LONGEST_WAIT`]; the actual one is drawn between half of it and all.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Ships rows. The writer and the heir of dead gateways share one, and so what is known of the store.
#[derive(Debug)]
pub(super) struct Shipper {
    sink: Sink,
    /// Where refused rows are kept.
    root: PathBuf,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// The store took what it was given last.
    up: AtomicBool,
}

/// A row the store does not want, as it is kept.
#[derive(Serialize)]
struct RefusedRow<'a> {
    reason: &'a str,
    row: Option<&'a CallRow>,
}

impl Shipper {
    pub fn new(sink: Sink, root: PathBuf, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { sink, root, clock, metrics, up: AtomicBool::new(true) }
    }

    /// Writes `rows`, trying again until they are in the store or set aside, and says how many were new to it. `None`:
    /// it was told to stop before that.
    pub async fn ship(&self, rows: &Calls, stop: &CancellationToken) -> Option<u64> {
        let mut failures = 0;
        let written = loop {
            let written = tokio::select! {
                () = stop.cancelled() => return None,
                written = self.write_once(rows) => written,
            };
            match written {
                Ok(written) => break written,
                Err(why) => self.went_down(&why),
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = self.clock.sleep(wait_after(failures)) => failures += 1,
            }
        };
        self.came_up();
        for refused in &written.refused {
            self.set_aside(rows, refused).await;
        }
        let inserted = written.inserted as u64;
        self.metrics.ledger_rows_written.inc_by(inserted);
        Some(inserted)
    }

    async fn write_once(&self, rows: &Calls) -> Result<Written, String> {
        let deadline = self.clock.now() + DEADLINE;
        match self.clock.timeout_at(deadline, self.sink.write(rows)).await {
            Ok(written) => written,
            Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs())),
        }
    }

    /// Keeps a row that the store does not want where people will find it, so that it does not hold up the others.
    async fn set_aside(&self, rows: &[CallRow], Refused { id, reason }: &Refused) {
        self.metrics.ledger_rows_refused.inc();
        let row = rows.iter().find(|row| row.id == *id);
        let mut line = serde_json::to_vec(&RefusedRow { reason, row }).unwrap_or_default();
        line.push(b'\n');
        let root = self.root.clone();
        match blocking(move || keep_refused(&root, &line)).await {
            Some(Ok(file)) => {
                tracing::error!(%id, file = %file.display(), "the database refused a row of the ledger: {reason}");
            }
            Some(Err(error)) => {
                tracing::error!(%id, "the database refused a row of the ledger ({reason}); keeping it failed: {error}");
            }
            None => {}
        }
    }

    fn came_up(&self) {
        self.metrics.ledger_store_up.set(1);
        if !self.up.swap(true, Relaxed) {
            tracing::info!("the database takes the ledger's rows again");
        }
    }

    fn went_down(&self, why: &str) {
        self.metrics.ledger_store_up.set(0);
        if self.up.swap(false, Relaxed) {
            tracing::error!("the database does not take the ledger's rows: {why}. They wait in the journal");
        }
    }
}

/// How long to wait after this many failures before the last.
fn wait_after(failures: u32) -> Duration {
    let longest = FIRST_WAIT.saturating_mul(1 << failures.min(10)).min(LONGEST_WAIT);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}
