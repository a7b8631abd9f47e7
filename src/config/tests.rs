//! Whole files: what is read from good ones, and what is said about broken ones.

use std::{collections::BTreeSet, fs, path::Path};

use proptest::prelude::*;
use serde_json::Value;

use super::{
    document::spell,
    schema::settings_schema,
    tree::{Content, Node},
    *,
};
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

/// Errors and warnings alike, as an operator reads them.
fn complaints(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("switchboard.yaml");
    fs::write(&file, text).unwrap();
    let found = match load(Some(&file), &env()) {
        Ok(loaded) => loaded.warnings,
        Err(complaints) => complaints,
    };
    found.to_string().replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn broken_files_are_explained_at_the_place_of_each_mistake() {
    let mut story = String::new();
    for (title, text) in BROKEN {
        let found = complaints(text);
        assert!(!found.is_empty(), "nothing was said about: {title}");
        assert!(!found.contains("canary"), "a secret was shown: {found}");
        let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
        story.push_str(&format!("== {title}\n{indented}--\n{found}\n"));
    }
    insta::assert_snapshot!(story);
}

const BROKEN: &[(&str, &str)] = &[
    // Keys and their places.
    ("a misspelled key", "models:\n  gpt:\n    tragets: [openai/gpt-5.5]\n"),
    ("a key that resembles none", "server:\n  weather: fine\n"),
    ("a key of another style", "server: { max-body: 1MiB }\n"),
    ("several mistakes at once", "lisen: 0.0.0.0:80\nserver:\n  max_body: huge\n  max_in_flight: -1\nmodles: {}\n"),
    ("a duplicate key", "listen: 127.0.0.1:1\ndata_dir: x\nlisten: 127.0.0.1:2\n"),
    ("a duplicate model", "models:\n  gpt: { targets: [a/b] }\n  gpt: { targets: [c/d] }\n"),
    ("a key with a variable", "aliases:\n  \"${NAME}\": gpt\n"),
    ("a key that is no text", "aliases:\n  [a, b]: gpt\n"),
    // Types.
    ("a list where a mapping belongs", "server: [1, 2]\n"),
    ("text where a list belongs", "models:\n  gpt:\n    targets: openai/gpt-5.5\n"),
    ("a mapping where text belongs", "listen:\n  host: 127.0.0.1\n  port: 80\n"),
    ("a mapping where a target belongs", "models:\n  gpt:\n    targets:\n      - { modle: openai/x, weight: 1 }\n"),
    ("a list in a list", "models: { gpt: { targets: [[openai/x]] } }\n"),
    ("a number that is none", "server: { max_in_flight: many }\n"),
    ("a number in quotes", "server: { max_in_flight: \"100\" }\n"),
    ("a number with separators", "server: { max_in_flight: 10_000 }\n"),
    ("a fraction where a whole number belongs", "retries: { max_attempts: 1.5 }\n"),
    ("a number too large for its type", "retries: { max_attempts: 70000 }\n"),
    ("a number too small", "retries: { max_attempts: 0 }\n"),
    ("a share above one", "retries: { max_share: 1.5 }\n"),
    ("a negative weight", "models: { gpt: { targets: [{ model: a/b, weight: -1 }] } }\n"),
    ("a boolean of YAML 1.1", "log: { calls: yes }\n"),
    ("an unknown word", "models: { gpt: { strategy: wieghted, targets: [a/b] } }\n"),
    ("an unknown word that resembles none", "log: { format: xml }\n"),
    ("a duration without a unit", "timeout: { connect: 5 }\n"),
    ("a duration with an unknown unit", "timeout:\n  total: 5 fortnights\n"),
    ("a size with an unknown unit", "server:\n  max_body: 5 buckets\n"),
    ("a time that is none", "keys:\n  - { name: a, value: 0123456789abcdef, models: [x], expires: tomorrow }\n"),
    ("an address without a port", "listen: localhost\n"),
    ("nothing where a value belongs", "listen:\nserver:\n  max_body:\n"),
    ("a missing member", "keys:\n  - name: research\n    models: [\"*\"]\n"),
    ("infinity where JSON belongs", "models: { gpt: { targets: [a/b], defaults: { x: .inf } } }\n"),
    // YAML.
    ("a tab", "server:\n\tmax_body: 1MiB\n"),
    ("wrong indentation", "server:\n  max_body: 1MiB\n   max_headers: 8KiB\n"),
    ("an unclosed bracket", "models:\n  gpt: { targets: [a/b }\n"),
    ("an unclosed quote", "listen: \"127.0.0.1:80\n"),
    ("a variable in a flow mapping", "providers: { openai: { api_key: ${NAME} } }\n"),
    ("an unquoted star", "models:\n  gpt:\n    targets: [*]\n"),
    ("a star that names nothing", "keys:\n  - models: *all\n"),
    ("two documents", "listen: 127.0.0.1:1\n---\nlisten: 127.0.0.1:2\n"),
    ("a tag", "listen: !env LISTEN\n"),
    ("a list as the whole file", "- listen: 127.0.0.1:80\n"),
    ("text as the whole file", "just some text\n"),
    ("an alias that contains itself", "models: &all\n  gpt: *all\n"),
    ("a merge of no mapping", "models:\n  gpt: { <<: [a], targets: [a/b] }\n"),
    ("an at sign", "data_dir: @home\n"),
    // Variables.
    ("a missing variable", "data_dir: ${NOWHERE}/data\n"),
    ("two missing variables in one value", "data_dir: ${NOWHERE}/${ELSEWHERE}\n"),
    ("a missing variable in a required place", "keys:\n  - name: a\n    value: ${NOWHERE}\n    models: [\"*\"]\n"),
    ("a missing file", "providers:\n  openai: { api_key: \"${file:/nowhere/at/all}\" }\nmodels: { m: {} }\n"),
    ("an unclosed variable", "data_dir: ${NAME\n"),
    ("a variable that is no name", "data_dir: ${NAME-default}\n"),
    ("a variable with the wrong content", "server: { max_in_flight: \"${NAME}\" }\n"),
    // What types do not say.
    ("an unknown kind", "providers:\n  big: { kind: opnai }\nmodels: { m: {} }\n"),
    ("a provider that is no vendor", "providers:\n  big: { api_key: x }\nmodels: { m: {} }\n"),
    ("a compatible provider without an address", "providers:\n  big: { kind: openai_compatible }\nmodels: { m: {} }\n"),
    ("a base URL with a query", "providers:\n  openai:\n    base_url: https://a.example/v1?key=x\nmodels: { m: {} }\n"),
    (
        "a base URL with a password",
        "providers:\n  openai: { base_url: \"https://u:canary@a.example\" }\nmodels: {m: }\n",
    ),
    ("an empty key", "providers:\n  openai:\n    api_key: ${EMPTY}\nmodels: { m: {} }\n"),
    ("one key and many", "providers:\n  openai: { api_key: canary1, api_keys: [canary2] }\nmodels: { m: {} }\n"),
    ("the same key twice", "providers:\n  openai: { api_keys: [canary1, canary1] }\nmodels: { m: {} }\n"),
    ("a key with a space", "providers:\n  openai: { api_key: canary and more }\nmodels: { m: {} }\n"),
    ("a provider without a key", "providers:\n  mistral:\nmodels: { m: {} }\n"),
    ("a provider's name with a slash", "providers:\n  a/b: { kind: mock }\nmodels: { m: {} }\n"),
    ("an address for the mock", "providers: { mock: { base_url: \"http://x\" } }\nmodels: { m: {} }\n"),
    ("headers that cannot be", "providers:\n  openai:\n    headers: { \"a b\": x, Host: y }\nmodels: { m: {} }\n"),
    ("a credential forwarded", "providers:\n  openai: { forward_headers: [X-Ok, Cookie, te] }\nmodels: { m: {} }\n"),
    ("a missing authority file", "providers:\n  openai: { ca_file: /nowhere/ca.pem }\nmodels: { m: {} }\n"),
    ("a missing certificate", "tls:\n  cert: /nowhere/tls.crt\n  key: /nowhere/tls.key\n"),
    ("limits of zero", "server: { max_body: 0, max_in_flight: 0, max_headers: 1KiB, read_timeout: 0s }\n"),
    ("absurd limits", "server: { max_connections: 99999999999, keepalive: 2d }\n"),
    ("a first output after the end", "timeout: { first_output: 2m, total: 1m }\n"),
    ("backoff the wrong way round", "retries: { base: 10s, max: 1s }\nhealth: { rest: 5m, max_rest: 1s }\n"),
    ("a level that is none", "log: { level: verbose }\n"),
    ("a short key", "keys:\n  - { name: a, value: canary, models: [x] }\n"),
    (
        "two keys of one name and value",
        "keys:\n  - { name: a, value: canary-canary-canary, models: [x] }\n  - { name: a, value: canary-canary-canary, \
         models: [] }\n",
    ),
    ("a ceiling that is no number", "models: { gpt: { targets: [a/b], ceilings: { max_tokens: lots } } }\n"),
    ("providers without models", "providers:\n  openai:\n"),
    ("models without providers", "models:\n  gpt: { targets: [a/b] }\n"),
];

#[test]
fn no_secret_is_shown_wherever_the_mistake_is() {
    let key = CANARY;
    let places = [
        format!("providers:\n  openai: {{ api_key: {key}, tragets: 1 }}\n"),
        format!("providers:\n  openai: {key}\n"),
        format!("providers: [{key}]\n"),
        format!("providers:\n  openai:\n    api_kye: {key}\n"),
        format!("providers:\n  openai:\n    api_key: [{key}]\n"),
        format!("providers:\n  openai:\n    api_keys: {key}\n"),
        format!("providers:\n  openai:\n    api_keys: {{ x: {key} }}\n"),
        format!("providers:\n  openai:\n    api_keys:\n    - {key}\n    - {key}\n"),
        format!("providers:\n  openai:\n    headers: {key}\n"),
        format!("providers:\n  openai:\n    headers: {{ authorization: [{key}] }}\n"),
        format!("providers:\n  openai:\n    api_key: \"{key}\n"),
        format!("providers:\n  openai:\n    api_key: |\n      {key}\n     x\n"),
        format!("providers:\n  openai: {{ api_key: {key}\n"),
        format!("keys:\n- {{ name: a, value: {key}, value: {key} }}\n"),
        format!("keys: {key}\n"),
        format!("key: {key}\n"),
        format!("listen: sk-{key}\n"),
        format!("providers:\n  openai:\n    base_url: ftp://me:{key}@a.example\n"),
    ];
    // A variable that holds a secret, used where something else belongs.
    let misused = [
        "listen: ${CANARY}",
        "data_dir: [\"${CANARY}\"]",
        "tls: ${CANARY}",
        "server: { max_in_flight: \"${CANARY}\", max_body: \"${CANARY}\", keepalive: \"${CANARY}\" }",
        "log: { calls: \"${CANARY}\", format: \"${CANARY}\" }",
        "retries:\n  max_share: ${CANARY}",
        "keys: [{ name: a, value: 0123456789abcdef, models: [x], expires: \"${CANARY}\" }]",
        "keys: [{ name: a, value: \"${CANARY} ${CANARY}\", models: [x] }]",
        "providers: { openai: { api_key: \"${CANARY} ${CANARY}\" } }",
        "providers: { openai: { base_url: \"${CANARY}\" } }",
    ];
    let misused = misused.iter().map(|&text| text.to_owned());
    for text in places.into_iter().chain(misused) {
        let found = complaints(&text);
        assert!(!found.is_empty(), "{text}");
        assert!(!found.contains("canary"), "{text}\n{found}");
    }
    let settings = parsed(&format!("providers: {{ openai: {{ api_key: {key}, headers: {{ a: {key} }} }} }}\n"));
    assert!(!format!("{settings:?}").contains("canary"));
    assert!(!format!("{:?}", env()).contains("canary"));
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
         models:\n  m:\n    overrides: { a: \"${NUMBER}\", b: '$${x}' }\n    defaults:\n      c: ${NUMBER}\n      d: ${EMPTY}\n",
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
        "models:\n  m:\n    overrides:\n      a: [1, -2, 1.5, 1e3, 0x1f, 18446744073709551615]\n      \
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
        "timeout: &t { connect: 1s }\nmodels:\n  a: &a { strategy: ordered, targets: [x/y], timeout: *t }\n  \
         b: { <<: *a, targets: [z/z] }\n",
    );
    let (a, b) = (&settings.models["a"], &settings.models["b"]);
    assert_eq!((a.strategy, a.timeout), (b.strategy, b.timeout));
    assert_eq!(b.targets[0].model, "z/z");

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
}

#[test]
fn later_stages_can_complain_about_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("switchboard.yaml");
    let text =
        "models:\n  gpt-5.5:\n    targets:\n      - model: nobody/gpt\n      - openai/gpt\nproviders: {openai: }\n";
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

fn load_nothing() -> Loaded {
    // No test folder has a configuration file of its own.
    load(None, &Environment::of::<&str, &str>([])).unwrap()
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

/// The text with every example taken into use: the `#` goes where no space follows it.
fn with_examples(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let rest = line.trim_start();
        let indent = &line[..line.len() - rest.len()];
        match rest.strip_prefix('#') {
            Some(example) if !example.is_empty() && !example.starts_with(' ') => format!("{indent}{example}\n"),
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

#[test]
fn the_defaults_file_is_the_defaults() {
    assert_eq!(parsed(DEFAULTS), Settings::default());
}

#[test]
fn the_examples_in_the_defaults_file_are_right_and_leave_nothing_out() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tls.crt", "tls.key", "ca.pem"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let text = with_examples(DEFAULTS).replace("/etc/switchboard", folder.path().to_str().unwrap());
    let variables = [("MISTRAL_KEY_1", "one"), ("MISTRAL_KEY_2", "two"), ("OPENAI_API_KEY", "three")];
    let env = Environment::of(variables.into_iter().chain([("RESEARCH_KEY", "0123456789abcdef")]));
    let settings = parse(&text, None, &env).unwrap_or_else(|complaints| panic!("{complaints}"));
    assert_eq!(settings.models.len(), 3);

    let written = {
        let mut paths = BTreeSet::new();
        paths_of_tree(&tree::read(&text).root.unwrap(), &mut Vec::new(), &mut paths);
        paths
    };
    let mut known = BTreeSet::new();
    paths_of_schema(settings_schema(), &mut Vec::new(), &mut known);
    let missing: Vec<_> = known.iter().filter(|path| !is_written(path, &written)).map(|path| spell(path)).collect();
    assert!(missing.is_empty(), "config/default.yaml does not mention: {missing:#?}");
    assert!(known.len() > 60, "the schema was not walked: {known:?}");
}

/// Whether some written path is this one; `*` stands for a name or a place of the operator's.
fn is_written(path: &[String], written: &BTreeSet<Vec<String>>) -> bool {
    let equal = |known: &String, found: &String| known == "*" || known == found;
    written.iter().any(|found| found.len() == path.len() && path.iter().zip(found).all(|(k, f)| equal(k, f)))
}

fn paths_of_tree(node: &Node, path: &mut Vec<String>, paths: &mut BTreeSet<Vec<String>>) {
    let mut step = |name: String, node: &Node| {
        path.push(name);
        paths.insert(path.clone());
        paths_of_tree(node, path, paths);
        path.pop();
    };
    match &node.content {
        Content::Map(entries) => entries.iter().for_each(|entry| step(entry.key.clone(), &entry.value)),
        Content::List(items) => items.iter().enumerate().for_each(|(index, item)| step(index.to_string(), item)),
        Content::Scalar { .. } => {}
    }
}

fn paths_of_schema(schema: &Value, path: &mut Vec<String>, paths: &mut BTreeSet<Vec<String>>) {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        paths_of_schema(settings_schema().pointer(&reference[1..]).unwrap(), path, paths);
    }
    for alternative in ["anyOf", "oneOf"].iter().filter_map(|name| schema.get(name)?.as_array()).flatten() {
        paths_of_schema(alternative, path, paths);
    }
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let properties = properties.map(|(name, schema)| (name.as_str(), schema));
    let free = ["items", "additionalProperties"].iter().filter_map(|name| schema.get(name));
    for (name, schema) in properties.chain(free.filter(|schema| schema.is_object()).map(|schema| ("*", schema))) {
        path.push(name.to_owned());
        paths.insert(path.clone());
        paths_of_schema(schema, path, paths);
        path.pop();
    }
}

const EXAMPLE: &str = include_str!("../../config/example.yaml");

fn example_env() -> Environment {
    let keys = ["OPENAI_API_KEY", "MISTRAL_KEY_1", "MISTRAL_KEY_2", "RESEARCH_KEY", "SUPPORT_KEY"];
    Environment::of(keys.map(|name| (name, format!("{name}-0123456789"))))
}

#[test]
fn the_example_file_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("example.yaml");
    fs::write(&file, EXAMPLE).unwrap();
    let loaded = load(Some(&file), &example_env()).unwrap_or_else(|complaints| panic!("{complaints}"));
    assert_eq!(loaded.warnings, Complaints::default());
    assert_eq!(loaded.summary(), "3 providers, 6 models, 2 aliases, 2 keys");
    assert_eq!(loaded.settings.models["assistant"].targets[0].weight, Some(9.0));
    assert_eq!(loaded.notes, ["provider openai: its key is in OPENAI_API_KEY"]);
}

#[test]
fn the_published_schema_accepts_the_files_that_are_accepted() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for text in
        [EXAMPLE, DEFAULTS, "server: { max_in_flight: \"${N:-100}\", max_body: 100 }\nlog: { format: \"${F}\" }\n"]
    {
        let instance = as_editors_see(&tree::read(text).root.unwrap());
        assert_eq!(check::validate(&schema, &schema, &instance), Ok(()), "{text}");
    }
    for text in
        ["lisen: x\n", "server: { max_body: huge }\n", "keys: [{ name: a }]\n", "log: { format: xml }\n", "models: 3\n"]
    {
        let instance = as_editors_see(&tree::read(text).root.unwrap());
        assert!(check::validate(&schema, &schema, &instance).is_err(), "{text}");
    }
}

/// The JSON that an editor's YAML parser makes of a file: variables stay text.
fn as_editors_see(node: &Node) -> Value {
    match &node.content {
        Content::Map(entries) => entries.iter().map(|e| (e.key.clone(), as_editors_see(&e.value))).collect(),
        Content::List(items) => items.iter().map(as_editors_see).collect(),
        Content::Scalar { .. } if node.is_null() => Value::Null,
        Content::Scalar { text, plain: true } => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
        Content::Scalar { text, plain: false } => text.as_str().into(),
    }
}

/// As much of JSON Schema as the published schema uses; an unknown keyword is an error, so that this cannot go stale.
mod check {
    use serde_json::Value;

    pub(super) fn validate(root: &Value, schema: &Value, instance: &Value) -> Result<(), String> {
        let Value::Object(members) = schema else {
            return if *schema == Value::Bool(true) { Ok(()) } else { Err("refused".into()) };
        };
        for (keyword, expected) in members {
            let fits = match keyword.as_str() {
                "$schema" | "$defs" | "title" | "description" | "format" | "default" => true,
                "$ref" => {
                    let target =
                        expected.as_str().and_then(|name| root.pointer(&name[1..])).ok_or("a reference to nothing")?;
                    return validate(root, target, instance);
                }
                "type" => types(expected).iter().any(|name| is_type(name, instance)),
                "anyOf" => alternatives(expected).any(|schema| validate(root, schema, instance).is_ok()),
                "oneOf" => {
                    alternatives(expected).filter(|schema| validate(root, schema, instance).is_ok()).count() == 1
                }
                "enum" => alternatives(expected).any(|word| word == instance),
                "const" => expected == instance,
                "minimum" => instance.as_f64().is_none_or(|number| Some(number) >= expected.as_f64()),
                "maximum" => instance.as_f64().is_none_or(|number| Some(number) <= expected.as_f64()),
                "required" => alternatives(expected)
                    .all(|name| instance.as_object().is_none_or(|object| object.contains_key(name.as_str().unwrap()))),
                "pattern" => instance.as_str().is_none_or(|text| matches(expected.as_str().unwrap(), text)),
                "items" => {
                    instance.as_array().is_none_or(|items| items.iter().all(|i| validate(root, expected, i).is_ok()))
                }
                "properties" | "additionalProperties" => match instance.as_object() {
                    Some(object) => {
                        object.iter().try_for_each(|(name, value)| member(root, schema, name, value)).map(|()| true)?
                    }
                    None => true,
                },
                other => return Err(format!("an unknown keyword: {other}")),
            };
            if !fits {
                return Err(format!("{keyword} {expected} does not fit {instance}"));
            }
        }
        Ok(())
    }

    fn member(root: &Value, schema: &Value, name: &str, value: &Value) -> Result<(), String> {
        let known = schema.get("properties").and_then(|properties| properties.get(name));
        let schema = known.or_else(|| schema.get("additionalProperties")).unwrap_or(&Value::Bool(true));
        validate(root, schema, value).map_err(|why| format!("{name}: {why}"))
    }

    fn alternatives(value: &Value) -> impl Iterator<Item = &Value> {
        value.as_array().unwrap().iter()
    }

    fn types(value: &Value) -> Vec<&str> {
        value.as_str().map(|name| vec![name]).unwrap_or_else(|| alternatives(value).filter_map(Value::as_str).collect())
    }

    fn is_type(name: &str, value: &Value) -> bool {
        match name {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("no such type: {other}"),
        }
    }

    /// The few patterns of the schema, by what they stand for.
    fn matches(pattern: &str, text: &str) -> bool {
        match pattern {
            r"\$\{.+\}" => text.contains("${") && text.contains('}'),
            period if period.contains("ms|s|m|h|d") => text.parse::<crate::types::Period>().is_ok(),
            size if size.contains("KiB") => text.parse::<crate::types::Size>().is_ok(),
            other => panic!("an unknown pattern: {other}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

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
