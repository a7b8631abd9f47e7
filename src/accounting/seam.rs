//! This stands in for the ledger until it is here: it has its signatures, and keeps nothing.

use crate::store::ledger::CallRow;

/// Where rows go.
#[derive(Clone, Debug, Default)]
pub struct Ledger;

impl Ledger {
    /// Whether there is room for the rows of another call.
    pub fn admits(&self) -> bool {
        true
    }

    /// Notes an attempt that is about to be sent.
    pub fn opened(&self, _row: &CallRow) {}

    /// Takes the row of a call that has ended.
    pub fn settled(&self, _row: CallRow) {}
}
