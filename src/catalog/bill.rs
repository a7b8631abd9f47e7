//! The pricing function: usage × price × terms → money.
//!
//! 1. The price list is the one of the call's day.
//! 2. Its cards are stacked, the most particular on top: the service tier, batch, the region, the hour, the base. A tier
//!    or time that the list does not name is looked up below; a service tier that it does not name, unless the word means
//!    the usual one, makes the price unknown, because such tiers cost between half and several times the usual price.
//! 3. An item's rate is the first that is found from the top: its own, or else that of the item it falls back to
//!    ([`Item::otherwise`]). On each card the highest step below the call's input tokens ([`Usage::total_input`]) comes
//!    first. A step holds *above* its threshold, for the whole call.
//! 4. Where steps are marginal, each input bucket is divided among the stretches between the thresholds in proportion to
//!    their lengths; output comes after all input and has the rates of the last stretch reached.
//! 5. Token rates are multiplied by the factors of the stack. Pieces (searches, images, …) are not: vendors give their
//!    discounts and surcharges on tokens.
//! 6. A token bucket that is used and has no rate makes the price unknown when the list has any token rate, and is not
//!    charged when it has none (a model that is sold by the image). Pieces without a rate are not charged. A call for
//!    which nothing at all could be charged, although it used something, has an unknown price.
//! 7. The exact sum is rounded once to whole nano-dollars, a half upwards.

use smallvec::SmallVec;

use super::{
    price::{Card, Factor, ModelPrice, PriceList, Terms},
    rates::{Item, Rate},
};
use crate::types::{Nanos, Usage};

/// Words for the tier that costs the usual price: OpenAI (`default`, `auto`), Anthropic (`standard`), Groq
/// (`on_demand`), Google (`standard`, `unspecified`).
const USUAL_TIERS: [&str; 6] = ["default", "auto", "standard", "on_demand", "unspecified", ""];

/// What a call costs, thing by thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// In the order of [`Item::ALL`]; an item has a line for each stretch where steps are marginal.
    pub lines: Vec<Line>,
    pub total: Nanos,
}

/// One thing that is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub item: Item,
    /// How many units were used.
    pub units: u64,
    /// The part of them that this line is about, as a fraction: 1/1 unless steps are marginal.
    pub part: (u64, u64),
    pub rate: Rate,
    /// The factors on the rate, as a fraction.
    pub times: (u64, u64),
}

/// The cost, rounded once. `None` when it is not known.
pub(super) fn cost(price: &ModelPrice, usage: &Usage, terms: &Terms<'_>) -> Option<Nanos> {
    let mut sum = Sum::default();
    charge(price, usage, terms, |line| sum.add(line))?;
    Some(sum.rounded())
}

/// The cost with its lines. `None` when it is not known.
pub(super) fn bill(price: &ModelPrice, usage: &Usage, terms: &Terms<'_>) -> Option<Bill> {
    let mut lines = Vec::new();
    charge(price, usage, terms, |line| lines.push(*line))?;
    let mut sum = Sum::default();
    for line in &lines {
        sum.add(line);
    }
    Some(Bill { lines, total: sum.rounded() })
}

impl Line {
    /// The exact amount in nano-dollars, as a fraction.
    fn fraction(&self) -> (i128, i128) {
        let product = |factors: [u64; 4]| {
            factors.into_iter().try_fold(1_i128, |product, factor| product.checked_mul(i128::from(factor)))
        };
        let above = product([self.units, self.part.0, self.rate.0, self.times.0]);
        let below = product([u64::from(self.item.per()), self.part.1, self.times.1, 1]);
        (above.unwrap_or(i128::MAX), below.unwrap_or(i128::MAX))
    }

    /// The amount in dollars with fifteen decimals, the last one rounded down: `0.000000375000000`.
    pub fn amount(&self) -> String {
        let (above, below) = self.fraction();
        let (nanos, rest) = (above / below, above % below);
        // The remainder is smaller than the denominator, which is far below 10³² for any rate that can be written.
        let millionths = rest.saturating_mul(1_000_000) / below;
        format!("{}.{:09}{millionths:06}", nanos / 1_000_000_000, nanos % 1_000_000_000)
    }
}

/// Calls `line` for everything that is charged. `None` when something is used whose price is not known.
fn charge(price: &ModelPrice, usage: &Usage, terms: &Terms<'_>, mut line: impl FnMut(&Line)) -> Option<()> {
    let list = price.list(terms.at_ms)?;
    let stack = stack(list, terms)?;
    // A provider may report any number; the sum of two is not to wrap.
    let buckets = Item::ALL.into_iter().filter(|item| item.is_input());
    let input = buckets.fold(0_u64, |sum, item| sum.saturating_add(item.units(usage)));
    let sells_tokens = stack.iter().any(|card| card.rates.iter().any(|(item, _)| item.is_tokens()));
    let times = factors(&stack);
    let stretches = if list.marginal { stretches(&stack, input) } else { SmallVec::from_slice(&[(input, input)]) };
    let last = [stretches.last().copied().unwrap_or((input, input))];
    let mut charged = false;
    for item in Item::ALL {
        let units = item.units(usage);
        if units == 0 {
            continue;
        }
        let divided = item.is_input() && stretches.len() > 1;
        for &(length, end) in if divided { stretches.as_slice() } else { &last } {
            let part = if divided { (length, input) } else { (1, 1) };
            match rate(&stack, item, end) {
                Some(rate) => {
                    let times = if item.is_tokens() { times } else { (1, 1) };
                    line(&Line { item, units, part, rate, times });
                    charged = true;
                }
                None if item.is_tokens() && sells_tokens => return None,
                None => {}
            }
        }
    }
    (charged || *usage == Usage::default()).then_some(())
}

/// The cards that hold under `terms`, the most particular first. `None` when the tier has no price.
fn stack<'p>(list: &'p PriceList, terms: &Terms<'_>) -> Option<SmallVec<[&'p Card; 5]>> {
    let mut stack = SmallVec::new();
    let mut batch = terms.batch;
    if let Some(tier) = terms.service_tier {
        match list.tiers.get(tier) {
            Some(card) => stack.push(card),
            None if tier == "batch" => batch = true,
            None if USUAL_TIERS.contains(&tier) => {}
            None => return None,
        }
    }
    if batch {
        stack.push(list.batch.as_ref()?);
    }
    stack.extend(terms.region.and_then(|region| list.regions.get(region)));
    let now = list.hours.iter().find(|(windows, _)| windows.iter().any(|window| window.holds(terms.at_ms)));
    stack.extend(now.map(|(_, card)| card));
    stack.push(&list.base);
    Some(stack)
}

/// The rate of `item` in a call with `input` tokens of input.
fn rate(stack: &[&Card], item: Item, input: u64) -> Option<Rate> {
    let mut wanted = Some(item);
    while let Some(item) = wanted {
        if let Some(rate) = stack.iter().find_map(|card| card.rate(item, input)) {
            return Some(rate);
        }
        wanted = item.otherwise();
    }
    None
}

/// The product of the stack's factors, as a fraction in lowest terms.
fn factors(stack: &[&Card]) -> (u64, u64) {
    let mut product = (1_u64, 1_u64);
    for card in stack.iter().filter(|card| card.times != Factor::ONE) {
        let (above, below) = (u64::from(card.times.0), u64::from(Factor::ONE.0));
        let common = gcd(above, below);
        product = (product.0.saturating_mul(above / common), product.1.saturating_mul(below / common));
    }
    product
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The stretches between the thresholds that `input` tokens reach: the length of each, and its end. At least one.
fn stretches(stack: &[&Card], input: u64) -> SmallVec<[(u64, u64); 4]> {
    let mut ends: SmallVec<[u64; 4]> =
        stack.iter().flat_map(|card| &card.above).map(|step| step.tokens).filter(|tokens| *tokens < input).collect();
    ends.push(input);
    ends.sort_unstable();
    ends.dedup();
    let mut start = 0;
    let stretch = |end: u64| {
        let length = end - start;
        start = end;
        (length, end)
    };
    ends.into_iter().map(stretch).filter(|(length, _)| *length > 0 || input == 0).collect()
}

/// An exact sum of lines: what depends on factors and parts has their denominators, the rest is in the units of
/// [`Sum::UNIT`].
#[derive(Default)]
struct Sum {
    /// Nano-dollars × 18,000,000 of lines whose part and factor are whole.
    plain: i128,
    /// The others, as a fraction of the same.
    above: i128,
    below: i128,
    overflowed: bool,
}

impl Sum {
    /// The least common multiple of all [`Item::per`].
    const UNIT: i128 = 18_000_000;

    fn add(&mut self, line: &Line) {
        let unit = Self::UNIT / i128::from(line.item.per());
        let product = |factors: [u64; 4]| {
            factors.into_iter().try_fold(unit, |product, factor| product.checked_mul(i128::from(factor)))
        };
        let Some(above) = product([line.units, line.rate.0, line.part.0, line.times.0]) else {
            self.overflowed = true;
            return;
        };
        let below = i128::from(line.part.1) * i128::from(line.times.1);
        if below == 1 {
            self.plain = self.plain.saturating_add(above);
            return;
        }
        // Token lines of one bill share their denominators, so this is nearly always a plain addition.
        if self.below == 0 {
            (self.above, self.below) = (above, below);
        } else if self.below == below {
            self.above = self.above.saturating_add(above);
        } else {
            let sum = self.above.checked_mul(below).zip(above.checked_mul(self.below));
            let sum = sum.and_then(|(one, other)| one.checked_add(other)).zip(self.below.checked_mul(below));
            match sum {
                Some(sum) => (self.above, self.below) = sum,
                None => self.overflowed = true,
            }
        }
    }

    /// The sum in whole nano-dollars, a half rounded upwards; the largest amount when it is beyond that.
    fn rounded(&self) -> Nanos {
        let below = self.below.max(1);
        let exact = self.plain.checked_mul(below).and_then(|plain| plain.checked_add(self.above));
        let rounded = exact.zip(below.checked_mul(Self::UNIT)).and_then(|(above, below)| {
            let half = below / 2;
            above.checked_add(half).map(|above| above / below)
        });
        let nanos = rounded.filter(|_| !self.overflowed).and_then(|nanos| i64::try_from(nanos).ok());
        Nanos(nanos.unwrap_or(i64::MAX))
    }
}
