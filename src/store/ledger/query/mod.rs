//! What the ledger can be asked.

mod buckets;
mod cursor;
mod daily;
mod dimension;
mod requests;
mod sql;
mod usage;

pub use buckets::Bucket;
pub use daily::{DayUsage, day_model_key};
pub use dimension::Dimension;
pub use requests::{RequestFilter, cursor_after, request, requests};
pub use usage::{UsageGroup, UsagePage, UsageQuery, usage};
