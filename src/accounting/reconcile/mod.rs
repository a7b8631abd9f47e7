//! Reconciling: what a provider says it charged against what the ledger says, by day, model and key, and why they
//! differ.
//!
//! Nothing here asks a store or opens a file: figures and entries come in, a [`Reconciliation`] goes out. Days are those
//! of UTC, which providers bill by.
//!
//! The gap of a day, model and key is explained in steps. Each takes what it can account for, and the rest goes on to
//! the next; what is left in the end is a difference of prices where the tokens agree, and unexplained where the
//! provider did not tell tokens. Shares are valued at the average the side in question paid for a call or a token: an
//! estimate, which is why a share is never larger than what is left of the gap.

mod amount;
mod explain;
mod join;
mod pages;
mod table;
mod tokens;

use std::collections::BTreeMap;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Serialize;

pub use self::{
    amount::{Amount, Decimal},
    join::reconcile,
    pages::read_pages,
    table::{COLUMNS, read_table},
    tokens::Tokens,
};
use crate::types::Nanos;

/// One line of a provider's report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figure {
    pub day: Date,
    /// `None`: the report is not told by model.
    pub model: Option<String>,
    /// The provider's id of the key; `None`: the report is not told by key.
    pub key: Option<String>,
    /// Calls, where they are told.
    pub calls: Option<u64>,
    /// Tokens, where they are told.
    pub tokens: Option<Tokens>,
    /// Money, where it is told.
    pub cost: Option<Amount>,
}

/// The lines of one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Export {
    pub figures: Vec<Figure>,
    /// The provider has more pages than the file holds.
    pub is_partial: bool,
}

/// What the ledger has of one day, upstream model, key of the provider and kind of row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    pub day: Date,
    pub model: String,
    /// The provider's id of the key, or another name for it when nobody said what it is.
    pub key: String,
    pub calls: u64,
    pub tokens: Tokens,
    pub cost: Nanos,
    /// The usage was counted or estimated here: the client went, or the gateway died.
    pub is_estimated: bool,
    /// How many of the calls have no price, so that their cost is missing.
    pub unpriced: u64,
}

/// Why two figures differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Calls the provider charged and the ledger does not know: made without the gateway.
    MissingInLedger,
    /// Calls in the ledger that the provider did not charge.
    MissingAtProvider,
    /// What one side counts on a day, the other counts on the next.
    DayBoundary,
    /// Rows without a price.
    Unpriced,
    /// Rows whose usage is an estimate.
    Estimated,
    /// As many input tokens, but otherwise divided between uncached, read from and written to the cache.
    CacheBuckets,
    /// Other tokens.
    Tokens,
    /// The same tokens, other money.
    Price,
    /// No more than what rounding of the figures makes.
    Rounding,
    /// Other money, and the provider's report has no tokens that would say why.
    Unexplained,
}

/// A part of the gap of one cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Share {
    pub why: Why,
    /// Provider less ledger, in nano-dollars.
    pub cost_nanos: i64,
    /// Provider less ledger.
    pub tokens: i64,
    /// What a person should know of it: the rates, how many rows.
    pub note: String,
}

/// One day, model and key, on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Cell {
    #[schemars(with = "String")]
    pub day: Date,
    /// Empty: the sides are not compared by model.
    pub model: String,
    /// Empty: the sides are not compared by key.
    pub key: String,
    pub provider: Side,
    pub ledger: Side,
    /// Why they differ; empty where they do not.
    pub shares: Vec<Share>,
}

/// What one side says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Side {
    /// `null` where the provider does not tell.
    pub calls: Option<u64>,
    pub tokens: Option<Tokens>,
    /// In nano-dollars.
    pub cost_nanos: Option<i64>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reconciliation {
    /// Every day, model and key that either side has, in this order.
    pub cells: Vec<Cell>,
    pub provider: Side,
    pub ledger: Side,
    /// What differs by more than rounding and the boundary of days, over all cells and regardless of sign: nano-dollars
    /// or, where the provider tells no money, tokens.
    pub off: u64,
    /// The larger side, in the same unit.
    pub of: u64,
    /// What a reader should know about how the sides were compared.
    pub notes: Vec<String>,
}

/// What cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct BadExport {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    pub message: String,
}

impl Reconciliation {
    /// Whether the sides agree within a share of the larger one, in millionths.
    pub fn is_within(&self, millionths: u32) -> bool {
        u128::from(self.off) * 1_000_000 <= u128::from(self.of) * u128::from(millionths)
    }

    /// The sum of each reason, over all cells: cells, nano-dollars, tokens.
    pub fn reasons(&self) -> BTreeMap<Why, (u64, i64, i64)> {
        let mut sums = BTreeMap::new();
        for share in self.cells.iter().flat_map(|cell| &cell.shares) {
            let sum: &mut (u64, i64, i64) = sums.entry(share.why).or_default();
            *sum = (sum.0 + 1, sum.1.saturating_add(share.cost_nanos), sum.2.saturating_add(share.tokens));
        }
        sums
    }
}

impl Why {
    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::MissingInLedger => "missing in the ledger",
            Self::MissingAtProvider => "missing at the provider",
            Self::DayBoundary => "day boundary",
            Self::Unpriced => "rows without a price",
            Self::Estimated => "estimated rows",
            Self::CacheBuckets => "cache buckets",
            Self::Tokens => "other tokens",
            Self::Price => "other price",
            Self::Rounding => "rounding",
            Self::Unexplained => "unexplained",
        }
    }
}

#[cfg(test)]
mod tests;
