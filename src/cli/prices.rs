//! `switchboard prices`: what models cost, and which targets have no price.

use std::fmt::Write;

use clap::Subcommand;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::{ConfigFile, Failed, say};
use crate::{
    catalog::{Card, Factor, Item, ModelPrice, Price, PriceList, embedded},
    config::{self, Environment, Loaded, PricedTarget},
    types::Clock,
};

/// Nearest names that are offered when nothing is called what was asked for.
const OFFERED: usize = 5;

/// Show what models cost, and check that every target has a price.
///
/// Prices come from the configuration (`prices.models`), from a price file of yours (`prices.file`) and from the
/// catalogue in this program, in this order. Amounts are US dollars, for a million tokens unless the row says otherwise.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show every price of a model: rates, steps by length, tiers, regions, hours and dates.
    ///
    /// MODEL is a name as a vendor has it (`gpt-5.5`), or with the vendor or one of your providers before it
    /// (`openai/gpt-5.5`). Names are compared as calls compare them.
    Show {
        model: String,
        /// Only at this vendor, or this provider of the configuration.
        #[arg(long, short)]
        provider: Option<String>,
        /// Print a JSON array, for scripts. Rates are text, so that nothing is rounded.
        #[arg(long)]
        json: bool,
    },
    /// Say what every target of the configuration costs. Exit code 1 when the price of any is unknown.
    Check {
        /// Print a JSON array, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// List the models of the catalogue with their usual rates.
    List {
        /// Only those of this vendor.
        #[arg(long, short)]
        provider: Option<String>,
    },
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    let load = || config::load(args.config.config.as_deref(), &Environment::process()).map_err(Failed::misconfigured);
    match &args.command {
        Command::Show { model, provider, json } => show(&load()?, model, provider.as_deref(), *json),
        Command::Check { json } => check(&load()?, *json),
        Command::List { provider } => list(provider.as_deref()),
    }
}

/// A price and by which name it was found.
struct Found {
    name: String,
    price: Price,
}

fn show(loaded: &Loaded, model: &str, provider: Option<&str>, as_json: bool) -> Result<(), Failed> {
    let found = find(loaded, model, provider);
    if found.is_empty() {
        return Err(Failed::wrong(nothing_found(model, provider)));
    }
    if as_json {
        let entries = found.iter().map(|found| json!({ "name": found.name, "price": found.price.to_json() }));
        return say(serde_json::Value::Array(entries.collect()));
    }
    let shown: Vec<_> = found.iter().map(describe).collect();
    say(shown.join("\n").trim_end())
}

/// Every known price of `model`: those of the configuration's providers first, then the catalogue's that differ.
fn find(loaded: &Loaded, model: &str, provider: Option<&str>) -> Vec<Found> {
    let (named, bare) = match model.split_once('/') {
        Some((before, rest)) => (Some(before), rest),
        None => (None, model),
    };
    let wanted = |name: &str| provider.is_none_or(|provider| provider == name);
    let mut found: Vec<Found> = Vec::new();
    let mut add = |place: &str, name: &str, price: Price| {
        let again = found.iter().any(|known| known.price == price && matches!(price, Price::Known(_)));
        if !price.is_unknown() && wanted(place) && !again {
            found.push(Found { name: format!("{place}/{name}"), price });
        }
    };
    for (place, settings) in &loaded.settings.providers {
        let kind = loaded.kind_of(place);
        let served = |name: &str| {
            loaded
                .settings
                .models
                .values()
                .flat_map(|model| &model.targets)
                .any(|target| target.model == format!("{place}/{name}"))
        };
        let priced = |name: &str| loaded.settings.prices.models.contains_key(&format!("{place}/{name}"));
        // Servers of the operator's own are free whatever the name is, which says nothing about this one.
        let name = if named == Some(place) { bare } else { model };
        if settings.base_url.is_some() || named == Some(place) || served(name) || priced(name) {
            let price = loaded.catalog.price_of(place, kind, name);
            if price != Price::Free || served(name) || priced(name) || named == Some(place) {
                add(place, name, price);
            }
        }
    }
    for vendor in embedded::vendors() {
        add(vendor, model, loaded.catalog.find(vendor, model));
        if named == Some(vendor) {
            add(vendor, bare, loaded.catalog.find(vendor, bare));
        }
    }
    found
}

fn nothing_found(model: &str, provider: Option<&str>) -> String {
    let mut text = match provider {
        Some(provider) => format!("no price of `{model}` at `{provider}` is known"),
        None => format!("no price of `{model}` is known"),
    };
    let all = embedded::vendors().flat_map(|vendor| embedded::models(vendor).map(move |(name, _)| (vendor, name)));
    let word = model.to_ascii_lowercase();
    let mut near: Vec<(f64, String)> = all
        .filter(|(vendor, _)| provider.is_none_or(|provider| provider == *vendor))
        .map(|(vendor, name)| {
            let last = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
            let nearness =
                strsim::jaro_winkler(&word, &name.to_ascii_lowercase()).max(strsim::jaro_winkler(&word, &last));
            (nearness, format!("{vendor}/{name}"))
        })
        .filter(|(nearness, _)| *nearness > 0.85)
        .collect();
    near.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    for (index, (_, name)) in near.iter().take(OFFERED).enumerate() {
        text.push_str(if index == 0 { "\nThe nearest names are:" } else { "" });
        let _ = write!(text, "\n  {name}");
    }
    text.push_str("\nA price of your own is set with `prices.models` in the configuration; see docs/prices.md.");
    text
}

/// A block for people: what is known of the model, and a table for each price list.
fn describe(found: &Found) -> String {
    let Price::Known(price) = &found.price else { return format!("{}: free\n", found.name) };
    let mut text = found.name.clone();
    let own = format!("{}/{}", price.vendor, price.model);
    if own != found.name {
        let _ = write!(text, ", priced as {own}");
    }
    let _ = write!(text, " ({}", price.origin.as_str());
    if let Some(source) = &price.source {
        let _ = write!(text, ", {source}");
    }
    text.push_str(")\n");
    let facts = facts(price);
    if !facts.is_empty() {
        let _ = writeln!(text, "  {facts}");
    }
    for (index, list) in price.lists.iter().enumerate() {
        let until = price.lists.get(index + 1).and_then(|next| next.from);
        match (list.from, until) {
            (None, None) => {}
            (None, Some(until)) => drop(writeln!(text, "  until {until}:")),
            (Some(from), None) => drop(writeln!(text, "  from {from}:")),
            (Some(from), Some(until)) => drop(writeln!(text, "  from {from} until {until}:")),
        }
        for line in table(list).lines() {
            let _ = writeln!(text, "  {}", line.trim_end());
        }
        if list.marginal {
            text.push_str("  A step's rate holds for the tokens beyond it alone.\n");
        }
    }
    text
}

fn facts(price: &ModelPrice) -> String {
    let facts = &price.facts;
    let mut parts: Vec<String> = facts.mode.iter().map(|mode| mode.as_str().to_owned()).collect();
    parts.extend(facts.context.map(|tokens| format!("context {tokens}")));
    parts.extend(facts.max_output.map(|tokens| format!("output up to {tokens}")));
    let can: Vec<_> = facts.can.iter().map(crate::catalog::Capability::as_str).collect();
    if !can.is_empty() {
        parts.push(can.join(" "));
    }
    parts.extend(facts.retires.map(|day| format!("withdrawn on {day}")));
    parts.join(" · ")
}

/// A row for each thing that is charged, a column for each condition.
fn table(list: &PriceList) -> String {
    let mut columns: Vec<(String, &Card, Option<usize>)> = Vec::new();
    let mut add = |name: &str, card| {
        let card: &Card = card;
        columns.push((name.to_owned(), card, None));
        let steps = card.above.iter().enumerate();
        columns.extend(steps.map(|(at, step)| (format!("{name} >{}", step.tokens).trim().to_owned(), card, Some(at))));
    };
    add("usual", &list.base);
    list.tiers.iter().for_each(|(name, card)| add(name, card));
    list.batch.iter().for_each(|card| add("batch", card));
    list.regions.iter().for_each(|(name, card)| add(&format!("in {name}"), card));
    for (windows, card) in &list.hours {
        let when: Vec<_> = windows.iter().map(ToString::to_string).collect();
        add(&when.join("\n"), card);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(std::iter::once(String::new()).chain(columns.iter().map(|(name, ..)| name.clone())));
    let rate = |card: &Card, step: Option<usize>, item| match step.and_then(|at| card.above.get(at)) {
        Some(step) => step.rates.get(item),
        None => card.rates.get(item),
    };
    for item in Item::ALL {
        let cells: Vec<_> = columns.iter().map(|(_, card, step)| rate(card, *step, item)).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.iter().map(|rate| rate.map_or_else(String::new, |rate| rate.to_string()));
            table.add_row(std::iter::once(format!("{}, {}", item.field(), item.unit())).chain(cells));
        }
    }
    if columns.iter().any(|(_, card, _)| card.times != Factor::ONE) {
        let factor = |card: &Card, step: Option<usize>| {
            if card.times == Factor::ONE || step.is_some() { String::new() } else { format!("× {}", card.times) }
        };
        let cells = columns.iter().map(|(_, card, step)| factor(card, *step));
        table.add_row(std::iter::once("all token rates".to_owned()).chain(cells));
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table.to_string()
}

fn check(loaded: &Loaded, as_json: bool) -> Result<(), Failed> {
    let targets = loaded.priced_targets();
    let unknown = targets.iter().filter(|target| is_unknown(target)).count();
    let now = now_ms();
    if as_json {
        let rows = targets.iter().map(|target| {
            let PricedTarget { provider, kind, model, price, .. } = target;
            json!({
                "target": format!("{provider}/{model}"), "kind": kind, "price": &*price.name(now),
                "unknown": is_unknown(target),
            })
        });
        say(serde_json::Value::Array(rows.collect()))?;
    } else {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["TARGET", "PRICE", "USUAL RATES"]);
        for target in &targets {
            let name = format!("{}/{}", target.provider, target.model);
            let [price, rates] = summary(target, now);
            table.add_row([name, price, rates]);
        }
        say(table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))?;
    }
    match unknown {
        0 => Ok(()),
        1 => Err(Failed::wrong("the price of one target is unknown: set it with `prices.models` in the configuration")),
        _ => Err(Failed::wrong(format!(
            "the prices of {unknown} targets are unknown: set them with `prices.models` in the configuration"
        ))),
    }
}

/// Whether calls to the target have no cost. What a `*` stands for is only known when it is called.
fn is_unknown(target: &PricedTarget) -> bool {
    target.price.is_unknown() && !(target.model.contains('*') && target.in_catalogue)
}

fn summary(target: &PricedTarget, now: i64) -> [String; 2] {
    match &target.price {
        Price::Known(price) => [price.name(now).to_string(), usual(price, now)],
        Price::Free => ["free".to_owned(), String::new()],
        Price::Unknown if is_unknown(target) => ["UNKNOWN".to_owned(), String::new()],
        Price::Unknown => ["by model, as it is called".to_owned(), String::new()],
    }
}

/// The rates that most calls have: `input 5.00, output 30.00`.
fn usual(price: &ModelPrice, now: i64) -> String {
    let Some(list) = price.list(now) else { return "not yet in force".to_owned() };
    let rates = list.base.rates.iter();
    let main = |item: Item| matches!(item, Item::Input | Item::Output) || !item.is_tokens();
    let rates = rates.filter(|(item, _)| main(*item)).map(|(item, rate)| format!("{} {rate}", item.field()));
    rates.collect::<Vec<_>>().join(", ")
}

fn list(provider: Option<&str>) -> Result<(), Failed> {
    if let Some(provider) = provider
        && !embedded::vendors().any(|vendor| vendor == provider)
    {
        let vendors: Vec<_> = embedded::vendors().collect();
        return Err(Failed::misconfigured(format!(
            "the catalogue has no vendor `{provider}`; it has {}",
            vendors.join(", ")
        )));
    }
    let (now, mut text) = (now_ms(), String::new());
    for vendor in embedded::vendors().filter(|vendor| provider.is_none_or(|provider| provider == *vendor)) {
        for (model, price) in embedded::models(vendor) {
            let rates = if let Price::Known(price) = &price { usual(price, now) } else { "free".to_owned() };
            let _ = writeln!(text, "{vendor}/{model}  {rates}");
        }
    }
    say(text.trim_end())
}

fn now_ms() -> i64 {
    i64::try_from(Clock::Real.unix_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    /// A configuration with a target of each sort.
    fn loaded() -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("switchboard.yaml");
        let text = "\
providers: { openai: { api_key: x }, mine: { kind: openai, api_key: y }, gpu: { kind: vllm }, other: { kind: openai_compatible, base_url: \"http://127.0.0.1:1/v1\" } }
models:
  a: { targets: [openai/gpt-5.5, mine/gpt-5.5, gpu/llama, other/mystery, other/gpt-5.5] }
  \"openai/*\": { targets: [\"openai/*\"] }
  \"other/*\": { targets: [\"other/*\"] }
prices: { models: { mine/gpt-5.5: { input: 2.5, output: 7.5, later: [{ from: 2027-01-01, input: 2 }] } } }
";
        std::fs::write(&file, text).unwrap();
        let env = Environment::of::<&str, &str>([]);
        load(Some(&file), &env).unwrap_or_else(|complaints| panic!("{complaints}"))
    }

    fn names(model: &str, provider: Option<&str>) -> Vec<String> {
        find(&loaded(), model, provider).into_iter().map(|found| found.name).collect()
    }

    #[test]
    fn a_model_is_shown_at_the_providers_that_serve_it_and_in_the_catalogue() {
        let all = names("gpt-5.5", None);
        assert_eq!(all[..2], ["mine/gpt-5.5", "openai/gpt-5.5"]);
        assert!(all.contains(&"azure/gpt-5.5".to_owned()), "{all:?}");
        assert!(!all.iter().any(|name| name.starts_with("gpu/") || name.starts_with("other/")), "{all:?}");
        assert_eq!(names("openai/gpt-5.5", Some("openai")), ["openai/gpt-5.5"]);
        assert_eq!(names("gpt-5.5", Some("mine")), ["mine/gpt-5.5"]);
        assert_eq!(names("llama", Some("gpu")), ["gpu/llama"]);
        assert_eq!(names("no-such-model", None), Vec::<String>::new());
    }

    #[test]
    fn nothing_found_offers_what_is_near() {
        let text = nothing_found("gtp-5.5", None);
        assert!(text.starts_with("no price of `gtp-5.5` is known\nThe nearest names are:\n"), "{text}");
        assert!(text.contains("\n  openai/gpt-5.5\n"), "{text}");
        assert!(!nothing_found("qqqqqqqq", None).contains("nearest"));
    }

    #[test]
    fn a_price_is_shown_with_everything_that_changes_it() {
        let shown = describe(&find(&loaded(), "gpt-5.5", Some("openai"))[0]);
        for part in [
            "openai/gpt-5.5 (catalogue, https://",
            "context 1050000",
            "usual >272000",
            "flex",
            "batch",
            "in eu",
            "× 1.1",
        ] {
            assert!(shown.contains(part), "{part}:\n{shown}");
        }
        let input = shown.lines().find(|line| line.contains("input, 1M tokens")).unwrap();
        assert_eq!(input.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["5.00", "10.00"]);
        let shown = describe(&find(&loaded(), "gpt-5.5", Some("mine"))[0]);
        assert!(shown.contains("(configuration)\n  until 2027-01-01:\n"), "{shown}");
        assert!(shown.contains("  from 2027-01-01:\n"), "{shown}");
    }

    #[test]
    fn a_target_is_unknown_unless_its_price_comes_with_the_model() {
        let unknown: Vec<_> = loaded()
            .priced_targets()
            .iter()
            .filter(|target| is_unknown(target))
            .map(|target| format!("{}/{}", target.provider, target.model))
            .collect();
        assert_eq!(unknown, ["other/*", "other/gpt-5.5", "other/mystery"]);
        let failed = check(&loaded(), true).unwrap_err();
        assert_eq!((failed.code, failed.message.contains("3 targets")), (1, true), "{}", failed.message);
    }
}
