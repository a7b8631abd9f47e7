//! What a call came to. A [`Charge`] is a value that must end: it is taken before anything is sent, travels with the
//! call and then inside the response body, and settles exactly once, whatever happens. The [`Settlement`] it leaves is
//! priced and becomes a row of the [`Ledger`], which keeps it in the [`journal`] until the store has it.

mod attempt;
mod charge;
pub mod estimate;
pub mod journal;
mod ledger;
pub mod reconcile;
pub mod report;
pub mod settings;
mod settlement;
#[cfg(test)]
mod tests;
pub mod who;

pub use attempt::{AttemptRecord, Destination};
pub use charge::{Charge, Till};
pub use estimate::Asked;
pub use ledger::{Ledger, LedgerError, Remaining, Sink};
pub use settlement::{Books, Settlement, settle_all};
