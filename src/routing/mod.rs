//! Where a call may go. Routing sends nothing and waits for nothing: it turns a name into a list of places to try and
//! remembers how each of them has been doing.
//!
//! 1. [`Routes`] is built from the settings, validated whole, and never changes. A reload builds the next one and
//!    hands over what was learnt about targets and keys that are still there.
//! 2. [`Routes::resolve`] is the one resolver of names: a model as written, else an alias, else the pattern with the
//!    longest literal part. Access, listing and fallbacks all ask it, so they cannot disagree.
//! 3. [`plan()`] orders the targets of a model by its strategy. [`fallbacks`] does the same for the models to turn to
//!    after a failure, each checked again against what the key may use. A fallback's own fallbacks are not followed.
//! 4. [`Target::acquire`] gives a [`Permit`] for one attempt on the least busy key that is well, at the moment of the
//!    attempt. The attempt's [`Outcome`] goes back through the permit into the breaker of that target and key.
//! 5. [`RetryBudget`] and [`full_jitter`] say whether and how soon a target that failed may be tried again.

mod backoff;
mod build;
#[cfg(test)]
mod fixtures;
mod health;
mod instances;
mod models;
mod params;
mod pattern;
mod plan;
mod retry_budget;
mod routes;
pub mod settings;
mod strategy;

pub use backoff::full_jitter;
pub use build::BuildError;
pub use health::{Acquire, Outcome, Permit, Rest, SlotHealth, SlotState};
pub use models::{Model, Resolved, Target};
pub use params::{OUTPUT_CAP, Params};
pub use pattern::nearest;
pub use plan::{Candidate, Plan, Reason, Rejected, Why, fallbacks, plan};
pub use retry_budget::RetryBudget;
pub use routes::Routes;
