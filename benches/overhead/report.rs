//! Results of all rounds: medians, what they add to the direct call, ratios to nginx; as tables and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Error;
use serde_json::{Map, Value, json};

use crate::measure::Figures;
use crate::scenarios::{Figure, Scenario};

/// A time, and the name of what it adds to the same time of the direct call in the same round.
const ADDED: [(&str, &str); 6] = [
    ("p50_us", "added_p50_us"),
    ("p99_us", "added_p99_us"),
    ("first_p50_us", "added_first_p50_us"),
    ("first_p99_us", "added_first_p99_us"),
    ("delay_p50_us", "added_delay_p50_us"),
    ("delay_p99_us", "added_delay_p99_us"),
];

/// Figures of every round by scenario and contestant.
pub struct Results {
    /// Contestants in the order of the tables.
    names: Vec<String>,
    rounds: BTreeMap<(Scenario, String), Vec<Figures>>,
    failures: BTreeMap<(Scenario, String), String>,
}

impl Results {
    pub fn new(names: Vec<String>) -> Self {
        Self { names, rounds: BTreeMap::new(), failures: BTreeMap::new() }
    }

    pub fn add(&mut self, scenario: Scenario, name: &str, figures: &Figures) {
        self.rounds.entry((scenario, name.to_owned())).or_default().push(figures.clone());
    }

    pub fn fail(&mut self, scenario: Scenario, name: &str, error: &Error) {
        eprintln!("{} of {name} failed: {error:#}", scenario.name());
        self.failures.insert((scenario, name.to_owned()), format!("{error:#}"));
    }

    pub fn has_failed(&self, scenario: Scenario, name: &str) -> bool {
        self.failures.contains_key(&(scenario, name.to_owned()))
    }

    pub fn any_failed(&self) -> bool {
        !self.failures.is_empty()
    }

    /// The largest share of the contestants' core that other work took in the median round of a scenario, in percent.
    pub fn noise(&self) -> f64 {
        let medians = self.rounds.keys().filter_map(|(scenario, name)| self.median(*scenario, name, "other_percent"));
        medians.fold(0.0, f64::max)
    }

    /// One table for each scenario.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        for scenario in self.scenarios() {
            let _ = writeln!(text, "\n{}: {}\n", scenario.name(), scenario.about());
            let mut rows = vec![header(scenario.figures())];
            for name in &self.names {
                if let Some(error) = self.failures.get(&(scenario, name.clone())) {
                    rows.push(vec![name.clone(), format!("failed: {error}")]);
                } else if self.rounds.contains_key(&(scenario, name.clone())) {
                    rows.push(self.row(scenario, name));
                }
            }
            text.push_str(&aligned(&rows));
        }
        text
    }

    /// Medians, ratios and the figures of each round.
    pub fn json(&self, about: &Value) -> Value {
        let mut scenarios = Map::new();
        for scenario in self.scenarios() {
            let mut contestants = Map::new();
            for name in &self.names {
                if let Some(error) = self.failures.get(&(scenario, name.clone())) {
                    contestants.insert(name.clone(), json!({"failed": error}));
                    continue;
                }
                let Some(rounds) = self.rounds.get(&(scenario, name.clone())) else { continue };
                let keys: BTreeSet<&str> = rounds.iter().flat_map(|figures| figures.keys().copied()).collect();
                let keys = keys.into_iter().chain(ADDED.map(|(_, added)| added));
                let medians: Map<String, Value> = keys
                    .filter_map(|key| Some((key.to_owned(), json!(rounded(self.median(scenario, name, key)?)))))
                    .collect();
                let ratios: Map<String, Value> = scenario
                    .figures()
                    .iter()
                    .filter(|figure| figure.ratio)
                    .filter_map(|figure| {
                        Some((figure.key.to_owned(), json!(rounded(self.ratio(scenario, name, figure)?))))
                    })
                    .collect();
                contestants.insert(name.clone(), json!({"median": medians, "to_nginx": ratios, "rounds": rounds}));
            }
            scenarios.insert(scenario.name().to_owned(), Value::Object(contestants));
        }
        json!({"about": about, "scenarios": scenarios})
    }

    fn row(&self, scenario: Scenario, name: &str) -> Vec<String> {
        let mut row = vec![name.to_owned()];
        for figure in scenario.figures() {
            row.push(shown(self.median(scenario, name, figure.key), figure.decimals));
            if figure.ratio {
                row.push(shown(self.ratio(scenario, name, figure), 2));
            }
        }
        row
    }

    fn median(&self, scenario: Scenario, name: &str, key: &str) -> Option<f64> {
        let rounds = self.rounds.get(&(scenario, name.to_owned()))?;
        let Some((of, _)) = ADDED.iter().find(|(_, added)| *added == key) else {
            return median(rounds.iter().filter_map(|figures| figures.get(key).copied()).collect());
        };
        if name == "direct" {
            return None;
        }
        let direct = self.rounds.get(&(scenario, String::from("direct")))?;
        let added = |(here, there): (&Figures, &Figures)| Some(here.get(of)? - there.get(of)?);
        median(rounds.iter().zip(direct).filter_map(added).collect())
    }

    fn ratio(&self, scenario: Scenario, name: &str, figure: &Figure) -> Option<f64> {
        Some(self.median(scenario, name, figure.key)? / self.median(scenario, "nginx", figure.key)?)
    }

    fn scenarios(&self) -> BTreeSet<Scenario> {
        self.rounds.keys().chain(self.failures.keys()).map(|(scenario, _)| *scenario).collect()
    }
}

/// The middle value; of an even number the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], upper) } else { upper })
}

fn header(figures: &[Figure]) -> Vec<String> {
    let mut row = vec![String::new()];
    for figure in figures {
        row.push(figure.heading.to_owned());
        if figure.ratio {
            row.push(String::from("× nginx"));
        }
    }
    row
}

fn shown(value: Option<f64>, decimals: usize) -> String {
    value.map_or(String::from("-"), |value| format!("{value:.decimals$}"))
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// A Markdown table, padded so that it reads well in a terminal too.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() == columns).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = if column == 0 { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let colon = if column == 0 { "-" } else { ":" };
                let _ = write!(text, "|-{}{colon}", "-".repeat(*width));
            }
            text.push_str("|\n");
        }
    }
    text
}
