//! What a call came to. A [`Charge`] is a value that must end: it is taken before anything is sent, travels with the
//! call and then inside the response body, and settles exactly once, whatever happens. The [`Settlement`] it leaves is
//! priced and becomes the row of the ledger.

mod attempt;
mod charge;
pub mod estimate;
mod seam;
mod settlement;
pub mod who;

pub use attempt::{AttemptRecord, Destination};
pub use charge::{Charge, Till};
pub use estimate::Asked;
pub use seam::Ledger;
pub use settlement::{Books, Settlement, settle_all};
