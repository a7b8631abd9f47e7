//! The price of a model: lists by date, and in each the rates, their steps by length, and what changes them.

use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{
    facts::Facts,
    rates::{Item, Rate, Rates},
};

/// The price of one model at one vendor, and what else is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelPrice {
    /// A vendor's row, for example `openai`; in the configuration the operator's name for a provider.
    pub vendor: Arc<str>,
    /// The model as the vendor names it.
    pub model: Arc<str>,
    pub facts: Facts,
    /// At least one, by date. The first may have no date: it holds until the next begins.
    pub lists: Vec<PriceList>,
    /// Who says so.
    pub origin: Origin,
    /// The page that the figures can be compared with.
    pub source: Option<Arc<str>>,
}

/// Where a price comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The catalogue in the binary.
    Catalogue,
    /// The operator's price file.
    File,
    /// The price file fetched from the operator's URL.
    Url,
    /// The configuration.
    Configuration,
    /// The configuration's price for what has none.
    Ceiling,
}

/// What holds from a day on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PriceList {
    /// The first day (UTC) on which it holds; `None`: always.
    pub from: Option<Date>,
    pub base: Card,
    /// Steps by length are marginal: each rate holds for the input tokens between its threshold and the next. Otherwise
    /// a step holds for the whole call.
    pub marginal: bool,
    /// By the tier that the provider's reply names.
    pub tiers: BTreeMap<Box<str>, Card>,
    /// For calls in a batch.
    pub batch: Option<Card>,
    /// By the region in which a call is processed.
    pub regions: BTreeMap<Box<str>, Card>,
    /// By the time of the call.
    pub hours: Vec<(Vec<Window>, Card)>,
    /// What [`ModelPrice::name`] says of it.
    pub(super) name: KeptName,
}

/// A name that is kept once it was made. It follows from everything else, so all are alike.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptName(OnceLock<Arc<str>>);

/// Rates, and a factor on those of other cards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Card {
    pub rates: Rates,
    /// By threshold.
    pub above: Vec<Step>,
    /// Every token rate of this card and of those that it stands before is multiplied by it.
    pub times: Factor,
}

/// Rates for calls with more than a number of input tokens. What is not here costs as below the threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The step holds above this, not at it.
    pub tokens: u64,
    pub rates: Rates,
}

/// A factor on rates, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor(pub u32);

/// Some time of some days of the week, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Bit 0 is Monday.
    pub days: u8,
    /// The first minute of the day.
    pub from: u16,
    /// The first minute of the day that is not in it; a window does not go over midnight.
    pub to: u16,
}

/// What a price depends on besides the usage.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'a> {
    /// The tier that the provider's reply names; `None` when it names none.
    pub service_tier: Option<&'a str>,
    /// The call was part of a batch.
    pub batch: bool,
    /// The region in which it was processed, as far as the price depends on it.
    pub region: Option<&'a str>,
    /// When it was made, in Unix milliseconds.
    pub at_ms: i64,
}

impl PartialEq for KeptName {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl ModelPrice {
    /// The list that holds at a time; `None` before the first.
    pub fn list(&self, at_ms: i64) -> Option<&PriceList> {
        let day = match self.lists.as_slice() {
            [only] if only.from.is_none() => return Some(only),
            _ => Timestamp::from_millisecond(at_ms).ok()?.to_zoned(TimeZone::UTC).date(),
        };
        self.lists.iter().rev().find(|list| list.from.is_none_or(|from| from <= day))
    }

    /// `openai/gpt-5.5@2026-04-01`; without the date where the list has none. A price that is not the catalogue's says
    /// whose it is: `config:azure-eu/gpt-5.5`. Every call asks: a name is made when it is first asked for, and kept.
    pub fn name(&self, at_ms: i64) -> Arc<str> {
        let Some(list) = self.list(at_ms) else { return self.name_from(None) };
        list.name.0.get_or_init(|| self.name_from(list.from)).clone()
    }

    fn name_from(&self, from: Option<Date>) -> Arc<str> {
        let Self { vendor, model, .. } = self;
        let origin = match self.origin {
            Origin::Catalogue => "",
            Origin::File => "file:",
            Origin::Url => "url:",
            Origin::Configuration => "config:",
            Origin::Ceiling => return Arc::from("ceiling"),
        };
        match from {
            Some(from) => format!("{origin}{vendor}/{model}@{from}").into(),
            None => format!("{origin}{vendor}/{model}").into(),
        }
    }
}

impl Card {
    /// The rate that this card itself has for `item` in a call with `input` tokens of input.
    pub fn rate(&self, item: Item, input: u64) -> Option<Rate> {
        let steps = self.above.iter().rev().filter(|step| input > step.tokens);
        steps.map(|step| &step.rates).chain([&self.rates]).find_map(|rates| rates.get(item))
    }
}

impl Window {
    pub const EVERY_DAY: u8 = 0b111_1111;

    /// Whether a time is in it.
    pub fn holds(&self, at_ms: i64) -> bool {
        const DAY: i64 = 86_400_000;
        // 1 January 1970 was a Thursday, the fourth day of the week.
        let weekday = (at_ms.div_euclid(DAY) + 3).rem_euclid(7);
        let minute = at_ms.rem_euclid(DAY) / 60_000;
        self.days & (1 << weekday) != 0 && (i64::from(self.from)..i64::from(self.to)).contains(&minute)
    }
}

impl Factor {
    pub const ONE: Self = Self(1_000_000);
}

impl Default for Factor {
    fn default() -> Self {
        Self::ONE
    }
}

impl FromStr for Factor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let millionths = crate::types::money::scaled(text.trim(), 6).ok().and_then(|value| u32::try_from(value).ok());
        match millionths {
            Some(millionths) => Ok(Self(millionths)),
            None => Err("a factor is a number from 0 to 4000 with at most six decimals, for example 0.5".to_owned()),
        }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}
