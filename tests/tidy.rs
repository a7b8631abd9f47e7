//! The house rules that neither the compiler nor clippy keeps: which module may import which, how long a file may be,
//! what opens it and what never stands in it. The sources are read as text, so nothing of the gateway is built for it.
//!
//! A failure lists every offence with file and line, and says what to do about it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot read the repository has failed")]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// Which module may import what, from the ground up. A module may only import from those above it in this list, so no
/// table that passes can have a cycle. `a` opens the whole of module `a`, `a::b` only what is in or under `a::b`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("error", &["types"]),
    ("wire", &["types", "error"]),
    ("mock", &["types", "wire"]),
    ("catalog", &["types", "error"]),
    ("store", &["types", "error"]),
    ("telemetry", &["types", "error"]),
    ("shared", &["types", "error", "telemetry"]),
    ("quotas", &["types", "error", "telemetry", "store", "shared"]),
    ("upstream", &["types", "error", "wire::Pieces"]),
    ("providers", &["types", "error", "wire"]),
    ("accounting", &["types", "error", "wire", "catalog", "store", "telemetry", "quotas", "providers::Operation"]),
    ("auth", &["types", "error", "store", "quotas"]),
    ("routing", &["types", "error", "providers"]),
    (
        "gateway",
        &[
            "types",
            "error",
            "wire",
            "catalog",
            "store::ledger",
            "telemetry",
            "upstream",
            "providers",
            "quotas",
            // An allowance of a stream holds what was set aside for it while it is asked for.
            "shared::Hold",
            // What is remembered of reasoning is told to replicas.
            "shared::Shared",
            "accounting",
            "auth",
            "routing",
        ],
    ),
    // The surface knows no provider and opens no connection: it names the operation and joins the pieces of a body. The
    // admin API asks the store, through the questions of `accounting::report`.
    (
        "http",
        &[
            "types",
            "error",
            "wire",
            "store",
            "telemetry",
            "upstream::Gathered",
            "providers::Operation",
            "quotas",
            "accounting::report",
            "auth",
            "routing",
            "gateway",
        ],
    ),
    // The file is the settings of the parts under one roof, not the parts themselves.
    (
        "config",
        &[
            "types",
            "error",
            "catalog",
            "store::settings",
            "telemetry::settings",
            "providers",
            "quotas",
            "accounting::settings",
            "auth::settings",
            "auth::labels",
            "shared::settings",
            "routing::settings",
            "routing::pattern",
            "routing::Routes",
            "routing::BuildError",
            "http::settings",
            "upstream::FetchSettings",
        ],
    ),
    // Prices of the operator's are fetched and held against the schema of price files.
    ("refresh", &["types", "catalog", "upstream", "config::Complaints", "config::read_prices"]),
    // The composition root: what is put together is seen here and nowhere else.
    (
        "app",
        &[
            "types",
            "error",
            "wire",
            "mock",
            "catalog",
            "store",
            "telemetry",
            "shared",
            "upstream",
            "providers",
            "quotas",
            "accounting",
            "auth",
            "routing",
            "gateway",
            "http",
            "config",
            "refresh",
        ],
    ),
    (
        "cli",
        &[
            "types",
            "error",
            "mock",
            "catalog",
            "store",
            "upstream",
            "quotas::settings",
            "accounting::reconcile",
            "accounting::report",
            "auth",
            "shared::settings",
            "routing::settings",
            "http::Phase",
            "http::openapi",
            "config",
            "app",
        ],
    ),
    ("main", &["cli"]),
];

/// The longest file that can still be read in one go. A longer one holds two ideas.
const MAX_LINES: usize = 600;

/// What no source holds, and what to do instead.
const BANNED: &[(&str, &str)] = &[
    ("todo!", "finish it, or leave it out"),
    ("unimplemented!", "finish it, or return an error"),
    ("dbg!", "use tracing, or remove it"),
    ("unsafe", "find a safe way: the gateway has no other"),
];

#[test]
fn imports_point_one_way() {
    let mut offences = Vec::new();
    for source in sources() {
        let module = source.module();
        let Some((_, doors)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            offences.push(format!("{}: module `{module}` has no row in MAY_IMPORT", source.path));
            continue;
        };
        for (line, import) in source.imports() {
            let within =
                |place: &str| import.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
            if !within(module) && !doors.iter().any(|door| within(door)) {
                offences.push(format!("{}:{line}: {module} imports {import}", source.path));
            }
        }
    }
    none(
        &offences,
        "imports go down the house only. Move what both need into the lowest module that knows it, or hand it in from \
         above; a new door in MAY_IMPORT (tests/tidy.rs) needs a reason in ARCHITECTURE.md",
    );
}

#[test]
fn the_table_of_imports_has_no_cycle() {
    for (index, (module, doors)) in MAY_IMPORT.iter().enumerate() {
        for door in *doors {
            let root = door.split("::").next().unwrap();
            let above = MAY_IMPORT[..index].iter().any(|(name, _)| *name == root);
            assert!(above, "MAY_IMPORT lets `{module}` import `{root}`, which does not stand above it");
        }
    }
}

#[test]
fn a_file_is_short_and_says_what_it_is_for() {
    let mut offences = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            offences
                .push(format!("{}: {lines} lines; split it at its second idea, or move its tests out", source.path));
        }
        if !source.text.starts_with("//!") {
            offences.push(format!("{}:1: open the file with `//!` and what it is for", source.path));
        }
    }
    none(&offences, "a file has at most 600 lines and begins with its documentation");
}

#[test]
fn nothing_is_left_half_done_or_unsafe() {
    let mut offences = Vec::new();
    for source in sources() {
        for (line, text) in (1..).zip(without_words(&source.text).lines()) {
            for (word, instead) in BANNED.iter().filter(|(word, _)| positions(text, word).next().is_some()) {
                offences.push(format!("{}:{line}: `{word}`: {instead}", source.path));
            }
        }
    }
    none(&offences, "some things do not stand in a source");
}

#[test]
fn the_architecture_names_every_folder() {
    let Ok(architecture) = fs::read_to_string(root().join("ARCHITECTURE.md")) else { return };
    let mut offences = BTreeSet::new();
    for source in sources() {
        if let Some((folder, _)) = source.path.trim_start_matches("src/").split_once('/')
            && !architecture.contains(&format!("{folder}/"))
        {
            offences.insert(format!("src/{folder}/"));
        }
    }
    none(&offences.into_iter().collect::<Vec<_>>(), "ARCHITECTURE.md has a sentence on every folder of src; add these");
}

#[test]
fn no_tracked_file_knows_the_machine_it_was_written_on() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    // Without git, as in an unpacked archive, nothing is tracked.
    let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else { return };
    let home = env!("CARGO_MANIFEST_DIR");
    let mut offences = Vec::new();
    for path in String::from_utf8(listed.stdout).unwrap().split_terminator('\0') {
        let Ok(text) = fs::read_to_string(root().join(path)) else { continue };
        for (line, text) in (1..).zip(text.lines()) {
            // The second form is any developer's home; the names in documentation are not anyone's.
            if text.contains(home) || ["/home/", "/Users/"].iter().any(|base| is_someones(text, base)) {
                offences.push(format!("{path}:{line}: {}", text.trim()));
            }
        }
    }
    none(&offences, "write paths relative to the repository, or as a placeholder such as $HOME");
}

/// A file under `src`.
struct Source {
    /// Relative to the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The top-level module it belongs to: `wire` for `src/wire/sse.rs`.
    fn module(&self) -> &str {
        let inner = self.path.trim_start_matches("src/");
        inner.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// What it imports from this crate outside its tests: the line, and the path without `crate::`.
    fn imports(&self) -> Vec<(usize, String)> {
        let text = without_tests(&without_words(&self.text));
        let name = if self.module() == "main" { "switchboard" } else { "crate" };
        let mut found = Vec::new();
        for position in positions(&text, &format!("{name}::")) {
            let line = 1 + text[..position].matches('\n').count();
            let tail = &text[position + name.len() + 2..];
            found.extend(leaves(tail).into_iter().map(|path| (line, path)));
        }
        for (position, depth) in climbs(&text) {
            if depth >= self.depth() {
                let line = 1 + text[..position].matches('\n').count();
                found.push((line, "something by climbing out with `super`: write `crate::`".to_owned()));
            }
        }
        found
    }

    /// How many `super` lead from the file's own module to the root of the crate.
    fn depth(&self) -> usize {
        self.path.trim_start_matches("src/").trim_end_matches("/mod.rs").split('/').count()
    }
}

/// Every file under `src` but the map (`lib.rs`) and the files that hold only tests.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join("src"), &mut found);
    let tests: Vec<String> = found.iter().flat_map(test_modules).collect();
    found.retain(|source| {
        let of_tests =
            |module: &String| source.path == format!("{module}.rs") || source.path.starts_with(&format!("{module}/"));
        source.path != "src/lib.rs" && !tests.iter().any(of_tests)
    });
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            found.push(Source { path: relative, text: fs::read_to_string(&path).unwrap() });
        }
    }
}

/// The modules in files of their own that a file declares for tests only: `src/mock/tests`.
fn test_modules(source: &Source) -> Vec<String> {
    let folder = source.path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
    let declared = source.text.split("#[cfg(test)]").skip(1).filter_map(|rest| {
        let (head, _) = rest.split_once(';')?;
        head.trim().trim_start_matches("pub(crate) ").strip_prefix("mod ")
    });
    declared.filter(|name| is_word(name)).map(|name| format!("{folder}/{name}")).collect()
}

/// The paths that a use tree after `crate::` names: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim_start();
    let Some(group) = tree.strip_prefix('{') else {
        let word = &tree[..tree.find(|c: char| !is_letter(c)).unwrap_or(tree.len())];
        return match tree[word.len()..].strip_prefix("::") {
            Some(rest) => {
                let below = leaves(rest).into_iter();
                below
                    .map(
                        |leaf| {
                            if leaf.is_empty() || leaf == "self" { word.to_owned() } else { format!("{word}::{leaf}") }
                        },
                    )
                    .collect()
            }
            None => vec![word.to_owned()],
        };
    };
    let (mut found, mut depth, mut start) = (Vec::new(), 0, 0);
    for (index, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                let item = group[start..index].trim();
                if !item.is_empty() {
                    found.extend(leaves(item));
                }
                start = index + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

/// Where a chain of `super::` begins, and how many there are.
fn climbs(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut end = 0;
    for position in positions(text, "super::") {
        if position >= end {
            let depth = text[position..].split("super::").take_while(|between| between.is_empty()).count();
            end = position + depth * "super::".len();
            found.push((position, depth));
        }
    }
    found
}

/// Where `word` stands in `text` as a word of its own.
fn positions<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let ends_open = word.ends_with(is_letter);
    text.match_indices(word).map(|(position, _)| position).filter(move |position| {
        let before = !text[..*position].ends_with(is_letter);
        let after = !(ends_open && text[position + word.len()..].starts_with(is_letter));
        before && after
    })
}

/// The code alone: comments and the contents of string and character literals become blanks, lines stay lines.
fn without_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let previous_is_letter = out.ends_with(is_letter);
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            'r' | 'b' | 'c' if !previous_is_letter => raw_string(rest).unwrap_or(0),
            '"' => string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    out
}

/// The length of the block comment that `text` begins with; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of the raw string that `text` begins with, if it does: `r"…"`, `br#"…"#`.
fn raw_string(text: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"]
        .into_iter()
        .find(|prefix| text.strip_prefix(prefix).is_some_and(|rest| rest.trim_start_matches('#').starts_with('"')))?;
    let hashes = text[prefix.len()..].find('"')?;
    let start = prefix.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text[start..].find(&end).map_or(text.len(), |length| start + length + end.len()))
}

/// The length of the string that `text` begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the character literal that `text` begins with; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut inner = text.char_indices().skip(1);
    match inner.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(0, |length| 3 + length + 1),
        Some(_) => inner.next().filter(|(_, c)| *c == '\'').map_or(0, |(index, _)| index + 1),
        None => 0,
    }
}

/// `code` without the items under `#[cfg(test)]`, which become blanks. Its literals must be blank already.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let (mut depth, mut end) = (0_usize, out.len());
        for (index, c) in out[start..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(c, '}' | ';') {
                end = start + index + 1;
                break;
            }
        }
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// Whether `text` names a folder of a person under `base`, and not a place in a container or an example.
fn is_someones(text: &str, base: &str) -> bool {
    text.match_indices(base).any(|(position, _)| {
        let absolute = !text[..position].ends_with(|c: char| is_letter(c) || matches!(c, '.' | '-' | '~' | '}'));
        let name: String = text[position + base.len()..].chars().take_while(|c| is_letter(*c)).collect();
        absolute && !name.is_empty() && !["nonroot", "user", "you"].contains(&name.as_str())
    })
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_letter)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn none(offences: &[String], rule: &str) {
    if !offences.is_empty() {
        panic!("{rule}:\n  {}\n", offences.join("\n  "));
    }
}

#[test]
fn the_reader_of_sources_sees_code_and_nothing_else() {
    let text = r###"
use crate::{error::{self, Error}, types::Clock};
use super::super::store;
// use crate::comment;
/* crate::a /* crate::b */ */
const A: &str = "crate::c \" // ";
const B: &str = r#"crate::d "quoted" "#;
const C: char = '"';
const D: char = '\'';
fn f<'a>(x: &'a str) -> crate::wire::Frame { x }
#[cfg(test)]
mod tests { use crate::e; fn g() { if true {} } }
fn h() { $crate::http::serve(); mycrate::nothing() }
"###;
    let source = Source { path: "src/gateway/call.rs".into(), text: text.into() };
    let found: Vec<_> = source.imports().into_iter().map(|(line, path)| format!("{line} {path}")).collect();
    let climb = "3 something by climbing out with `super`: write `crate::`";
    assert_eq!(found, ["2 error", "2 error::Error", "2 types::Clock", "10 wire::Frame", "13 http::serve", climb]);
}
