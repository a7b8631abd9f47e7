//! `switchboard projects`: make, list and archive projects.

use std::io::Write;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    keys::date,
    store::{Place, StoreArgs},
};
use crate::{
    auth::labels::{check_project, check_tags},
    store::{AuditRow, Db, ProjectRow, audit, projects},
    types::Clock,
};

/// Make, list and archive projects.
///
/// Keys belong to projects, and calls are booked on them. A key that names none belongs to `default`.
#[derive(Debug, clap::Args)]
pub struct ProjectsArgs {
    #[command(subcommand)]
    pub command: ProjectsCommand,

    #[command(flatten)]
    pub store: StoreArgs,
}

/// What to do with projects.
#[derive(Debug, Subcommand)]
pub enum ProjectsCommand {
    /// Make a project.
    Create {
        /// Its id, by which keys and the ledger name it: lower-case letters, digits, `-`, `_`, `.`. It never changes.
        id: String,
        /// A name for people. Unset: the id.
        #[arg(long)]
        name: Option<String>,
        /// A tag to sort projects by; may be given several times.
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
    },
    /// List all projects, by id.
    List {
        /// Print a JSON array, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Let no new keys belong to a project. Its keys go on working.
    Archive { id: String },
    /// Take a project out of the archive.
    Unarchive { id: String },
}

/// Runs the command on the store at `place`, and writes what it has to say to `out`.
///
/// # Errors
/// What went wrong, in a sentence for the person at the terminal.
pub async fn run(command: ProjectsCommand, place: &Place, clock: &Clock, out: &mut impl Write) -> Result<()> {
    let db = place.open().await?;
    let outcome = execute(command, &db, clock, out).await;
    db.close().await;
    outcome
}

async fn execute(command: ProjectsCommand, db: &Db, clock: &Clock, out: &mut impl Write) -> Result<()> {
    let now = Timestamp::from_millisecond(i64::try_from(clock.unix_millis())?)
        .context("the clock of this machine shows no possible date")?;
    match command {
        ProjectsCommand::Create { id, name, tags } => {
            check_project(&id).map_err(anyhow::Error::msg)?;
            check_tags(&tags).map_err(anyhow::Error::msg)?;
            let name = name.unwrap_or_else(|| id.clone());
            let project = ProjectRow { id, name, tags, created: now, archived: None };
            if !projects::create(db, &project).await? {
                bail!("there is a project `{}` already", project.id);
            }
            let detail = json!({ "name": project.name, "tags": project.tags });
            audit::append(db, &AuditRow::of_command(clock, "project.create", &project.id, &detail)).await?;
            writeln!(out, "Made the project {}. A key of it: `switchboard keys create --project {0} …`", project.id)?;
        }
        ProjectsCommand::List { json } => {
            let rows = all(db).await?;
            if json {
                writeln!(out, "{}", Value::from(rows.iter().map(to_json).collect::<Vec<_>>()))?;
            } else {
                write_table(&rows, out)?;
            }
        }
        ProjectsCommand::Archive { id } => archive(db, &id, Some(now), clock, out).await?,
        ProjectsCommand::Unarchive { id } => archive(db, &id, None, clock, out).await?,
    }
    Ok(())
}

async fn archive(db: &Db, id: &str, at: Option<Timestamp>, clock: &Clock, out: &mut impl Write) -> Result<()> {
    let Some(project) = projects::archive(db, id, at).await? else {
        bail!("there is no project `{}`", id.escape_debug());
    };
    let action = if at.is_some() { "project.archive" } else { "project.unarchive" };
    audit::append(db, &AuditRow::of_command(clock, action, &project.id, &json!({}))).await?;
    let state = if at.is_some() { "archived: no new key may belong to it" } else { "in use again" };
    writeln!(out, "The project {} is {state}.", project.id)?;
    Ok(())
}

async fn all(db: &Db) -> Result<Vec<ProjectRow>> {
    const PAGE: u32 = 500;
    let mut rows: Vec<ProjectRow> = Vec::new();
    loop {
        let page = projects::list(db, rows.last().map(|row| row.id.as_str()), PAGE).await?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

fn write_table(rows: &[ProjectRow], out: &mut impl Write) -> Result<()> {
    let width = rows.iter().map(|row| row.id.len()).max().unwrap_or(0).max("ID".len());
    writeln!(out, "{:width$}  {:20}  {:20}  NAME", "ID", "CREATED", "ARCHIVED")?;
    for row in rows {
        let archived = row.archived.map_or_else(|| "-".to_owned(), |at| date(Some(at)));
        writeln!(out, "{:width$}  {:20}  {archived:20}  {}", row.id, date(Some(row.created)), row.name)?;
    }
    Ok(())
}

fn to_json(row: &ProjectRow) -> Value {
    json!({ "id": row.id, "name": row.name, "tags": row.tags, "created": row.created, "archived": row.archived })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_project_is_made_once_listed_and_archived() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { data_dir: dir.path().to_owned(), database: None };
        let run = async |command: ProjectsCommand| {
            let mut out = Vec::new();
            let outcome = run(command, &place, &Clock::Real, &mut out).await;
            outcome.map(|()| String::from_utf8(out).unwrap()).map_err(|error| error.to_string())
        };
        let create = |id: &str| ProjectsCommand::Create {
            id: id.to_owned(),
            name: Some("Search team".to_owned()),
            tags: vec!["eu".to_owned()],
        };
        run(create("search")).await.unwrap();
        assert!(run(create("search")).await.unwrap_err().contains("already"));
        assert!(run(create("Search Team")).await.unwrap_err().contains("lower-case"));
        let listed: Value = serde_json::from_str(&run(ProjectsCommand::List { json: true }).await.unwrap()).unwrap();
        assert_eq!((&listed[0]["id"], &listed[1]["name"]), (&json!("default"), &json!("Search team")));
        assert_eq!(listed[1]["tags"], json!(["eu"]));

        run(ProjectsCommand::Archive { id: "search".to_owned() }).await.unwrap();
        let table = run(ProjectsCommand::List { json: false }).await.unwrap();
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(!table.lines().last().unwrap().contains(" - "), "{table}");
        run(ProjectsCommand::Unarchive { id: "search".to_owned() }).await.unwrap();
        assert!(run(ProjectsCommand::Archive { id: "nobody".to_owned() }).await.unwrap_err().contains("no project"));
    }
}
