//! Why the two sides of a place differ: the steps that the module's documentation tells of.

use std::collections::BTreeMap;

use jiff::{ToSpan, civil::Date};

use super::{
    Share, Tokens, Why,
    join::{Booked, Charged, Pair},
};
use crate::types::Nanos;

/// The shares of each place's gap, in the order of the places.
pub(super) fn all(pairs: &BTreeMap<(Date, String, String), Pair>, tells_money: bool) -> Vec<Vec<Share>> {
    let mut rests: Vec<Rest> = pairs.values().map(|pair| Rest::of(pair, tells_money)).collect();
    shift_days(pairs, &mut rests, tells_money);
    for (pair, rest) in pairs.values().zip(&mut rests) {
        explain(&pair.charged, &pair.booked, rest);
    }
    rests.into_iter().map(|rest| rest.shares).collect()
}

/// What of a gap is not explained yet: provider less ledger.
struct Rest {
    cost: i64,
    tokens: i64,
    shares: Vec<Share>,
}

impl Rest {
    fn of(pair: &Pair, tells_money: bool) -> Self {
        let charged = pair.charged.cost.unwrap_or_default().cost.0;
        let cost = if tells_money { charged.saturating_sub(pair.booked.cost.0) } else { 0 };
        // Without tokens on the provider's side there is no gap of tokens, unless it has nothing at all.
        let told = match pair.charged.tokens {
            Some(tokens) => Some(tokens.total()),
            None => (!pair.charged.is_there()).then_some(0),
        };
        let tokens = told.map_or(0, |told| difference(told, pair.booked.tokens.total()));
        Self { cost, tokens, shares: Vec::new() }
    }

    /// Takes as much of `cost` and `tokens` as lies in the direction of what is left.
    fn take(&mut self, why: Why, cost: i64, tokens: i64, note: String) {
        let (cost_nanos, tokens) = (towards(self.cost, cost), towards(self.tokens, tokens));
        if cost_nanos == 0 && tokens == 0 {
            return;
        }
        self.cost -= cost_nanos;
        self.tokens -= tokens;
        self.shares.push(Share { why, cost_nanos, tokens, note });
    }

    fn take_all(&mut self, why: Why, note: String) {
        self.take(why, self.cost, self.tokens, note);
    }
}

/// A gap on one day that the next day cancels, to within a tenth, is the same calls counted on either side of midnight.
fn shift_days(pairs: &BTreeMap<(Date, String, String), Pair>, rests: &mut [Rest], tells_money: bool) {
    let mut series: BTreeMap<(&str, &str), Vec<(Date, usize)>> = BTreeMap::new();
    for (index, (day, model, key)) in pairs.keys().enumerate() {
        series.entry((model, key)).or_default().push((*day, index));
    }
    for days in series.values() {
        for pair in days.windows(2) {
            let [(day, one), (next, other)] = *pair else { continue };
            if day.checked_add(1.day()).ok() != Some(next) {
                continue;
            }
            let gap = |index: usize| if tells_money { rests[index].cost } else { rests[index].tokens };
            let (today, tomorrow) = (gap(one), gap(other));
            let larger = today.unsigned_abs().max(tomorrow.unsigned_abs());
            let cancels = i128::from(today) + i128::from(tomorrow);
            if today.signum() * tomorrow.signum() != -1 || cancels.unsigned_abs() * 10 > u128::from(larger) {
                continue;
            }
            let moved = |one: i64, other: i64| towards(one, other.saturating_neg());
            let cost = moved(rests[one].cost, rests[other].cost);
            let tokens = moved(rests[one].tokens, rests[other].tokens);
            rests[one].take(Why::DayBoundary, cost, tokens, format!("counted on {next} by the other side"));
            rests[other].take(Why::DayBoundary, -cost, -tokens, format!("counted on {day} by the other side"));
        }
    }
}

fn explain(charged: &Charged, booked: &Booked, rest: &mut Rest) {
    if booked.calls == 0 {
        let calls = charged.calls.map(|calls| format!(": {}", counted(calls, "call"))).unwrap_or_default();
        return rest.take_all(Why::MissingInLedger, format!("the ledger has nothing here{calls}"));
    }
    if !charged.is_there() {
        let part = &booked.estimated;
        let note = format!("{}, for which the provider charged nothing", counted(part.calls, "estimated row"));
        rest.take(Why::Estimated, -part.cost.0, -signed(part.tokens), note);
        let note = format!("the provider has nothing here, the ledger {}", counted(booked.calls, "call"));
        return rest.take_all(Why::MissingAtProvider, note);
    }
    missing_calls(charged, booked, rest);
    unpriced(charged, booked, rest);
    estimated(charged, booked, rest);
    if let Some(tokens) = charged.tokens {
        other_tokens(&tokens, charged, booked, rest);
    }
    what_is_left(charged, booked, rest);
}

/// A side that has more calls than the other.
fn missing_calls(charged: &Charged, booked: &Booked, rest: &mut Rest) {
    let Some(calls) = charged.calls else { return };
    if calls > booked.calls {
        let more = calls - booked.calls;
        let cost = share(charged.cost.unwrap_or_default().cost.0, more, calls);
        let tokens = share(charged.tokens.map_or(0, |tokens| signed(tokens.total())), more, calls);
        rest.take(Why::MissingInLedger, cost, tokens, format!("{} more than the ledger has", counted(more, "call")));
    } else {
        // A row that is an estimate is the first to have had no answer, and so no charge.
        let fewer = booked.calls - calls;
        let part = &booked.estimated;
        let lost = fewer.min(part.calls);
        let (cost, tokens) = (share(part.cost.0, lost, part.calls), share(signed(part.tokens), lost, part.calls));
        let note = format!("{}, which the provider did not charge", counted(lost, "estimated row"));
        rest.take(Why::Estimated, -cost, -tokens, note);
        let cost = share(booked.cost.0, fewer - lost, booked.calls);
        let tokens = share(signed(booked.tokens.total()), fewer - lost, booked.calls);
        let note = format!("{} fewer than the ledger has", counted(fewer - lost, "call"));
        rest.take(Why::MissingAtProvider, -cost, -tokens, note);
    }
}

fn unpriced(charged: &Charged, booked: &Booked, rest: &mut Rest) {
    let part = &booked.unpriced;
    if part.calls == 0 {
        return;
    }
    let all = charged.tokens.map_or(0, |tokens| tokens.total());
    let cost = match all {
        0 => rest.cost,
        all => share(charged.cost.unwrap_or_default().cost.0, part.tokens, all),
    };
    let note = format!("{} without a price: see `switchboard prices check`", counted(part.calls, "call"));
    rest.take(Why::Unpriced, cost, 0, note);
}

fn estimated(charged: &Charged, booked: &Booked, rest: &mut Rest) {
    let part = &booked.estimated;
    if part.calls == 0 {
        return;
    }
    let note = format!("{} of {} $ in the ledger", counted(part.calls, "estimated row"), part.cost);
    if charged.tokens.is_some() {
        let tokens = rest.tokens;
        rest.take(Why::Estimated, at_most(tokens, charged, booked), tokens, note);
    } else {
        // Nobody knows how wrong an estimate is; that it is wrong by more than the row itself is unlikely.
        rest.take(Why::Estimated, part.cost.0 * rest.cost.signum(), 0, note);
    }
}

/// Differences in tokens: between cached and uncached input alone, or altogether.
fn other_tokens(told: &Tokens, charged: &Charged, booked: &Booked, rest: &mut Rest) {
    let differing = |(told, ledger): (&(&str, u64), &(&str, u64))| {
        let by = difference(told.1, ledger.1);
        (by != 0).then(|| (format!("{} {by:+}", told.0), by))
    };
    let differing: Vec<(String, i64)> =
        told.named().iter().zip(booked.tokens.named().iter()).filter_map(differing).collect();
    if differing.is_empty() {
        return;
    }
    let note = differing.iter().map(|(words, _)| words.as_str()).collect::<Vec<_>>().join(", ");
    let ledger = &booked.tokens;
    if told.total_input() == ledger.total_input() && told.output == ledger.output {
        let moved = differing.iter().map(|(_, by)| (*by).max(0)).sum();
        let cost = towards(rest.cost, at_most(moved, charged, booked) * rest.cost.signum());
        rest.cost -= cost;
        rest.shares.push(Share { why: Why::CacheBuckets, cost_nanos: cost, tokens: moved, note });
    } else if rest.tokens != 0 {
        rest.take(Why::Tokens, at_most(rest.tokens, charged, booked), rest.tokens, note);
    }
}

fn what_is_left(charged: &Charged, booked: &Booked, rest: &mut Rest) {
    let amount = charged.cost.unwrap_or_default();
    // A row of the ledger is rounded to a nano-dollar.
    let slack = amount.slack.0.unsigned_abs().saturating_add(booked.calls);
    if rest.cost.unsigned_abs() <= slack {
        return rest.take_all(Why::Rounding, String::new());
    }
    let Some(tokens) = charged.tokens.filter(|tokens| tokens.total() > 0) else {
        let note = "the report has no tokens here: give its usage report as well".to_owned();
        return rest.take_all(Why::Unexplained, note);
    };
    let note = format!(
        "for a million tokens the provider took {} $, the ledger {} $",
        a_million(amount.cost, tokens.total()),
        a_million(booked.cost, booked.tokens.total())
    );
    rest.take_all(Why::Price, note);
}

/// `1 call`, `2 calls`.
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The most that `tokens` can have cost: no kind of token costs more than ten times the average of its model.
fn at_most(tokens: i64, charged: &Charged, booked: &Booked) -> i64 {
    const DEAREST: u64 = 10;
    let theirs = (charged.cost.unwrap_or_default().cost.0, charged.tokens.map_or(0, |tokens| tokens.total()));
    let ours = (booked.cost.0, booked.tokens.total());
    let (cost, of) = if theirs.1 > 0 { theirs } else { ours };
    share(cost, tokens.unsigned_abs().saturating_mul(DEAREST), of).saturating_mul(tokens.signum())
}

/// The cost of a million tokens at this average.
fn a_million(cost: Nanos, tokens: u64) -> Nanos {
    Nanos(share(cost.0, 1_000_000, tokens))
}

/// `part / of` of `whole`; nothing of nothing.
fn share(whole: i64, part: u64, of: u64) -> i64 {
    if of == 0 {
        return 0;
    }
    let share = i128::from(whole) * i128::from(part) / i128::from(of);
    i64::try_from(share).unwrap_or(if share < 0 { i64::MIN } else { i64::MAX })
}

/// As much of `wanted` as lies between zero and `rest`.
fn towards(rest: i64, wanted: i64) -> i64 {
    if rest.signum() != wanted.signum() {
        return 0;
    }
    if rest < 0 { rest.max(wanted) } else { rest.min(wanted) }
}

fn difference(one: u64, other: u64) -> i64 {
    signed(one).saturating_sub(signed(other))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
