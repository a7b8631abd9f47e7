//! The ledger: what every call consumed and cost.

mod row;

pub use row::{AttemptRow, CallRow, Who};
