//! The connection that writes the ledger.
//!
//! All else goes through the pool, where each connection is a thread that is sent statements. For two rows a call, that and
//! putting the statements together cost twice as much as the inserts; here a batch is a plain function on a thread for
//! such work, and each row one step of a prepared statement.

use std::{sync::Arc, time::Instant};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Mutex;

use super::{CHECKPOINT, LOG_LIMIT, PATIENCE, TheFile};
use crate::{store::StoreError, types::Clock};

/// How many statements stay prepared: two inserts, one for each roll-up, and those of transactions.
const STATEMENTS: usize = 16;

/// The connection, which is opened when it is first needed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Writer {
    file: Arc<TheFile>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
enum State {
    Idle(Option<Open>),
    Closed,
}

#[derive(Debug)]
struct Open {
    connection: Connection,
    since: Instant,
}

impl Writer {
    pub(super) fn new(file: Arc<TheFile>) -> Self {
        Self { file, state: Arc::new(Mutex::new(State::Idle(None))) }
    }

    /// Runs `work` on the connection, when whoever has it is done. Work that has begun goes on to its end, even when nobody waits
    /// for it any more.
    ///
    /// # Errors
    /// When the file cannot be opened or is not the one that was there, and those of `work`.
    pub(in crate::store) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut state = self.state.clone().lock_owned().await;
        let file = self.file.clone();
        let working = tokio::task::spawn_blocking(move || match &mut *state {
            State::Closed => Err(StoreError::Query(sqlx::Error::PoolClosed)),
            State::Idle(open) => work(&mut Open::of(open, &file)?.connection).map_err(StoreError::Write),
        });
        working.await.unwrap_or(Err(StoreError::NoAnswer))
    }

    /// Closes the connection, after the work that is under way. Later work fails.
    pub(in crate::store) async fn close(&self) {
        let mut state = self.state.clone().lock_owned().await;
        // Closing brings what is in the write-ahead log into the file.
        let _ = tokio::task::spawn_blocking(move || *state = State::Closed).await;
    }
}

impl Open {
    /// The connection to the file that is there now.
    fn of<'o>(open: &'o mut Option<Self>, file: &TheFile) -> Result<&'o mut Self, StoreError> {
        let now = Clock::Real.now();
        let known = open.take().filter(|open| file.is_of_it(now.saturating_duration_since(open.since)));
        let open = open.insert(match known {
            Some(known) => known,
            None => Self { connection: connect(file).map_err(StoreError::Write)?, since: now },
        });
        Ok(open)
    }
}

/// Opens the file, which is there, as the pool does.
fn connect(file: &TheFile) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&file.path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // What is in the ledger is dropped from the journal, so it must survive a power cut.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT)?;
    connection.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
    Ok(connection)
}
