//! `switchboard keys`: make, list, change and revoke the keys in the store. A running gateway follows within a second.

use std::{io::Write, str::FromStr};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};
use serde_json::{Value, json};

use super::store::{Place, StoreArgs};
use crate::{
    auth::{Draft, Keys, Settings, labels::DEFAULT_PROJECT},
    store::{self, Db, KeyEdit, KeyRow},
    types::Clock,
};

/// Make, list, change and revoke API keys.
///
/// Keys are kept in the gateway's database as hashes; a running gateway follows a change within a second. Keys declared in
/// the configuration file are not among them: change those in the file.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    pub command: KeysCommand,

    #[command(flatten)]
    pub store: StoreArgs,
}

/// What to do with keys. A KEY is told by its id, its name or its last four characters.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key. It is shown once; only its hash is kept.
    Create {
        /// Who uses it, for people and logs.
        #[arg(long)]
        name: String,
        /// The models it may use: names or patterns with one `*`, for example `gpt-5.5,openai/*`; '*' for all.
        #[arg(long, required = true, value_delimiter = ',')]
        models: Vec<String>,
        /// When it stops working: 30d, 12h, 2027-01-31 (at 00:00 UTC), 2027-01-31T12:00:00Z, or never.
        #[arg(long, default_value = "never")]
        expires: Expires,
        /// The id of the project that its calls are booked on.
        #[arg(long, default_value = DEFAULT_PROJECT)]
        project: String,
        /// A tag that its calls are sorted by; may be given several times.
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// Print one JSON object, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// List all keys, oldest first.
    List {
        /// Print a JSON array, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key, for good.
    Revoke { key: String },
    /// Let a disabled key work again.
    Enable { key: String },
    /// Refuse a key until it is enabled again.
    Disable { key: String },
    /// Change a key's name, project, tags, models or expiry.
    #[command(group(clap::ArgGroup::new("change").required(true).multiple(true)))]
    Edit {
        key: String,
        /// Its new name.
        #[arg(long, group = "change")]
        name: Option<String>,
        /// The project that its calls are booked on from now on.
        #[arg(long, group = "change")]
        project: Option<String>,
        /// Its tags from now on, in place of those before; may be given several times.
        #[arg(long = "tag", value_name = "TAG", group = "change")]
        tags: Option<Vec<String>>,
        /// The models it may use from now on, in place of those before.
        #[arg(long, value_delimiter = ',', group = "change")]
        models: Option<Vec<String>>,
        /// When it stops working: 30d from now, a date, or never.
        #[arg(long, group = "change")]
        expires: Option<Expires>,
    },
    /// Say whether there is an admin key, or make a new one.
    ///
    /// The admin key opens the admin API, and makes no calls. A gateway whose configuration has one (`admin.key`, or
    /// SWITCHBOARD_ADMIN_KEY) takes that one instead.
    Admin {
        /// Make a new key in place of the stored one. It is shown once; running gateways follow within a second.
        #[arg(long)]
        rotate: bool,
    },
}

/// When a key stops working, as people write it.
#[derive(Clone, Copy, Debug)]
pub enum Expires {
    Never,
    In(Span),
    At(Timestamp),
}

/// Runs the command on the store at `place`, and writes what it has to say to `out`.
///
/// # Errors
/// What went wrong, in a sentence for the person at the terminal.
pub async fn run(command: KeysCommand, place: &Place, clock: &Clock, out: &mut impl Write) -> Result<()> {
    if !matches!(command, KeysCommand::Create { .. } | KeysCommand::Admin { rotate: true }) && !place.exists() {
        bail!(
            "there is no key store in {} yet; name the gateway's data directory with --data-dir, or make a first key \
             with `switchboard keys create`",
            place.data_dir.display()
        );
    }
    let db = place.open().await?;
    let keys = Keys::new(db.clone(), clock.clone(), &Settings::default());
    let outcome = execute(command, &keys, &db, clock, out).await;
    db.close().await;
    outcome
}

async fn execute(command: KeysCommand, keys: &Keys, db: &Db, clock: &Clock, out: &mut impl Write) -> Result<()> {
    let now = Timestamp::try_from(clock.wall()).context("the clock of this machine shows no possible date")?;
    match command {
        KeysCommand::Create { name, models, expires, project, tags, json } => {
            let draft = Draft { name, models, expires: expires.resolve(now)?, project, tags };
            let (row, secret) = keys.create(draft).await?;
            if json {
                let mut object = to_json(&row, now);
                object["key"] = secret.expose().into();
                writeln!(out, "{object}")?;
            } else {
                writeln!(out, "{}\n", secret.expose())?;
                writeln!(out, "This is the key. Keep it now: only its hash is stored, and it cannot be shown again.")?;
                describe(&row, now, out)?;
            }
        }
        KeysCommand::List { json } => {
            let rows = all(db).await?;
            if json {
                let rows: Vec<Value> = rows.iter().map(|row| to_json(row, now)).collect();
                writeln!(out, "{}", Value::from(rows))?;
            } else {
                write_table(&rows, now, out)?;
            }
        }
        KeysCommand::Revoke { key } => {
            let row = keys.revoke(&key).await?;
            writeln!(out, "Revoked {} ({}). Running gateways refuse it within a second.", row.id, row.name)?;
        }
        KeysCommand::Enable { key } => {
            let edit = KeyEdit { enabled: Some(true), ..KeyEdit::default() };
            describe(&keys.update(&key, edit).await?, now, out)?;
        }
        KeysCommand::Disable { key } => {
            let edit = KeyEdit { enabled: Some(false), ..KeyEdit::default() };
            describe(&keys.update(&key, edit).await?, now, out)?;
        }
        KeysCommand::Edit { key, name, project, tags, models, expires } => {
            let expires = expires.map(|expires| expires.resolve(now)).transpose()?;
            let edit = KeyEdit { name, project, tags, models, expires, enabled: None };
            describe(&keys.update(&key, edit).await?, now, out)?;
        }
        KeysCommand::Admin { rotate: true } => {
            writeln!(out, "{}\n", keys.rotate_admin_key().await?.expose())?;
            writeln!(
                out,
                "This is the admin key. Keep it now: only its hash is stored, and it cannot be shown again. The one \
                 before stops working within a second."
            )?;
        }
        KeysCommand::Admin { rotate: false } => writeln!(
            out,
            "{}",
            if keys.has_stored_admin_key().await? {
                "There is an admin key in the store. `switchboard keys admin --rotate` makes a new one."
            } else {
                "There is no admin key in the store. `switchboard keys admin --rotate` makes one."
            }
        )?,
    }
    Ok(())
}

pub(super) async fn all(db: &Db) -> Result<Vec<KeyRow>> {
    const PAGE: u32 = 500;
    let mut rows: Vec<KeyRow> = Vec::new();
    loop {
        let page = store::keys::list(db, rows.last().map(|row| row.id.as_str()), PAGE).await?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

fn describe(row: &KeyRow, now: Timestamp, out: &mut impl Write) -> Result<()> {
    writeln!(out, "  id       {}", row.id)?;
    writeln!(out, "  name     {}", row.name)?;
    writeln!(out, "  key      …{}", row.hint)?;
    writeln!(out, "  project  {}", row.project)?;
    if !row.tags.is_empty() {
        writeln!(out, "  tags     {}", row.tags.join(", "))?;
    }
    writeln!(out, "  models   {}", models(row))?;
    writeln!(out, "  state    {}", state(row, now))?;
    writeln!(out, "  expires  {}", date(row.expires))?;
    Ok(())
}

fn write_table(rows: &[KeyRow], now: Timestamp, out: &mut impl Write) -> Result<()> {
    if rows.is_empty() {
        writeln!(out, "There are no keys in the store. Make one with `switchboard keys create`.")?;
        return Ok(());
    }
    let head = ["ID", "NAME", "KEY", "PROJECT", "STATE", "EXPIRES", "CREATED", "MODELS"].map(str::to_owned);
    let body = rows.iter().map(|row| {
        let KeyRow { id, name, hint, .. } = row;
        let created = date(Some(row.created));
        [
            id.clone(),
            name.clone(),
            format!("…{hint}"),
            row.project.clone(),
            state(row, now).to_owned(),
            date(row.expires),
            created,
            models(row),
        ]
    });
    let lines: Vec<[String; 8]> = std::iter::once(head).chain(body).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn to_json(row: &KeyRow, now: Timestamp) -> Value {
    json!({
        "id": row.id,
        "name": row.name,
        "hint": row.hint,
        "project": row.project,
        "tags": row.tags,
        "models": row.models,
        "state": state(row, now),
        "enabled": row.enabled,
        "expires": row.expires,
        "created": row.created,
        "revoked": row.revoked,
    })
}

fn state(row: &KeyRow, now: Timestamp) -> &'static str {
    match row {
        KeyRow { revoked: Some(_), .. } => "revoked",
        KeyRow { enabled: false, .. } => "disabled",
        KeyRow { expires: Some(at), .. } if *at <= now => "expired",
        _ => "active",
    }
}

fn models(row: &KeyRow) -> String {
    if row.models.is_empty() { "none".to_owned() } else { row.models.join(", ") }
}

/// To the second, which is what people read; JSON has the whole.
pub(super) fn date(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "never".to_owned(), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

impl Expires {
    /// # Errors
    /// When the span leads beyond the calendar.
    fn resolve(self, now: Timestamp) -> Result<Option<Timestamp>> {
        match self {
            Self::Never => Ok(None),
            Self::At(at) => Ok(Some(at)),
            // In UTC, so that days and months can be added, and a day always has 24 hours.
            Self::In(span) => {
                let at = now.to_zoned(TimeZone::UTC).checked_add(span).context("the key would expire too far away")?;
                Ok(Some(at.timestamp()))
            }
        }
    }
}

impl FromStr for Expires {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("never") {
            return Ok(Self::Never);
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::At(at));
        }
        // The parser of dates would also take a time of day, and drop it.
        if text.len() == "2027-01-31".len()
            && let Ok(date) = text.parse::<Date>()
            && let Ok(midnight) = date.to_zoned(TimeZone::UTC)
        {
            return Ok(Self::At(midnight.timestamp()));
        }
        text.parse::<Span>().map(Self::In).map_err(|_| {
            "write a span (30d, 12h, 6mo), a date (2027-01-31), a time with its zone (2027-01-31T12:00:00Z), or never"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        keys: KeysArgs,
    }

    async fn keys(data_dir: &Path, clock: &Clock, args: &[&str]) -> Result<String> {
        let cli = Cli::try_parse_from(std::iter::once(&"keys").chain(args))?;
        let mut out = Vec::new();
        let place = Place { data_dir: data_dir.to_owned(), database: None };
        run(cli.keys.command, &place, clock, &mut out).await?;
        Ok(String::from_utf8(out)?)
    }

    #[tokio::test]
    async fn a_key_is_made_listed_changed_and_revoked() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::Real);
        let run = async |args: &[&str]| keys(dir.path(), &clock, args).await;

        let made = run(&["create", "--name", "ci", "--models", "openai/*,gpt-5.5", "--expires", "30d", "--tag", "eu"])
            .await
            .unwrap();
        let key = made.lines().next().unwrap().to_owned();
        assert!(key.starts_with("sk-sb-"), "{made}");
        assert!(made.contains("openai/*, gpt-5.5"), "{made}");

        let table = run(&["list"]).await.unwrap();
        assert_eq!(table.lines().count(), 2, "{table}");
        assert!(table.contains("ci") && table.contains("active") && !table.contains(&key), "{table}");

        run(&["disable", "ci"]).await.unwrap();
        assert!(run(&["list"]).await.unwrap().contains("disabled"));
        run(&["enable", &key[key.len() - 4..]]).await.unwrap();
        run(&["edit", "ci", "--name", "ci two", "--models", "*", "--expires", "never"]).await.unwrap();

        let listed: Value = serde_json::from_str(&run(&["list", "--json"]).await.unwrap()).unwrap();
        let row = &listed[0];
        assert_eq!((&row["name"], &row["models"], &row["state"]), (&json!("ci two"), &json!(["*"]), &json!("active")));
        assert_eq!((&row["expires"], &row["project"], &row["tags"]), (&Value::Null, &json!("default"), &json!(["eu"])));
        assert!(!listed.to_string().contains(&key));

        // A key that leaked can be revoked by itself, and is not echoed.
        let revoked = run(&["revoke", &key]).await.unwrap();
        assert!(revoked.contains("ci two") && !revoked.contains(&key), "{revoked}");
        assert!(run(&["list"]).await.unwrap().contains("revoked"));
        let error = run(&["enable", row["id"].as_str().unwrap()]).await.unwrap_err().to_string();
        assert!(error.contains("revoked"), "{error}");
    }

    #[tokio::test]
    async fn json_of_a_new_key_holds_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let args = ["create", "--name", "ci", "--models", "*", "--json"];
        let made: Value = serde_json::from_str(&keys(dir.path(), &Clock::Real, &args).await.unwrap()).unwrap();
        assert!(made["key"].as_str().unwrap().ends_with(made["hint"].as_str().unwrap()));
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused_with_a_reason() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::Real);
        let other = dir.path().join("nothing-here");
        let cases: &[(&[&str], &str)] = &[
            (&["create", "--name", "a"], "--models"),
            (&["create", "--name", " ", "--models", "*"], "needs a name"),
            (&["create", "--name", "a", "--models", "*/*"], "more than one `*`"),
            (&["create", "--name", "a", "--models", "*", "--expires", "2001-01-01"], "in the past"),
            (&["create", "--name", "a", "--models", "*", "--expires", "soon"], "write a span"),
            (&["create", "--name", "a", "--models", "*", "--expires", "9999y"], "too far away"),
            (&["edit", "a"], "required"),
            (&["revoke", "nobody"], "no key has"),
            (&["create", "--name", "a", "--models", "*", "--project", "nobody"], "projects create"),
            (&["create", "--name", "a", "--models", "*", "--tag", "a b"], "visible ASCII"),
        ];
        keys(dir.path(), &clock, &["create", "--name", "a", "--models", "*"]).await.unwrap();
        for (args, reason) in cases {
            let error = keys(dir.path(), &clock, args).await.unwrap_err().to_string();
            assert!(error.contains(reason), "{args:?}: {error}");
        }
        let error = keys(&other, &clock, &["list"]).await.unwrap_err().to_string();
        assert!(error.contains("no key store"), "{error}");
        assert!(!other.exists(), "a wrong directory is not made");
    }

    #[test]
    fn an_expiry_is_a_span_a_date_or_a_time() {
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let cases = [
            ("never", None),
            ("30d", Some("2026-12-20T10:00:00Z")),
            ("12h", Some("2026-11-20T22:00:00Z")),
            ("90m", Some("2026-11-20T11:30:00Z")),
            ("6mo", Some("2027-05-20T10:00:00Z")),
            ("2w", Some("2026-12-04T10:00:00Z")),
            ("2027-01-31", Some("2027-01-31T00:00:00Z")),
            ("2027-01-31T12:00:00+01:00", Some("2027-01-31T11:00:00Z")),
        ];
        for (text, at) in cases {
            let resolved = text.parse::<Expires>().unwrap().resolve(now).unwrap();
            assert_eq!(resolved, at.map(|at| at.parse().unwrap()), "{text}");
        }
        for text in ["", "30", "d", "2027-13-01", "2027-01-31T12:00:00", "tomorrow"] {
            assert!(text.parse::<Expires>().is_err(), "{text}");
        }
    }
}
