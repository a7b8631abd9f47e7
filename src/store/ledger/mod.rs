//! The ledger: what every call consumed and cost. A row for each call and for each of its attempts, and sums by hour of
//! them, written together (`write`). Usage is read from the sums, receipts from the rows (`query`). Old rows are given
//! up (`retain`), the sums stay.

mod clean;
mod partitions;
mod query;
mod retain;
mod rollup;
mod row;
mod stored;
mod sums;
mod write;

pub use query::{
    Bucket, DayUsage, Dimension, RequestFilter, Spent, SpentQuestion, UsageGroup, UsagePage, UsageQuery, cursor_after,
    day_model_key, request, requests, spent, usage,
};
pub use retain::{Retained, prepare, retain};
pub use row::{AttemptRow, CallRow, LimitNote, LimitRow, Notes, Who};
pub use sums::Sums;
pub use write::{Calls, Refused, Written, write};

#[cfg(test)]
mod conformance;
