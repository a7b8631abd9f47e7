//! `switchboard request`: a single call out of the ledger.

use std::io::Write;

use anyhow::{Result, bail};

use super::store::{Place, StoreArgs};
use crate::accounting::report;

/// The receipt of one call, as JSON.
///
/// Its id is what `x-request-id` carried and what the log shows.
#[derive(Debug, clap::Args)]
pub struct RequestArgs {
    /// The call's id.
    id: String,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

/// Runs the command on the store at `place`, and writes what it has to say to `out`.
///
/// # Errors
/// When there is no such call, or the store cannot be read.
pub async fn run(args: RequestArgs, place: &Place, out: &mut impl Write) -> Result<()> {
    place.expect_one()?;
    let db = place.open().await?;
    let found = report::request(&db, &args.id).await;
    db.close().await;
    match found? {
        Some(receipt) => writeln!(out, "{}", serde_json::to_string_pretty(&receipt)?)?,
        None => bail!("the ledger has no call with the id {}", args.id.escape_debug()),
    }
    Ok(())
}
