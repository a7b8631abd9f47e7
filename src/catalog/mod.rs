//! Facts about models: prices, and the one function that turns usage into money.
//!
//! A price is *known*, *free* or *unknown*; nothing here takes one for another. Prices come, the nearest to the operator
//! first, from the configuration, a price file of the operator's, a fetched one, and the catalogue in the binary. All of
//! them have the same shape ([`entry`]), and [`bill`] is the only place where they are applied.

pub mod bill;
pub mod book;
pub mod embedded;
pub mod entry;
pub mod facts;
mod names;
pub mod price;
pub mod rates;
pub mod settings;
mod show;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

pub use bill::{Bill, Line};
pub use book::{Book, PriceFile};
pub use entry::{BadEntry, CardEntry, Entry};
pub use facts::{Capabilities, Capability, Facts, Mode};
pub use price::{Card, Factor, ModelPrice, Origin, PriceList, Step, Terms, Window};
pub use rates::{Item, Rate, Rates};
pub use settings::PriceSettings;

use crate::types::{Nanos, Usage};

/// What a model costs, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Price {
    Known(Arc<ModelPrice>),
    /// Nobody charges for it: a server of the operator's own, or what the operator says is free.
    Free,
    /// Nobody knows. Not zero.
    Unknown,
}

/// All prices that a gateway knows. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    overrides: Arc<Overrides>,
    file: Option<Arc<Book>>,
    fetched: Option<Arc<Book>>,
}

/// What the configuration says about prices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// By `provider/model`, with the operator's name for the provider, or `provider/*` for all of its models.
    pub models: BTreeMap<String, Price>,
    /// What is charged for models whose price is unknown.
    pub ceiling: Option<Arc<ModelPrice>>,
}

/// The kinds of servers that the operator runs: nobody charges for their answers.
const SELF_HOSTED: [&str; 13] = [
    "docker_model_runner",
    "jan",
    "lemonade",
    "llama_cpp",
    "llamafile",
    "lm_studio",
    "localai",
    "mock",
    "ollama",
    "sglang",
    "tgi",
    "vllm",
    "xinference",
];

/// The vendor whose prices hold for a kind of provider: most often it is called the same.
fn vendor_of(kind: &str) -> &str {
    match kind {
        "anthropic_openai" => "anthropic",
        "gemini_openai" => "gemini",
        kind => kind,
    }
}

impl Catalog {
    /// The catalogue in the binary alone.
    pub fn embedded() -> Self {
        Self::default()
    }

    /// With what the configuration says.
    #[must_use]
    pub fn with(self, overrides: Overrides) -> Self {
        Self { overrides: Arc::new(overrides), ..self }
    }

    /// With the operator's price file, which comes before the catalogue.
    #[must_use]
    pub fn with_file(self, book: Option<Arc<Book>>) -> Self {
        Self { file: book, ..self }
    }

    /// With a fetched price file, which comes after the operator's own and before the catalogue.
    #[must_use]
    pub fn with_fetched(self, book: Option<Arc<Book>>) -> Self {
        Self { fetched: book, ..self }
    }

    /// Whether the catalogue has prices of the vendor of `kind`.
    pub fn knows(kind: &str) -> bool {
        embedded::vendors().any(|vendor| vendor == vendor_of(kind))
    }

    /// What the operator's `provider`, of this `kind`, charges for `model`: as the configuration says, or as
    /// [`Self::find`] finds, or else the ceiling price.
    pub fn price_of(&self, provider: &str, kind: &str, model: &str) -> Price {
        let set = |name: &str| self.overrides.models.get(&format!("{provider}/{name}"));
        let price = set(model).or_else(|| set("*")).cloned().unwrap_or_else(|| self.find(kind, model));
        match (&price, &self.overrides.ceiling) {
            (Price::Unknown, Some(ceiling)) => Price::Known(Arc::clone(ceiling)),
            _ => price,
        }
    }

    /// The price of `model` at the vendor of `kind`, a row of the vendors' table such as `openai`.
    ///
    /// Looks names up and parses what it finds: a matter of microseconds, meant for loading a configuration and for
    /// targets met for the first time, not for every call.
    pub fn find(&self, kind: &str, model: &str) -> Price {
        let vendor = vendor_of(kind);
        let mut books = [&self.file, &self.fetched].into_iter().flatten();
        let found = books.find_map(|book| book.find(kind, model).or_else(|| book.find(vendor, model)));
        found.or_else(|| embedded::find(vendor, model)).unwrap_or(if SELF_HOSTED.contains(&kind) {
            Price::Free
        } else {
            Price::Unknown
        })
    }
}

/// The names of what has no price. Every call names one.
static FREE: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("free"));
static UNKNOWN: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("unknown"));

impl Price {
    /// What `usage` costs under `terms`; a usage of zero costs nothing.
    ///
    /// `None` when that is not known: the price is unknown, or its list has no rate for what was used (see [`bill`]).
    pub fn cost(&self, usage: &Usage, terms: &Terms<'_>) -> Option<Nanos> {
        match self {
            Self::Known(price) => bill::cost(price, usage, terms),
            Self::Free => Some(Nanos::ZERO),
            Self::Unknown => None,
        }
    }

    /// The same with a line for each thing that was charged. `None` as for [`Self::cost`].
    pub fn bill(&self, usage: &Usage, terms: &Terms<'_>) -> Option<Bill> {
        match self {
            Self::Known(price) => bill::bill(price, usage, terms),
            Self::Free => Some(Bill::default()),
            Self::Unknown => None,
        }
    }

    /// The name under which the ledger says which price was used: `openai/gpt-5.5@2026-04-01`, `free`, `unknown`.
    pub fn name(&self, at_ms: i64) -> Arc<str> {
        match self {
            Self::Known(price) => price.name(at_ms),
            Self::Free => FREE.clone(),
            Self::Unknown => UNKNOWN.clone(),
        }
    }

    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

#[cfg(test)]
mod tests;
