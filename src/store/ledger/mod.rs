//! The ledger: what every call consumed and cost.

mod row;

pub use row::{AttemptRow, CallRow, Who};

use crate::store::{Db, StoreError};

/// What became of the calls of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Calls that were inserted.
    pub inserted: usize,
    /// Calls that were there already.
    pub skipped: usize,
    /// Calls the database will not take, whatever is tried. Nothing of them was written.
    pub refused: Vec<Refused>,
}

/// A call the database will not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub id: Box<str>,
    /// In the database's words.
    pub reason: String,
}

/// Stands where the real one goes when the branches meet.
///
/// # Errors
/// Always.
#[expect(clippy::unused_async, reason = "the real one waits for the database")]
pub async fn write(_: &Db, _: &[CallRow]) -> Result<Written, StoreError> {
    Err(StoreError::NoAnswer)
}
