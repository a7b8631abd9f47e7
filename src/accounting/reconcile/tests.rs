use jiff::civil::date;

use super::*;

fn entry(day: i8, model: &str, calls: u64, input: u64, output: u64, cost: &str) -> Entry {
    Entry {
        day: date(2026, 11, day),
        model: model.into(),
        key: "key_a".into(),
        calls,
        tokens: Tokens { input, output, ..Tokens::default() },
        cost: Nanos::from_dollars(cost).unwrap(),
        ..Entry::default()
    }
}

/// A line of a report with tokens and money; `calls` are not told.
fn figure(day: i8, model: &str, input: u64, output: u64, cost: &str) -> Figure {
    Figure {
        day: date(2026, 11, day),
        model: Some(model.into()),
        tokens: Some(Tokens { input, output, ..Tokens::default() }),
        cost: Decimal::parse(cost).and_then(|decimal| decimal.amount(9)),
        ..Figure::default()
    }
}

fn november(figures: Vec<Figure>, entries: &[Entry]) -> Reconciliation {
    let export = Export { figures, is_partial: false };
    reconcile(&[export], entries, date(2026, 11, 1), date(2026, 12, 1))
}

/// Each share as a line.
fn told(result: &Reconciliation) -> Vec<String> {
    let line = |cell: &Cell, share: &Share| {
        format!("{} {} {:?} {} {}", cell.day.day(), cell.model, share.why, Nanos(share.cost_nanos), share.tokens)
    };
    result.cells.iter().flat_map(|cell| cell.shares.iter().map(move |share| line(cell, share))).collect()
}

#[test]
fn every_reason_is_told_from_the_others() {
    let estimated = |entry| Entry { is_estimated: true, ..entry };
    let unpriced = |entry: Entry| Entry { unpriced: entry.calls, ..entry };
    let calls = |calls, figure| Figure { calls: Some(calls), ..figure };
    let cached = |input, cache_read, figure: Figure| {
        let tokens = Tokens { input, cache_read, ..figure.tokens.unwrap() };
        Figure { tokens: Some(tokens), ..figure }
    };
    type Case = (&'static str, Vec<Figure>, Vec<Entry>, &'static [&'static str]);
    let cases: Vec<Case> = vec![
        ("equal", vec![figure(1, "m", 100, 10, "1.50")], vec![entry(1, "m", 2, 100, 10, "1.50")], &[]),
        (
            "calls past the gateway, a model of their own",
            vec![figure(1, "m", 100, 10, "1.50"), figure(1, "n", 7, 3, "0.25")],
            vec![entry(1, "m", 2, 100, 10, "1.50")],
            &["1 n MissingInLedger 0.25 10"],
        ),
        (
            "calls past the gateway, among others",
            vec![calls(4, figure(1, "m", 200, 20, "3.00"))],
            vec![entry(1, "m", 3, 150, 15, "2.25")],
            &["1 m MissingInLedger 0.75 55"],
        ),
        (
            "calls that were not charged",
            vec![figure(1, "m", 100, 10, "1.50")],
            vec![entry(1, "m", 2, 100, 10, "1.50"), entry(1, "n", 1, 5, 5, "0.125")],
            &["1 n MissingAtProvider -0.125 -10"],
        ),
        (
            "calls around midnight",
            vec![figure(1, "m", 100, 10, "1.00"), figure(2, "m", 60, 10, "0.70")],
            vec![entry(1, "m", 2, 120, 10, "1.20"), entry(2, "m", 2, 40, 10, "0.50")],
            &["1 m DayBoundary -0.20 -20", "2 m DayBoundary 0.20 20"],
        ),
        (
            "an unknown price",
            vec![figure(1, "m", 100, 10, "1.50")],
            vec![unpriced(entry(1, "m", 2, 100, 10, "0"))],
            &["1 m Unpriced 1.50 0"],
        ),
        (
            "an estimate that was too low",
            vec![figure(1, "m", 150, 30, "1.80")],
            vec![entry(1, "m", 2, 100, 10, "1.10"), estimated(entry(1, "m", 1, 40, 0, "0.40"))],
            &["1 m Estimated 0.30 30"],
        ),
        (
            "an estimate for a call that was not charged, among others",
            vec![calls(2, figure(1, "m", 100, 10, "1.50"))],
            vec![entry(1, "m", 2, 100, 10, "1.50"), estimated(entry(1, "m", 1, 40, 0, "0.40"))],
            &["1 m Estimated -0.40 -40"],
        ),
        (
            "an estimate for a call the provider never saw",
            vec![figure(1, "m", 100, 10, "1.50")],
            vec![entry(1, "m", 2, 100, 10, "1.50"), estimated(entry(1, "n", 1, 40, 0, "0.40"))],
            &["1 n Estimated -0.40 -40"],
        ),
        (
            "cached tokens taken for uncached ones",
            vec![cached(40, 60, figure(1, "m", 0, 10, "0.55"))],
            vec![entry(1, "m", 2, 100, 10, "1.10")],
            &["1 m CacheBuckets -0.55 60"],
        ),
        (
            "other tokens",
            vec![figure(1, "m", 110, 10, "1.20")],
            vec![entry(1, "m", 2, 100, 10, "1.10")],
            &["1 m Tokens 0.10 10"],
        ),
        (
            "other prices",
            vec![figure(1, "m", 1_000_000, 0, "3.00")],
            vec![entry(1, "m", 2, 1_000_000, 0, "2.50")],
            &["1 m Price 0.50 0"],
        ),
        (
            "amounts in whole cents",
            vec![figure(1, "m", 100, 10, "1.50")],
            vec![entry(1, "m", 2, 100, 10, "1.504")],
            &["1 m Rounding -0.004 0"],
        ),
        (
            "money alone",
            vec![Figure { tokens: None, ..figure(1, "m", 0, 0, "1.50") }],
            vec![entry(1, "m", 2, 100, 10, "1.10")],
            &["1 m Unexplained 0.40 0"],
        ),
        (
            "tokens alone",
            vec![Figure { cost: None, ..figure(1, "m", 110, 10, "0") }],
            vec![entry(1, "m", 2, 100, 10, "1.10")],
            &["1 m Tokens 0.00 10"],
        ),
    ];
    for (name, figures, entries, expected) in cases {
        assert_eq!(told(&november(figures, &entries)), expected, "{name}");
    }
}

#[test]
fn shares_add_up_to_the_gap() {
    let figures = vec![
        Figure { calls: Some(9), ..figure(1, "m", 900, 70, "9.99") },
        figure(2, "m", 5, 5, "0.01"),
        figure(3, "n", 100, 1, "2.00"),
    ];
    let entries = [
        entry(1, "m", 5, 500, 90, "5.11"),
        Entry { is_estimated: true, ..entry(1, "m", 1, 33, 0, "0.20") },
        Entry { unpriced: 1, ..entry(1, "m", 1, 77, 7, "0") },
        entry(3, "n", 2, 90, 2, "1.7"),
        entry(4, "o", 1, 1, 1, "0.000000001"),
    ];
    let result = november(figures, &entries);
    for cell in &result.cells {
        let gap = cell.provider.cost_nanos.unwrap_or(0) - cell.ledger.cost_nanos.unwrap();
        assert_eq!(cell.shares.iter().map(|share| share.cost_nanos).sum::<i64>(), gap, "{cell:?}");
    }
    let gap = result.provider.cost_nanos.unwrap() - result.ledger.cost_nanos.unwrap();
    assert_eq!(result.reasons().values().map(|(_, cost, _)| cost).sum::<i64>(), gap);
}

#[test]
fn a_price_difference_names_both_rates() {
    let result = november(vec![figure(1, "m", 2_000_000, 0, "6.00")], &[entry(1, "m", 2, 2_000_000, 0, "5.00")]);
    let note = &result.cells[0].shares[0].note;
    assert_eq!(note, "for a million tokens the provider took 3.00 $, the ledger 2.50 $");
}

#[test]
fn sides_are_compared_by_what_all_files_are_told_by() {
    let by_key = |key: &str, figure| Figure { key: Some(key.into()), ..figure };
    let money = Export { figures: vec![Figure { tokens: None, ..figure(1, "m", 0, 0, "1.50") }], is_partial: false };
    let usage = Export {
        figures: vec![
            Figure { cost: None, ..by_key("key_a", figure(1, "m", 60, 10, "0")) },
            Figure { cost: None, ..by_key("key_b", figure(1, "m", 40, 0, "0")) },
        ],
        is_partial: true,
    };
    let entries = [entry(1, "m", 2, 60, 10, "1.0"), Entry { key: "key_b".into(), ..entry(1, "m", 1, 40, 0, "0.5") }];
    let both = reconcile(&[money, usage.clone()], &entries, date(2026, 11, 1), date(2026, 12, 1));
    assert_eq!((both.cells.len(), told(&both)), (1, vec![]), "{both:?}");
    assert!(both.notes.iter().any(|note| note.contains("Keys are not compared")), "{:?}", both.notes);
    assert!(both.notes.iter().any(|note| note.contains("more pages")), "{:?}", both.notes);

    let tokens = reconcile(&[usage], &entries, date(2026, 11, 1), date(2026, 12, 1));
    let keys: Vec<&str> = tokens.cells.iter().map(|cell| cell.key.as_str()).collect();
    assert_eq!(keys, ["key_a", "key_b"]);
}

#[test]
fn the_tolerance_is_of_the_larger_side_and_gaps_do_not_cancel() {
    let figures = vec![figure(1, "m", 100, 0, "1.01"), figure(1, "n", 100, 0, "0.99")];
    let entries = [entry(1, "m", 1, 100, 0, "1.00"), entry(1, "n", 1, 100, 0, "1.00")];
    let result = november(figures, &entries);
    assert_eq!((result.off, result.of), (20_000_000, 2_000_000_000));
    assert!(result.is_within(10_000) && !result.is_within(9_999));
    assert!(november(vec![], &[]).is_within(0));
}

#[test]
fn days_outside_of_the_span_are_left_out() {
    let export = Export { figures: vec![figure(9, "m", 1, 1, "1"), figure(10, "m", 1, 1, "1")], is_partial: false };
    let result = reconcile(&[export], &[entry(9, "m", 1, 1, 1, "1")], date(2026, 11, 9), date(2026, 11, 10));
    assert_eq!((result.cells.len(), result.off), (1, 0));
}

const OPENAI_COSTS: &str = r#"{
  "object": "page",
  "data": [{ "object": "bucket", "start_time": 1793491200, "end_time": 1793577600, "results": [
    { "object": "organization.costs.result", "amount": { "value": 0.06, "currency": "usd" },
      "line_item": "gpt-5.5-2026-04-23, cached input", "project_id": null, "api_key_id": "key_a", "quantity": 800 },
    { "object": "organization.costs.result", "amount": { "value": "1.5000000000000000", "currency": "usd" },
      "line_item": "Web search", "project_id": null }
  ]}, { "object": "bucket", "start_time": 1793577600, "end_time": 1793664000, "results": [] }],
  "has_more": true, "next_page": "page_x"
}"#;

const OPENAI_USAGE: &str = r#"{"object":"page","data":[{"object":"bucket","start_time":1793491200,"end_time":1793577600,
"results":[{"object":"organization.usage.completions.result","input_tokens":1000,"output_tokens":500,
"input_cached_tokens":800,"input_audio_tokens":7,"output_audio_tokens":null,"num_model_requests":5,"model":"gpt-5.5",
"api_key_id":"key_a"}]}],"has_more":false,"next_page":null}"#;

const ANTHROPIC_USAGE: &str = r#"[{"data":[{"starting_at":"2026-11-01T00:00:00Z","ending_at":"2026-11-02T00:00:00Z",
"results":[{"uncached_input_tokens":1500,"cache_creation":{"ephemeral_1h_input_tokens":1000,
"ephemeral_5m_input_tokens":500},"cache_read_input_tokens":200,"output_tokens":500,"server_tool_use":
{"web_search_requests":10},"api_key_id":"apikey_1","model":"claude-opus-4-7","service_tier":"standard"}]}],
"has_more":false,"next_page":null}]"#;

const ANTHROPIC_COSTS: &str = r#"{"data":[{"starting_at":"2026-11-01T00:00:00Z","ending_at":"2026-11-02T00:00:00Z",
"results":[{"currency":"USD","amount":"123.78912","workspace_id":null,"description":"Claude Opus 4.7 Usage - Input",
"cost_type":"tokens","model":"claude-opus-4-7","token_type":"uncached_input_tokens"}]}],"has_more":false}"#;

#[test]
fn pages_of_both_providers_are_read() {
    let costs = read_pages(OPENAI_COSTS).unwrap();
    assert!(costs.is_partial);
    let [cached, search] = &costs.figures[..] else { panic!("{costs:?}") };
    assert_eq!((cached.day, cached.model.as_deref()), (date(2026, 11, 1), Some("gpt-5.5-2026-04-23")));
    assert_eq!((cached.cost.unwrap().cost.0, cached.key.as_deref()), (60_000_000, Some("key_a")));
    assert_eq!((search.cost.unwrap().cost.0, search.model.as_deref()), (1_500_000_000, Some("Web search")));

    let usage = read_pages(OPENAI_USAGE).unwrap();
    let tokens = Tokens { input: 200, cache_read: 800, audio_input: 7, output: 500, ..Tokens::default() };
    assert_eq!((usage.figures[0].tokens, usage.figures[0].calls), (Some(tokens), Some(5)));

    let usage = read_pages(ANTHROPIC_USAGE).unwrap();
    let tokens = Tokens { input: 1500, cache_read: 200, cache_write: 1500, output: 500, ..Tokens::default() };
    assert_eq!((usage.figures[0].tokens, usage.figures[0].calls), (Some(tokens), None));

    let costs = read_pages(ANTHROPIC_COSTS).unwrap();
    assert_eq!(costs.figures[0].cost.unwrap().cost.0, 1_237_891_200, "the amount is in cents");

    let several = read_pages(&format!("{OPENAI_COSTS}\n{OPENAI_USAGE}")).unwrap();
    assert_eq!((several.figures.len(), several.is_partial), (3, false), "the last page is the last");
}

#[test]
fn what_is_no_page_is_refused_at_its_place() {
    let cases = [
        ("", "1:1: the file is empty"),
        ("{\"data\": [", "1:10: EOF while parsing a list"),
        ("day,cost\n2026-11-01,3", "1:1: expected value"),
        ("\n\n  42", "3:4: invalid type: integer `42`, expected a page of a provider's report: an object with `data`"),
        ("{\n \"rows\": []\n}", "3:1: missing field `data`"),
        (
            "{\"data\":[{\"start_time\":\"soon\",\"results\":[]}]}",
            "1:29: invalid value: string \"soon\", expected the start of a day",
        ),
        (
            "{\"data\":[{\"start_time\":0,\"results\":[{\"object\":\"organization.usage.costs\"}]}]}",
            "1:74: expected a line of costs or of usage",
        ),
        (
            "{\"data\":[{\"start_time\":0,\"results\":[{\"amount\":{\"value\":1,\"currency\":\"eur\"}}]}]}",
            "the amount is in eur",
        ),
        (
            "{\"data\":[{\"start_time\":0,\"results\":[{\"amount\":{\"value\":\"x\",\"currency\":\"usd\"}}]}]}",
            "expected an amount",
        ),
        ("{\"data\":[{\"start_time\":0,\"results\":[{\"input_tokens\":-3}]}]}", "invalid value: integer `-3`"),
        (
            "{\"data\":[{\"start_time\":0,\"results\":[{\"input_tokens\":3,\"input_cached_tokens\":4}]}]}",
            "fewer than the 4",
        ),
    ];
    for (text, expected) in cases {
        let error = read_pages(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n  found    {error}\n  expected {expected}");
    }
}

#[test]
fn tables_are_read_by_their_headers() {
    let text = "Date,Model,API Key,Requests,Input Tokens,Cached Tokens,Output tokens,Cost\n\
                2026-11-01,gpt-5.5,key_a,3,100,40,10,$1.25\n\
                2026-11-02T00:00:00+00:00,gpt-5.5,,,,,,0.5\n";
    let export = read_table(text, &BTreeMap::new(), true).unwrap();
    let [one, other] = &export.figures[..] else { panic!("{export:?}") };
    let tokens = Tokens { input: 60, cache_read: 40, output: 10, ..Tokens::default() };
    assert_eq!((one.tokens, one.calls, one.key.as_deref()), (Some(tokens), Some(3), Some("key_a")));
    assert_eq!(one.cost.unwrap().cost.0, 1_250_000_000);
    assert_eq!((other.day, other.tokens, other.key.as_deref()), (date(2026, 11, 2), None, None));

    let named = BTreeMap::from([("cost".to_owned(), "Betrag".to_owned())]);
    let export = read_table("day,betrag\n2026-11-01,7", &named, false).unwrap();
    assert_eq!(export.figures[0].cost.unwrap().cost.0, 7_000_000_000);
}

#[test]
fn what_is_no_table_is_refused_at_its_place() {
    let named = BTreeMap::from([("cost".to_owned(), "Summe".to_owned())]);
    let none = BTreeMap::new();
    let cases = [
        ("", &none, "1:1: expected a header `day` or `date`"),
        ("{\"data\": []}", &none, "1:1: expected a header `day` or `date`"),
        ("day,model\n", &none, "1:1: expected a header `cost` or `input_tokens`"),
        ("day,sume\n", &named, "1:1: there is no header `Summe`, which was named for `cost`; did you mean `sume`?"),
        (
            "day,cost\n2026-11-01,1\nsoon,1\n",
            &none,
            "3:1: expected a day such as 2026-11-30 in the field `day`, and found `soon`",
        ),
        ("day,cost\n2026-11-01,\"1,5\"\n", &none, "2:2: expected an amount in US dollars such as 12.50"),
        ("day,cost\n2026-11-01,1,5\n", &none, "2:1: expected 2 fields as in the headers, and found 3"),
        ("day,input_tokens,cached_tokens\n2026-11-01,1.5,\n", &none, "2:2: expected a whole number"),
        ("day,input_tokens,cached_tokens\n2026-11-01,1,2\n", &none, "2:2: expected no fewer than the cached ones"),
    ];
    for (text, named, expected) in cases {
        let error = read_table(text, named, true).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n  found    {error}\n  expected {expected}");
    }
    assert!(read_table("day,cost\n2026-11-01,caf\u{0}\n", &none, true).is_err());
}
