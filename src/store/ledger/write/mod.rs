//! Writes calls: rows of the call and its attempts, and what they add to the roll-ups, in one transaction.
//!
//! A call is known by its arrival and its id. One that is there already is skipped, and the roll-ups count only what was
//! really inserted, so a batch whose fate is unknown is simply written again. Everything is inserted in the order of its
//! keys: replicas that write the same hours take their locks in one order and never wait for each other in a circle.

mod postgres;
mod sqlite;

use std::{borrow::Cow, collections::HashSet, sync::Arc, time::Duration};

use sqlx::error::DatabaseError;

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

/// Writes `calls` in one transaction. Texts, times and amounts that no database would take are repaired first. When the
/// database refuses the batch for what is in it, the batch is halved until the call in question stands alone; that one is
/// reported, and the others are written.
///
/// # Errors
/// When the database cannot be written for a reason that is not in the calls. Part of the batch may have been written;
/// writing the whole of it again is right.
pub async fn write(db: &Db, calls: &[CallRow]) -> Result<Written, StoreError> {
    let cleaned: Vec<Cow<'_, CallRow>> = calls.iter().map(clean).collect();
    let mut sorted: Vec<&CallRow> = cleaned.iter().map(AsRef::as_ref).collect();
    sorted.sort_by(|one, two| (one.at, &one.id).cmp(&(two.at, &two.id)));

    let mut written = Written::default();
    let mut pending = vec![&*sorted];
    while let Some(batch) = pending.pop() {
        match (insert(db, batch).await, batch) {
            (_, []) => {}
            (Ok(inserted), _) => {
                written.inserted += inserted;
                written.skipped += batch.len() - inserted;
            }
            (Err(error), [call]) if is_about_data(db, &error) => {
                written.refused.push(Refused { id: call.id.clone(), reason: error.to_string() });
            }
            (Err(error), _) if is_about_data(db, &error) => {
                let (first, second) = batch.split_at(batch.len() / 2);
                pending.extend([second, first]);
            }
            (Err(error), _) => return Err(error),
        }
    }
    Ok(written)
}

/// Inserts a sorted batch, all or nothing, and says how many calls were new.
async fn insert(db: &Db, batch: &[&CallRow]) -> Result<usize, StoreError> {
    match db {
        Db::Sqlite(pool) => {
            within(PATIENCE, async {
                let mut held = Held::take(pool).await?;
                let inserted = sqlite::insert(held.connection(), batch).await;
                held.finished();
                Ok(inserted?)
            })
            .await
        }
        Db::Postgres(pool) => {
            within(PATIENCE, async {
                let mut held = Held::take(pool).await?;
                let inserted = postgres::insert(held.connection(), batch).await;
                held.finished();
                Ok(inserted?)
            })
            .await
        }
    }
}

/// Whether the database will refuse these very values again.
fn is_about_data(db: &Db, error: &StoreError) -> bool {
    let StoreError::Query(error) = error else { return false };
    let Some(code) = error.as_database_error().and_then(DatabaseError::code) else { return false };
    match db {
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT and SQLITE_MISMATCH, in the low byte of their extended codes.
        Db::Sqlite(_) => code.parse::<i32>().is_ok_and(|code| matches!(code & 0xff, 18..=20)),
        // Data exceptions, violated constraints, and limits such as the length of an index entry.
        Db::Postgres(_) => ["22", "23", "54"].iter().any(|class| code.starts_with(class)),
    }
}

/// The calls of a batch that were inserted, by what the database says it inserted. A call that stands twice in the batch
/// is there once.
fn only_new<'a>(batch: &[&'a CallRow], inserted: Vec<(i64, String)>) -> Vec<&'a CallRow> {
    let mut inserted: HashSet<(i64, Arc<str>)> = inserted.into_iter().map(|(at, id)| (at, id.into())).collect();
    batch.iter().copied().filter(|call| inserted.remove(&(call.at, call.id.clone()))).collect()
}
