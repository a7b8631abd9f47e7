//! `${VAR}`, `${VAR:-default}` and `${file:/run/secrets/x}` within values.
//!
//! Values are filled in after the YAML has been parsed, so that a secret which happens to hold `: ` or `#` stays one
//! value. `${VAR:-default}` takes the default when the variable is unset or empty, as a shell does. `$${` is a literal
//! `${`; a `$` elsewhere is a `$`. A default is taken as it stands: there is no `${…}` within it.

use std::path::Path;

use super::{complaint::quoted, environment::Environment, watch::Watch};

/// What came of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// There was nothing to fill in, not even an escape.
    Unchanged,
    Changed(String),
}

/// Why a value could not be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub message: String,
    pub help: Option<String>,
}

/// Fills in one value. Files that are read, or should be, are added to `watch`.
///
/// # Errors
/// Every variable or file that is missing, and every `${` that is not one of the three forms.
pub(super) fn fill(text: &str, env: &Environment, watch: &mut Watch) -> Result<Filled, Vec<Missing>> {
    if !text.contains("${") {
        return Ok(Filled::Unchanged);
    }
    let mut out = String::with_capacity(text.len());
    let mut missing = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        out.push_str(before);
        let Some(end) = from.find('}') else {
            missing.push(Missing { message: "`${` has no closing `}`".into(), help: Some(ESCAPE.into()) });
            break;
        };
        match value(&from[2..end], env, watch) {
            Ok(value) => out.push_str(&value),
            Err(problem) => missing.push(problem),
        }
        rest = &from[end + 1..];
    }
    out.push_str(rest);
    if missing.is_empty() { Ok(Filled::Changed(out)) } else { Err(missing) }
}

const ESCAPE: &str = "write `$${` where `${` itself is meant";

/// The value of what stands between the braces.
fn value(inner: &str, env: &Environment, watch: &mut Watch) -> Result<String, Missing> {
    if let Some(path) = inner.strip_prefix("file:") {
        watch.add(Path::new(path));
        return env.file(Path::new(path)).map_err(|why| Missing {
            message: format!("the file {} cannot be read: {why}", quoted(path)),
            help: None,
        });
    }
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let mut letters = name.chars();
    let starts_well = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        let help = format!("write ${{NAME}}, ${{NAME:-default}} or ${{file:/path}}; {ESCAPE}");
        return Err(Missing { message: "`${…}` does not hold the name of a variable".into(), help: Some(help) });
    }
    match (env.variable(name), default) {
        (Ok(Some(value)), None) => Ok(value),
        (Ok(Some(value)), Some(_)) if !value.is_empty() => Ok(value),
        (Ok(_), Some(default)) => Ok(default.to_owned()),
        (Ok(None), None) => Err(Missing {
            message: format!("the environment variable `{name}` is not set"),
            help: Some(format!("set it, or give it a default: ${{{name}:-default}}")),
        }),
        (Err(_), _) => {
            Err(Missing { message: format!("the environment variable `{name}` is not UTF-8 text"), help: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, Vec<String>> {
        let env = Environment::of([("A", "one"), ("EMPTY", ""), ("YAML", "x: {y} # \"z\"\n- ${A}")]);
        match fill(text, &env, &mut Watch::default()) {
            Ok(Filled::Unchanged) => Ok(text.to_owned()),
            Ok(Filled::Changed(text)) => Ok(text),
            Err(missing) => Err(missing.into_iter().map(|missing| missing.message).collect()),
        }
    }

    #[test]
    fn variables_defaults_and_escapes_are_filled_in() {
        let cases = [
            ("plain $A {A}", "plain $A {A}"),
            ("${A}", "one"),
            ("<${A}${A}>", "<oneone>"),
            ("${EMPTY}", ""),
            ("${EMPTY:-two}", "two"),
            ("${NONE:-}", ""),
            ("${NONE:-http://x:1/?a=-b}", "http://x:1/?a=-b"),
            ("$${A}", "${A}"),
            ("$$ $${A} ${A}", "$$ ${A} one"),
            ("${YAML}", "x: {y} # \"z\"\n- ${A}"),
            ("é${A}é", "éoneé"),
        ];
        for (text, expected) in cases {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn every_missing_variable_of_a_value_is_named() {
        let missing = filled("${ONE}-${A}-${TWO}").unwrap_err();
        assert_eq!(missing.len(), 2);
        assert!(missing[0].contains("`ONE`") && missing[1].contains("`TWO`"), "{missing:?}");
        for text in ["${", "${A", "${}", "${A-b}", "${1A}", "${A B}", "${file:/nowhere/at/all}", "${é}"] {
            assert!(filled(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_file_loses_its_trailing_line_breaks_and_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "s3cret \r\n\n").unwrap();
        let mut watch = Watch::default();
        let text = format!("Bearer ${{file:{}}}", path.display());
        let env = Environment::of::<&str, &str>([]);
        assert_eq!(fill(&text, &env, &mut watch), Ok(Filled::Changed("Bearer s3cret ".into())));
        assert_eq!(watch.files().collect::<Vec<_>>(), [path.as_path()]);

        std::fs::write(&path, vec![b'x'; 70_000]).unwrap();
        assert!(fill(&text, &env, &mut watch).is_err(), "a file of any size would be read into memory");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(fill(&text, &env, &mut watch).is_err());
    }
}
