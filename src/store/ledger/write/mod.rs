//! Writes calls: rows of the call and its attempts, and what they add to the roll-ups, in one transaction.
//!
//! A call is known by its arrival and its id. One that is there already is skipped, and the roll-ups count only what was
//! really inserted, so a batch whose fate is unknown is simply written again. Everything is inserted in the order of its
//! keys: replicas that write the same hours take their locks in one order and never wait for each other in a circle.

mod postgres;
mod sqlite;

use std::{borrow::Cow, collections::HashSet, fmt::Display, ops::Deref, sync::Arc, time::Duration};

use sqlx::{PgPool, error::DatabaseError};

use super::{CallRow, clean::clean};
use crate::store::{
    Db, StoreError,
    run::{Held, within},
};

/// How long a transaction may take. Whoever has no answer by then writes the batch again.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of the calls of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Calls that were inserted.
    pub inserted: usize,
    /// Calls that were there already.
    pub skipped: usize,
    /// Calls the database will not take, whatever is tried. Nothing of them was written.
    pub refused: Vec<Refused>,
}

/// A call the database will not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub id: Arc<str>,
    /// In the database's words.
    pub reason: String,
}

/// Calls to be written. Cheap to clone: they may have to be written more than once.
#[derive(Clone, Debug)]
pub struct Calls(Arc<Vec<CallRow>>);

/// Writes `calls` in one transaction. Texts, times and amounts that no database would take are repaired first. When the
/// database refuses the batch for what is in it, the batch is halved until the call in question stands alone; that one is
/// reported, and the others are written.
///
/// # Errors
/// When the database cannot be written for a reason that is not in the calls. Part of the batch may have been written;
/// writing the whole of it again is right.
pub async fn write(db: &Db, calls: impl Into<Calls>) -> Result<Written, StoreError> {
    let calls = calls.into();
    match db {
        Db::Sqlite(_, writer) => within(PATIENCE, writer.run(move |connection| write_sqlite(connection, &calls))).await,
        Db::Postgres(pool) => write_postgres(pool, &calls).await,
    }
}

fn write_sqlite(connection: &mut rusqlite::Connection, calls: &[CallRow]) -> Result<Written, rusqlite::Error> {
    let cleaned = cleaned(calls);
    let mut batches = Batches::of(&cleaned);
    while let Some(batch) = batches.next() {
        let inserted = sqlite::insert(connection, &batch);
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT and SQLITE_MISMATCH, in the low byte of their extended codes.
        let about_data = |error: &rusqlite::Error| {
            error.sqlite_error().is_some_and(|error| matches!(error.extended_code & 0xff, 18..=20))
        };
        batches.note(&batch, inserted, about_data)?;
    }
    Ok(batches.written)
}

async fn write_postgres(pool: &PgPool, calls: &[CallRow]) -> Result<Written, StoreError> {
    let cleaned = cleaned(calls);
    let mut batches = Batches::of(&cleaned);
    while let Some(batch) = batches.next() {
        let inserted = within(PATIENCE, async {
            let mut held = Held::take(pool).await?;
            let inserted = postgres::insert(held.connection(), &batch).await;
            held.finished();
            Ok(inserted?)
        })
        .await;
        batches.note(&batch, inserted, is_about_data)?;
    }
    Ok(batches.written)
}

fn cleaned(calls: &[CallRow]) -> Vec<Cow<'_, CallRow>> {
    calls.iter().map(clean).collect()
}

/// What is still to be written, each all or nothing, and what became of the rest.
struct Batches<'a> {
    pending: Vec<Vec<&'a CallRow>>,
    written: Written,
}

impl<'a> Batches<'a> {
    fn of(cleaned: &'a [Cow<'_, CallRow>]) -> Self {
        let mut sorted: Vec<&CallRow> = cleaned.iter().map(AsRef::as_ref).collect();
        sorted.sort_by(|one, two| (one.at, &one.id).cmp(&(two.at, &two.id)));
        Self { pending: vec![sorted], written: Written::default() }
    }

    /// The next sorted batch.
    fn next(&mut self) -> Option<Vec<&'a CallRow>> {
        self.pending.pop().filter(|batch| !batch.is_empty())
    }

    /// Notes how many calls of a batch were new; or, where the database will refuse something in it again, halves it.
    fn note<E: Display>(
        &mut self,
        batch: &[&'a CallRow],
        inserted: Result<usize, E>,
        is_about_data: impl Fn(&E) -> bool,
    ) -> Result<(), E> {
        match (inserted, batch) {
            (Ok(inserted), _) => {
                self.written.inserted += inserted;
                self.written.skipped += batch.len() - inserted;
            }
            (Err(error), [call]) if is_about_data(&error) => {
                self.written.refused.push(Refused { id: call.id.clone(), reason: error.to_string() });
            }
            (Err(error), _) if is_about_data(&error) => {
                let (first, second) = batch.split_at(batch.len() / 2);
                self.pending.extend([second.to_vec(), first.to_vec()]);
            }
            (Err(error), _) => return Err(error),
        }
        Ok(())
    }
}

/// Whether PostgreSQL will refuse these very values again: data exceptions, violated constraints, and limits such as the
/// length of an index entry.
fn is_about_data(error: &StoreError) -> bool {
    let StoreError::Query(error) = error else { return false };
    let Some(code) = error.as_database_error().and_then(DatabaseError::code) else { return false };
    ["22", "23", "54"].iter().any(|class| code.starts_with(class))
}

impl Deref for Calls {
    type Target = [CallRow];

    fn deref(&self) -> &[CallRow] {
        &self.0
    }
}

impl From<Vec<CallRow>> for Calls {
    fn from(calls: Vec<CallRow>) -> Self {
        Self(Arc::new(calls))
    }
}

/// Copies them.
impl<T: AsRef<[CallRow]> + ?Sized> From<&T> for Calls {
    fn from(calls: &T) -> Self {
        calls.as_ref().to_vec().into()
    }
}

/// The calls of a batch that were inserted, by what the database says it inserted. A call that stands twice in the batch
/// is there once.
fn only_new<'a>(batch: &[&'a CallRow], inserted: Vec<(i64, String)>) -> Vec<&'a CallRow> {
    let mut inserted: HashSet<(i64, Arc<str>)> = inserted.into_iter().map(|(at, id)| (at, id.into())).collect();
    batch.iter().copied().filter(|call| inserted.remove(&(call.at, call.id.clone()))).collect()
}
