//! Broken files, and what is said about them.

use std::fs;

use super::{CANARY, env, parsed};
use crate::config::load;

/// Errors and warnings alike, as an operator reads them.
pub(super) fn complaints(text: &str) -> String {
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
    ("a missing authority file of Redis", "redis:\n  url: rediss://cache\n  ca_file: /nowhere/ca.pem\n"),
    ("an authority file of Redis that holds none", "redis:\n  url: rediss://cache\n  ca_file: /dev/null\n"),
    ("authorities without TLS", "redis:\n  url: redis://cache\n  ca_file: /dev/null\n"),
    ("a missing certificate", "tls:\n  cert: /nowhere/tls.crt\n  key: /nowhere/tls.key\n"),
    ("limits of zero", "server: { max_body: 0, max_in_flight: 0, max_headers: 1KiB, read_timeout: 0s }\n"),
    ("proxies that are none", "server: { trusted_proxies: [10.0.0.1/8] }\n"),
    ("every proxy", "server: { trusted_proxies: ['*'] }\n"),
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
