//! Whole files, and where they are looked for.

mod broken;
mod json_schema;
mod prices;
mod published;

use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::Value;

use self::{
    broken::complaints,
    published::{EXAMPLE, example_env},
};
use super::{Complaints, Environment, Loaded, Settings, Source, load, load::load_from, parse};
use crate::types::{Period, Secret, Size};

/// A secret that must never come out again, wherever it was put.
const CANARY: &str = "canary-0123456789-secret";

fn env() -> Environment {
    Environment::of([
        ("NAME", "value"),
        ("EMPTY", ""),
        ("NUMBER", "17"),
        ("CANARY", CANARY),
        ("OPENAI_API_KEY", "sk-openai-key"),
        ("YAML", "a: {b: [1, 2]} # \"x\"\n- c"),
    ])
}

fn parsed(text: &str) -> Settings {
    parse(text, None, &env()).unwrap_or_else(|complaints| panic!("{text}\n{complaints}"))
}

#[test]
fn every_flaw_of_a_file_is_reported_in_its_order() {
    let text = "listen: x\nserver: { max_body: y, what: 1 }\nproviders: { a b: { kind: nope } }\nkeys: [{ name: k }]\n";
    let Complaints(found) = parse(text, None, &env()).unwrap_err();
    let places: Vec<_> = found.iter().map(|c| (c.line, c.column, c.path.as_str())).collect();
    let expected = [
        (1, 9, "listen"),
        (2, 21, "server.max_body"),
        (2, 24, "server.what"),
        (3, 1, "providers"),
        (3, 14, "providers[\"a b\"]"),
        (3, 27, "providers[\"a b\"].kind"),
        (4, 8, "keys[0]"),
    ];
    assert_eq!(places, expected, "{}", Complaints(found.clone()));
}

#[test]
fn an_empty_file_and_an_empty_section_say_nothing() {
    for text in ["", "\n", "# only a comment\n", "---\n", "{}", "\u{feff}", "server:\nproviders:\nkeys:\n", "null\n"] {
        assert_eq!(parsed(text), Settings::default(), "{text:?}");
    }
}

#[test]
fn variables_take_the_type_of_their_place() {
    let settings = parsed(
        "listen: 127.0.0.1:${PORT:-81}\nserver: { max_in_flight: \"${NUMBER}\", max_body: \"${SIZE:-2MiB}\" }\n\
         log:\n  calls: ${CALLS:-false}\n  format: ${FORMAT:-json}\nretries:\n  max_share: ${SHARE:-0.5}\n\
         timeout:\n  connect: ${CONNECT:-7s}\nkeys:\n- name: ${NUMBER}\n  value: ${YAML_KEY:-0123456789012345}\n  \
         expires: ${EXPIRES:-}\ndata_dir: ${YAML}\n\
         providers: { mock: }\nmodels:\n  m:\n    targets: [mock/x]\n    overrides: { a: \"${NUMBER}\", b: '$${x}' }\n    defaults:\n      \
         c: ${NUMBER}\n      d: ${EMPTY}\n",
    );
    assert_eq!(settings.listen.port(), 81);
    assert_eq!(settings.server.max_in_flight, 17);
    assert_eq!(settings.server.max_body, Size::mib(2));
    assert!(!settings.log.calls);
    assert_eq!(settings.retries.max_share, 0.5);
    assert_eq!(settings.timeout.connect, Some(Period::from_secs(7)));
    assert_eq!(settings.keys[0].name, "17");
    assert_eq!(settings.keys[0].value, Secret::new("0123456789012345"));
    assert_eq!(settings.keys[0].expires, None);
    assert_eq!(settings.data_dir, Path::new("a: {b: [1, 2]} # \"x\"\n- c"), "YAML in a variable is only text");
    let model = &settings.models["m"];
    assert_eq!(Value::Object(model.overrides.clone()), serde_json::json!({ "a": "17", "b": "${x}" }));
    assert_eq!(Value::Object(model.defaults.clone()), serde_json::json!({ "c": 17, "d": "" }));
}

#[test]
fn free_values_follow_yamls_core_schema() {
    let settings = parsed(
        "providers: { mock: }\nmodels:\n  m:\n    targets: [mock/x]\n    overrides:\n      a: [1, -2, 1.5, 1e3, 0x1f, 18446744073709551615]\n      \
         b: [true, False, null, ~, yes, '1', 1_0, 1.2.3, 2026-11-20]\n      c: { d: { e: x } }\n",
    );
    let expected = serde_json::json!({
        "a": [1, -2, 1.5, 1000.0, 31, 18_446_744_073_709_551_615_u64],
        "b": [true, false, null, null, "yes", "1", "1_0", "1.2.3", "2026-11-20"],
        "c": { "d": { "e": "x" } },
    });
    assert_eq!(Value::Object(settings.models["m"].overrides.clone()), expected);
}

#[test]
fn anchors_and_merges_are_followed_and_bounded() {
    let settings = parsed(
        "timeout: &t { connect: 1s }\nmodels:\n  a: &a { strategy: ordered, targets: [mock/y], timeout: *t }\n  \
         b: { <<: *a, targets: [mock/z] }\nproviders: { mock: }\n",
    );
    let (a, b) = (&settings.models["a"], &settings.models["b"]);
    assert_eq!((a.strategy, a.timeout), (b.strategy, b.timeout));
    assert_eq!(b.targets[0].model, "mock/z");

    let mut bomb = "aliases:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("  a{level}: &a{level} [{items}]\n"));
    }
    assert!(complaints(&bomb).contains("more than 100000 values"), "{}", complaints(&bomb));
    for deep in ["[".repeat(100_000), "- ".repeat(5_000), "{a: ".repeat(5_000)] {
        assert!(parse(&deep, None, &env()).is_err());
    }
}

#[test]
fn providers_without_keys_take_them_from_the_usual_variables() {
    let file = "providers:\n  openai:\n  second: { kind: openai }\n  third: { kind: openai, api_key: own }\n";
    let settings = parsed(&format!("{file}models: {{ m: {{ targets: [openai/x] }} }}\n"));
    let key = |name: &str| settings.providers[name].api_key.as_ref().map(Secret::expose);
    assert_eq!(
        [key("openai"), key("second"), key("third")],
        [Some("sk-openai-key"), Some("sk-openai-key"), Some("own")]
    );
}

#[test]
fn a_file_that_is_not_text_or_not_there_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let said = |file: &Path| load(Some(file), &env()).unwrap_err().to_string();
    let file = folder.path().join("switchboard.yaml");
    assert!(said(&file).contains("there is no such file"));
    assert!(said(folder.path()).contains("it is a directory"));
    fs::write(&file, b"listen: 127.0.0.1:1\ndata_dir: caf\xe9\n").unwrap();
    assert!(said(&file).contains("switchboard.yaml:2:14: the file is not UTF-8 text: byte 0xe9"), "{}", said(&file));
    fs::write(&file, vec![b'#'; 5 << 20]).unwrap();
    assert!(said(&file).contains("larger than 4 MiB"));
}

#[test]
fn the_file_is_looked_for_where_it_was_said_then_in_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let [named, usual] = ["named.yaml", "usual.yaml"].map(|name| folder.path().join(name));
    fs::write(&named, "listen: 127.0.0.1:1\n").unwrap();
    fs::write(&usual, "listen: 127.0.0.1:2\n").unwrap();
    let variable = Environment::of([("SWITCHBOARD_CONFIG", named.to_str().unwrap())]);
    let loaded = load(None, &variable).unwrap();
    assert_eq!((&loaded.source, loaded.settings.listen.port()), (&Source::File(named.clone()), 1));
    let other = load(Some(&usual), &variable).unwrap();
    assert_eq!(other.settings.listen.port(), 2, "a path given by hand comes first");
    assert_eq!(loaded.hash.len(), 12);
    assert_ne!(loaded.hash, other.hash);
    let gone = Environment::of([("SWITCHBOARD_CONFIG", "/nowhere/at/all.yaml")]);
    assert!(load(None, &gone).is_err(), "a file that was named must exist");

    let nobody = Environment::of::<&str, &str>([]);
    let found = load_from(None, &[Path::new("/nowhere/at/all.yaml"), &usual, &named], &nobody).unwrap();
    assert_eq!(found.source, Source::File(usual));
    let found = load_nothing();
    assert_eq!((found.source, found.settings.providers.len()), (Source::Environment, 1));
}

#[test]
fn later_stages_can_complain_about_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("switchboard.yaml");
    let text =
        "models:\n  gpt-5.5:\n    targets:\n      - model: openai/gpt-4\n      - openai/gpt\nproviders: {openai: }\n";
    fs::write(&file, text).unwrap();
    let loaded = load(Some(&file), &env()).unwrap();
    let at = |path: &[&str]| {
        let path: Vec<String> = path.iter().map(|&step| step.to_owned()).collect();
        let complaint = loaded.complain(&path, "wrong", None);
        (complaint.line, complaint.column, complaint.path)
    };
    let whole = |path: &str| path.to_owned();
    let name = "models[\"gpt-5.5\"]";
    assert_eq!(at(&["models", "gpt-5.5"]), (2, 3, whole(name)));
    assert_eq!(at(&["models", "gpt-5.5", "targets", "0", "model"]), (4, 16, format!("{name}.targets[0].model")));
    assert_eq!(at(&["models", "gpt-5.5", "targets", "1", "model"]), (5, 9, format!("{name}.targets[1].model")));
    assert_eq!(at(&["models", "gpt-5.5", "fallbacks", "default"]), (2, 3, format!("{name}.fallbacks.default")));
    assert_eq!(at(&["retries"]), (0, 0, whole("retries")));

    let (discovered, path) = (load_nothing(), vec!["models".to_owned(), "mock/*".to_owned()]);
    assert_eq!(discovered.complain(&path, "wrong", None).to_string(), "wrong (models[\"mock/*\"])\n");
}

/// A configuration without a file.
fn load_nothing() -> Loaded {
    load_from(None, &[], &Environment::of::<&str, &str>([])).unwrap()
}

#[test]
fn a_rotated_secret_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let [file, secret] = ["switchboard.yaml", "secret"].map(|name| folder.path().join(name));
    fs::write(&secret, "first\n").unwrap();
    let text = format!("providers: {{ openai: {{ api_key: \"${{file:{}}}\" }} }}\n", secret.display());
    fs::write(&file, text).unwrap();
    let loaded = load(Some(&file), &env()).unwrap();
    assert_eq!(loaded.settings.providers["openai"].api_key, Some(Secret::new("first")));
    let mut watch = loaded.watch();
    assert_eq!(watch.files().collect::<Vec<_>>(), [file.as_path(), secret.as_path()]);
    assert!(!watch.changed());
    fs::write(&secret, "the second\n").unwrap();
    assert!(!watch.changed());
    assert!(watch.changed());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("switchboard.yaml");
        fs::write(&file, bytes).unwrap();
        let _ = load(Some(&file), &env()).map_err(|complaints| complaints.to_string());
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = parse(&text, None, &env()).map_err(|complaints| complaints.to_string());
    }

    #[test]
    fn no_yaml_like_text_makes_it_panic(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40),
    ) {
        let _ = parse(&pieces.concat(), None, &env()).map_err(|complaints| complaints.to_string());
    }

    #[test]
    fn a_good_file_with_one_character_changed_does_not_make_it_panic(at in 0_usize..4_000, c in any::<char>()) {
        let mut letters: Vec<char> = EXAMPLE.chars().collect();
        let at = at % letters.len();
        letters[at] = c;
        let text: String = letters.into_iter().collect();
        let _ = parse(&text, None, &example_env()).map_err(|complaints| complaints.to_string());
    }
}

const PIECES: &[&str] = &[
    "listen",
    "server",
    "models",
    "providers",
    "keys",
    "api_key",
    "targets",
    "a",
    "*",
    "&a ",
    "*a ",
    "<<",
    ": ",
    ":",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "\"",
    "'",
    "|",
    ">",
    "#",
    "!x ",
    "\t",
    "${NAME}",
    "${",
    "}",
    "$${",
    "~",
    "1",
    "-1",
    "1e9",
    ".inf",
    "true",
    "é",
    "\u{feff}",
    "\r",
    "\u{85}",
    "---\n",
    "...\n",
    "?",
    "%YAML 1.2\n",
    "@",
    "\0",
];
