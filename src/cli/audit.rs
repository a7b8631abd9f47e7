//! `switchboard audit`: what administrators did.

use std::io::Write;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    keys::date,
    store::{Place, StoreArgs},
    table::Rows,
};
use crate::{
    auth::manage::AuditView,
    store::AuditFilter,
    types::{Clock, Moment, Zone},
};

/// See what administrators did.
///
/// Every change of keys, projects and the admin key is there, by whom, from where, and what was before and after; never a
/// secret. Nothing is ever taken out.
///
/// Examples:
///   switchboard audit list --kind key --since 2026-11-01
///       What became of keys since the beginning of November.
///   switchboard audit list --object 01JB6Y… --json
///       All that was done to one key, for scripts.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct AuditArgs {
    #[command(subcommand)]
    pub command: AuditCommand,

    #[command(flatten)]
    pub store: StoreArgs,
}

/// What to do with the audit log: it can be read.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List what was done, newest first.
    List(ListArgs),
}

/// What to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only what was done to things of this kind: key, project, admin_key.
    #[arg(long)]
    kind: Option<String>,
    /// Only what was done to the thing with this id.
    #[arg(long, value_name = "ID")]
    object: Option<String>,
    /// Only what was done by: admin_key (over the admin API), command (at the database), gateway (at its first start).
    #[arg(long)]
    actor: Option<String>,
    /// Only this, for example key.create.
    #[arg(long)]
    action: Option<String>,
    /// Since a date, or a time with its offset.
    #[arg(long, value_name = "DATE")]
    since: Option<Moment>,
    /// Until before a date, or a time with its offset.
    #[arg(long, value_name = "DATE")]
    until: Option<Moment>,
    /// The zone of dates, by its IANA name.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    tz: Zone,
    /// How many at most, the newest.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print a JSON array, for scripts.
    #[arg(long)]
    json: bool,
}

/// Runs the command on the store at `place`, and writes what it has to say to `out`.
///
/// # Errors
/// What went wrong, in a sentence for the person at the terminal.
pub async fn run(command: AuditCommand, place: &Place, clock: &Clock, out: &mut impl Write) -> Result<()> {
    place.expect_one()?;
    let db = place.open().await?;
    let AuditCommand::List(args) = command;
    let outcome = list(args, place, &db, clock, out).await;
    db.close().await;
    outcome
}

async fn list(args: ListArgs, place: &Place, db: &crate::store::Db, clock: &Clock, out: &mut impl Write) -> Result<()> {
    const PAGE: u32 = 500;
    let ListArgs { kind, object, actor, action, since, until, tz, limit, json } = args;
    let at = |moment: Option<Moment>| {
        let at = moment.map(|moment| moment.at(&tz)).transpose().map_err(anyhow::Error::msg)?;
        Ok::<_, anyhow::Error>(at.map(jiff::Timestamp::as_millisecond))
    };
    let filter =
        AuditFilter { object_kind: kind, object_id: object, actor, action, since: at(since)?, until: at(until)? };
    let keys = place.keys(db, clock);
    let mut views: Vec<AuditView> = Vec::new();
    loop {
        let wanted = limit - u32::try_from(views.len()).unwrap_or(limit).min(limit);
        if wanted == 0 {
            break;
        }
        let page = keys.audit(&filter, views.last().map(|view| view.id.as_str()), wanted.min(PAGE)).await?;
        views.extend(page.data);
        if page.next_cursor.is_none() {
            break;
        }
    }
    if json {
        writeln!(out, "{}", serde_json::to_value(views)?)?;
    } else {
        write!(out, "{}", table(&views))?;
    }
    Ok(())
}

fn table(views: &[AuditView]) -> String {
    let head = ["at", "actor", "address", "action", "object", "changes"];
    let row = |view: &AuditView| {
        vec![
            date(Some(view.at)),
            view.actor.clone(),
            view.address.clone().unwrap_or_else(|| "-".to_owned()),
            view.action.clone(),
            view.object.clone(),
            changes(&view.changes),
        ]
    };
    Rows { head: head.map(str::to_owned).to_vec(), numbers: head.len(), rows: views.iter().map(row).collect() }
        .aligned()
}

/// `enabled: true → false`, and the like. What was not there before is told without that.
fn changes(changes: &Value) -> String {
    const MAX: usize = 120;
    let members = changes.as_object().into_iter().flatten();
    let told = members.filter_map(|(name, change)| match (change.get("before")?, change.get("after")?) {
        (Value::Null, after) => Some(format!("{name}: {after}")),
        (before, after) => Some(format!("{name}: {before} → {after}")),
    });
    let told = told.collect::<Vec<_>>().join("; ");
    match told.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &told[..end]),
        None => told,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::{
        auth::Draft,
        store::{Actor, KeyEdit},
    };

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        audit: AuditArgs,
    }

    #[tokio::test]
    async fn what_was_done_is_listed_with_what_was_before_and_after() {
        let dir = tempfile::tempdir().unwrap();
        let (place, clock) = (Place::folder(dir.path()), Clock::Real);
        let run = async |args: &[&str]| {
            let cli = Cli::try_parse_from(std::iter::once(&"audit").chain(args)).map_err(|error| error.to_string())?;
            let mut out = Vec::new();
            let outcome = run(cli.audit.command, &place, &clock, &mut out).await;
            outcome.map(|()| String::from_utf8(out).unwrap()).map_err(|error| error.to_string())
        };
        assert!(run(&["list"]).await.unwrap_err().contains("no database"));
        let db = place.open().await.unwrap();
        let keys = place.keys(&db, &clock);
        let (row, secret) = keys.create(Draft::new("ci", &["*".to_owned()], None), &Actor::COMMAND).await.unwrap();
        let off = KeyEdit { enabled: Some(false), ..KeyEdit::default() };
        keys.update(&row.id, off.clone(), Vec::new(), None, &Actor::COMMAND).await.unwrap();
        keys.update(&row.id, off, Vec::new(), None, &Actor::COMMAND).await.unwrap();
        db.close().await;

        let table = run(&["list"]).await.unwrap();
        assert_eq!(table.lines().count(), 3, "what changes nothing leaves no trace: {table}");
        assert!(table.contains("enabled: true → false") && table.contains("name: \"ci\""), "{table}");
        assert!(!table.contains(secret.expose()) && !table.contains(&row.hash.to_string()), "{table}");
        let listed: Value =
            serde_json::from_str(&run(&["list", "--action", "key.update", "--json"]).await.unwrap()).unwrap();
        assert_eq!(listed[0]["changes"], json!({ "enabled": { "before": true, "after": false } }));
        assert_eq!((&listed[0]["object"], &listed[0]["actor"]), (&json!(row.id), &json!("command")));
        assert_eq!(listed.as_array().unwrap().len(), 1);
        for nothing in [["--kind", "project"], ["--until", "2026-01-01"], ["--actor", "admin_key"], ["--object", "x"]] {
            let args = [&["list", "--json"][..], &nothing].concat();
            assert_eq!(run(&args).await.unwrap(), "[]\n", "{nothing:?}");
        }
        let newest: Value = serde_json::from_str(&run(&["list", "--limit", "1", "--json"]).await.unwrap()).unwrap();
        assert_eq!(newest, listed);
    }
}
