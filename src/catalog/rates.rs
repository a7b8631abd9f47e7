//! What can be charged, and at which rate.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use crate::types::{
    Nanos, Usage,
    money::{BadAmount, scaled},
};

/// Something that a provider may charge for. All but the last are the buckets of a [`Usage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    Input,
    CacheRead,
    CacheWrite,
    CacheWrite1h,
    AudioInput,
    ImageInput,
    Output,
    Reasoning,
    AudioOutput,
    ImageOutput,
    Searches,
    ToolCalls,
    Images,
    Millis,
    Characters,
    /// A fee for the call itself, once for each call that consumed anything.
    Requests,
}

/// Nano-dollars for as many units as the item's rate is quoted for ([`Item::per`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

/// A rate for each item, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates([Option<Rate>; Item::ALL.len()]);

impl Item {
    pub const ALL: [Self; 16] = [
        Self::Input,
        Self::CacheRead,
        Self::CacheWrite,
        Self::CacheWrite1h,
        Self::AudioInput,
        Self::ImageInput,
        Self::Output,
        Self::Reasoning,
        Self::AudioOutput,
        Self::ImageOutput,
        Self::Searches,
        Self::ToolCalls,
        Self::Images,
        Self::Millis,
        Self::Characters,
        Self::Requests,
    ];

    /// The field of a price list that holds its rate.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CacheRead => "cache_read",
            Self::CacheWrite => "cache_write",
            Self::CacheWrite1h => "cache_write_1h",
            Self::AudioInput => "audio_input",
            Self::ImageInput => "image_input",
            Self::Output => "output",
            Self::Reasoning => "reasoning",
            Self::AudioOutput => "audio_output",
            Self::ImageOutput => "image_output",
            Self::Searches => "searches",
            Self::ToolCalls => "tool_calls",
            Self::Images => "image",
            Self::Millis => "hour",
            Self::Characters => "characters",
            Self::Requests => "requests",
        }
    }

    /// How many units its rate is quoted for: a million tokens or characters, a thousand searches, tool calls or
    /// requests, one image, an hour in milliseconds. These are the units that vendors quote, so that a rate is written
    /// down exactly: $0.0043 for a minute is no finite decimal number for a second.
    pub const fn per(self) -> u32 {
        match self {
            Self::Searches | Self::ToolCalls | Self::Requests => 1_000,
            Self::Images => 1,
            Self::Millis => 3_600_000,
            _ => 1_000_000,
        }
    }

    /// What its rate is quoted for, in words.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Searches => "1K searches",
            Self::ToolCalls => "1K tool calls",
            Self::Requests => "1K requests",
            Self::Images => "image",
            Self::Millis => "hour",
            Self::Characters => "1M characters",
            _ => "1M tokens",
        }
    }

    /// Whether it is counted in tokens of the input.
    pub const fn is_input(self) -> bool {
        matches!(
            self,
            Self::Input | Self::CacheRead | Self::CacheWrite | Self::CacheWrite1h | Self::AudioInput | Self::ImageInput
        )
    }

    /// Whether it is counted in tokens.
    pub const fn is_tokens(self) -> bool {
        self.is_input() || matches!(self, Self::Output | Self::Reasoning | Self::AudioOutput | Self::ImageOutput)
    }

    /// Whose rate holds where this item has none: an hour's cache write is written as a usual one, whatever is read
    /// costs as text does, whatever is written as visible text does. `None`: nobody's.
    pub const fn otherwise(self) -> Option<Self> {
        match self {
            Self::CacheWrite1h => Some(Self::CacheWrite),
            Self::CacheRead | Self::CacheWrite | Self::AudioInput | Self::ImageInput => Some(Self::Input),
            Self::Reasoning | Self::AudioOutput | Self::ImageOutput => Some(Self::Output),
            _ => None,
        }
    }

    /// How many units of it are in `usage`.
    pub fn units(self, usage: &Usage) -> u64 {
        match self {
            Self::Input => usage.input,
            Self::CacheRead => usage.cache_read,
            Self::CacheWrite => usage.cache_write,
            Self::CacheWrite1h => usage.cache_write_1h,
            Self::AudioInput => usage.audio_input,
            Self::ImageInput => usage.image_input,
            Self::Output => usage.output,
            Self::Reasoning => usage.reasoning,
            Self::AudioOutput => usage.audio_output,
            Self::ImageOutput => usage.image_output,
            Self::Searches => usage.searches,
            Self::ToolCalls => usage.tool_calls,
            Self::Images => usage.images,
            Self::Millis => usage.millis,
            Self::Characters => usage.characters,
            Self::Requests => u64::from(*usage != Usage::default()),
        }
    }
}

impl Rates {
    pub fn get(&self, item: Item) -> Option<Rate> {
        self.0[item as usize]
    }

    pub fn set(&mut self, item: Item, rate: Option<Rate>) {
        self.0[item as usize] = rate;
    }

    /// The rates that are there, in the order of the items.
    pub fn iter(&self) -> impl Iterator<Item = (Item, Rate)> + '_ {
        Item::ALL.into_iter().filter_map(|item| Some((item, self.get(item)?)))
    }

    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl FromIterator<(Item, Rate)> for Rates {
    fn from_iter<I: IntoIterator<Item = (Item, Rate)>>(rates: I) -> Self {
        let mut all = Self::default();
        for (item, rate) in rates {
            all.set(item, Some(rate));
        }
        all
    }
}

impl FromStr for Rate {
    type Err = String;

    /// Dollars, exactly.
    fn from_str(text: &str) -> Result<Self, String> {
        match scaled(text.trim(), 9) {
            Ok(nanos) => u64::try_from(nanos).map(Self).map_err(|_| "a price cannot be negative".to_owned()),
            Err(BadAmount::TooFine) => Err("a price has at most nine decimals".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Dollars.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Nanos(i64::try_from(self.0).unwrap_or(i64::MAX)).fmt(f)
    }
}

/// From text or a number of dollars. A number goes by its shortest decimal form, which is the one that was written down
/// for all numbers of up to fifteen digits (IEEE 754 double precision), so nothing is rounded.
impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dollars;

        impl de::Visitor<'_> for Dollars {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of dollars")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Rate, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Rate, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Rate, E> {
                number.to_string().parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Dollars)
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "number"],
            "format": "dollars",
            "minimum": 0,
            "description": "A number of US dollars with at most nine decimals, for example 2.50."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_the_buckets_of_usage_in_their_order_and_the_call_itself() {
        let mut usage = Usage::default();
        assert_eq!(Item::Requests.units(&usage), 0, "what consumed nothing was no call");
        usage.millis = 7;
        assert_eq!(Item::Requests.units(&usage), 1);
        for (item, (name, units)) in Item::ALL.into_iter().zip(usage.buckets()) {
            assert_eq!(item.units(&usage), units, "{name}");
            let quoted = match name {
                "images" => "image",
                "millis" => "hour",
                name => name,
            };
            assert_eq!(item.field(), quoted);
        }
        assert_eq!(Item::ALL.len(), usage.buckets().len() + 1);
    }

    #[test]
    fn an_item_without_a_rate_goes_back_to_text_in_at_most_two_steps() {
        for item in Item::ALL {
            let mut last = item;
            let mut steps = 0;
            while let Some(next) = last.otherwise() {
                (last, steps) = (next, steps + 1);
                assert_eq!(item.is_input(), next.is_input(), "{item:?}");
            }
            assert!(steps <= 2);
            assert_eq!(steps > 0, item.is_tokens() && !matches!(item, Item::Input | Item::Output), "{item:?}");
        }
    }

    #[test]
    fn a_rate_is_what_is_written_to_the_ninth_decimal() {
        let cases = [
            ("2.50", Ok(2_500_000_000)),
            ("0", Ok(0)),
            ("0.000000001", Ok(1)),
            ("0.0755", Ok(75_500_000)),
            ("1e-7", Ok(100)),
            ("-1", Err("a price cannot be negative")),
            ("0.0000000001", Err("a price has at most nine decimals")),
            ("free", Err("not a number of dollars: write it as 12.50 or 1e-6")),
        ];
        for (text, nanos) in cases {
            let read = text.parse::<Rate>().map(|rate| rate.0);
            assert_eq!(read.as_ref().map_err(String::as_str), nanos.as_ref().map_err(|text| *text), "{text}");
        }
        for text in ["0.1", "0.3", "2.675", "0.000000001", "1234.567890123", "3", "0.028", "75"] {
            let from_number: Rate = serde_json::from_str(text).unwrap();
            assert_eq!(Ok(from_number), text.parse(), "{text}");
        }
        assert!(serde_json::from_str::<Rate>("-3").is_err());
        assert!(serde_json::from_str::<Rate>("true").is_err());
    }
}
