//! What a schema allows in one place, with references and alternatives resolved.

use serde_json::Value;

/// What may stand in one place: at most one alternative of each type, which is how the settings are made.
#[derive(Default)]
pub(super) struct Allowed<'s> {
    pub anything: bool,
    pub null: bool,
    pub boolean: bool,
    pub string: Option<&'s Value>,
    pub number: Option<&'s Value>,
    pub integer: Option<&'s Value>,
    pub object: Option<&'s Value>,
    pub array: Option<&'s Value>,
    /// The words to choose from, where only certain words are allowed.
    pub words: Vec<&'s str>,
}

/// What `schema` allows; `root` holds the definitions that it refers to.
pub(super) fn allowed<'s>(root: &'s Value, schema: &'s Value) -> Allowed<'s> {
    let mut allowed = Allowed::default();
    allowed.add(root, schema, 0);
    allowed
}

/// Whether a value under `schema` can hold a secret.
pub(in crate::config) fn may_hold_secrets(root: &Value, schema: &Value) -> bool {
    fn look<'s>(root: &'s Value, schema: &'s Value, seen: &mut Vec<&'s str>) -> bool {
        match schema {
            Value::Object(members) => members.iter().any(|(name, member)| match (name.as_str(), member) {
                ("format", Value::String(format)) => format == "secret",
                ("$defs", _) => false,
                ("$ref", Value::String(reference)) if !seen.contains(&reference.as_str()) => {
                    seen.push(reference);
                    definition(root, reference).is_some_and(|schema| look(root, schema, seen))
                }
                _ => look(root, member, seen),
            }),
            Value::Array(items) => items.iter().any(|item| look(root, item, seen)),
            _ => false,
        }
    }
    look(root, schema, &mut Vec::new())
}

/// `#/$defs/Name`.
fn definition<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    root.pointer(reference.strip_prefix('#')?)
}

impl<'s> Allowed<'s> {
    fn add(&mut self, root: &'s Value, schema: &'s Value, depth: usize) {
        let Value::Object(members) = schema else {
            self.anything |= *schema == Value::Bool(true);
            return;
        };
        if depth > 8 {
            return;
        }
        if let Some(target) = members.get("$ref").and_then(Value::as_str).and_then(|name| definition(root, name)) {
            self.add(root, target, depth + 1);
        } else if let Some(Value::Array(alternatives)) = members.get("anyOf").or_else(|| members.get("oneOf")) {
            for alternative in alternatives {
                self.add(root, alternative, depth + 1);
            }
        } else if let Some(word) = members.get("const") {
            self.words.extend(word.as_str());
        } else if let Some(Value::Array(words)) = members.get("enum") {
            self.words.extend(words.iter().filter_map(Value::as_str));
            self.null |= words.contains(&Value::Null);
        } else {
            match members.get("type") {
                Some(Value::String(name)) => self.add_type(name, schema),
                Some(Value::Array(names)) => {
                    names.iter().filter_map(Value::as_str).for_each(|name| self.add_type(name, schema));
                }
                _ => self.anything = true,
            }
        }
    }

    fn add_type(&mut self, name: &str, schema: &'s Value) {
        match name {
            "null" => self.null = true,
            "boolean" => self.boolean = true,
            "string" => self.string = Some(schema),
            "number" => self.number = Some(schema),
            "integer" => self.integer = Some(schema),
            "object" => self.object = Some(schema),
            "array" => self.array = Some(schema),
            _ => {}
        }
    }

    /// The `format` of text: `secret`, `period`, `size`, `date-time`, `socket-address`.
    pub(super) fn format(&self) -> Option<&'s str> {
        self.string?.get("format")?.as_str()
    }

    pub(super) fn is_secret(&self) -> bool {
        self.format() == Some("secret")
    }

    pub(super) fn takes_scalars(&self) -> bool {
        self.boolean
            || self.string.is_some()
            || self.number.is_some()
            || self.integer.is_some()
            || !self.words.is_empty()
    }

    /// `a list`, `a duration such as 20s`, `text or a mapping`.
    pub(super) fn describe(&self) -> String {
        let text = match self.format() {
            Some("period") => "a duration such as 20s",
            Some("size") => "a size such as 64MiB",
            Some("dollars") => "dollars, not negative and with at most nine decimals, such as 2.50",
            Some("factor") => "a factor from 0 to 4000 such as 0.5",
            Some("hours") => "days and hours in UTC such as `mon-fri 00:00-06:30`",
            Some("date") => "a day such as 2027-01-31",
            Some("date-time") => "a time such as 2027-01-01T00:00:00Z",
            Some("address-range") => "192.0.2.7, 10.0.0.0/8 or 2001:db8::/32, with nothing behind the range's own bits",
            Some("socket-address") => "an address and port such as 127.0.0.1:8080",
            _ => "text",
        };
        let kinds = [
            (self.string.is_some(), text),
            (self.integer.is_some() && self.string.is_none(), "a whole number"),
            (self.number.is_some(), "a number"),
            (self.boolean, "true or false"),
            (!self.words.is_empty(), "one of its words"),
            (self.array.is_some(), "a list"),
            (self.object.is_some(), "a mapping"),
        ];
        let kinds: Vec<_> = kinds.iter().filter(|(allowed, _)| *allowed).map(|(_, kind)| *kind).collect();
        kinds.join(" or ")
    }
}
