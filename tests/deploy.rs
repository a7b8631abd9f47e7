//! The files in `deploy/`, the image and the unit against the binary they are for: a metric that was renamed or a flag
//! that is gone would otherwise be noticed by whoever needs the dashboard or starts the container.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot read the repository has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use clap::Parser;
use serde_json::Value;
use switchboard::{
    cli::Cli,
    telemetry::{
        Metrics, Outcome,
        metrics::{BreakerSample, BreakerState},
    },
    types::{Nanos, Usage},
};

/// The labels that Prometheus itself adds to each series.
const ADDED: [&str; 2] = ["instance", "job"];

#[test]
fn every_series_that_the_dashboard_and_the_alerts_read_exists() {
    let known = series();
    let words: BTreeSet<&str> = Outcome::ALL.into_iter().map(Outcome::as_str).collect();
    let mut read = 0;
    for (place, query) in queries() {
        for (name, matchers) in selectors(&query) {
            read += 1;
            let labels = known.get(name).unwrap_or_else(|| missing(&place, name, &query));
            for (label, value) in matchers {
                assert!(
                    labels.contains(label) || ADDED.contains(&label),
                    "{place}: {name} has no label {label}, but {labels:?}: {query}"
                );
                if ["outcome", "class"].contains(&label) {
                    let unknown: Vec<_> = value.split('|').filter(|word| !words.contains(word)).collect();
                    assert!(unknown.is_empty(), "{place}: no outcome is called {unknown:?}: {query}");
                }
            }
        }
    }
    assert!(read > 60, "only {read} selectors were found, so this test reads the files wrongly");
}

#[test]
fn the_command_lines_of_the_image_and_the_unit_are_understood() {
    let image = read("Dockerfile");
    let words = |line: &str| serde_json::from_str::<Vec<String>>(&line[line.find('[').unwrap()..]).unwrap();
    let start = image.lines().find(|line| line.starts_with("CMD [")).map(words).unwrap();
    let check = image.lines().find(|line| line.starts_with("HEALTHCHECK")).map(words).unwrap();
    let entry = image.lines().find(|line| line.starts_with("ENTRYPOINT")).map(words).unwrap();
    let unit = read("deploy/systemd/switchboard.service");
    let unit = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let unit: Vec<String> = unit.split_whitespace().map(str::to_owned).collect();
    for line in [[entry, start].concat(), check, unit] {
        assert!(line[0].ends_with("/switchboard"), "{line:?}");
        if let Err(error) = Cli::try_parse_from(&line) {
            panic!("{line:?}: {error}");
        }
    }
}

fn missing(place: &str, name: &str, query: &str) -> ! {
    panic!("{place}: no metric is called {name} (or this test does not sample it): {query}")
}

/// The name of every series of the gateway with the names of its labels. A series appears with its first event, so
/// there is one of each.
fn series() -> BTreeMap<String, BTreeSet<String>> {
    let metrics = Metrics::new();
    let target = metrics.target("p/m");
    target.attempt(Outcome::Ok);
    target.first_token(Duration::from_secs(1));
    target.chunk_gap(Duration::from_secs(1));
    target.tokens(&Usage { input: 1, ..Usage::default() });
    target.cost(Nanos(1));
    target.unpriced();
    let model = metrics.model("chat", "m");
    model.ended(Outcome::Ok, Duration::from_secs(1));
    model.fell_back("default");
    metrics.error(Outcome::Internal);
    metrics.retry(Outcome::Connect);
    metrics.auth_failure("invalid_api_key");
    metrics.price_fetches.with_label_values(&["ok"]).inc();
    metrics.config_reload(Ok("hash"));
    metrics.read_breakers_with(|| vec![BreakerSample { target: "p/m".into(), key: 0, state: BreakerState::Open }]);
    let text = metrics.render();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let known = lines.map(|line| {
        let name = &line[..line.find(['{', ' ']).unwrap()];
        let labels = selectors(line).into_iter().flat_map(|(_, matchers)| matchers);
        (name.to_owned(), labels.map(|(label, _)| label.to_owned()).collect())
    });
    known.collect()
}

/// Every query, with the file it stands in.
fn queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in ["alerts.yml", "alerts_test.yml"] {
        let text = read(&format!("deploy/prometheus/{file}"));
        let code = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>();
        found.push((file.to_owned(), code.join("\n")));
    }
    for entry in fs::read_dir(root().join("deploy/grafana/dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let place = path.file_name().unwrap().to_string_lossy().into_owned();
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let mut texts = Vec::new();
        collect(&dashboard, &mut texts);
        found.extend(texts.into_iter().map(|text| (place.clone(), text)));
    }
    found
}

/// The queries of a dashboard: of its panels (`expr`) and of its variables (`definition`).
fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name == "expr" || name == "definition" => found.push(text.clone()),
                    member => collect(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

/// The selectors in `text`, each a name with its matchers: `a_total{b="c"}` is `a_total` with `b` and `c`.
fn selectors(text: &str) -> Vec<(&str, Vec<(&str, &str)>)> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for word in text
        .split(|c| !is_letter(c))
        .filter(|word| ["switchboard_", "process_"].iter().any(|own| word.starts_with(own)))
    {
        // Both are slices of `text`, so their distance is the word's place in it.
        let end = word.as_ptr() as usize - text.as_ptr() as usize + word.len();
        let mut matchers = Vec::new();
        if let Some((inside, _)) = text[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            let mut quoted = inside.split('"');
            while let (Some(label), Some(value)) = (quoted.next(), quoted.next()) {
                matchers.push((label.trim_matches(|c| !is_letter(c)), value));
            }
        }
        found.push((word, matchers));
    }
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
