//! The shape in which prices are written: in the catalogue's files, in the operator's and in the configuration.
//!
//! All amounts are US dollars: for a million tokens or characters, a thousand searches, tool calls or requests, one
//! image, an hour.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{
    Price,
    facts::{Capability, Facts, Mode},
    price::{Card, Factor, ModelPrice, Origin, PriceList, Step, Window},
    rates::{Item, Rate, Rates},
};

/// Declares a struct with a field for each rate besides its own, and reads the rates out of it. The fields have to be
/// spelled out in each: serde cannot refuse unknown fields of a flattened struct.
macro_rules! rated {
    ($(#[$about:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// For a million uncached input tokens.
            pub input: Option<Rate>,
            /// For a million input tokens from the prompt cache; otherwise as `input`.
            pub cache_read: Option<Rate>,
            /// For a million input tokens written to the prompt cache; otherwise as `input`.
            pub cache_write: Option<Rate>,
            /// For a million input tokens written to it for an hour; otherwise as `cache_write`.
            pub cache_write_1h: Option<Rate>,
            /// For a million audio input tokens; otherwise as `input`.
            pub audio_input: Option<Rate>,
            /// For a million image input tokens; otherwise as `input`.
            pub image_input: Option<Rate>,
            /// For a million output tokens.
            pub output: Option<Rate>,
            /// For a million reasoning tokens; otherwise as `output`.
            pub reasoning: Option<Rate>,
            /// For a million audio output tokens; otherwise as `output`.
            pub audio_output: Option<Rate>,
            /// For a million image output tokens; otherwise as `output`.
            pub image_output: Option<Rate>,
            /// For a thousand searches by the provider.
            pub searches: Option<Rate>,
            /// For a thousand other tool runs by the provider.
            pub tool_calls: Option<Rate>,
            /// For an image made.
            pub image: Option<Rate>,
            /// For an hour of audio or computing time.
            pub hour: Option<Rate>,
            /// For a million characters.
            pub characters: Option<Rate>,
            /// For a thousand calls.
            pub requests: Option<Rate>,
            $($own)*
        }

        impl $name {
            fn rates(&self) -> Rates {
                let rate = |item| match item {
                    Item::Input => self.input,
                    Item::CacheRead => self.cache_read,
                    Item::CacheWrite => self.cache_write,
                    Item::CacheWrite1h => self.cache_write_1h,
                    Item::AudioInput => self.audio_input,
                    Item::ImageInput => self.image_input,
                    Item::Output => self.output,
                    Item::Reasoning => self.reasoning,
                    Item::AudioOutput => self.audio_output,
                    Item::ImageOutput => self.image_output,
                    Item::Searches => self.searches,
                    Item::ToolCalls => self.tool_calls,
                    Item::Images => self.image,
                    Item::Millis => self.hour,
                    Item::Characters => self.characters,
                    Item::Requests => self.requests,
                };
                Item::ALL.into_iter().filter_map(|item| Some((item, rate(item)?))).collect()
            }
        }
    };
}

rated! {
    /// What a model costs, and what else is known of it.
    pub struct Entry {
        /// Rates of calls with more than a number of input tokens.
        pub above: Vec<StepEntry>,
        /// `true`: a rate of `above` holds for the input tokens beyond its threshold. `false`: for the whole call.
        pub marginal: bool,
        /// Rates, or a factor, for each service tier that a reply may name (`flex`, `priority`).
        pub tiers: BTreeMap<String, CardEntry>,
        /// Rates, or a factor, for calls in a batch.
        pub batch: Option<CardEntry>,
        /// Rates, or a factor, by the region of processing.
        pub regions: BTreeMap<String, CardEntry>,
        /// Rates, or a factor, by the time of day.
        pub hours: Vec<HoursEntry>,
        /// Prices that hold from a day on; what stands beside them held before.
        pub later: Vec<LaterEntry>,
        /// `true`: nobody charges for it.
        pub free: bool,
        /// Other names of the model at the same vendor.
        pub also: Vec<String>,
        /// What it is for.
        pub mode: Option<Mode>,
        /// The longest input with its output, in tokens.
        pub context: Option<u64>,
        /// The longest output, in tokens.
        pub max_output: Option<u64>,
        /// What it can do.
        pub can: Vec<Capability>,
        /// The day its vendor withdraws it.
        #[schemars(with = "Option<String>", extend("format" = "date"))]
        pub retires: Option<Date>,
        /// A page with the price.
        pub source: Option<String>,
    }
}

rated! {
    /// Prices that hold from a day on, whole: nothing is taken from the earlier ones.
    pub struct LaterEntry {
        /// The first day, in UTC.
        #[schemars(with = "Option<String>", extend("format" = "date"))]
        pub from: Option<Date>,
        /// Rates of calls with more than a number of input tokens.
        pub above: Vec<StepEntry>,
        /// `true`: a rate of `above` holds for the input tokens beyond its threshold. `false`: for the whole call.
        pub marginal: bool,
        /// Rates, or a factor, for each service tier that a reply may name.
        pub tiers: BTreeMap<String, CardEntry>,
        /// Rates, or a factor, for calls in a batch.
        pub batch: Option<CardEntry>,
        /// Rates, or a factor, by the region of processing.
        pub regions: BTreeMap<String, CardEntry>,
        /// Rates, or a factor, by the time of day.
        pub hours: Vec<HoursEntry>,
    }
}

rated! {
    /// Rates that come before the usual ones, or a factor on them.
    pub struct CardEntry {
        /// A factor on all token rates, for example 0.5.
        pub times: Option<Factor>,
        /// Rates of calls with more than a number of input tokens.
        pub above: Vec<StepEntry>,
    }
}

rated! {
    /// Rates for some hours, or a factor.
    pub struct HoursEntry {
        /// Days and hours in UTC: `mon-fri 00:00-06:30`, `sat 00:00-24:00`.
        pub when: Vec<Window>,
        /// A factor on all token rates, for example 0.5.
        pub times: Option<Factor>,
    }
}

rated! {
    /// Rates of calls with more input tokens than a threshold. What is not here costs as below it.
    pub struct StepEntry {
        /// The threshold. The rates hold above it, not at it.
        pub tokens: u64,
    }
}

impl Entry {
    /// The price this says, as that of `vendor`'s `model`. It is unknown when there is no rate.
    ///
    /// # Errors
    /// What is wrong and at which field, when the fields contradict one another.
    pub fn price(&self, vendor: &str, model: &str, origin: Origin) -> Result<Price, BadEntry> {
        let first = self.first();
        first.check()?;
        let priced = !first.base.rates.is_empty();
        if self.free {
            let alone = !priced && first == PriceList::default() && self.later.is_empty();
            return if alone { Ok(Price::Free) } else { bad(&["free"], "what is free has no price") };
        }
        let mut lists = if priced { vec![first] } else { Vec::new() };
        let mut last = None;
        for (index, later) in self.later.iter().enumerate() {
            let place = ["later".to_owned(), index.to_string()];
            let within = |error: BadEntry| BadEntry { path: [place.to_vec(), error.path].concat(), ..error };
            let list = later.list();
            if list.from.is_none() || list.from <= last {
                return Err(within(BadEntry::new(&["from"], "each of these needs a day after the one before it")));
            }
            list.check().map_err(within)?;
            last = list.from;
            lists.push(list);
        }
        if lists.is_empty() {
            return Ok(Price::Unknown);
        }
        let facts = Facts {
            mode: self.mode,
            context: self.context,
            max_output: self.max_output,
            can: self.can.iter().copied().collect(),
            retires: self.retires,
        };
        let source = self.source.as_deref().map(Arc::from);
        let price = ModelPrice { vendor: vendor.into(), model: model.into(), facts, lists, origin, source };
        Ok(Price::Known(Arc::new(price)))
    }

    fn first(&self) -> PriceList {
        let rates = (self.rates(), self.above.as_slice(), self.marginal);
        list(None, rates, &self.tiers, self.batch.as_ref(), &self.regions, &self.hours)
    }
}

impl LaterEntry {
    fn list(&self) -> PriceList {
        let rates = (self.rates(), self.above.as_slice(), self.marginal);
        list(self.from, rates, &self.tiers, self.batch.as_ref(), &self.regions, &self.hours)
    }
}

impl CardEntry {
    /// The same as a card of a price list.
    pub fn card(&self) -> Card {
        Card { rates: self.rates(), above: steps(&self.above), times: self.times.unwrap_or_default() }
    }
}

/// Fields of an entry that contradict one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEntry {
    /// Where in the entry.
    pub path: Vec<String>,
    /// What is wrong, without a full stop.
    pub message: &'static str,
}

impl BadEntry {
    fn new(path: &[&str], message: &'static str) -> Self {
        Self { path: path.iter().map(|&step| step.to_owned()).collect(), message }
    }
}

fn bad<T>(path: &[&str], message: &'static str) -> Result<T, BadEntry> {
    Err(BadEntry::new(path, message))
}

fn list(
    from: Option<Date>,
    (rates, above, marginal): (Rates, &[StepEntry], bool),
    tiers: &BTreeMap<String, CardEntry>,
    batch: Option<&CardEntry>,
    regions: &BTreeMap<String, CardEntry>,
    hours: &[HoursEntry],
) -> PriceList {
    let cards = |named: &BTreeMap<String, CardEntry>| {
        named.iter().map(|(name, card)| (name.as_str().into(), card.card())).collect::<BTreeMap<Box<str>, Card>>()
    };
    let hours = hours.iter().map(|entry| {
        let card = Card { rates: entry.rates(), above: Vec::new(), times: entry.times.unwrap_or_default() };
        (entry.when.clone(), card)
    });
    PriceList {
        from,
        base: Card { rates, above: steps(above), times: Factor::ONE },
        marginal,
        tiers: cards(tiers),
        batch: batch.map(CardEntry::card),
        regions: cards(regions),
        hours: hours.collect(),
        ..PriceList::default()
    }
}

fn steps(steps: &[StepEntry]) -> Vec<Step> {
    steps.iter().map(|step| Step { tokens: step.tokens, rates: step.rates() }).collect()
}

impl PriceList {
    /// Whether its parts make sense together.
    pub(super) fn check(&self) -> Result<(), BadEntry> {
        let named = |kind: &'static str, cards: &BTreeMap<Box<str>, Card>| {
            cards.iter().try_for_each(|(name, card)| card.check(&[kind, name]))
        };
        let changed = !self.tiers.is_empty() || self.batch.is_some() || !self.regions.is_empty();
        if self.base.rates.is_empty() && (changed || !self.hours.is_empty() || !self.base.above.is_empty()) {
            return bad(&[], "there is no usual price: give `input` and `output`, or what else is charged");
        }
        if self.marginal && self.base.above.is_empty() {
            return bad(&["marginal"], "this says nothing without `above`");
        }
        self.base.check(&[])?;
        named("tiers", &self.tiers)?;
        named("regions", &self.regions)?;
        if let Some(batch) = &self.batch {
            batch.check(&["batch"])?;
        }
        for (index, (windows, card)) in self.hours.iter().enumerate() {
            let place = index.to_string();
            if windows.is_empty() {
                return bad(&["hours", &place], "give the hours in `when`");
            }
            card.check(&["hours", &place])?;
        }
        Ok(())
    }
}

impl Card {
    fn check(&self, at: &[&str]) -> Result<(), BadEntry> {
        let rising = self.above.windows(2).all(|pair| pair[0].tokens < pair[1].tokens);
        if !rising || self.above.first().is_some_and(|step| step.tokens == 0) {
            return bad(&[at, &["above"]].concat(), "the thresholds must rise, from more than 0");
        }
        if let Some(index) = self.above.iter().position(|step| step.rates.is_empty()) {
            return bad(&[at, &["above", &index.to_string()]].concat(), "there is no rate here");
        }
        Ok(())
    }
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (days, hours) = match text.trim().split_once(' ') {
                Some((days, hours)) => (Some(days), hours.trim()),
                None => (None, text.trim()),
            };
            let day = |name: &str| DAYS.iter().position(|known| *known == name);
            let days = match days {
                None => Self::EVERY_DAY,
                Some(days) => {
                    let (first, last) = days.split_once('-').unwrap_or((days, days));
                    let (first, last) = (day(first)?, day(last)?);
                    (first..=last).fold(0, |bits, day| bits | 1 << day)
                }
            };
            let (from, to) = hours.split_once('-')?;
            let window = Self { days, from: minute(from)?, to: minute(to)? };
            (days != 0 && window.from < window.to).then_some(window)
        };
        read().ok_or_else(|| "write days and hours in UTC, for example `mon-fri 00:00-06:30`".to_owned())
    }
}

/// `06:30` as a minute of the day; `24:00` is its end.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| (text.len() == 2).then(|| text.parse::<u16>().ok()).flatten();
    let total = digits(hour)? * 60 + digits(minute).filter(|minute| *minute < 60)?;
    (total <= 1_440).then_some(total)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |bit: u32| DAYS.get(bit as usize).copied().unwrap_or_default();
        let (first, last) = (self.days.trailing_zeros(), 7_u32.saturating_sub(self.days.leading_zeros()));
        match self.days {
            Self::EVERY_DAY => {}
            _ if first == last => write!(f, "{} ", day(first))?,
            _ => write!(f, "{}-{} ", day(first), day(last))?,
        }
        let Self { from, to, .. } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Window {
    fn schema_name() -> Cow<'static, str> {
        "Hours".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "hours",
            "pattern": r"^\s*([a-z]{3}(-[a-z]{3})? +)?[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}\s*$",
            "description": "Days and hours in UTC, for example `mon-fri 00:00-06:30`; not over midnight."
        })
    }
}

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Value::deserialize(deserializer)?;
        let text = number.as_str().map_or_else(|| number.to_string(), str::to_owned);
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Factor {
    fn schema_name() -> Cow<'static, str> {
        "Factor".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "number"],
            "format": "factor",
            "minimum": 0,
            "description": "A factor on prices, with at most six decimals, for example 0.5 or 1.1."
        })
    }
}
