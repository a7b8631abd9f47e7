//! What people and machines who watch can see: metrics, events, and one line per call. Nothing here ever waits for
//! whoever reads it, and nothing here ever holds a prompt or a key.

pub mod calls;
mod exposition;
mod lines;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod settings;

pub use crate::types::Outcome;
pub use calls::{CallLine, CallLog};
pub use lines::Lines;
pub use metrics::{Metrics, ModelMetrics, TargetMetrics};
