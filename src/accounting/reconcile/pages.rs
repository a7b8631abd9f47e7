//! The JSON pages of OpenAI and Anthropic: costs and usage of an organization, in buckets of time.
//!
//! * OpenAI `GET /v1/organization/costs`: `start_time` (Unix seconds), `amount.value` in dollars, as a number or a text;
//!   `line_item` such as `gpt-5.5-2026-04-23, cached input` when grouped by it; `api_key_id` likewise.
//! * OpenAI `GET /v1/organization/usage/completions` (and `embeddings`): `input_tokens` with the cached ones in it, audio
//!   apart.
//! * Anthropic `GET /v1/organizations/usage_report/messages`: `starting_at` (RFC 3339), buckets that are disjoint already.
//! * Anthropic `GET /v1/organizations/cost_report`: `amount` as a text, in cents.
//!
//! A file holds one page, several after another, or a list of them. Everything is read in one typed pass, so that each
//! complaint has the line and column of what it is about.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Deserializer, de};

use super::{Amount, BadExport, Decimal, Export, Figure, Tokens};

/// Reads the pages in `text`.
///
/// # Errors
/// The place at which the text is no page of either provider, and what was expected there.
pub fn read_pages(text: &str) -> Result<Export, BadExport> {
    let mut export = Export::default();
    let mut seen = false;
    for document in serde_json::Deserializer::from_str(text).into_iter::<Document>() {
        let document = document.map_err(|error| bad(&error))?;
        seen = true;
        let pages = match document {
            Document::One(page) => vec![*page],
            Document::Many(pages) => pages,
        };
        for page in pages {
            export.is_partial = page.has_more;
            let figures = page.data.into_iter().flat_map(|bucket| {
                let day = bucket.day;
                bucket.results.into_iter().map(move |line| line.figure(day))
            });
            export.figures.extend(figures);
        }
    }
    if !seen {
        return Err(BadExport { line: 1, column: 1, message: "the file is empty".into() });
    }
    Ok(export)
}

fn bad(error: &serde_json::Error) -> BadExport {
    let text = error.to_string();
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    BadExport { line: error.line().max(1), column: error.column().max(1), message: message.to_owned() }
}

/// What stands at the top of a file.
enum Document {
    One(Box<Page>),
    Many(Vec<Page>),
}

/// One answer of the provider. What is not needed is not looked at.
#[derive(Deserialize)]
struct Page {
    data: Vec<Bucket>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct Bucket {
    #[serde(alias = "start_time", alias = "starting_at", deserialize_with = "day")]
    day: Date,
    /// OpenAI's description of its API calls it `result` in places.
    #[serde(alias = "result")]
    results: Vec<Line>,
}

/// A line of any of the four reports; which, its members say.
#[derive(Deserialize)]
#[serde(try_from = "Members")]
struct Line {
    model: Option<String>,
    key: Option<String>,
    calls: Option<u64>,
    tokens: Option<Tokens>,
    cost: Option<Amount>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Members {
    object: Option<String>,
    model: Option<String>,
    api_key_id: Option<String>,
    line_item: Option<String>,
    description: Option<String>,
    amount: Option<Money>,
    currency: Option<String>,
    num_model_requests: Option<u64>,
    input_tokens: Option<u64>,
    #[serde(deserialize_with = "or_default")]
    input_cached_tokens: u64,
    #[serde(deserialize_with = "or_default")]
    input_audio_tokens: u64,
    #[serde(deserialize_with = "or_default")]
    output_audio_tokens: u64,
    uncached_input_tokens: Option<u64>,
    #[serde(deserialize_with = "or_default")]
    cache_creation: CacheCreation,
    #[serde(deserialize_with = "or_default")]
    cache_read_input_tokens: u64,
    #[serde(deserialize_with = "or_default")]
    output_tokens: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    #[serde(deserialize_with = "or_default")]
    ephemeral_1h_input_tokens: u64,
    #[serde(deserialize_with = "or_default")]
    ephemeral_5m_input_tokens: u64,
}

/// OpenAI's object or Anthropic's text.
enum Money {
    Dollars { value: Decimal, currency: String },
    Cents(Decimal),
}

impl Line {
    fn figure(self, day: Date) -> Figure {
        let Self { model, key, calls, tokens, cost } = self;
        Figure { day, model, key, calls, tokens, cost }
    }
}

impl TryFrom<Members> for Line {
    type Error = String;

    fn try_from(members: Members) -> Result<Self, String> {
        let tokens = members.tokens()?;
        let cost = members.cost()?;
        if tokens.is_none() && cost.is_none() {
            let object = members.object.map(|object| format!(" (`{object}`)")).unwrap_or_default();
            return Err(format!("expected a line of costs or of usage with tokens, and this{object} is neither"));
        }
        let item = members.line_item.or(members.description);
        let model = members.model.or_else(|| item.map(|item| model_of(&item)));
        Ok(Self { model, key: members.api_key_id, calls: members.num_model_requests, tokens, cost })
    }
}

impl Members {
    fn tokens(&self) -> Result<Option<Tokens>, String> {
        let tokens = Tokens { output: self.output_tokens, ..Tokens::default() };
        if let Some(input) = self.uncached_input_tokens {
            let CacheCreation { ephemeral_1h_input_tokens: hour, ephemeral_5m_input_tokens: minutes } =
                self.cache_creation;
            let (cache_read, cache_write) = (self.cache_read_input_tokens, hour.saturating_add(minutes));
            return Ok(Some(Tokens { input, cache_read, cache_write, ..tokens }));
        }
        let Some(input) = self.input_tokens else { return Ok(None) };
        let cache_read = self.input_cached_tokens;
        let uncached = input.checked_sub(cache_read).ok_or_else(|| {
            format!("input_tokens is {input}, fewer than the {cache_read} of input_cached_tokens that are among them")
        })?;
        let (audio_input, audio_output) = (self.input_audio_tokens, self.output_audio_tokens);
        Ok(Some(Tokens { input: uncached, cache_read, audio_input, audio_output, ..tokens }))
    }

    fn cost(&self) -> Result<Option<Amount>, String> {
        let (value, scale, currency) = match &self.amount {
            Some(Money::Dollars { value, currency }) => (value, 9, currency.as_str()),
            Some(Money::Cents(value)) => (value, 7, self.currency.as_deref().unwrap_or("USD")),
            None => return Ok(None),
        };
        if !currency.eq_ignore_ascii_case("usd") {
            return Err(format!("the amount is in {currency}, and the ledger is in US dollars"));
        }
        value.amount(scale).map(Some).ok_or_else(|| "the amount is more than nine billion dollars".to_owned())
    }
}

/// The model in `gpt-5.5-2026-04-23, cached input`; all of an item that is told otherwise.
fn model_of(item: &str) -> String {
    item.rsplit_once(", ").map_or(item, |(model, _)| model).to_owned()
}

/// A list or an object; told apart by hand, because an untagged enum would lose the place of a mistake.
impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> de::Visitor<'de> for Either {
            type Value = Document;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a page of a provider's report: an object with `data`")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Document, A::Error> {
                Page::deserialize(de::value::MapAccessDeserializer::new(map)).map(Box::new).map(Document::One)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, pages: A) -> Result<Document, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(pages)).map(Document::Many)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        #[derive(Deserialize)]
        struct Dollars {
            value: Decimal,
            currency: String,
        }

        impl<'de> de::Visitor<'de> for Either {
            type Value = Money;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an amount: an object with `value` and `currency`, or a text in cents")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Money, A::Error> {
                let Dollars { value, currency } = Dollars::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Money::Dollars { value, currency })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Money, E> {
                let cents = Decimal::parse(text.trim());
                cents.map(Money::Cents).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// What is `null` was not counted.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The day, in UTC, of Unix seconds or of a time with its offset.
fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    struct Start;

    impl de::Visitor<'_> for Start {
        type Value = Timestamp;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the start of a day: Unix seconds, or a time such as 2026-11-01T00:00:00Z")
        }

        fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Timestamp, E> {
            Timestamp::from_second(seconds).map_err(|_| E::invalid_value(de::Unexpected::Signed(seconds), &self))
        }

        fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Timestamp, E> {
            self.visit_i64(i64::try_from(seconds).unwrap_or(i64::MAX))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
            text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }

    let at = deserializer.deserialize_any(Start)?;
    Ok(at.to_zoned(TimeZone::UTC).date())
}
