//! `switchboard reconcile`: what a provider says it charged against what the ledger says.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};

use super::{
    store::{Place, StoreArgs},
    table::Rows,
    usage::Format,
};
use crate::{
    accounting::reconcile::{self, COLUMNS, Cell, Entry, Export, Reconciliation, Share, Side, Tokens},
    store::ledger::{DayUsage, day_model_key},
    types::{Nanos, Usage, UsageSource, nearest},
};

/// Compare a provider's own figures with the ledger, and explain the gap.
///
/// FILES are what the provider's API answers, page after page, in any number of files:
///   OpenAI     GET /v1/organization/costs             group_by=line_item,api_key_id
///              GET /v1/organization/usage/completions group_by=model,api_key_id
///   Anthropic  GET /v1/organizations/cost_report             group_by[]=description
///              GET /v1/organizations/usage_report/messages   group_by[]=model, api_key_id
/// or a CSV table with a line of headers: day, model, key, calls, input_tokens, cached_tokens,
/// cache_write_tokens, audio_input_tokens, output_tokens, audio_output_tokens, cost.
///
/// Costs and usage together explain most: with tokens a gap in money can be told from one in use.
///
/// Exit code 0: the sides agree within --tolerance; 1: they do not; 2: a file or an option is wrong.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ReconcileArgs {
    /// The provider, by its name in the configuration.
    #[arg(long)]
    provider: String,
    /// The provider's figures.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The first day, in UTC. Unset: the first in the files.
    #[arg(long, value_name = "DATE", value_parser = day)]
    from: Option<Date>,
    /// The day after the last, in UTC. Unset: that after the last in the files.
    #[arg(long, value_name = "DATE", value_parser = day)]
    to: Option<Date>,
    /// How much of the larger side may differ.
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = tolerance)]
    tolerance: u32,
    /// Which of our keys the provider means by an id: the place in `api_keys` from 1, then the id; may be given several
    /// times. Without it keys are not compared.
    #[arg(long = "key", value_name = "PLACE=ID", value_parser = key)]
    keys: Vec<(u16, String)>,
    /// A header of a CSV table that is not known by itself, as COLUMN=HEADER; may be given several times.
    #[arg(long = "column", value_name = "COLUMN=HEADER", value_parser = column)]
    columns: Vec<(String, String)>,
    /// The input tokens of a CSV table include the cached ones.
    #[arg(long)]
    input_includes_cached: bool,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// Runs the command on the store at `place`, and writes what it has to say to `out`. Says whether the sides agree.
///
/// # Errors
/// What is wrong with a file, with its place, or with the store.
pub async fn run(args: ReconcileArgs, place: &Place, out: &mut impl Write) -> Result<bool> {
    let columns: BTreeMap<String, String> = args.columns.iter().cloned().collect();
    let mut exports = Vec::new();
    for file in &args.files {
        exports.push(read(file, &columns, args.input_includes_cached)?);
    }
    let days = || exports.iter().flat_map(|export| &export.figures).map(|figure| figure.day);
    let (first, last) = (days().min(), days().max());
    let after = |day: Date| day.checked_add(1.day()).unwrap_or(Date::MAX);
    let (Some(from), Some(to)) = (args.from.or(first), args.to.or(last.map(after))) else {
        bail!("the files hold no figures; name the days with --from and --to to see what the ledger has");
    };
    if from >= to {
        bail!("--from ({from}) must be before --to ({to}), which is not included");
    }
    if args.keys.is_empty() {
        // Without a mapping no key of one side is one of the other.
        exports.iter_mut().flat_map(|export| &mut export.figures).for_each(|figure| figure.key = None);
    }
    place.expect_one()?;
    let db = place.open().await?;
    let rows = day_model_key(&db, midnight(from)?, midnight(to)?).await;
    db.close().await;
    let rows = rows?;
    check_provider(&args.provider, &rows)?;
    let ours = rows.iter().filter(|row| row.provider == args.provider);
    let entries: Vec<Entry> = ours.filter_map(|row| entry(row, &args.keys)).collect();
    let result = reconcile::reconcile(&exports, &entries, from, to);
    match args.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&result)?)?,
        Format::Csv => write!(out, "{}", gaps(&result).csv())?,
        Format::Table => write_table(&args.provider, from, to, &result, out)?,
    }
    Ok(result.is_within(args.tolerance))
}

/// Reads one file, whichever it is.
fn read(file: &Path, columns: &BTreeMap<String, String>, is_inclusive: bool) -> Result<Export> {
    let mut bytes = Vec::new();
    let opened = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    opened.take(MAX_FILE + 1).read_to_end(&mut bytes).with_context(|| format!("{} cannot be read", file.display()))?;
    if bytes.len() as u64 > MAX_FILE {
        bail!("{} is larger than {} MiB: give the pages one by one", file.display(), MAX_FILE / 1024 / 1024);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count() + 1;
        anyhow::anyhow!("{}:{line}: expected UTF-8 text", file.display())
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let read = match text.trim_start().chars().next() {
        Some('{' | '[') => reconcile::read_pages(text),
        _ => reconcile::read_table(text, columns, is_inclusive),
    };
    read.map_err(|bad| anyhow::anyhow!("{}:{bad}", file.display()))
}

/// A name that the ledger does not have would look like a provider that charges for nothing.
fn check_provider(provider: &str, rows: &[DayUsage]) -> Result<()> {
    let mut names: Vec<&str> = rows.iter().map(|row| row.provider.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() || names.contains(&provider) {
        return Ok(());
    }
    let near = nearest(provider, names.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
    bail!(
        "the ledger has no provider `{}` on these days{}; it has: {}",
        provider.escape_debug(),
        near.unwrap_or_default(),
        names.join(", ")
    )
}

/// A row of the ledger as the comparison takes it. What consumed nothing is not in any provider's figures.
fn entry(row: &DayUsage, keys: &[(u16, String)]) -> Option<Entry> {
    if row.usage == Usage::default() && row.cost == Nanos::ZERO {
        return None;
    }
    let place = row.provider_key.saturating_add(1);
    let id = keys.iter().find(|(known, _)| *known == place).map(|(_, id)| id.clone());
    Some(Entry {
        day: Timestamp::from_millisecond(row.day).ok()?.to_zoned(TimeZone::UTC).date(),
        model: row.upstream_model.clone(),
        key: id.unwrap_or_else(|| format!("key {place}")),
        calls: row.attempts.unsigned_abs(),
        tokens: Tokens::from(&row.usage),
        cost: row.cost,
        is_estimated: matches!(row.usage_source, UsageSource::Counted | UsageSource::Estimated),
        unpriced: row.unpriced.unsigned_abs(),
    })
}

fn write_table(provider: &str, from: Date, to: Date, result: &Reconciliation, out: &mut impl Write) -> Result<()> {
    writeln!(out, "{provider}, {from} until before {to} (UTC)\n")?;
    let text = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
    let totals = Rows { head: text(["", "provider", "ledger", "difference"]), numbers: 1, rows: totals(result) };
    writeln!(out, "{}", totals.aligned())?;
    let reasons = result.reasons().into_iter().map(|(why, (count, cost, tokens))| {
        vec![why.words().to_owned(), count.to_string(), signed(Nanos(cost)), format!("{tokens:+}")]
    });
    let reasons = Rows { head: text(["why", "places", "cost_usd", "tokens"]), numbers: 1, rows: reasons.collect() };
    if !reasons.rows.is_empty() {
        writeln!(out, "{}", reasons.aligned())?;
        writeln!(out, "{}", gaps(result).aligned())?;
    }
    for note in &result.notes {
        writeln!(out, "Note: {note}")?;
    }
    writeln!(out, "{} % of the larger side differs, beyond rounding and the boundary of days.", percent(result))?;
    Ok(())
}

/// Calls, each bucket of tokens and money on both sides.
fn totals(result: &Reconciliation) -> Vec<Vec<String>> {
    let (theirs, ours) = (&result.provider, &result.ledger);
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let row = |name: &str, one: Option<u64>, other: Option<u64>| {
        let gap = one.zip(other).map(|(one, other)| format!("{:+}", i128::from(one) - i128::from(other)));
        vec![name.to_owned(), count(one), count(other), gap.unwrap_or_else(|| "-".to_owned())]
    };
    let bucket = |side: &Side, index: usize| side.tokens.map(|tokens| tokens.named()[index].1);
    let mut rows = vec![row("calls", theirs.calls, ours.calls)];
    for (index, (name, _)) in Tokens::default().named().into_iter().enumerate() {
        let (one, other) = (bucket(theirs, index), bucket(ours, index));
        if one.unwrap_or(0) > 0 || other.unwrap_or(0) > 0 {
            rows.push(row(name, one, other));
        }
    }
    let money = |side: &Side| side.cost_nanos.map_or_else(|| "-".to_owned(), |cost| Nanos(cost).to_string());
    let gap = theirs.cost_nanos.map(|cost| signed(Nanos(cost.saturating_sub(ours.cost_nanos.unwrap_or(0)))));
    rows.push(vec!["cost usd".to_owned(), money(theirs), money(ours), gap.unwrap_or_else(|| "-".to_owned())]);
    rows
}

/// Every part of every gap.
fn gaps(result: &Reconciliation) -> Rows {
    let head = ["day", "model", "key", "why", "cost_usd", "tokens", "note"].map(str::to_owned).to_vec();
    let row = |cell: &Cell, share: &Share| {
        vec![
            cell.day.to_string(),
            cell.model.clone(),
            cell.key.clone(),
            share.why.words().to_owned(),
            signed(Nanos(share.cost_nanos)),
            format!("{:+}", share.tokens),
            share.note.clone(),
        ]
    };
    let rows = result.cells.iter().flat_map(|cell| cell.shares.iter().map(move |share| row(cell, share)));
    Rows { head, numbers: usize::MAX, rows: rows.collect() }
}

fn signed(amount: Nanos) -> String {
    if amount.0 > 0 { format!("+{amount}") } else { amount.to_string() }
}

/// What differs, to a hundredth of a percent, rounded up: only equal sides differ by 0.
fn percent(result: &Reconciliation) -> String {
    let hundredths = (u128::from(result.off) * 10_000).div_ceil(u128::from(result.of.max(1)));
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn midnight(day: Date) -> Result<i64> {
    let midnight = day.to_zoned(TimeZone::UTC).with_context(|| format!("{day} is outside of the calendar"))?;
    Ok(midnight.timestamp().as_millisecond())
}

fn day(text: &str) -> Result<Date, String> {
    let read = text.parse().ok().filter(|_| text.len() == "2026-11-30".len());
    read.ok_or_else(|| "write a day such as 2026-11-30; days are those of UTC, which providers bill by".to_owned())
}

/// A percentage, in millionths.
fn tolerance(text: &str) -> Result<u32, String> {
    let number = text.trim_end_matches('%').trim();
    let millionths = crate::types::money::scaled(number, 4).ok().and_then(|scaled| u32::try_from(scaled).ok());
    millionths
        .filter(|millionths| *millionths <= 1_000_000)
        .ok_or_else(|| "write a percentage such as 1% or 0.05%".into())
}

fn key(text: &str) -> Result<(u16, String), String> {
    let parts = text.split_once('=').and_then(|(place, id)| Some((place.parse().ok().filter(|place| *place > 0)?, id)));
    let (place, id) = parts.filter(|(_, id)| !id.is_empty()).ok_or("write PLACE=ID, for example 1=key_abc")?;
    Ok((place, id.to_owned()))
}

fn column(text: &str) -> Result<(String, String), String> {
    let (name, header) = text.split_once('=').ok_or("write COLUMN=HEADER, for example cost=\"Amount (USD)\"")?;
    let names = COLUMNS.map(|(name, _)| name);
    if !names.contains(&name) {
        let near = nearest(name, names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(format!("there is no column `{name}`{near}; there are: {}", names.join(", ")));
    }
    Ok((name.to_owned(), header.to_owned()))
}
