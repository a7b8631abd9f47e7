//! `switchboard migrate`: bring the tables of the database up to date.

use super::{
    Failed, say, serve,
    store::{Place, StoreArgs},
};
use crate::store::{Db, Step};

/// Bring the tables of the database up to date.
///
/// The gateway does this itself when it starts, unless `database.migrate` is `manual`. Running it beside gateways that
/// serve is safe: migrations only add, and one process at a time applies them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArgs,

    /// Change nothing: say what is missing, and exit with 1 if anything is.
    #[arg(long)]
    check: bool,
}

pub(super) fn run(args: Args) -> Result<(), Failed> {
    let place = args.store.place()?;
    serve::runtime()?.block_on(migrate(&place, args.check))
}

async fn migrate(Place { data_dir, database, .. }: &Place, only_check: bool) -> Result<(), Failed> {
    if only_check {
        let missing = Db::pending(data_dir, database.as_ref()).await.map_err(Failed::wrong)?;
        if missing.is_empty() {
            return say("The database is up to date.");
        }
        return Err(Failed::wrong(format!(
            "The database lacks:\n{}\nApply with `switchboard migrate`.",
            lines(&missing)
        )));
    }
    let applied = Db::migrate(data_dir, database.as_ref()).await.map_err(Failed::wrong)?;
    if applied.is_empty() { say("The database was up to date.") } else { say(format!("Applied:\n{}", lines(&applied))) }
}

fn lines(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("  {step}")).collect::<Vec<_>>().join("\n")
}
