//! A price as JSON, for scripts and receipts. Rates are text, so that no reader rounds them.

use serde_json::{Map, Value, json};

use super::{
    Price,
    price::{Card, Factor, ModelPrice, Origin, PriceList, Window},
    rates::Rates,
};

impl Price {
    /// Everything that is known of it, or the word `free` or `unknown`.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Known(price) => price.to_json(),
            Self::Free => json!("free"),
            Self::Unknown => json!("unknown"),
        }
    }
}

impl ModelPrice {
    fn to_json(&self) -> Value {
        let Self { vendor, model, facts, lists, origin, source } = self;
        json!({
            "vendor": &**vendor,
            "model": &**model,
            "origin": origin.as_str(),
            "source": source.as_deref(),
            "mode": facts.mode.map(super::Mode::as_str),
            "context": facts.context,
            "max_output": facts.max_output,
            "can": facts.can.iter().map(super::Capability::as_str).collect::<Vec<_>>(),
            "retires": facts.retires.map(|day| day.to_string()),
            "lists": lists.iter().map(list).collect::<Vec<_>>(),
        })
    }
}

impl Origin {
    /// Who says so, in a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Catalogue => "catalogue",
            Self::File => "file",
            Self::Url => "url",
            Self::Configuration => "configuration",
            Self::Ceiling => "ceiling",
        }
    }
}

/// The members that there are, in the words of a price file.
fn list(list: &PriceList) -> Value {
    let mut members = card(&list.base);
    let mut add = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
    if let Some(from) = list.from {
        add("from", json!(from.to_string()));
    }
    if list.marginal {
        add("marginal", json!(true));
    }
    for (name, cards) in [("tiers", &list.tiers), ("regions", &list.regions)] {
        if !cards.is_empty() {
            let cards = cards.iter().map(|(name, one)| (name.to_string(), Value::Object(card(one))));
            add(name, Value::Object(cards.collect()));
        }
    }
    if let Some(batch) = &list.batch {
        add("batch", Value::Object(card(batch)));
    }
    if !list.hours.is_empty() {
        let hours = list.hours.iter().map(|(windows, one)| {
            let mut hours = card(one);
            hours.insert("when".to_owned(), windows.iter().map(Window::to_string).collect());
            Value::Object(hours)
        });
        add("hours", hours.collect());
    }
    Value::Object(members)
}

fn card(card: &Card) -> Map<String, Value> {
    let mut members = rates(&card.rates);
    if card.times != Factor::ONE {
        members.insert("times".to_owned(), json!(card.times.to_string()));
    }
    if !card.above.is_empty() {
        let steps = card.above.iter().map(|step| {
            let mut members = rates(&step.rates);
            members.insert("tokens".to_owned(), json!(step.tokens));
            Value::Object(members)
        });
        members.insert("above".to_owned(), steps.collect());
    }
    members
}

fn rates(rates: &Rates) -> Map<String, Value> {
    rates.iter().map(|(item, rate)| (item.field().to_owned(), json!(rate.to_string()))).collect()
}
