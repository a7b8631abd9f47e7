//! The tree held against the schema: every unknown key, wrong type, unknown word and missing setting is found in one
//! pass, `${…}` is filled in, and what remains is a JSON value that the settings can be read from.
//!
//! The schema decides what a scalar means. `max_in_flight: ${N:-100}` is a number because a number belongs there;
//! `value: 0123` stays text because text belongs there. Where the schema allows anything (`overrides`), YAML's core
//! schema decides. Only the parts of JSON Schema that the settings' derives produce are understood here.

mod allowed;
mod scalar;

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{
    complaint::{nearest, quoted, suggestion},
    document::place,
    environment::Environment,
    interpolate::{Filled, fill},
    tree::{Content, Entry, Flaw, Node, Range},
    watch::Watch,
};
pub(super) use allowed::may_hold_secrets;
use allowed::{Allowed, allowed};
use scalar::Scalar;

/// What came of the walk.
pub(super) struct Conformed {
    /// What could be made sense of. A setting with a flaw is left out, with as much around it as cannot do without it.
    pub value: Value,
    pub flaws: Vec<Flaw>,
    /// What holds secrets, or might.
    pub hidden: Vec<Range>,
}

/// Holds `root` against `schema`, the JSON Schema of the settings. Secret files that are read, or should be, are added
/// to `watch`.
pub(super) fn conform(root: Option<&Node>, schema: &Value, env: &Environment, watch: &mut Watch) -> Conformed {
    let mut walk = Walk { schema, env, watch, path: Vec::new(), flaws: Vec::new(), hidden: Vec::new() };
    let value = root.and_then(|root| walk.node(root, None, schema));
    let value = value.unwrap_or_else(|| Value::Object(Map::new()));
    Conformed { value, flaws: walk.flaws, hidden: walk.hidden }
}

struct Walk<'a> {
    /// The root of the schema, which holds the definitions.
    schema: &'a Value,
    env: &'a Environment,
    watch: &'a mut Watch,
    path: Vec<String>,
    flaws: Vec<Flaw>,
    hidden: Vec<Range>,
}

impl<'a> Walk<'a> {
    /// The JSON value of `node`, or `None` after a complaint about it.
    fn node(&mut self, node: &Node, key: Option<Range>, schema: &'a Value) -> Option<Value> {
        let allowed = allowed(self.schema, schema);
        let hidden = (allowed.is_secret() && !is_reference(node)) || scalar_text(node).is_some_and(looks_secret);
        if hidden {
            self.hidden.push(node.range);
        }
        match &node.content {
            _ if allowed.anything => self.anything(node, key),
            Content::Map(entries) => match allowed.object {
                Some(schema) => self.object(entries, place(key, node), schema),
                None => self.wrong_kind(node, key, &allowed, "a mapping"),
            },
            Content::List(items) => match allowed.array {
                Some(schema) => self.array(items, schema),
                None => self.wrong_kind(node, key, &allowed, "a list"),
            },
            Content::Scalar { .. } if node.is_null() => self.nothing(node, key, &allowed),
            Content::Scalar { text, plain } => {
                let (text, filled) = self.filled(text, node.range)?;
                match (Scalar { text: &text, plain: *plain, filled, hidden }).read(&allowed) {
                    Ok(value) => Some(value),
                    Err(_) if !allowed.takes_scalars() => self.wrong_kind(node, key, &allowed, "text"),
                    Err(problem) => self.refuse(place(key, node), problem.message, problem.help),
                }
            }
        }
    }

    /// A value where nothing is written. A section is empty when all of it is commented out: it says nothing, too.
    fn nothing(&mut self, node: &Node, key: Option<Range>, allowed: &Allowed<'a>) -> Option<Value> {
        if allowed.null {
            return Some(Value::Null);
        }
        if let Some(schema) = allowed.object {
            return self.object(&[], place(key, node), schema);
        }
        if allowed.array.is_some() {
            return Some(Value::Array(Vec::new()));
        }
        let help = format!("write {}, or remove it", allowed.describe());
        self.refuse(place(key, node), "nothing is written here", Some(help))
    }

    /// A mapping; `None` when a member that it cannot do without is missing or flawed.
    fn object(&mut self, entries: &[Entry], at: Range, schema: &'a Value) -> Option<Value> {
        let known = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties").unwrap_or(&Value::Bool(true));
        let mut object = Map::new();
        for entry in entries {
            self.path.push(entry.key.clone());
            let value = match known.and_then(|known| known.get(&entry.key)) {
                Some(schema) => self.node(&entry.value, Some(entry.key_range), schema),
                None if *others == Value::Bool(false) => self.unknown(entry, known, schema),
                None => {
                    self.refuse_variables(entry);
                    self.node(&entry.value, Some(entry.key_range), others)
                }
            };
            if let Some(value) = value {
                object.insert(entry.key.clone(), value);
            }
            self.path.pop();
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let mut whole = true;
        for name in required {
            whole &= object.contains_key(name);
            // A misspelled member is not missed, too.
            if !entries.iter().any(|entry| entry.key == name || nearest(&entry.key, [name]).is_some()) {
                self.refuse(at, format!("{} is missing", quoted(name)), None);
            }
        }
        whole.then_some(Value::Object(object))
    }

    /// A list; `None` when any of its items is flawed, because the others' places would shift.
    fn array(&mut self, items: &[Node], schema: &'a Value) -> Option<Value> {
        let schema = schema.get("items").unwrap_or(&Value::Bool(true));
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.path.push(index.to_string());
            values.extend(self.node(item, None, schema));
            self.path.pop();
        }
        (values.len() == items.len()).then_some(Value::Array(values))
    }

    /// A value where the settings allow any JSON: YAML's core schema says what it is.
    fn anything(&mut self, node: &Node, key: Option<Range>) -> Option<Value> {
        match &node.content {
            Content::Scalar { text, plain } => {
                let (text, filled) = self.filled(text, node.range)?;
                match (Scalar { text: &text, plain: *plain, filled, hidden: false }).untyped() {
                    Ok(value) => Some(value),
                    Err(problem) => self.refuse(place(key, node), problem.message, problem.help),
                }
            }
            Content::List(items) => self.array(items, &Value::Bool(true)),
            Content::Map(entries) => self.object(entries, place(key, node), &Value::Bool(true)),
        }
    }

    /// `text` with its variables filled in, and whether it had any.
    fn filled<'t>(&mut self, text: &'t str, at: Range) -> Option<(Cow<'t, str>, bool)> {
        match fill(text, self.env, self.watch) {
            Ok(Filled::Unchanged) => Some((Cow::Borrowed(text), false)),
            Ok(Filled::Changed(text)) => Some((Cow::Owned(text), true)),
            Err(missing) => {
                for missing in missing {
                    self.refuse(at, missing.message, missing.help);
                }
                None
            }
        }
    }

    fn unknown(&mut self, entry: &Entry, known: Option<&Map<String, Value>>, schema: &'a Value) -> Option<Value> {
        // A misspelled `api_key` is still followed by a key.
        if may_hold_secrets(self.schema, schema) {
            self.hidden.push(entry.value.range);
        }
        let names: Vec<&str> = known.into_iter().flat_map(|known| known.keys().map(String::as_str)).collect();
        let help = suggestion(&entry.key, &names);
        self.refuse(entry.key_range, format!("unknown key {}", quoted(&entry.key)), help)
    }

    fn refuse_variables(&mut self, entry: &Entry) {
        if entry.key.contains("${") {
            let help = Some("variables work in values alone".to_owned());
            self.refuse(entry.key_range, "a key cannot hold a variable", help);
        }
    }

    fn wrong_kind(&mut self, node: &Node, key: Option<Range>, allowed: &Allowed<'a>, found: &str) -> Option<Value> {
        // `openai: sk-…` where `openai: { api_key: sk-… }` was meant.
        let schemas = [allowed.object, allowed.array];
        if schemas.iter().flatten().any(|schema| may_hold_secrets(self.schema, schema)) {
            self.hidden.push(node.range);
        }
        self.refuse(place(key, node), format!("expected {}, found {found}", allowed.describe()), None)
    }

    fn refuse(&mut self, at: Range, message: impl Into<String>, help: Option<String>) -> Option<Value> {
        self.flaws.push(Flaw::error(at, &self.path, message, help));
        None
    }
}

fn scalar_text(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Scalar { text, .. } => Some(text),
        Content::List(_) | Content::Map(_) => None,
    }
}

/// Whether `node` only names the place of a secret: `${NAME}`, `${file:…}`, but not a default in clear.
fn is_reference(node: &Node) -> bool {
    let inner = scalar_text(node).and_then(|text| text.strip_prefix("${")?.strip_suffix('}'));
    inner.is_some_and(|inner| !inner.contains(":-") && !inner.contains(['$', '{', '}']))
}

/// Whether text holds a secret wherever it stands: a URL with a password in it, or what looks like a provider's key.
pub(super) fn looks_secret(text: &str) -> bool {
    let authority = text.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    authority.is_some_and(|authority| authority.contains('@'))
        || words.any(|word| word == "Bearer" || word.starts_with("sk-"))
}
