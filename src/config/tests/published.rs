//! The files and the schema that are given to operators.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use super::{json_schema::validate, parsed};
use crate::config::{
    Complaints, DEFAULTS, Environment, Settings,
    document::spell,
    load, parse,
    schema::{schema, settings_schema},
    tree::{self, Content, Node},
};

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
    for name in ["tls.crt", "tls.key", "ca.pem", "prices.yaml"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let authority = rcgen::generate_simple_self_signed(["cache".to_owned()]).unwrap();
    fs::write(folder.path().join("redis-ca.pem"), authority.cert.pem()).unwrap();
    let text = with_examples(DEFAULTS).replace("/etc/switchboard", folder.path().to_str().unwrap());
    let variables = [("MISTRAL_KEY_1", "one"), ("MISTRAL_KEY_2", "two"), ("OPENAI_API_KEY", "three")];
    let env = Environment::of(variables.into_iter().chain([
        ("RESEARCH_KEY", "0123456789abcdef"),
        ("ADMIN_KEY", "fedcba9876543210"),
        ("SENTINEL_PASSWORD", "four"),
        ("HOOK_TOKEN", "token"),
    ]));
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
        // These repeat the rates of a price; the guide explains them.
        if ["CardEntry", "StepEntry", "HoursEntry", "LaterEntry"].iter().any(|name| reference.ends_with(name)) {
            return;
        }
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

pub(super) const EXAMPLE: &str = include_str!("../../../config/example.yaml");

pub(super) fn example_env() -> Environment {
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
        assert_eq!(validate(&schema, &schema, &instance), Ok(()), "{text}");
    }
    for text in
        ["lisen: x\n", "server: { max_body: huge }\n", "keys: [{ name: a }]\n", "log: { format: xml }\n", "models: 3\n"]
    {
        let instance = as_editors_see(&tree::read(text).root.unwrap());
        assert!(validate(&schema, &schema, &instance).is_err(), "{text}");
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
