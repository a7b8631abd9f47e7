//! What a call came to. A [`Charge`] is a value that must end: it is taken before anything is sent, travels with the
//! call and then inside the response body, and settles exactly once, whatever happens. Prices and the ledger build on
//! the [`Settlement`] it leaves.

mod charge;
pub mod reconcile;
pub mod report;
mod settlement;

pub use charge::{Charge, Till};
pub use settlement::{AttemptRecord, Settlement, settle_all};
