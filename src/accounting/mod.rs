//! What a call came to. A [`Charge`] is a value that must end: it is taken before anything is sent, travels with the
//! call and then inside the response body, and settles exactly once, whatever happens. The [`Settlement`] it leaves
//! becomes a row of the [`Ledger`], which keeps it in the [`journal`] until the store has it.

mod charge;
pub mod journal;
mod ledger;
pub mod settings;
mod settlement;

pub use charge::{Charge, Till};
pub use ledger::{Ledger, LedgerError, Remaining, Sink};
pub use settlement::{AttemptRecord, Settlement, settle_all};
