//! What `/metrics` says, as numbers.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Default)]
pub struct Counts(Vec<Series>);

#[derive(Debug)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Counts {
    /// Reads Prometheus' text format, as far as the gateway writes it.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Self(lines.filter_map(Series::parse).collect())
    }

    /// The sum of all series of this name that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |series: &&Series| {
            series.name == format!("switchboard_{name}")
                && labels.iter().all(|(label, value)| series.labels.get(*label).is_some_and(|has| has == value))
        };
        self.0.iter().filter(has).map(|series| series.value).sum::<f64>() as u64
    }

    /// How calls ended: `ok 3, cut 1`, by name of outcome.
    pub fn outcomes(&self) -> String {
        self.listed("calls_total", &["outcome"])
    }

    /// How attempts ended, by target: `a/up cut 1, b/up ok 1`.
    pub fn attempts(&self) -> String {
        self.listed("attempts_total", &["target", "outcome"])
    }

    /// Tokens reported: `input 11, output 7`.
    pub fn tokens(&self) -> String {
        self.listed("tokens_total", &["kind"])
    }

    fn listed(&self, name: &str, labels: &[&str]) -> String {
        let mut sums = BTreeMap::<String, f64>::new();
        for series in self.0.iter().filter(|series| series.name == format!("switchboard_{name}")) {
            let values: Vec<&str> =
                labels.iter().filter_map(|label| series.labels.get(*label)).map(String::as_str).collect();
            *sums.entry(values.join(" ")).or_default() += series.value;
        }
        sums.iter().map(|(words, sum)| format!("{words} {sum}")).collect::<Vec<_>>().join(", ")
    }
}

impl Series {
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels
            .trim_end_matches('}')
            .split("\",")
            .filter_map(|label| label.split_once("=\""))
            .map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()))
            .collect();
        Some(Self { name: name.to_owned(), labels, value: value.parse().ok()? })
    }
}
