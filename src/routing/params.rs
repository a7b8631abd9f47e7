//! Changes to request bodies, merged per target and ready to be written.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::settings;

/// The cap on output tokens: one parameter in two spellings.
pub const OUTPUT_CAP: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// Members that the gateway itself sets, so that settings cannot.
const OWN: [&str; 3] = ["model", "stream", "stream_options"];

/// Changes to request bodies for one target: the model's settings and the target's, the target's winning. Values are
/// the JSON text to write. No member is in two of the lists unless it has a default below its ceiling.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    /// Members set where the client did not.
    pub defaults: Vec<(Box<str>, Bytes)>,
    /// Numeric members lowered to this where the client asked for more; set where neither the client nor a default
    /// asked for anything.
    pub ceilings: Vec<(Box<str>, f64, Bytes)>,
    /// Members set whatever the client sent; `None` removes the member.
    pub overrides: Vec<(Box<str>, Option<Bytes>)>,
}

impl Params {
    /// Nothing to change.
    pub fn is_empty(&self) -> bool {
        self.defaults.is_empty() && self.ceilings.is_empty() && self.overrides.is_empty()
    }

    /// The most output tokens that the provider is told, when the client asks for so many at most: as the changes leave it.
    /// `None`: it is told nothing.
    pub fn output_cap(&self, asked: Option<u64>) -> Option<u64> {
        let is_cap = |name: &str| OUTPUT_CAP.contains(&name);
        let read = |value: &Bytes| std::str::from_utf8(value).ok()?.parse::<f64>().ok().map(|cap| cap.max(0.0) as u64);
        if let Some((_, value)) = self.overrides.iter().find(|(name, _)| is_cap(name)) {
            return value.as_ref().and_then(read);
        }
        let default = || self.defaults.iter().find(|(name, _)| is_cap(name)).and_then(|(_, value)| read(value));
        let ceiling =
            self.ceilings.iter().find(|(name, ..)| is_cap(name)).map(|(_, ceiling, _)| ceiling.max(0.0) as u64);
        match (asked.or_else(default), ceiling) {
            (Some(cap), Some(ceiling)) => Some(cap.min(ceiling)),
            (cap, ceiling) => cap.or(ceiling),
        }
    }

    /// Whether the output cap is taken out, because the provider knows none.
    pub fn takes_no_cap(&self) -> bool {
        self.overrides.iter().any(|(name, value)| OUTPUT_CAP.contains(&&**name) && value.is_none())
    }

    /// Merges the settings of a model and of one of its targets, both valid.
    pub(super) fn merge(model: &settings::Params, target: &settings::Params) -> Self {
        let overrides = overlay(&model.overrides, &target.overrides);
        let mut ceilings = overlay(&model.ceilings, &target.ceilings);
        let mut defaults = overlay(&model.defaults, &target.defaults);
        // What an override decides, nothing else needs to; a ceiling below the default is itself the default.
        ceilings.retain(|name, _| same(&overrides, name).is_none());
        defaults.retain(|name, value| {
            let above =
                same(&ceilings, name).zip(value.as_f64()).is_some_and(|(c, v)| c.as_f64().is_some_and(|c| v > c));
            same(&overrides, name).is_none() && !above
        });
        Self {
            defaults: defaults.into_iter().map(|(name, value)| (name.into(), text(&value))).collect(),
            ceilings: ceilings
                .into_iter()
                .filter_map(|(name, value)| Some((name.into(), value.as_f64()?, text(&value))))
                .collect(),
            overrides: overrides
                .into_iter()
                .map(|(name, value)| (name.into(), (!value.is_null()).then(|| text(&value))))
                .collect(),
        }
    }
}

/// What is wrong with `params`, each complaint with the map and member it is about.
pub(super) fn complaints(params: &settings::Params) -> Vec<([String; 2], String)> {
    let mut found = Vec::new();
    let maps = [("defaults", &params.defaults), ("ceilings", &params.ceilings), ("overrides", &params.overrides)];
    for (map, members) in maps {
        let mut complain = |member: &str, message: String| found.push(([map.to_owned(), member.to_owned()], message));
        for (name, value) in members {
            if OWN.contains(&name.as_str()) {
                complain(name, format!("`{name}` is set by the gateway and cannot be one of the `{map}`"));
            } else if map == "ceilings" && !value.is_number() {
                complain(name, format!("the ceiling of `{name}` must be a number, not {value}"));
            }
        }
        if let [one, other] = OUTPUT_CAP
            && members.contains_key(one)
            && members.contains_key(other)
        {
            complain(other, format!("`{one}` and `{other}` are one parameter in two spellings; write one of them"));
        }
    }
    found
}

/// `inner` over `outer`; an output cap in `inner` also replaces the other spelling in `outer`.
fn overlay(outer: &Map<String, Value>, inner: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = outer.clone();
    merged.retain(|name, _| same(inner, name).is_none());
    merged.extend(inner.clone());
    merged
}

/// The value of the member `name`, under either spelling if it is the output cap.
fn same<'m>(members: &'m Map<String, Value>, name: &str) -> Option<&'m Value> {
    if OUTPUT_CAP.contains(&name) {
        OUTPUT_CAP.iter().find_map(|spelling| members.get(*spelling))
    } else {
        members.get(name)
    }
}

fn text(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn params(defaults: Value, ceilings: Value, overrides: Value) -> settings::Params {
        let map = |value: Value| value.as_object().unwrap().clone();
        settings::Params { defaults: map(defaults), ceilings: map(ceilings), overrides: map(overrides) }
    }

    #[test]
    fn the_output_cap_is_what_the_provider_will_be_told() {
        let nothing = json!({});
        let cases = [
            (nothing.clone(), nothing.clone(), nothing.clone(), Some(7), Some(7)),
            (nothing.clone(), nothing.clone(), nothing.clone(), None, None),
            (json!({ "max_tokens": 100 }), nothing.clone(), nothing.clone(), None, Some(100)),
            (json!({ "max_tokens": 100 }), nothing.clone(), nothing.clone(), Some(7), Some(7)),
            (nothing.clone(), json!({ "max_tokens": 50 }), nothing.clone(), None, Some(50)),
            (nothing.clone(), json!({ "max_completion_tokens": 50 }), nothing.clone(), Some(70), Some(50)),
            (json!({ "max_tokens": 20 }), json!({ "max_tokens": 50 }), nothing.clone(), None, Some(20)),
            (nothing.clone(), nothing.clone(), json!({ "max_tokens": 9 }), Some(70), Some(9)),
            (nothing.clone(), nothing.clone(), json!({ "max_tokens": null }), Some(70), None),
        ];
        for (defaults, ceilings, overrides, asked, told) in cases {
            let merged = Params::merge(&params(defaults, ceilings, overrides), &settings::Params::default());
            assert_eq!(merged.output_cap(asked), told, "{merged:?} {asked:?}");
        }
    }

    /// The merged lists as text, for comparing.
    fn merged(model: &settings::Params, target: &settings::Params) -> String {
        let params = Params::merge(model, target);
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let mut words = Vec::new();
        words.extend(params.defaults.iter().map(|(name, value)| format!("default {name}={}", text(value))));
        words.extend(params.ceilings.iter().map(|(name, n, value)| format!("ceiling {name}={n}={}", text(value))));
        words.extend(params.overrides.iter().map(|(name, value)| match value {
            Some(value) => format!("override {name}={}", text(value)),
            None => format!("remove {name}"),
        }));
        words.join(", ")
    }

    #[test]
    fn the_targets_members_win_over_the_models() {
        let none = || json!({});
        let cases = [
            (params(none(), none(), none()), params(none(), none(), none()), ""),
            (
                params(json!({"temperature": 0.5, "top_p": 1}), none(), none()),
                params(json!({"temperature": 0.7}), none(), none()),
                "default temperature=0.7, default top_p=1",
            ),
            (
                params(json!({"max_tokens": 10}), none(), none()),
                params(json!({"max_completion_tokens": 20}), none(), none()),
                "default max_completion_tokens=20",
            ),
            (
                params(json!({"max_tokens": 8000}), none(), none()),
                params(none(), json!({"max_completion_tokens": 4000}), none()),
                "ceiling max_completion_tokens=4000=4000",
            ),
            (
                params(json!({"max_tokens": 100}), json!({"max_tokens": 4000}), none()),
                params(none(), none(), none()),
                "default max_tokens=100, ceiling max_tokens=4000=4000",
            ),
            (
                params(json!({"max_tokens": 100}), json!({"max_tokens": 4000}), none()),
                params(none(), none(), json!({"max_completion_tokens": null})),
                "remove max_completion_tokens",
            ),
            (
                params(none(), none(), json!({"user": "a", "metadata": {"a": [1, "é"]}})),
                params(none(), none(), json!({"user": null})),
                "override metadata={\"a\":[1,\"é\"]}, remove user",
            ),
        ];
        for (model, target, expected) in cases {
            assert_eq!(merged(&model, &target), expected);
        }
    }

    #[test]
    fn wrong_members_are_named_with_their_map() {
        let cases = [
            (params(json!({"model": "x"}), json!({}), json!({})), "defaults model"),
            (params(json!({}), json!({}), json!({"stream": true})), "overrides stream"),
            (params(json!({}), json!({"max_tokens": "4"}), json!({})), "ceilings max_tokens"),
            (params(json!({}), json!({"max_tokens": null}), json!({})), "ceilings max_tokens"),
            (
                params(json!({"max_tokens": 1, "max_completion_tokens": 1}), json!({}), json!({})),
                "defaults max_completion_tokens",
            ),
        ];
        for (params, expected) in cases {
            let found: Vec<String> = complaints(&params).iter().map(|(path, _)| path.join(" ")).collect();
            assert_eq!(found, [expected]);
        }
        let fine = params(json!({"max_tokens": 1}), json!({"max_completion_tokens": 2}), json!({"user": null}));
        assert_eq!(complaints(&fine), []);
    }
}
