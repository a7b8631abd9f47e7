//! What the ledger's tables need now and then: the months ahead made, and what is older than the retention given up.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    store::{Db, ledger},
    types::{Clock, Period},
};

/// How often; and how soon again after a failure.
const EVERY: Duration = Duration::from_secs(6 * 3_600);
const RETRY: Duration = Duration::from_secs(60);

/// Keeps the tables in shape until `stop`. Without a `retention` nothing is given up.
pub(super) async fn run(db: Db, retention: Option<Period>, clock: Clock, stop: CancellationToken) {
    loop {
        let pause = match once(&db, retention, &clock).await {
            Ok(()) => EVERY,
            Err(error) => {
                tracing::debug!(%error, "the ledger's tables were not looked after");
                RETRY
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep(pause) => {}
        }
    }
}

async fn once(db: &Db, retention: Option<Period>, clock: &Clock) -> Result<(), crate::store::StoreError> {
    let now = i64::try_from(clock.unix_millis()).unwrap_or(i64::MAX);
    ledger::prepare(db, now).await?;
    let Some(retention) = retention else { return Ok(()) };
    let before = now.saturating_sub(i64::try_from(retention.0.as_millis()).unwrap_or(i64::MAX));
    let retained = ledger::retain(db, before).await?;
    if retained != ledger::Retained::default() {
        let ledger::Retained { partitions, rows } = retained;
        tracing::info!(partitions, rows, "the ledger's oldest rows were given up (ledger.retention)");
    }
    Ok(())
}
