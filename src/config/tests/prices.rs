//! Prices in the configuration and in price files.

use std::{fs, path::Path};

use proptest::prelude::*;

use super::{broken::complaints, env};
use crate::{
    catalog::{Catalog, Origin, Price, Terms},
    config::{load, read_prices},
    types::{Nanos, Usage},
};

const SETTINGS: &str = "\
providers: { openai: , mine: { kind: openai }, gpu: { kind: vllm }, other: { kind: openai_compatible, base_url: \"http://127.0.0.1:1/v1\" } }
models:
  a: { targets: [openai/gpt-5.5, mine/gpt-5.5, gpu/llama, other/mystery] }
  \"other/*\": { targets: [\"other/*\"] }
";

fn cost(price: &Price) -> Option<String> {
    let usage = Usage { input: 1_000_000, output: 1_000_000, ..Usage::default() };
    price.cost(&usage, &Terms { at_ms: 1_790_000_000_000, ..Terms::default() }).map(|cost: Nanos| cost.to_string())
}

/// What the targets of [`SETTINGS`] cost with this section `prices`, a million tokens in and out.
fn priced(section: &str) -> Vec<(String, String, Option<String>)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("switchboard.yaml");
    fs::write(folder.path().join("own.yaml"), "openai:\n  gpt-5.5: { input: 1, output: 2 }\n").unwrap();
    let section = section.replace("FOLDER", folder.path().to_str().unwrap());
    fs::write(&file, format!("{SETTINGS}{section}")).unwrap();
    let loaded = load(Some(&file), &env()).unwrap_or_else(|complaints| panic!("{complaints}"));
    let targets = loaded.priced_targets().into_iter();
    targets.map(|of| (format!("{}/{}", of.provider, of.model), of.price.name(0).to_string(), cost(&of.price))).collect()
}

fn row(target: &str, name: &str, cost: &str) -> (String, String, Option<String>) {
    (target.to_owned(), name.to_owned(), (cost != "unknown").then(|| cost.to_owned()))
}

#[test]
fn every_target_has_the_price_that_is_nearest_to_the_operator() {
    // The catalogue's price of a million tokens is one of long context: 10 + 45.
    let plain = [
        row("gpu/llama", "free", "0.00"),
        row("mine/gpt-5.5", "openai/gpt-5.5", "55.00"),
        row("openai/gpt-5.5", "openai/gpt-5.5", "55.00"),
        row("other/*", "unknown", "unknown"),
        row("other/mystery", "unknown", "unknown"),
    ];
    assert_eq!(priced(""), plain);
    let set = priced(
        "prices:\n  models:\n    mine/gpt-5.5: { input: 2.50, output: 7.125 }\n    \"other/*\": { free: true }\n    gpu/llama: { input: 0.1, output: 0.1 }\n",
    );
    assert_eq!(
        set,
        [
            row("gpu/llama", "config:gpu/llama", "0.20"),
            row("mine/gpt-5.5", "config:mine/gpt-5.5", "9.625"),
            row("openai/gpt-5.5", "openai/gpt-5.5", "55.00"),
            row("other/*", "free", "0.00"),
            row("other/mystery", "free", "0.00"),
        ]
    );
    let bounded = priced("prices: { ceiling: { input: 15, output: 75 }, file: FOLDER/own.yaml }\n");
    assert_eq!(
        bounded,
        [
            row("gpu/llama", "free", "0.00"),
            row("mine/gpt-5.5", "file:openai/gpt-5.5", "3.00"),
            row("openai/gpt-5.5", "file:openai/gpt-5.5", "3.00"),
            row("other/*", "ceiling", "90.00"),
            row("other/mystery", "ceiling", "90.00"),
        ]
    );
}

#[test]
fn wrong_prices_in_the_configuration_are_explained_at_their_place() {
    let cases = [
        ("{ models: { openai/x: { inptu: 1 } } }", "5:33: unknown key `inptu`", "did you mean `input`?"),
        ("{ models: { openai/x: { input: -1 } } }", "`-1` is not a price", "not negative"),
        ("{ models: { openai/x: { input: 0.0000000001 } } }", "is not a price", "at most nine decimals"),
        ("{ models: { openai/x: { input: two } } }", "`two` is not a price", "such as 2.50"),
        ("{ models: { openai/x: {} } }", "there is no price here", ""),
        ("{ models: { openai/x: { free: true, input: 1 } } }", "what is free has no price", ""),
        ("{ models: { opnai/x: { input: 1 } } }", "there is no provider `opnai`", "did you mean `openai`?"),
        ("{ models: { gpt: { input: 1 } } }", "this is not the name of a target", "provider/model"),
        (
            "{ models: { openai/x: { input: 1, later: [{ from: 2026-02-30, input: 2 }] } } }",
            "`2026-02-30` is not a day",
            "such as 2027-01-31",
        ),
        (
            "{ models: { openai/x: { input: 1, hours: [{ when: [\"mon-fri 22:00-02:00\"], times: 0.5 }] } } }",
            "is not a span of hours",
            "mon-fri 00:00-06:30",
        ),
        ("{ models: { openai/x: { input: 1, batch: { times: -1 } } } }", "`-1` is not a factor", "from 0 to 4000"),
        (
            "{ models: { openai/x: { input: 1, above: [{ tokens: 10, input: 2 }, { tokens: 5, input: 3 }] } } }",
            "the thresholds must rise",
            "",
        ),
        ("{ models: { openai/x: { input: 1, mode: talk } } }", "is not one of the words", ""),
        ("{ ceiling: {} }", "there is no rate here", ""),
        ("{ ceiling: { input: 1, times: 2 } }", "there is nothing to multiply", ""),
        ("{ url: ftp://example.com/x }", "this is not a web address", "https://"),
        ("{ refresh: 1s }", "this is too small", "at least 60s"),
        ("{ file: /no/such/prices.yaml }", "/no/such/prices.yaml: the file cannot be read: there is no such file", ""),
    ];
    for (section, message, help) in cases {
        let found = complaints(&format!("{SETTINGS}prices: {section}\n"));
        assert!(found.contains(message) && found.contains(help), "{section}:\n{found}");
        assert_eq!(
            found.matches("switchboard.yaml").count() + found.matches("no/such").count(),
            1,
            "{section}:\n{found}"
        );
    }
}

#[test]
fn a_wrong_price_file_is_explained_and_nothing_of_it_is_used() {
    let cases = [
        ("openai:\n  gpt: { input: 1 }\n  gtp: { output: -2 }\n", "prices.yaml:3:18: `-2` is not a price"),
        ("openai:\n  gpt: { input: 1, otput: 2 }\n", "prices.yaml:2:20: unknown key `otput` (openai.gpt.otput)"),
        ("openai:\n  gpt: { input: 1, also: [b] }\n  b: { input: 2 }\n", "another entry has one of these names, too"),
        ("openai:\n  gpt: { input: ${PRICE} }\n", "prices.yaml:2"),
        ("openai:\n  gpt: { input: 1, input: 2 }\n", "duplicate key `input`"),
        ("openai:\n  gpt: { later: [{ from: 31.01.2027, input: 1 }] }\n", "`31.01.2027` is not a day"),
        ("openai: [gpt]\n", "expected a mapping, found a list"),
        ("openai:\n\tgpt: {}\n", "a tab where YAML allows only spaces"),
        ("\u{0}", "prices.yaml"),
    ];
    for (text, message) in cases {
        let found = read_prices(text, Some(Path::new("prices.yaml")), Origin::File).unwrap_err().to_string();
        assert!(found.contains(message), "{text}:\n{found}");
    }
    let folder = tempfile::tempdir().unwrap();
    let [settings, prices] = ["switchboard.yaml", "prices.yaml"].map(|name| folder.path().join(name));
    fs::write(&prices, "openai:\n  gpt: { inptu: 1 }\n").unwrap();
    fs::write(&settings, format!("{SETTINGS}prices: {{ file: {} }}\n", prices.display())).unwrap();
    let refused = load(Some(&settings), &env()).unwrap_err().to_string();
    assert!(refused.contains("prices.yaml:2:10: unknown key `inptu`"), "{refused}");
    assert!(refused.contains("did you mean `input`?"), "{refused}");
    fs::write(&prices, "openai:\n  gpt: { input: 1 }\n").unwrap();
    let loaded = load(Some(&settings), &env()).unwrap();
    assert_eq!(loaded.watch().files().collect::<Vec<_>>(), [settings.as_path(), prices.as_path()]);
    assert_eq!(cost(&loaded.catalog.find("openai", "gpt")), None, "output has no rate");
}

/// A vendor's row says whether it is a server of the operator's own; the catalogue must not disagree.
#[test]
fn servers_of_the_operators_own_are_free_and_hosted_vendors_are_not() {
    let catalog = Catalog::embedded();
    for vendor in crate::providers::vendors::all() {
        // What stands behind these is anybody's guess.
        let own = vendor.local && !["litellm", "openai_compatible"].contains(&vendor.name);
        let expected = if own { Price::Free } else { Price::Unknown };
        assert_eq!(catalog.find(vendor.name, "no-such-model"), expected, "{}", vendor.name);
    }
}

#[test]
fn the_catalogues_own_files_are_price_files() {
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prices")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = fs::read_to_string(&path).unwrap();
            let book = read_prices(&text, Some(&path), Origin::File).unwrap_or_else(|wrong| panic!("{wrong}"));
            assert!(!book.is_empty(), "{}", path.display());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn no_text_makes_the_reader_of_price_files_panic(text in "\\PC*") {
        let _ = read_prices(&text, None, Origin::File).map_err(|wrong| wrong.to_string());
    }
}
