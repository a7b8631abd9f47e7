//! The configuration: one YAML file, or the environment alone.
//!
//! A file goes through four stages, and each reports everything it finds rather than the first thing: [`tree`] reads
//! the YAML and remembers where everything stands; [`shape`] holds it against the schema and fills in `${…}`; the
//! settings are read from what remains; [`checks`] looks at what types cannot say. Every complaint carries file, line
//! and column and what was probably meant, and none of them shows a secret.

mod checks;
mod complaint;
mod discover;
mod document;
mod environment;
mod interpolate;
mod load;
mod prices;
mod schema;
pub mod settings;
mod shape;
mod tree;
mod vendors;
mod watch;

pub use complaint::{Complaint, Complaints, Excerpt, Severity};
pub use discover::discover;
pub use environment::Environment;
pub use load::{Flags, Loaded, Source, load, parse};
pub use prices::{PricedTarget, read_prices};
pub use schema::schema;
pub use settings::Settings;
pub use watch::Watch;

/// Every setting with its default and what it is for: what `switchboard config defaults` prints.
pub const DEFAULTS: &str = include_str!("../../config/default.yaml");

#[cfg(test)]
mod tests;
