//! What the ledger can be asked.

mod buckets;
mod cursor;
mod daily;
mod dimension;
mod requests;
mod spent;
mod sql;
mod summed;
mod usage;

pub use buckets::Bucket;
pub use daily::{DayUsage, day_model_key};
pub use dimension::Dimension;
pub use requests::{RequestFilter, cursor_after, request, requests};
pub use spent::{Spent, SpentQuestion, spent};
pub use usage::{UsageGroup, UsagePage, UsageQuery, usage};
