//! `switchboard quotas`: make, see, change and delete the quotas in the store. What is checked and what is written is
//! `auth::manage`'s, as for the admin API.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, io::Write};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    keys::{Expires, date},
    store::{Place, StoreArgs},
    table::Rows,
};
use crate::{
    auth::{
        Keys,
        manage::{CounterView, ManageError, QuotaChange, QuotaView},
    },
    quotas::settings::{Match, QuotaSettings},
    store::{Actor, QuotaFilter},
    types::Clock,
};

/// Make, see, change and delete quotas.
///
/// A quota is a scope (what is counted apart) × a measure × a window × an action; rate limits and budgets are the same thing.
/// They are kept in the gateway's database; running gateways follow a change within a second. Quotas declared in the
/// configuration file are changed there.
///
/// Examples:
///   switchboard quotas create --scope project --match research --measure usd --limit 500 --window month
///       500 dollars a calendar month for one project.
///   switchboard quotas create --scope key --measure requests --limit 600 --window 1m
///       600 requests a minute for each key.
///   switchboard quotas edit research-month --raise 800 --until 2027-01-01
///       More until the end of the year, and then as before.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct QuotasArgs {
    #[command(subcommand)]
    pub command: QuotasCommand,

    #[command(flatten)]
    pub store: StoreArgs,
}

/// What to do with quotas. A QUOTA is told by its id or its name; those of the file are shown and not changed.
#[derive(Debug, Subcommand)]
pub enum QuotasCommand {
    /// Make a quota.
    Create(Box<CreateArgs>),
    /// List quotas: the stored ones, oldest first, then those of the configuration file.
    List {
        /// Only quotas of the key with this id, name or last four characters.
        #[arg(long)]
        key: Option<String>,
        /// Only quotas of the project with this id.
        #[arg(long, conflicts_with = "key")]
        project: Option<String>,
        /// Print a JSON array, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Show one quota.
    Show {
        quota: String,
        /// Print one JSON object, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Change what a quota says. What is not named stays as it is.
    Edit(Box<EditArgs>),
    /// Put a disabled quota in force again.
    Enable { quota: String },
    /// Take a quota out of force until it is enabled again.
    Disable { quota: String },
    /// Delete a quota, for good.
    Delete { quota: String },
}

/// What a quota says.
#[derive(Debug, Default, Args)]
pub struct Words {
    /// A name for people. Unset: put together from what the quota says.
    #[arg(long)]
    name: Option<String>,
    /// Which ones it is about: names or patterns with one `*`. Of a scope of several words, as `key=ci`, once for each
    /// name. Unset: each has the quota for itself.
    #[arg(long = "match", value_name = "NAME", value_delimiter = ',')]
    matching: Vec<String>,
    /// In which time: a span (1s, 1m, 24h), or hour, day, week, month of the calendar, with a zone as month@Europe/Berlin.
    #[arg(long)]
    window: Option<String>,
    /// What becomes of a call that does not fit: reject, warn, shadow, or downgrade=MODEL.
    #[arg(long)]
    action: Option<String>,
    /// Parts of the limit at which the webhook is told: 0.8,1.
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    warn_at: Vec<f64>,
    /// What becomes of a stream that turns out longer than there is room for: finish or cut.
    #[arg(long)]
    mid_stream: Option<String>,
    /// What holds while counters that replicas share cannot be reached: open or closed.
    #[arg(long)]
    when_down: Option<String>,
    /// Another limit for a time; needs --until.
    #[arg(long, value_name = "LIMIT", requires = "until")]
    raise: Option<String>,
    /// When the raise ends: 7d from now, or a date.
    #[arg(long, value_name = "DATE", requires = "raise")]
    until: Option<Expires>,
}

/// A quota that is wanted.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What is counted apart: project, key, end_user, model, provider, target, tag, session, several of them with a comma
    /// for each combination, or global.
    #[arg(long, value_delimiter = ',', required = true)]
    scope: Vec<String>,
    /// What is counted: requests, tokens, input_tokens, output_tokens, usd, concurrent.
    #[arg(long)]
    measure: String,
    /// The most there may be of it.
    #[arg(long)]
    limit: String,
    #[command(flatten)]
    words: Words,
    /// Print one JSON object, for scripts.
    #[arg(long)]
    json: bool,
}

/// What to change about a quota.
#[derive(Debug, Args)]
pub struct EditArgs {
    quota: String,
    /// What is counted apart from now on.
    #[arg(long, value_delimiter = ',')]
    scope: Vec<String>,
    /// What is counted from now on.
    #[arg(long)]
    measure: Option<String>,
    /// The most there may be of it from now on.
    #[arg(long)]
    limit: Option<String>,
    #[command(flatten)]
    words: Words,
    /// It is about each one that turns up, no longer about some.
    #[arg(long, conflicts_with = "matching")]
    match_all: bool,
    /// Ends a temporary raise.
    #[arg(long, conflicts_with = "raise")]
    no_raise: bool,
}

/// What is said of the use that a command shows: it has no part in the counters of a running gateway.
const FROM_THE_LEDGER: &str = "USED is what the ledger has of calls that have ended. Calls under way are in the counters of \
                               running gateways only: GET /admin/v1/quotas.";

/// The counters that are shown of a quota.
const MOST: usize = 10;

/// Runs the command on the store at `place`, and writes what it has to say to `out`.
///
/// # Errors
/// What went wrong, in a sentence for the person at the terminal.
pub async fn run(command: QuotasCommand, place: &Place, clock: &Clock, out: &mut impl Write) -> Result<()> {
    let db = place.open().await?;
    let outcome = execute(command, &place.keys(&db, clock), clock, out).await;
    db.close().await;
    outcome
}

async fn execute(command: QuotasCommand, keys: &Keys, clock: &Clock, out: &mut impl Write) -> Result<()> {
    let now = Timestamp::try_from(clock.wall()).context("the clock of this machine shows no possible date")?;
    match command {
        QuotasCommand::Create(args) => {
            let CreateArgs { scope, measure, limit, words, json } = *args;
            let mut said = words.said(now)?;
            said.insert("scope".to_owned(), short(scope));
            said.insert("measure".to_owned(), measure.into());
            said.insert("limit".to_owned(), limit.into());
            let settings: QuotaSettings = read(Value::Object(said))?;
            let row = keys.create_quota(&settings, &Actor::COMMAND).await?;
            show(&QuotaView::of_row(&row)?, json, out)
        }
        QuotasCommand::List { key, project, json } => list(key, project, json, keys, out).await,
        QuotasCommand::Show { quota, json } => {
            let mut views = [keys.find_any_quota(&quota).await?];
            keys.add_spent(&mut views, MOST).await?;
            show(&views[0], json, out)?;
            if !json {
                show_use(&views[0], out)?;
            }
            Ok(())
        }
        QuotasCommand::Edit(args) => edit(*args, keys, now, out).await,
        QuotasCommand::Enable { quota } => switch(&quota, true, keys, out).await,
        QuotasCommand::Disable { quota } => switch(&quota, false, keys, out).await,
        QuotasCommand::Delete { quota } => {
            let row = keys.delete_quota(&stored(&quota, keys).await?, None, &Actor::COMMAND).await?;
            writeln!(out, "Deleted {} ({}). Running gateways let go of it within a second.", row.id, row.name)?;
            Ok(())
        }
    }
}

async fn list(
    key: Option<String>,
    project: Option<String>,
    json: bool,
    keys: &Keys,
    out: &mut impl Write,
) -> Result<()> {
    const PAGE: u32 = 500;
    let owner = match (key, project) {
        (Some(key), _) => Some(("key", keys.find(&key).await?.id)),
        (None, project) => project.map(|project| ("project", project)),
    };
    let filter = QuotaFilter { owner, name: None };
    let mut views: Vec<QuotaView> = Vec::new();
    loop {
        let page = keys.list_quotas(&filter, views.last().map(|view| view.id.as_str()), PAGE).await?;
        views.extend(page.data);
        if page.next_cursor.is_none() {
            break;
        }
    }
    keys.add_spent(&mut views, MOST).await?;
    if json {
        writeln!(out, "{}", serde_json::to_value(views)?)?;
    } else if views.is_empty() {
        writeln!(out, "There are no such quotas. Make one with `switchboard quotas create`.")?;
    } else {
        write!(out, "{}\n{FROM_THE_LEDGER}\n", table(&views)?)?;
    }
    Ok(())
}

async fn edit(args: EditArgs, keys: &Keys, now: Timestamp, out: &mut impl Write) -> Result<()> {
    let EditArgs { quota, scope, measure, limit, words, match_all, no_raise } = args;
    let mut said = words.said(now)?;
    if !scope.is_empty() {
        said.insert("scope".to_owned(), short(scope));
    }
    said.extend(measure.map(|measure| ("measure".to_owned(), measure.into())));
    said.extend(limit.map(|limit| ("limit".to_owned(), limit.into())));
    let mut change: QuotaChange = read(Value::Object(said))?;
    if match_all {
        change.matching = Some(Match::Everything);
    }
    if no_raise {
        change.raise = Some(None);
    }
    if change == QuotaChange::default() {
        bail!("there is nothing to change: name a member, for example --limit (see --help)");
    }
    let row = keys.update_quota(&stored(&quota, keys).await?, change, None, &Actor::COMMAND).await?;
    show(&QuotaView::of_row(&row)?, false, out)
}

/// The id of the quota that is to be changed. One that only the file declares is found, so that it is not called missing.
async fn stored(quota: &str, keys: &Keys) -> Result<String, ManageError> {
    match keys.find_quota(quota).await {
        Err(ManageError::NoQuota(_)) => keys.find_any_quota(quota).await.map(|view| view.id),
        found => found.map(|row| row.id),
    }
}

async fn switch(quota: &str, enabled: bool, keys: &Keys, out: &mut impl Write) -> Result<()> {
    let change = QuotaChange { enabled: Some(enabled), ..QuotaChange::default() };
    let row = keys.update_quota(&stored(quota, keys).await?, change, None, &Actor::COMMAND).await?;
    show(&QuotaView::of_row(&row)?, false, out)
}

impl Words {
    /// What was said, as the members of a quota.
    fn said(self, now: Timestamp) -> Result<Map<String, Value>> {
        let Self { name, matching, window, action, warn_at, mid_stream, when_down, raise, until } = self;
        let window = window.map(|text| self::window(&text));
        let action = action.map(|action| match action.strip_prefix("downgrade=") {
            Some(model) => json!({ "downgrade": model }),
            None => action.into(),
        });
        let raise = match raise.zip(until) {
            Some((to, until)) => {
                let until = until.resolve(now)?.context("a raise must end: write --until 7d, or a date")?;
                Some(json!({ "to": to, "until": until }))
            }
            None => None,
        };
        let members = [
            ("name", name.map(Value::from)),
            ("match", (!matching.is_empty()).then(|| matched(matching))),
            ("window", window),
            ("action", action),
            ("warn_at", (!warn_at.is_empty()).then(|| warn_at.into())),
            ("mid_stream", mid_stream.map(Value::from)),
            ("when_down", when_down.map(Value::from)),
            ("raise", raise),
        ];
        Ok(members.into_iter().filter_map(|(member, value)| Some((member.to_owned(), value?))).collect())
    }
}

/// A span, or a stretch of the calendar and its zone.
pub(super) fn window(text: &str) -> Value {
    match text.split_once('@') {
        Some((span, zone)) => json!({ span: zone }),
        None => text.into(),
    }
}

/// Names, or names by dimension where they are written `key=ci`.
fn matched(names: Vec<String>) -> Value {
    if !names.iter().all(|name| name.contains('=')) {
        return short(names);
    }
    let mut by: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (dimension, name) in names.iter().filter_map(|name| name.split_once('=')) {
        by.entry(dimension).or_default().push(name.to_owned());
    }
    by.into_iter().map(|(dimension, names)| (dimension.to_owned(), short(names))).collect()
}

/// One word by itself, several as a list.
fn short(mut words: Vec<String>) -> Value {
    match words.len() {
        1 => words.remove(0).into(),
        _ => words.into(),
    }
}

/// Reads what was said, with the option at fault in the complaint.
fn read<T: DeserializeOwned>(said: Value) -> Result<T> {
    serde_path_to_error::deserialize(said).map_err(|error| {
        let option = error.path().to_string().replace('_', "-");
        anyhow::anyhow!("--{}: {}", option.split(['.', '[']).next().unwrap_or_default(), error.inner())
    })
}

fn show(view: &QuotaView, json: bool, out: &mut impl Write) -> Result<()> {
    if json {
        writeln!(out, "{}", serde_json::to_value(view)?)?;
        return Ok(());
    }
    writeln!(out, "  {:<10}  {}", "id", view.id)?;
    writeln!(out, "  {:<10}  {}", "name", view.name)?;
    let said = serde_json::to_value(&view.quota)?;
    for (member, value) in said.as_object().into_iter().flatten().filter(|(member, _)| *member != "name") {
        writeln!(out, "  {member:<10}  {}", plain(value))?;
    }
    writeln!(out, "  {:<10}  {}", "state", state(view))?;
    writeln!(out, "  {:<10}  {}", "declared", if view.declared { "in the configuration file" } else { "no" })?;
    Ok(())
}

/// The counters of a quota, the fullest first.
fn show_use(view: &QuotaView, out: &mut impl Write) -> Result<()> {
    let Some(used) = &view.used else {
        writeln!(out, "\nOnly running gateways know how much of it is used: GET /admin/v1/quotas/{}.", view.id)?;
        return Ok(());
    };
    let row =
        |counter: &CounterView| vec![subject(counter), counter.used.clone(), counter.limit.clone(), resets(counter)];
    let rows: Vec<_> = used.counters.iter().map(row).collect();
    if rows.is_empty() {
        writeln!(out, "\nNothing of it is used. {FROM_THE_LEDGER}")?;
        return Ok(());
    }
    let head = ["subject", "used", "limit", "resets"];
    let table = Rows { head: head.map(str::to_owned).to_vec(), numbers: head.len(), rows }.aligned();
    write!(out, "\n{table}\n{FROM_THE_LEDGER}\n")?;
    Ok(())
}

fn subject(counter: &CounterView) -> String {
    match counter.subject.is_empty() {
        true => "all calls".to_owned(),
        false => counter.subject.values().cloned().collect::<Vec<_>>().join(", "),
    }
}

fn resets(counter: &CounterView) -> String {
    counter.resets_at.map_or_else(|| "-".to_owned(), |at| date(Some(at)))
}

/// The use of a quota in a table: of several counters that of the fullest, and whose it is. A quota says that nothing is
/// used, and not that nobody knows, only where that is so.
fn used(view: &QuotaView) -> String {
    let Some(used) = &view.used else { return "?".to_owned() };
    match used.counters.as_slice() {
        [] => "0".to_owned(),
        [first, ..] if first.subject.is_empty() => first.used.clone(),
        [first, ..] => format!("{} ({})", first.used, subject(first)),
    }
}

fn state(view: &QuotaView) -> &'static str {
    match view.enabled {
        true => "in force",
        false => "disabled",
    }
}

fn table(views: &[QuotaView]) -> Result<String> {
    let head =
        ["id", "name", "scope", "match", "measure", "used", "limit", "window", "resets", "action", "state", "created"];
    let mut rows = Vec::with_capacity(views.len());
    for view in views {
        let said = serde_json::to_value(&view.quota)?;
        let of = |member: &str| said.get(member).map_or_else(|| "-".to_owned(), plain);
        let action = said.get("action").map_or_else(|| "reject".to_owned(), plain);
        rows.push(vec![
            view.id.clone(),
            view.name.clone(),
            of("scope"),
            of("match"),
            of("measure"),
            used(view),
            of("limit"),
            of("window"),
            view.used.as_ref().and_then(|used| used.counters.first()).map_or_else(|| "-".to_owned(), resets),
            action,
            state(view).to_owned(),
            view.created.map_or_else(|| "in the file".to_owned(), |at| date(Some(at))),
        ]);
    }
    Ok(Rows { head: head.map(str::to_owned).to_vec(), numbers: head.len(), rows }.aligned())
}

/// A value without JSON's signs, where it is one word or several.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            members.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}
