//! A database server that was not there when the gateway started.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{StoreError, postgres::Server};
use crate::types::Clock;

/// What is still to be done when the server answers: its tables may have to be brought up to date.
#[derive(Debug)]
pub struct Waiting {
    pub(super) server: Server,
    pub(super) pool: PgPool,
    /// Why it was not there.
    pub why: StoreError,
}

/// How often an absent server is tried. An attempt may take a while itself.
const TRY_EVERY: Duration = Duration::from_secs(1);

impl Waiting {
    /// Tries until the server answers and its tables are in order, or until `stop`. A server that turns out to be
    /// unusable, because its tables are those of a newer version, is closed: its functions go on failing.
    pub async fn run(self, clock: Clock, stop: CancellationToken) {
        let mut told = self.why.to_string();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.sleep(TRY_EVERY) => {}
            }
            match self.server.prepare().await {
                Ok(_) => {
                    tracing::info!("the database {} answers", self.server.at);
                    return;
                }
                Err(error @ StoreError::NewerSchema { .. }) => {
                    tracing::error!("{error}. It is not used");
                    self.pool.close().await;
                    return;
                }
                Err(error) => {
                    let why = error.to_string();
                    if why != told {
                        tracing::error!("{why}");
                        told = why;
                    }
                }
            }
        }
    }
}
