//! `switchboard keys`: make, see, change, rotate and revoke the keys in the store. A running gateway follows within a
//! second. What is checked and what is written is `auth::manage`'s, as for the admin API.

mod choice;
mod expires;
mod own;
mod show;

use std::io::Write;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;

pub use self::{choice::Choice, expires::Expires, own::Own};
pub(super) use self::{choice::chosen, own::own, show::date};
use super::store::{Place, StoreArgs};
use crate::{
    auth::{Draft, Keys, labels::DEFAULT_PROJECT, manage::KeyView},
    store::{self, Actor, Db, KeyEdit, KeyFilter, KeyRow, KeyState},
    types::{Clock, Period},
};

/// Make, see, change, rotate and revoke API keys.
///
/// Keys are kept in the gateway's database as hashes; a running gateway follows a change within a second, and streams that
/// are under way go on. Every change is in the audit log (`switchboard audit`). Keys declared in the configuration file are
/// not among them: change those in the file.
///
/// What a key may do is what it *and* its project allow. An empty list allows nothing; '*' is everything.
///
/// Examples:
///   switchboard keys create --name ci --models 'openai/*' --expires 90d
///       A key for OpenAI's models, for three months.
///   switchboard keys create --name web --models gpt-5.5 --endpoints chat,models --addresses 10.0.0.0/8 --max-tokens 4096
///       A key that chats from the company's network, with answers of at most 4,096 tokens.
///   switchboard keys create --name lab --models '*' --quota usd=50/month --quota requests=60/1m
///       A key with a budget and a rate of its own.
///   switchboard keys rotate ci --overlap 7d
///       A new secret for the same key; the old one works for another week.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
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
    Create(CreateArgs),
    /// List keys, oldest first.
    List(ListArgs),
    /// Show one key, without its secret.
    Show {
        key: String,
        /// Print one JSON object, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Change what a key is and may do. What is not named stays as it is.
    Edit(Box<EditArgs>),
    /// Give a key a new secret; the one it has works for a while longer.
    ///
    /// Id, name, limits and what is booked on the key stay. A secret that was replaced before stops working now, so that
    /// there are never more than two.
    Rotate {
        key: String,
        /// How long the present secret goes on working: 24h, 7d; 0s ends it at once, after a leak.
        #[arg(long, default_value = "24h")]
        overlap: Period,
        /// Print one JSON object, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key, for good.
    Revoke { key: String },
    /// Let a disabled key work again.
    Enable { key: String },
    /// Refuse a key until it is enabled again.
    Disable { key: String },
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

/// A key that is wanted.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Who uses it, for people and logs.
    #[arg(long)]
    name: String,
    /// The models it may use: names or patterns with one `*`, for example `gpt-5.5,openai/*`; '*' for all.
    #[arg(long, required = true, value_delimiter = ',')]
    models: Vec<String>,
    /// The endpoints it may use: chat, completions, embeddings, messages, count_tokens, models; '*' for all.
    #[arg(long, value_delimiter = ',', default_value = "*")]
    endpoints: Vec<String>,
    /// From where it may be used: addresses and ranges, for example `10.0.0.0/8,2001:db8::/32`; '*' for everywhere.
    #[arg(long, value_delimiter = ',', default_value = "*")]
    addresses: Vec<String>,
    /// The most output tokens that a call may ask for. More is lowered to it; a call that says nothing asks for it.
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<u32>,
    /// Whether what its calls say and are answered is logged, where the gateway logs that (`log.content`): true, false, or
    /// inherit for what its project says.
    #[arg(long, value_name = "CHOICE", default_value = "inherit")]
    log_content: Choice,
    /// When it stops working: 30d, 12h, 2027-01-31 (at 00:00 UTC), 2027-01-31T12:00:00Z, or never.
    #[arg(long, default_value = "never")]
    expires: Expires,
    /// The id of the project that its calls are booked on.
    #[arg(long, default_value = DEFAULT_PROJECT)]
    project: String,
    /// A tag that its calls are sorted by; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A quota of its own, made with it: usd=50/month, requests=600/1m, tokens=100000/day@Europe/Berlin, concurrent=4; may be
    /// given several times. `switchboard quotas` makes others, and changes them.
    #[arg(long = "quota", value_name = "QUOTA")]
    quotas: Vec<Own>,
    /// Print one JSON object, for scripts.
    #[arg(long)]
    json: bool,
}

/// Which keys to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only keys of the project with this id.
    #[arg(long)]
    project: Option<String>,
    /// Only keys of this name.
    #[arg(long)]
    name: Option<String>,
    /// Only keys that are active, disabled, expired or revoked.
    #[arg(long, value_parser = state)]
    state: Option<KeyState>,
    /// Print a JSON array, for scripts.
    #[arg(long)]
    json: bool,
}

/// What to change about a key.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("change").required(true).multiple(true)))]
pub struct EditArgs {
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
    /// The endpoints it may use from now on, in place of those before.
    #[arg(long, value_delimiter = ',', group = "change")]
    endpoints: Option<Vec<String>>,
    /// From where it may be used from now on, in place of what was before.
    #[arg(long, value_delimiter = ',', group = "change")]
    addresses: Option<Vec<String>>,
    /// The most output tokens that a call may ask for; 0 for no such ceiling.
    #[arg(long, value_name = "TOKENS", group = "change")]
    max_tokens: Option<u32>,
    /// Whether what its calls say and are answered is logged: true, false, or inherit for what its project says.
    #[arg(long, value_name = "CHOICE", group = "change")]
    log_content: Option<Choice>,
    /// When it stops working: 30d from now, a date, or never.
    #[arg(long, group = "change")]
    expires: Option<Expires>,
    /// A further quota of its own, as when it is made; may be given several times.
    #[arg(long = "quota", value_name = "QUOTA", group = "change")]
    quotas: Vec<Own>,
}

/// Runs the command on the store at `place`, and writes what it has to say to `out`.
///
/// # Errors
/// What went wrong, in a sentence for the person at the terminal.
pub async fn run(command: KeysCommand, place: &Place, clock: &Clock, out: &mut impl Write) -> Result<()> {
    if !matches!(command, KeysCommand::Create(_) | KeysCommand::Admin { rotate: true }) && !place.exists() {
        bail!(
            "there is no key store in {} yet; name the gateway's data directory with --data-dir, or make a first key \
             with `switchboard keys create`",
            place.data_dir.display()
        );
    }
    let db = place.open().await?;
    let keys = place.keys(&db, clock);
    let outcome = execute(command, &keys, &db, clock, out).await;
    db.close().await;
    outcome
}

async fn execute(command: KeysCommand, keys: &Keys, db: &Db, clock: &Clock, out: &mut impl Write) -> Result<()> {
    let now = Timestamp::try_from(clock.wall()).context("the clock of this machine shows no possible date")?;
    let view = |row: &KeyRow| KeyView::of_row(row, now);
    match command {
        KeysCommand::Create(args) => create(args, keys, now, out).await?,
        KeysCommand::List(args) => list(args, db, now, out).await?,
        KeysCommand::Show { key, json } => {
            let view = view(&keys.find(&key).await?);
            if json {
                writeln!(out, "{}", serde_json::to_value(view)?)?;
            } else {
                show::describe(&view, out)?;
            }
        }
        KeysCommand::Edit(args) => edit(*args, keys, now, out).await?,
        KeysCommand::Rotate { key, overlap, json } => {
            let found = keys.find(&key).await?;
            let (row, secret) = keys.rotate(&found.id, overlap.0, None, &Actor::COMMAND).await?;
            if json {
                return show::with_secret(&view(&row), &secret, out);
            }
            writeln!(out, "{}\n", secret.expose())?;
            let old = match overlap.0.is_zero() {
                true => "The one before does not work any more.",
                false => "The one before works for a while longer.",
            };
            writeln!(out, "This is the key's new secret. Keep it now: it cannot be shown again. {old}")?;
            show::describe(&view(&row), out)?;
        }
        KeysCommand::Revoke { key } => {
            let row = keys.revoke(&keys.find(&key).await?.id, None, &Actor::COMMAND).await?;
            writeln!(out, "Revoked {} ({}). Running gateways refuse it within a second.", row.id, row.name)?;
        }
        KeysCommand::Enable { key } => switch(&key, true, keys, now, out).await?,
        KeysCommand::Disable { key } => switch(&key, false, keys, now, out).await?,
        KeysCommand::Admin { rotate: true } => {
            writeln!(out, "{}\n", keys.rotate_admin_key(&Actor::COMMAND).await?.expose())?;
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

async fn create(args: CreateArgs, keys: &Keys, now: Timestamp, out: &mut impl Write) -> Result<()> {
    let CreateArgs { name, models, endpoints, addresses, max_tokens, log_content, .. } = args;
    let CreateArgs { expires, project, tags, quotas, json, .. } = args;
    let (expires, log_content, quotas) = (expires.resolve(now)?, log_content.0, own(quotas));
    let rights = Draft { endpoints, addresses, max_tokens, log_content, ..Draft::new(&name, &models, expires) };
    let draft = Draft { project, tags, quotas, ..rights };
    let (row, secret) = keys.create(draft, &Actor::COMMAND).await?;
    let view = KeyView::of_row(&row, now);
    if json {
        return show::with_secret(&view, &secret, out);
    }
    writeln!(out, "{}\n", secret.expose())?;
    writeln!(out, "This is the key. Keep it now: only its hash is stored, and it cannot be shown again.")?;
    show::describe(&view, out)
}

async fn list(args: ListArgs, db: &Db, now: Timestamp, out: &mut impl Write) -> Result<()> {
    let ListArgs { project, name, state, json } = args;
    let filter = KeyFilter { project, name, state: state.map(|state| (state, now)) };
    let views: Vec<_> = matching(db, &filter).await?.iter().map(|row| KeyView::of_row(row, now)).collect();
    if json {
        writeln!(out, "{}", serde_json::to_value(views)?)?;
    } else if views.is_empty() && filter == KeyFilter::default() {
        writeln!(out, "There are no keys in the store. Make one with `switchboard keys create`.")?;
    } else {
        write!(out, "{}", show::table(&views))?;
    }
    Ok(())
}

async fn edit(args: EditArgs, keys: &Keys, now: Timestamp, out: &mut impl Write) -> Result<()> {
    let EditArgs { key, name, project, tags, models, endpoints, addresses, .. } = args;
    let EditArgs { max_tokens, log_content, expires, quotas, .. } = args;
    let expires = expires.map(|expires| expires.resolve(now)).transpose()?;
    let max_tokens = max_tokens.map(|most| Some(most).filter(|most| *most > 0));
    let (log_content, enabled) = (log_content.map(|choice| choice.0), None);
    let edit = KeyEdit { name, project, tags, models, endpoints, addresses, max_tokens, log_content, expires, enabled };
    let row = keys.update(&keys.find(&key).await?.id, edit, own(quotas), None, &Actor::COMMAND).await?;
    show::describe(&KeyView::of_row(&row, now), out)
}

async fn switch(key: &str, enabled: bool, keys: &Keys, now: Timestamp, out: &mut impl Write) -> Result<()> {
    let edit = KeyEdit { enabled: Some(enabled), ..KeyEdit::default() };
    let row = keys.update(&keys.find(key).await?.id, edit, Vec::new(), None, &Actor::COMMAND).await?;
    show::describe(&KeyView::of_row(&row, now), out)
}

/// All keys of the store.
pub(super) async fn all(db: &Db) -> Result<Vec<KeyRow>> {
    matching(db, &KeyFilter::default()).await
}

async fn matching(db: &Db, filter: &KeyFilter) -> Result<Vec<KeyRow>> {
    const PAGE: u32 = 500;
    let mut rows: Vec<KeyRow> = Vec::new();
    loop {
        let page = store::keys::list(db, filter, rows.last().map(|row| row.id.as_str()), PAGE).await?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

fn state(text: &str) -> Result<KeyState, String> {
    let found = KeyState::ALL.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| "write active, disabled, expired or revoked".to_owned())
}

#[cfg(test)]
mod tests;
