//! Words everyone uses: addresses, ids, units, usage, money, outcomes, dates, secrets, the clock and the task set. No I/O.

pub mod addresses;
pub mod calendar;
pub mod clock;
pub mod ids;
pub mod money;
pub mod outcome;
pub mod present;
pub mod secret;
pub mod tasks;
pub mod units;
pub mod usage;
pub mod words;

pub use addresses::AddressRange;
pub use calendar::{Moment, Zone};
pub use clock::{Clock, Sleep};
pub use ids::{AttemptId, RequestId};
pub use money::Nanos;
pub use outcome::Outcome;
pub use present::present;
pub use secret::Secret;
pub use tasks::Tasks;
pub use units::{Period, Size};
pub use usage::{Usage, UsageSource};
pub use words::nearest;
