//! What must hold for any bytes whatsoever (`fuzz/src/lib.rs`), tried on documents that were nearly right: the fixtures of
//! the converters, changed at random. A few seconds of what `cargo fuzz` does for hours, without its feedback and with any
//! compiler.
//!
//! `SWITCHBOARD_FUZZ_ROUNDS` says how many inputs each property gets, `SWITCHBOARD_FUZZ_SEED` where the draw begins: a
//! failure names it, and the input.

#![expect(clippy::disallowed_methods, reason = "how long it runs is for whoever runs it to say")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

#[path = "../fuzz/src/lib.rs"]
#[expect(clippy::expect_used, reason = "a property fails by a panic")]
mod properties;

const ROUNDS: u64 = 400;
const LONGEST: usize = 64 * 1024;

/// What the formats' grammar is made of: spliced in, it gets further than noise does.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\n",
    "\r\n",
    "\n\n",
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "\\u0000",
    "\\ud800",
    "\\ud83d\\ude00",
    "\u{feff}",
    "ä",
    "\u{0}",
    "data: ",
    "event: ",
    "id: 1\n",
    ": ping\n\n",
    "[DONE]",
    "\"type\":",
    "\"index\":",
    "\"content\":",
    "\"text\"",
    "\"thinking\"",
    "\"redacted_thinking\"",
    "\"tool_use\"",
    "\"tool_result\"",
    "\"tool_calls\":",
    "\"signature\":",
    "\"cache_control\":{\"type\":\"ephemeral\"}",
    "\"usage\":",
    "\"message_start\"",
    "\"message_delta\"",
    "\"message_stop\"",
    "\"content_block_start\"",
    "\"content_block_delta\"",
    "\"content_block_stop\"",
    "\"input_json_delta\"",
    "\"finish_reason\":\"stop\"",
    "\"role\":\"system\"",
    "\"role\":\"tool\"",
    "\"error\":{\"message\":\"m\",\"type\":\"t\"}",
    "\"delta\":{}",
    "{}",
    "[]",
    "\"\"",
];

type Property = (&'static str, fn(&[u8]), &'static [&'static str]);

/// Each property, and the fixtures it begins with, by how their names end.
const PROPERTIES: &[Property] = &[
    ("envelope", properties::envelope, &["json"]),
    ("sse", properties::sse, &["sse"]),
    ("openai_stream", properties::openai_stream, &["sse", "json"]),
    ("tap", properties::tap, &["json"]),
    ("journal", properties::journal, &["json"]),
    ("request", properties::request, &["json"]),
    ("reply", properties::reply, &["json"]),
    ("stream", properties::stream, &["sse"]),
    ("error", properties::error, &["json"]),
];

#[test]
fn what_holds_for_any_bytes_holds_for_documents_that_are_nearly_right() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (rounds, seed) = (number("SWITCHBOARD_FUZZ_ROUNDS").unwrap_or(ROUNDS), number("SWITCHBOARD_FUZZ_SEED"));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wire/translate/fixtures");
    let mut documents: Vec<(String, Vec<u8>)> = std::fs::read_dir(fixtures)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.extension().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    documents.sort();
    for (name, property, kinds) in PROPERTIES {
        let seeds: Vec<&[u8]> =
            documents.iter().filter(|(kind, _)| kinds.contains(&&**kind)).map(|(_, bytes)| &**bytes).collect();
        assert!(!seeds.is_empty(), "{name}");
        for round in 0..rounds {
            let seed = seed.unwrap_or(0).wrapping_add(round);
            let mut random = fastrand::Rng::with_seed(seed);
            let input = changed(&mut random, &seeds);
            if catch_unwind(AssertUnwindSafe(|| property(&input))).is_err() {
                panic!("{name} does not hold with SWITCHBOARD_FUZZ_SEED={seed}: {:?}", String::from_utf8_lossy(&input));
            }
        }
    }
}

/// One of the documents, with a few changes.
fn changed(random: &mut fastrand::Rng, seeds: &[&[u8]]) -> Vec<u8> {
    let any = |random: &mut fastrand::Rng| seeds[random.usize(..seeds.len())];
    let mut bytes = any(random).to_vec();
    // What takes its first byte for a size of chunks gets any.
    bytes.insert(0, random.u8(..));
    if random.bool() {
        bytes.remove(0);
    }
    for _ in 0..random.usize(..8) {
        let (at, to) = (random.usize(..=bytes.len()), random.usize(..=bytes.len()));
        let (at, to) = (at.min(to), at.max(to));
        let short = to.min(at + random.usize(1..64));
        match random.u8(..8) {
            0 => drop(bytes.drain(at..short)),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, WORDS[random.usize(..WORDS.len())].bytes())),
            3 => drop(bytes.splice(at..short, WORDS[random.usize(..WORDS.len())].bytes())),
            4 => {
                let copy = bytes[at..to.min(at + 4_096)].to_vec();
                drop(bytes.splice(to..to, copy));
            }
            5 => {
                let other = any(random);
                let (from, until) = (random.usize(..=other.len()), random.usize(..=other.len()));
                let piece = &other[from.min(until)..from.max(until)];
                drop(bytes.splice(at..short, piece.iter().copied()));
            }
            6 => drop(bytes.drain(at..to)),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.u8(..8)),
        }
        bytes.truncate(LONGEST);
    }
    bytes
}
