//! Calls of dead gateways that were booked as lost, on their way to whoever counts what was spent.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::store::ledger::CallRow;

/// The most calls that wait to be taken.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Lost {
    rows: Mutex<VecDeque<CallRow>>,
    some: Notify,
}

impl Lost {
    pub(super) fn add(&self, rows: &[CallRow]) {
        let mut waiting = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(rows.iter().cloned());
        let too_many = waiting.len().saturating_sub(MOST);
        waiting.drain(..too_many);
        self.some.notify_one();
    }

    pub(super) async fn take(&self) -> Vec<CallRow> {
        loop {
            let some = self.some.notified();
            let rows = std::mem::take(&mut *self.rows.lock().unwrap_or_else(PoisonError::into_inner));
            if !rows.is_empty() {
                return rows.into();
            }
            some.await;
        }
    }
}
