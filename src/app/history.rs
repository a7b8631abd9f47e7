//! Keeping the counters of quotas in step with the ledger.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    accounting::Ledger,
    quotas::{
        Quotas,
        history::{HistoryError, SAY},
    },
    store::Db,
    types::Clock,
};

/// How long rows that have settled may take to reach the store before counters are filled from it.
const ROWS: Duration = Duration::from_secs(1);
/// How soon it is tried again when the ledger did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Fills counters that have lost their history, and those of new rules, until `stop`.
pub(super) async fn keep(quotas: Quotas, ledger: Ledger, db: Db, clock: Clock, stop: CancellationToken) {
    let mut failing = false;
    let counts_alone = quotas.shared().counts_alone();
    let mut say = clock.now() + SAY;
    loop {
        let lost = tokio::select! {
            () = stop.cancelled() => return,
            () = quotas.shared().history_lost() => true,
            () = quotas.rule_is_new() => false,
            () = clock.sleep_until(say), if !counts_alone => {
                quotas.say_filled().await;
                say = clock.now() + SAY;
                continue;
            }
            // One that counts alone fills its counters from the ledger when it starts, these calls among them.
            rows = ledger.lost() => {
                if !counts_alone {
                    quotas.count_lost(&rows);
                }
                continue;
            }
        };
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = fill(&quotas, &ledger, &db, &clock, lost) => outcome,
        };
        match &outcome {
            Ok(_) if failing => tracing::info!("the counters of quotas are filled from the ledger again"),
            Err(error) if !failing => {
                tracing::error!("the counters of quotas cannot be filled from the ledger: {error}");
            }
            _ => {}
        }
        failing = outcome.is_err();
        if !matches!(outcome, Ok(true)) {
            if !lost {
                quotas.rule_stays_new();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.sleep(AGAIN) => {}
            }
        }
    }
}

async fn fill(quotas: &Quotas, ledger: &Ledger, db: &Db, clock: &Clock, lost: bool) -> Result<bool, HistoryError> {
    // Not known where replicas cannot be asked: asked again in a moment, without a word.
    if !lost && !quotas.shared().is_up() {
        return Ok(false);
    }
    if quotas.are_any() {
        ledger.flush(clock.now() + ROWS).await;
    }
    if !lost {
        return quotas.fill_new(db).await;
    }
    match quotas.rebuild(db).await? {
        Some(counters) if counters > 0 => {
            tracing::info!(counters, "the counters of quotas were filled from the ledger");
        }
        _ => {}
    }
    Ok(true)
}
