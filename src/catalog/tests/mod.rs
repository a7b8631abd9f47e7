//! Golden invoices, the catalogue's files, and what names lead to.

mod files;
mod names;

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::catalog::price::Origin;

const INVOICES: &str = include_str!("invoices.txt");

/// The price in `entry`, a piece of a price file.
pub(super) fn price(name: &str, entry: &str) -> Price {
    let (vendor, model) = name.split_once('/').unwrap();
    let entry: Entry = serde_json::from_str(entry).unwrap_or_else(|error| panic!("{name}: {error}"));
    entry.price(vendor, model, Origin::Catalogue).unwrap_or_else(|error| panic!("{name}: {error:?}"))
}

fn usage(text: &str) -> Usage {
    let counts: BTreeMap<&str, u64> = text
        .split_whitespace()
        .map(|part| part.split_once('=').unwrap())
        .map(|(bucket, count)| (bucket, count.parse().unwrap()))
        .collect();
    let usage: Usage = serde_json::from_value(serde_json::to_value(&counts).unwrap()).unwrap();
    let used = usage.buckets().into_iter().filter(|(_, count)| *count > 0).count();
    assert_eq!(used, counts.len(), "{text} names a bucket that there is not");
    usage
}

fn terms(text: &str) -> Terms<'_> {
    let mut terms = Terms { at_ms: 1_790_000_000_000, ..Terms::default() };
    for word in text.split_whitespace() {
        match word.split_once('=') {
            None if word == "batch" => terms.batch = true,
            Some(("tier", tier)) => terms.service_tier = Some(tier),
            Some(("region", region)) => terms.region = Some(region),
            Some(("at", at)) => terms.at_ms = at.parse::<Timestamp>().unwrap().as_millisecond(),
            _ => panic!("{word} is no term"),
        }
    }
    terms
}

#[test]
fn every_golden_invoice_is_right_to_the_nano_dollar() {
    let (mut known, mut seen) = (Price::Unknown, 0);
    let mut wrong = Vec::new();
    for line in INVOICES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(rest) = line.strip_prefix("price ") {
            let (name, entry) = rest.split_once(' ').unwrap();
            known = price(name, entry);
            continue;
        }
        let [name, conditions, used, expected, _working] = line.split('|').map(str::trim).collect::<Vec<_>>()[..]
        else {
            panic!("{line}");
        };
        let (terms, usage) = (terms(conditions), usage(used));
        let expected = (expected != "unknown").then(|| Nanos::from_dollars(expected).unwrap());
        let cost = known.cost(&usage, &terms);
        if cost != expected {
            wrong.push(format!("{name}: {cost:?} instead of {expected:?}"));
        }
        assert_eq!(known.bill(&usage, &terms).map(|bill| bill.total), cost, "{name}: the bill says something else");
        seen += 1;
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(seen > 90, "{seen} invoices");
}

#[test]
fn a_bill_has_a_line_for_everything_with_its_exact_amount() {
    let price = price(
        "example/model",
        r#"{"input": 0.0005, "cache_read": 0.0001, "output": 30, "searches": 10, "regions": {"eu": {"times": 1.1}}}"#,
    );
    let used = usage("input=1 cache_read=3 output=2 searches=1");
    let bill = price.bill(&used, &Terms { region: Some("eu"), ..Terms::default() }).unwrap();
    let lines: Vec<_> =
        bill.lines.iter().map(|line| (line.item, line.units, line.rate.to_string(), line.amount())).collect();
    let expected = [
        (Item::Input, 1, "0.0005", "0.000000000550000"),
        (Item::CacheRead, 3, "0.0001", "0.000000000330000"),
        (Item::Output, 2, "30.00", "0.000066000000000"),
        (Item::Searches, 1, "10.00", "0.010000000000000"),
    ];
    assert_eq!(lines, expected.map(|(item, units, rate, amount)| (item, units, rate.to_owned(), amount.to_owned())));
    assert_eq!(bill.total, Nanos::from_dollars("0.010066001").unwrap());
}

#[test]
fn what_is_free_costs_nothing_and_what_is_unknown_is_not_free() {
    let used = usage("input=1000000 output=1000000 images=7");
    assert_eq!(Price::Free.cost(&used, &Terms::default()), Some(Nanos::ZERO));
    assert_eq!(Price::Unknown.cost(&used, &Terms::default()), None);
    assert_eq!(Price::Unknown.cost(&Usage::default(), &Terms::default()), None);
    assert_eq!((&*Price::Free.name(0), &*Price::Unknown.name(0)), ("free", "unknown"));
}

#[test]
fn a_price_names_its_list() {
    let price = price("openai/gpt-5.5", r#"{"input": 1, "later": [{"from": "2026-04-01", "input": 2}]}"#);
    assert_eq!(&*price.name(terms("at=2026-03-31T23:59:59Z").at_ms), "openai/gpt-5.5");
    assert_eq!(&*price.name(terms("at=2026-04-01T00:00:00Z").at_ms), "openai/gpt-5.5@2026-04-01");
    assert_eq!(&*price.name(terms("at=2030-01-01T00:00:00Z").at_ms), "openai/gpt-5.5@2026-04-01");
}

#[test]
fn entries_that_contradict_themselves_are_refused_with_their_place() {
    let cases = [
        (r#"{"free": true, "input": 1}"#, "free", "what is free has no price"),
        (
            r#"{"batch": {"times": 0.5}}"#,
            "",
            "there is no usual price: give `input` and `output`, or what else is charged",
        ),
        (r#"{"input": 1, "marginal": true}"#, "marginal", "this says nothing without `above`"),
        (
            r#"{"input": 1, "above": [{"tokens": 5, "input": 2}, {"tokens": 5, "input": 3}]}"#,
            "above",
            "the thresholds must rise, from more than 0",
        ),
        (
            r#"{"input": 1, "above": [{"tokens": 0, "input": 2}]}"#,
            "above",
            "the thresholds must rise, from more than 0",
        ),
        (r#"{"input": 1, "above": [{"tokens": 5}]}"#, "above/0", "there is no rate here"),
        (
            r#"{"input": 1, "tiers": {"flex": {"above": [{"tokens": 5}]}}}"#,
            "tiers/flex/above/0",
            "there is no rate here",
        ),
        (r#"{"input": 1, "hours": [{"times": 0.5}]}"#, "hours/0", "give the hours in `when`"),
        (
            r#"{"input": 1, "later": [{"input": 1}]}"#,
            "later/0/from",
            "each of these needs a day after the one before it",
        ),
        (
            r#"{"input": 1, "later": [{"from": "2026-02-01", "input": 1}, {"from": "2026-02-01", "input": 1}]}"#,
            "later/1/from",
            "each of these needs a day after the one before it",
        ),
    ];
    for (text, path, message) in cases {
        let entry: Entry = serde_json::from_str(text).unwrap();
        let error = entry.price("v", "m", Origin::File).unwrap_err();
        assert_eq!((error.path.join("/").as_str(), error.message), (path, message), "{text}");
    }
    for text in [
        r#"{"inptu": 1}"#,
        r#"{"input": -1}"#,
        r#"{"input": 1, "later": [{"from": "2026-02-30", "input": 1}]}"#,
        r#"{"input": 1, "hours": [{"when": ["fri-mon 00:00-01:00"]}]}"#,
        r#"{"input": 1, "hours": [{"when": ["22:00-02:00"]}]}"#,
        r#"{"input": 1, "tiers": {"flex": {"times": -0.5}}}"#,
    ] {
        assert!(serde_json::from_str::<Entry>(text).is_err(), "{text}");
    }
    let nothing: Entry = serde_json::from_str("{}").unwrap();
    assert_eq!(nothing.price("v", "m", Origin::File), Ok(Price::Unknown));
}

fn any_usage() -> impl Strategy<Value = Usage> {
    prop::collection::vec(prop_oneof![Just(0_u64), 0_u64..1_000_000, any::<u64>()], 15).prop_map(|counts| {
        let names = Usage::default().buckets().map(|(name, _)| name);
        let all: BTreeMap<&str, u64> = names.into_iter().zip(counts).collect();
        serde_json::from_value(serde_json::to_value(all).unwrap()).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Whatever a provider reports, nothing overflows, and a bill is never negative.
    #[test]
    fn no_usage_makes_a_bill_negative_or_panics(used in any_usage(), marginal: bool, region: bool) {
        let text = format!(
            r#"{{"input": 9000000, "output": 9000000, "hour": 1, "image": 1, "searches": 1, "tool_calls": 1,
                 "characters": 1, "requests": 1, "marginal": {marginal}, "above": [{{"tokens": 1000, "input": 0.000000001}}],
                 "regions": {{"eu": {{"times": 4000}}}}}}"#
        );
        let terms = Terms { region: region.then_some("eu"), ..Terms::default() };
        let bill = price("v/m", &text).bill(&used, &terms).unwrap();
        prop_assert!(bill.total >= Nanos::ZERO);
        for line in &bill.lines {
            prop_assert!(!line.amount().starts_with('-'));
        }
    }

    /// Without steps, two calls cost what their sum costs, but for the rounding of each.
    #[test]
    fn costs_add_up(
        (a, b) in (0_u64..1_000_000_000, 0_u64..1_000_000_000), (c, d) in (0_u64..1_000_000_000, 0_u64..1_000_000_000),
    ) {
        let price = price("v/m", r#"{"input": 0.15, "output": 0.6, "regions": {"eu": {"times": 1.1}}}"#);
        let terms = Terms { region: Some("eu"), ..Terms::default() };
        let cost = |input, output| price.cost(&Usage { input, output, ..Usage::default() }, &terms).unwrap().0;
        let difference = cost(a + c, b + d) - cost(a, b) - cost(c, d);
        prop_assert!(difference.abs() <= 1, "{difference}");
    }
}
