//! `switchboard projects`: make, see, change and archive projects. What is checked and what is written is
//! `auth::manage`'s, as for the admin API.

use std::io::Write;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{
    keys::{Choice, Own, chosen, date, own},
    store::{Place, StoreArgs},
    table::{Rows, listed},
};
use crate::{
    auth::{Keys, ProjectDraft, manage::ProjectView},
    store::{Actor, ProjectEdit},
    types::Clock,
};

/// Make, see, change and archive projects.
///
/// Keys belong to projects, and calls are booked on them. What a key may do is what it *and* its project allow, so a
/// project is where a team's limits are. A key that names none belongs to `default`, which allows everything unless you
/// change it. Running gateways follow a change within a second. Projects declared in the configuration file are changed
/// there.
///
/// Examples:
///   switchboard projects create search --name 'Search team' --models 'openai/*' --addresses 10.0.0.0/8
///       Whatever its keys list, they may use OpenAI's models alone, and from this network alone.
///   switchboard projects archive search
///       None of its keys may do anything until `projects unarchive`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
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
    Create(CreateArgs),
    /// List all projects, by id.
    List {
        /// Print a JSON array, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Show one project.
    Show {
        id: String,
        /// Print one JSON object, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Change what a project is and what its keys may do. What is not named stays as it is.
    Edit(EditArgs),
    /// Archive a project: its keys may do nothing, and none may come to belong to it.
    Archive { id: String },
    /// Take a project out of the archive: its keys work again.
    Unarchive { id: String },
}

/// A project that is wanted.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its id, by which keys and the ledger name it: lower-case letters, digits, `-`, `_`, `.`. It never changes.
    id: String,
    /// A name for people. Unset: the id.
    #[arg(long)]
    name: Option<String>,
    /// A tag to sort projects by; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// The models that its keys may use: names or patterns with one `*`; '*' for all.
    #[arg(long, required = true, value_delimiter = ',')]
    models: Vec<String>,
    /// The endpoints that its keys may use: chat, completions, embeddings, messages, count_tokens, models; '*' for all.
    #[arg(long, value_delimiter = ',', default_value = "*")]
    endpoints: Vec<String>,
    /// From where its keys may be used: addresses and ranges, for example `10.0.0.0/8`; '*' for everywhere.
    #[arg(long, value_delimiter = ',', default_value = "*")]
    addresses: Vec<String>,
    /// Whether what calls of its keys say and are answered is logged, where the gateway logs that (`log.content`): true,
    /// false (which binds its keys), or inherit for what the configuration says.
    #[arg(long, value_name = "CHOICE", default_value = "inherit")]
    log_content: Choice,
    /// A quota of all its keys together, made with it: usd=500/month, requests=600/1m, concurrent=20; may be given several
    /// times. `switchboard quotas` makes others, and changes them.
    #[arg(long = "quota", value_name = "QUOTA")]
    quotas: Vec<Own>,
}

/// What to change about a project.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("change").required(true).multiple(true)))]
pub struct EditArgs {
    id: String,
    /// Its new name.
    #[arg(long, group = "change")]
    name: Option<String>,
    /// Its tags from now on, in place of those before; may be given several times.
    #[arg(long = "tag", value_name = "TAG", group = "change")]
    tags: Option<Vec<String>>,
    /// The models that its keys may use from now on, in place of those before.
    #[arg(long, value_delimiter = ',', group = "change")]
    models: Option<Vec<String>>,
    /// The endpoints that its keys may use from now on, in place of those before.
    #[arg(long, value_delimiter = ',', group = "change")]
    endpoints: Option<Vec<String>>,
    /// From where its keys may be used from now on, in place of what was before.
    #[arg(long, value_delimiter = ',', group = "change")]
    addresses: Option<Vec<String>>,
    /// Whether what calls of its keys say and are answered is logged: true, false, or inherit.
    #[arg(long, value_name = "CHOICE", group = "change")]
    log_content: Option<Choice>,
    /// A further quota of all its keys together, as when it is made; may be given several times.
    #[arg(long = "quota", value_name = "QUOTA", group = "change")]
    quotas: Vec<Own>,
}

/// Runs the command on the store at `place`, and writes what it has to say to `out`.
///
/// # Errors
/// What went wrong, in a sentence for the person at the terminal.
pub async fn run(command: ProjectsCommand, place: &Place, clock: &Clock, out: &mut impl Write) -> Result<()> {
    let db = place.open().await?;
    let outcome = execute(command, &place.keys(&db, clock), out).await;
    db.close().await;
    outcome
}

async fn execute(command: ProjectsCommand, keys: &Keys, out: &mut impl Write) -> Result<()> {
    match command {
        ProjectsCommand::Create(args) => {
            let CreateArgs { id, name, tags, models, endpoints, addresses, log_content, quotas } = args;
            let (log_content, quotas) = (log_content.0, own(quotas));
            let draft = ProjectDraft { id, name, tags, models, endpoints, addresses, log_content, quotas };
            let row = keys.create_project(draft, &Actor::COMMAND).await?;
            writeln!(out, "Made the project {}. A key of it: `switchboard keys create --project {0} …`", row.id)?;
            describe(&ProjectView::of_row(&row), out)?;
        }
        ProjectsCommand::List { json } => {
            let views = all(keys).await?;
            if json {
                writeln!(out, "{}", serde_json::to_value(views)?)?;
            } else {
                write!(out, "{}", table(&views))?;
            }
        }
        ProjectsCommand::Show { id, json } => {
            let view = keys.project(&id).await?;
            if json {
                writeln!(out, "{}", serde_json::to_value(view)?)?;
            } else {
                describe(&view, out)?;
            }
        }
        ProjectsCommand::Edit(args) => {
            let EditArgs { id, name, tags, models, endpoints, addresses, log_content, quotas } = args;
            let log_content = log_content.map(|choice| choice.0);
            let edit = ProjectEdit { name, tags, models, endpoints, addresses, log_content, archived: None };
            let row = keys.update_project(&id, edit, own(quotas), None, &Actor::COMMAND).await?;
            describe(&ProjectView::of_row(&row), out)?;
        }
        ProjectsCommand::Archive { id } => {
            let row = keys.archive_project(&id, true, None, &Actor::COMMAND).await?;
            writeln!(out, "The project {} is archived: running gateways refuse its keys within a second.", row.id)?;
        }
        ProjectsCommand::Unarchive { id } => {
            let row = keys.archive_project(&id, false, None, &Actor::COMMAND).await?;
            writeln!(out, "The project {} is in use again.", row.id)?;
        }
    }
    Ok(())
}

async fn all(keys: &Keys) -> Result<Vec<ProjectView>> {
    const PAGE: u32 = 500;
    let mut views: Vec<ProjectView> = Vec::new();
    loop {
        let page = keys.list_projects(views.last().map(|view| view.id.as_str()), PAGE).await?;
        views.extend(page.data);
        if page.next_cursor.is_none() {
            return Ok(views);
        }
    }
}

fn describe(view: &ProjectView, out: &mut impl Write) -> Result<()> {
    let state = match (view.is_archived, view.archived) {
        (false, _) => "in use".to_owned(),
        (true, None) => "archived".to_owned(),
        (true, at) => format!("archived at {}", date(at)),
    };
    let lines = [
        ("id", view.id.clone()),
        ("name", view.name.clone()),
        ("tags", listed(&view.tags)),
        ("models", listed(&view.models)),
        ("endpoints", listed(&view.endpoints)),
        ("addresses", listed(&view.addresses)),
        ("log content", chosen(view.log_content).unwrap_or_else(|| "as the configuration says".to_owned())),
        ("state", state),
        ("declared", if view.declared { "in the configuration file" } else { "no" }.to_owned()),
    ];
    for (name, value) in lines {
        writeln!(out, "  {name:<11}  {value}")?;
    }
    Ok(())
}

fn table(views: &[ProjectView]) -> String {
    let head = ["id", "name", "state", "created", "models", "endpoints", "addresses"];
    let row = |view: &ProjectView| {
        vec![
            view.id.clone(),
            view.name.clone(),
            if view.is_archived { "archived" } else { "in use" }.to_owned(),
            view.created.map_or_else(|| "in the file".to_owned(), |at| date(Some(at))),
            listed(&view.models),
            listed(&view.endpoints),
            listed(&view.addresses),
        ]
    };
    Rows { head: head.map(str::to_owned).to_vec(), numbers: head.len(), rows: views.iter().map(row).collect() }
        .aligned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        projects: ProjectsArgs,
    }

    #[tokio::test]
    async fn a_project_is_made_once_listed_changed_and_archived() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::folder(dir.path());
        let run = async |args: &[&str]| {
            let cli =
                Cli::try_parse_from(std::iter::once(&"projects").chain(args)).map_err(|error| error.to_string())?;
            let mut out = Vec::new();
            let outcome = run(cli.projects.command, &place, &Clock::Real, &mut out).await;
            outcome.map(|()| String::from_utf8(out).unwrap()).map_err(|error| error.to_string())
        };
        let search = ["create", "search", "--name", "Search team", "--tag", "eu", "--models", "openai/*"];
        run(&search).await.unwrap();
        assert!(run(&search).await.unwrap_err().contains("already"));
        assert!(run(&["create", "Search Team", "--models", "*"]).await.unwrap_err().contains("lower-case"));
        assert!(run(&["create", "team"]).await.unwrap_err().contains("--models"));
        assert!(run(&["create", "team", "--models", "*/*"]).await.unwrap_err().contains("more than one `*`"));
        assert!(run(&["edit", "search"]).await.unwrap_err().contains("required"));
        let listed: Value = serde_json::from_str(&run(&["list", "--json"]).await.unwrap()).unwrap();
        assert_eq!((&listed[0]["id"], &listed[1]["name"]), (&json!("default"), &json!("Search team")));
        assert_eq!((&listed[0]["models"], &listed[1]["models"]), (&json!(["*"]), &json!(["openai/*"])));
        assert_eq!(listed[1]["tags"], json!(["eu"]));

        run(&["edit", "search", "--models", "gpt", "--endpoints", "chat", "--addresses", "10.0.0.0/8"]).await.unwrap();
        let shown: Value = serde_json::from_str(&run(&["show", "search", "--json"]).await.unwrap()).unwrap();
        assert_eq!((&shown["models"], &shown["endpoints"]), (&json!(["gpt"]), &json!(["chat"])));
        assert!(run(&["show", "search"]).await.unwrap().contains("10.0.0.0/8"));

        let quota = ["edit", "search", "--quota", "usd=50/month@Europe/Berlin", "--log-content", "false"];
        assert!(run(&quota).await.unwrap().contains("log content  false"));
        assert_eq!(
            run(&["edit", "search", "--log-content", "inherit"]).await.unwrap().matches("as the config").count(),
            1
        );

        run(&["archive", "search"]).await.unwrap();
        let table = run(&["list"]).await.unwrap();
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.lines().last().unwrap().contains("archived"), "{table}");
        run(&["unarchive", "search"]).await.unwrap();
        assert!(run(&["show", "search"]).await.unwrap().contains("in use"));
        assert!(run(&["archive", "nobody"]).await.unwrap_err().contains("no project"));
    }
}
