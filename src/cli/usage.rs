//! `switchboard usage`: what was used and what it cost, out of the ledger.

use std::{collections::BTreeMap, io::Write};

use anyhow::Result;
use clap::ValueEnum;
use jiff::Timestamp;

use super::{
    keys,
    store::{Place, StoreArgs},
    table::Rows,
};
use crate::{
    accounting::report::{self, By, Every, Filters, ReportError, UsageItem, UsageQuestion, UsageReport},
    store::{Db, KeyRow},
    types::{Clock, Moment, Zone},
};

/// What was used and what it cost.
///
/// Reads the gateway's database, whether the gateway runs or not. Amounts are US dollars, exact to nine decimals; what
/// has no known price is counted under UNPRICED and is not in the cost.
///
/// Examples:
///   switchboard usage
///       This month, as one sum.
///   switchboard usage --by project,model --from 2026-11-01 --to 2026-12-01
///       Who used which models in November. The end is not included.
///   switchboard usage --by model --bucket day --tz Europe/Berlin --filter key=ci --format csv
///       The days of Berlin, for one key, for a spreadsheet.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct UsageArgs {
    /// What to group by: one or two of project, key, model, provider, target, tag, end_user, workflow, session, step,
    /// operation, outcome.
    #[arg(long, value_name = "NAMES")]
    by: Option<By>,
    /// From when: a date, or a time with its offset. Unset: the beginning of this month.
    #[arg(long, value_name = "DATE")]
    from: Option<Moment>,
    /// Until before this date or time. Unset: now.
    #[arg(long, value_name = "DATE")]
    to: Option<Moment>,
    /// Divide the time by hour, day or month.
    #[arg(long)]
    bucket: Option<Every>,
    /// The zone of days, months and dates, by its IANA name.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    tz: Zone,
    /// Only calls of which this is so, as NAME=VALUE with a name that `--by` takes; may be given several times, and then
    /// all must be so. A key may be told by its name.
    #[arg(long = "filter", value_name = "NAME=VALUE")]
    filters: Vec<String>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For spreadsheets.
    Csv,
    /// For programs: as the admin API has it.
    Json,
}

/// Groups asked for at a time.
const PAGE: u32 = 1_000;

/// Runs the command on the store at `place`, and writes what it has to say to `out`.
///
/// # Errors
/// What is wrong with the question, or with the store.
pub async fn run(args: UsageArgs, place: &Place, clock: &Clock, out: &mut impl Write) -> Result<()> {
    let mut filters = Filters::default();
    for filter in &args.filters {
        let (name, value) = filter.split_once('=').ok_or_else(|| anyhow::anyhow!("write --filter NAME=VALUE"))?;
        filters.set(name.trim(), value.to_owned()).map_err(|error| anyhow::anyhow!("--filter: {error}"))?;
    }
    let mut question = UsageQuestion {
        from: args.from,
        to: args.to,
        zone: args.tz,
        bucket: args.bucket,
        by: args.by.unwrap_or_default(),
        filters,
        limit: PAGE,
        cursor: None,
        now: Timestamp::try_from(clock.wall())?,
    };
    place.expect_one()?;
    let db = place.open().await?;
    let answer = whole(&db, &mut question).await;
    let names = if args.format == Format::Table { key_names(&db, &answer).await } else { Ok(BTreeMap::new()) };
    db.close().await;
    let report = answer.map_err(|error| match error {
        ReportError::Question { param, message } => anyhow::anyhow!("{param}: {message}"),
        ReportError::Store(error) => error.into(),
    })?;
    match args.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
        Format::Csv => write!(out, "{}", table(&report, csv_measures).csv())?,
        Format::Table => write_table(report, &names?, out)?,
    }
    Ok(())
}

/// All pages of an answer, as one.
async fn whole(db: &Db, question: &mut UsageQuestion) -> Result<UsageReport, ReportError> {
    let mut report = report::usage(db, question).await?;
    while let Some(cursor) = report.next_cursor.take() {
        question.cursor = Some(cursor);
        let next = report::usage(db, question).await?;
        report.data.extend(next.data);
        report.next_cursor = next.next_cursor;
    }
    Ok(report)
}

/// The names of the stored keys by their ids, where an answer tells keys.
async fn key_names(db: &Db, answer: &Result<UsageReport, ReportError>) -> Result<BTreeMap<String, String>> {
    if !answer.as_ref().is_ok_and(|report| report.group_by.contains(&"key")) {
        return Ok(BTreeMap::new());
    }
    // Two keys may share a name while one is being replaced.
    let named = |row: KeyRow| (row.id, format!("{} (…{})", row.name, row.hint));
    Ok(keys::all(db).await?.into_iter().map(named).collect())
}

fn write_table(mut report: UsageReport, names: &BTreeMap<String, String>, out: &mut impl Write) -> Result<()> {
    writeln!(out, "{} to {} ({})\n", report.from, report.to, report.tz)?;
    for key in report.data.iter_mut().filter_map(|item| item.group.get_mut("key")) {
        if let Some(name) = names.get(key) {
            key.clone_from(name);
        }
    }
    let mut rows = table(&report, shown_measures);
    if report.data.is_empty() {
        writeln!(out, "Nothing was used in this time.")?;
        return Ok(());
    }
    let total = report.total();
    if report.data.len() > 1 {
        let mut row = vec![String::new(); rows.numbers];
        if let Some(first) = row.first_mut() {
            "TOTAL".clone_into(first);
        }
        row.extend(shown_measures(&total).into_iter().map(|(_, value)| value));
        rows.rows.push(row);
    }
    write!(out, "{}", rows.aligned())?;
    if report.group_by.contains(&"tag") && report.data.len() > 1 {
        writeln!(out, "\nA call counts under each of its tags, so the total may hold it more than once.")?;
    }
    if total.unpriced_attempts > 0 {
        let count = total.unpriced_attempts;
        writeln!(
            out,
            "\nAttempts without a known price: {count}. What they cost is not in these sums; see `switchboard prices check`."
        )?;
    }
    Ok(())
}

fn table(report: &UsageReport, measures: fn(&UsageItem) -> Vec<(&'static str, String)>) -> Rows {
    let mut head: Vec<String> = report.bucket.iter().map(|_| "start".to_owned()).collect();
    head.extend(report.group_by.iter().map(|name| (*name).to_owned()));
    let numbers = head.len();
    head.extend(measures(&report.total()).into_iter().map(|(name, _)| name.to_owned()));
    let row = |item: &UsageItem| {
        let group = report.group_by.iter().map(|name| item.group.get(name).cloned().unwrap_or_default());
        let named = item.start.iter().cloned().chain(group);
        named.chain(measures(item).into_iter().map(|(_, value)| value)).collect()
    };
    Rows { head, numbers, rows: report.data.iter().map(row).collect() }
}

/// What a person wants to see on one screen.
fn shown_measures(item: &UsageItem) -> Vec<(&'static str, String)> {
    let usage = &item.usage;
    // Nothing with a price is not nothing to pay.
    let is_unknown = item.unpriced_attempts > 0 && item.cost.nanos == 0;
    let cost = if is_unknown { "unknown".to_owned() } else { item.cost.usd.clone() };
    vec![
        ("calls", item.calls.to_string()),
        ("errors", item.errors.to_string()),
        ("input", usage.total_input().to_string()),
        ("cached", usage.cache_read.to_string()),
        ("output", usage.total_output().to_string()),
        ("unpriced", item.unpriced_attempts.to_string()),
        ("cost_usd", cost),
    ]
}

/// Everything there is.
fn csv_measures(item: &UsageItem) -> Vec<(&'static str, String)> {
    let mut measures = vec![
        ("calls", item.calls.to_string()),
        ("errors", item.errors.to_string()),
        ("attempts", item.attempts.to_string()),
        ("failed_attempts", item.failed_attempts.to_string()),
        ("unpriced_attempts", item.unpriced_attempts.to_string()),
        ("estimated_attempts", item.estimated_attempts.to_string()),
        ("cost_usd", item.cost.usd.clone()),
        ("reported_cost_usd", item.reported_cost.usd.clone()),
    ];
    measures.extend(item.usage.buckets().into_iter().map(|(name, count)| (name, count.to_string())));
    measures
}
