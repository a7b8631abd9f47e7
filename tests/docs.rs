//! The texts against the code: every metric and error code is documented and every documented one exists, and the
//! configurations in the texts can be used.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the repository has failed")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use switchboard::{
    app,
    config::{self, Environment},
};

/// Where the gateway makes errors for clients.
const ERRORS_ARE_MADE_IN: [&str; 6] =
    ["src/gateway", "src/http", "src/auth", "src/accounting/charge.rs", "src/quotas/refused.rs", "src/error.rs"];

/// Below those places, what reads and answers questions to the ledger: its words are columns and members.
const ERRORS_ARE_NOT_MADE_IN: [&str; 2] = ["src/accounting/reconcile", "src/accounting/report"];

/// Words with an underscore in quotes in those places that are no codes: members of bodies, and OpenAI's error types.
const NO_CODES: [&str; 13] = [
    "api_error",
    "authentication_error",
    "count_tokens",
    "include_usage",
    "invalid_request_error",
    "max_tokens",
    "owned_by",
    "permission_error",
    "rate_limit_error",
    "service_tier",
    "service_unavailable_error",
    "stream_options",
    "timeout_error",
];

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let source = read("src/telemetry/metrics.rs");
    let listed = source.lines().filter(|line| line.starts_with("        pub ")).filter_map(|line| {
        let (_, name) = line.split_once(": ")?.1.split_once(" = \"")?;
        Some(format!("switchboard_{}", name.split('"').next()?))
    });
    let process = quoted(&source).into_iter().filter(|word| word.starts_with("process_"));
    let breakers = quoted(&source).into_iter().filter(|word| word == "breaker_state");
    let made: BTreeSet<String> =
        listed.chain(process).chain(breakers.map(|name| format!("switchboard_{name}"))).collect();
    assert!(made.len() > 20, "the list of metrics was not found: {made:?}");

    let told: BTreeSet<String> = first_column(&read("docs/operations.md"))
        .into_iter()
        .filter(|word| word.starts_with("switchboard_") || word.starts_with("process_"))
        .collect();
    same("metrics", "docs/operations.md", &made, &told);
}

#[test]
fn every_error_code_is_documented_and_every_documented_code_exists() {
    let mut made = BTreeSet::new();
    for place in ERRORS_ARE_MADE_IN {
        for file in files(&root().join(place), "rs") {
            if ERRORS_ARE_NOT_MADE_IN.iter().any(|place| file.starts_with(root().join(place))) {
                continue;
            }
            let tests = file.with_extension("").components().any(|step| step.as_os_str() == "tests");
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            made.extend(quoted(code).into_iter().filter(|word| !tests && word.contains('_')));
        }
    }
    for word in NO_CODES {
        assert!(made.remove(word), "`{word}` is not in the sources any more: take it out of NO_CODES");
    }
    assert!(made.len() > 30, "the codes were not found: {made:?}");
    let told = first_column(&read("docs/errors.md")).into_iter().filter(|word| word.contains('_')).collect();
    same("error codes", "docs/errors.md", &made, &told);
}

#[test]
fn the_configurations_in_the_texts_can_be_used() {
    let texts = files(&root().join("docs"), "md").into_iter().chain([root().join("README.md")]);
    let mut seen = 0;
    for file in texts {
        let text = fs::read_to_string(&file).unwrap();
        let blocks = blocks(&text, "```yaml").into_iter().filter(|(_, block)| !block.starts_with("# partial"));
        for (line, block) in blocks {
            seen += 1;
            let place = format!("{}:{line}", file.display());
            let env = Environment::of(variables(&block));
            let parsed = config::parse(&block, None, &env);
            assert!(parsed.is_ok(), "{place}: this cannot be used:\n{}", parsed.unwrap_err());
            // Targets lead somewhere only where both sides are in the block.
            if block.contains("providers:") && block.contains("models:") {
                let folder = tempfile::tempdir().unwrap();
                let file = folder.path().join("switchboard.yaml");
                fs::write(&file, &block).unwrap();
                let checked = config::load(Some(&file), &env).and_then(|loaded| app::check(&loaded));
                assert!(checked.is_ok(), "{place}: {}", checked.unwrap_err());
            }
        }
    }
    assert!(seen > 10, "only {seen} configurations were found");
}

#[test]
fn links_between_the_texts_lead_somewhere() {
    let mut texts = files(&root().join("docs"), "md");
    texts.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)));
    for file in texts {
        let text = fs::read_to_string(&file).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let local = !link.is_empty() && !link.contains("://");
            let target = file.parent().unwrap().join(link);
            assert!(!local || target.exists(), "{}: there is no {link}", file.display());
        }
    }
}

/// The first cell of each row of the tables in `text`, its words in backticks.
fn first_column(text: &str) -> BTreeSet<String> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Every stretch between two quotation marks in `text` that looks like a code: lower case, digits, underscores.
fn quoted(text: &str) -> Vec<String> {
    let is_word = |word: &&str| {
        let letters = word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        letters && word.starts_with(|c: char| c.is_ascii_lowercase()) && !word.ends_with('_')
    };
    text.split('"').filter(is_word).map(str::to_owned).collect()
}

/// The fenced blocks of `text` that begin with `fence`, and the line that each begins on.
fn blocks(text: &str, fence: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match &mut open {
            None if line.trim_end() == fence => open = Some((number + 1, String::new())),
            None => {}
            Some(_) if line.starts_with("```") => found.extend(open.take()),
            Some((_, block)) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    found
}

/// A value for each variable without a default that `text` names, each another.
fn variables(text: &str) -> Vec<(String, String)> {
    let names = text.split("${").skip(1).filter_map(|rest| rest.split('}').next());
    let plain = names.filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    plain.map(|name| (name.to_owned(), format!("value-of-{name}-0123456789"))).collect()
}

/// The files below `place`, or `place` itself, that end in `.extension`.
fn files(place: &Path, extension: &str) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries
        .flat_map(|path| if path.is_dir() { files(&path, extension) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

fn same(what: &str, file: &str, made: &BTreeSet<String>, told: &BTreeSet<String>) {
    let missing: Vec<_> = made.difference(told).collect();
    let invented: Vec<_> = told.difference(made).collect();
    assert!(missing.is_empty(), "{what} that {file} does not tell of: {missing:?}");
    assert!(invented.is_empty(), "{what} that {file} tells of and the code does not have: {invented:?}");
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
