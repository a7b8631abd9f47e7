//! What people and machines who watch can see: metrics, events, and one line per call. Nothing here ever waits for
//! whoever reads it, nothing here ever holds a key, and only `content` holds what is said.

pub mod calls;
pub mod content;
mod exposition;
mod lines;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod settings;

pub use crate::types::Outcome;
pub use calls::{CallLine, CallLog};
pub use content::ContentLog;
pub use lines::Lines;
pub use metrics::{Metrics, ModelMetrics, TargetMetrics};
