//! Bringing both sides to the same days, models and keys.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

use super::{Amount, Cell, Entry, Export, Figure, Reconciliation, Side, Tokens, Why, explain};
use crate::types::Nanos;

/// Day, model and key; texts are empty where the sides are not compared by them.
type Place = (Date, String, String);

/// Both sides of one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Pair {
    pub(super) charged: Charged,
    pub(super) booked: Booked,
}

/// What the provider says of one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Charged {
    pub(super) calls: Option<u64>,
    pub(super) tokens: Option<Tokens>,
    pub(super) cost: Option<Amount>,
}

/// What the ledger says of one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Booked {
    pub(super) calls: u64,
    pub(super) tokens: Tokens,
    pub(super) cost: Nanos,
    /// Of these, the estimated ones.
    pub(super) estimated: Part,
    /// Of these, those without a price.
    pub(super) unpriced: Part,
}

/// Some of the calls of a place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    pub(super) calls: u64,
    pub(super) tokens: u64,
    pub(super) cost: Nanos,
}

/// Compares what the provider reports with what the ledger has. Entries and figures outside of `from` to `to` (the day
/// after the last) are left out.
pub fn reconcile(exports: &[Export], entries: &[Entry], from: Date, to: Date) -> Reconciliation {
    let within = |day: Date| from <= day && day < to;
    let figures: Vec<&Figure> = exports.iter().flat_map(|export| &export.figures).filter(|f| within(f.day)).collect();
    let entries: Vec<&Entry> = entries.iter().filter(|entry| within(entry.day)).collect();
    // Two files may be told by different things: money by model, tokens by model and key. What all of them are told by
    // is what can be compared.
    let told = |by: fn(&Figure) -> bool| exports.iter().all(|export| export.figures.iter().any(by));
    let by_model = told(|figure| figure.model.is_some());
    let by_key = told(|figure| figure.key.is_some());
    let known: BTreeSet<&str> = entries.iter().map(|entry| entry.model.as_str()).collect();
    let place = |day: Date, model: &str, key: &str| -> Place {
        let model = if by_model { same_model(model, &known) } else { String::new() };
        (day, model, if by_key { key.to_owned() } else { String::new() })
    };

    let mut pairs: BTreeMap<Place, Pair> = BTreeMap::new();
    for figure in &figures {
        let (model, key) = (figure.model.as_deref().unwrap_or("other"), figure.key.as_deref().unwrap_or("none"));
        pairs.entry(place(figure.day, model, key)).or_default().charged.add(figure);
    }
    for entry in &entries {
        pairs.entry(place(entry.day, &entry.model, &entry.key)).or_default().booked.add(entry);
    }
    let tells_money = figures.iter().any(|figure| figure.cost.is_some());
    let mut notes = notes(exports, by_model, by_key);
    if !tells_money && !figures.is_empty() {
        notes.push("The provider's report has no money: tokens are compared.".to_owned());
    }
    let shares = explain::all(&pairs, tells_money);
    let cells = pairs.into_iter().zip(shares).map(|(((day, model, key), Pair { charged, booked }), shares)| {
        let (provider, ledger) = (charged.side(), booked.side());
        Cell { day, model, key, provider, ledger, shares }
    });
    summed(cells.collect(), tells_money, notes)
}

fn notes(exports: &[Export], by_model: bool, by_key: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if exports.iter().any(|export| export.is_partial) {
        notes.push("The provider has more pages than the files hold: fetch the next (`has_more`, `next_page`).".into());
    }
    if !by_model {
        notes.push("Models are not compared: a file is not told by model.".to_owned());
    }
    if !by_key {
        notes.push("Keys are not compared: a file is not told by key, or nobody said which is whose.".to_owned());
    }
    notes
}

fn summed(cells: Vec<Cell>, tells_money: bool, notes: Vec<String>) -> Reconciliation {
    let counted = |why| !matches!(why, Why::Rounding | Why::DayBoundary);
    let shares = cells.iter().flat_map(|cell| &cell.shares).filter(|share| counted(share.why));
    let off = shares.map(|share| if tells_money { share.cost_nanos } else { share.tokens }.unsigned_abs());
    let off = off.fold(0, u64::saturating_add);
    let (mut provider, mut ledger) = (Side::default(), Side::default());
    for cell in &cells {
        provider.add(&cell.provider);
        ledger.add(&cell.ledger);
    }
    let size = |side: &Side| match tells_money {
        true => side.cost_nanos.unwrap_or(0).unsigned_abs(),
        false => side.tokens.map_or(0, |tokens| tokens.total()),
    };
    let of = size(&provider).max(size(&ledger));
    Reconciliation { cells, provider, ledger, off, of, notes }
}

/// The model of the ledger that `model` means: the same, or the only one that differs by its date alone
/// (`gpt-5.5-2026-04-23` is billed where `gpt-5.5` was asked for).
fn same_model(model: &str, known: &BTreeSet<&str>) -> String {
    if known.contains(model) {
        return model.to_owned();
    }
    let mut alike = known.iter().filter(|known| undated(known) == undated(model));
    match (alike.next(), alike.next()) {
        (Some(only), None) => (*only).to_owned(),
        _ => model.to_owned(),
    }
}

/// A name without the date at its end: `-2026-04-23` or `-20260423`.
fn undated(model: &str) -> &str {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((rest, date)) = model.rsplit_once('-') {
        if digits(date, 8) {
            return rest;
        }
        let mut parts = model.rsplitn(4, '-');
        if let (Some(day), Some(month), Some(year), Some(rest)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
            && digits(day, 2)
            && digits(month, 2)
            && digits(year, 4)
        {
            return rest;
        }
    }
    model
}

impl Charged {
    fn add(&mut self, figure: &Figure) {
        if let Some(calls) = figure.calls {
            self.calls = Some(self.calls.unwrap_or(0).saturating_add(calls));
        }
        if let Some(tokens) = figure.tokens {
            *self.tokens.get_or_insert_default() += tokens;
        }
        if let Some(cost) = figure.cost {
            self.cost = Some(self.cost.unwrap_or_default() + cost);
        }
    }

    /// Whether the provider says anything at all of this place.
    pub(super) fn is_there(&self) -> bool {
        self.calls.is_some_and(|calls| calls > 0)
            || self.tokens.is_some_and(|tokens| tokens.total() > 0)
            || self.cost.is_some_and(|amount| amount.cost != Nanos::ZERO)
    }

    fn side(&self) -> Side {
        Side { calls: self.calls, tokens: self.tokens, cost_nanos: self.cost.map(|amount| amount.cost.0) }
    }
}

impl Booked {
    fn add(&mut self, entry: &Entry) {
        self.calls = self.calls.saturating_add(entry.calls);
        self.tokens += entry.tokens;
        self.cost += entry.cost;
        if entry.is_estimated {
            self.estimated.calls = self.estimated.calls.saturating_add(entry.calls);
            self.estimated.tokens = self.estimated.tokens.saturating_add(entry.tokens.total());
            self.estimated.cost += entry.cost;
        }
        if entry.unpriced > 0 {
            self.unpriced.calls = self.unpriced.calls.saturating_add(entry.unpriced);
            // As many as fall to them on average: their tokens are not told apart.
            let tokens = u128::from(entry.tokens.total()) * u128::from(entry.unpriced) / u128::from(entry.calls.max(1));
            self.unpriced.tokens = self.unpriced.tokens.saturating_add(u64::try_from(tokens).unwrap_or(u64::MAX));
        }
    }

    fn side(&self) -> Side {
        Side { calls: Some(self.calls), tokens: Some(self.tokens), cost_nanos: Some(self.cost.0) }
    }
}

impl Side {
    fn add(&mut self, other: &Self) {
        if let Some(calls) = other.calls {
            self.calls = Some(self.calls.unwrap_or(0).saturating_add(calls));
        }
        if let Some(tokens) = other.tokens {
            *self.tokens.get_or_insert_default() += tokens;
        }
        if let Some(cost) = other.cost_nanos {
            self.cost_nanos = Some(self.cost_nanos.unwrap_or(0).saturating_add(cost));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_known_by_its_name_without_the_date() {
        let known = BTreeSet::from(["gpt-5.5", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20", "claude-opus-4-7-20260301"]);
        let cases = [
            ("gpt-5.5", "gpt-5.5"),
            ("gpt-5.5-2026-04-23", "gpt-5.5"),
            ("gpt-5.5-mini-2026-04-23", "gpt-5.5-mini-2026-04-23"),
            ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
            ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
            ("claude-opus-4-7", "claude-opus-4-7-20260301"),
            ("-", "-"),
        ];
        for (model, same) in cases {
            assert_eq!(same_model(model, &known), same, "{model}");
        }
    }
}
