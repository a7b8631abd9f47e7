//! Calls as they were written: lists, newest first, and one by its id.

use std::collections::HashMap;

use ulid::Ulid;

use super::{
    cursor,
    dimension::{Dimension, filter_call, gathered},
    sql::Sql,
};
use crate::store::{
    Db, StoreError,
    ledger::{
        AttemptRow, CallRow,
        stored::{ATTEMPT_COLUMNS, REQUEST_COLUMNS, StoredAttempt, StoredCall},
    },
};

/// The most calls on a page.
const MAX_PAGE: u32 = 1_000;

/// An id holds the time it was made at, a moment before or after the call's arrival was taken down: a minute at most,
/// and two days when clocks were set.
const SLACKS: [i64; 2] = [60_000, 2 * 24 * 3_600_000];

/// Which calls.
#[derive(Clone, Debug, Default)]
pub struct RequestFilter {
    /// Those that arrived at this time or later, in Unix milliseconds.
    pub from: Option<i64>,
    /// Those that arrived before this time, in Unix milliseconds.
    pub to: Option<i64>,
    /// Several values for one dimension mean any of them; several dimensions mean all.
    pub filters: Vec<(Dimension, String)>,
    /// How many at most: 1 to 1,000.
    pub limit: u32,
    /// The [`cursor_after`] the last call of the page before.
    pub after: Option<String>,
}

/// The calls that `filter` lets through, newest first, with their attempts.
///
/// # Errors
/// [`StoreError::BadQuery`] for a cursor of another list; others when the database cannot be read.
pub async fn requests(db: &Db, filter: &RequestFilter) -> Result<Vec<CallRow>, StoreError> {
    let after = filter.after.as_deref().map(|after| cursor::decode(after, 1)).transpose()?;
    let mut sql = Sql::default();
    sql.push("select ").push(&REQUEST_COLUMNS.join(", ")).push(" from requests r");
    sql.push(" where r.at >= ").number(filter.from.unwrap_or(0));
    sql.push(" and r.at < ").number(filter.to.unwrap_or(i64::MAX));
    if let Some((at, ids)) = after {
        // The first condition alone tells Postgres which months to leave out.
        sql.push(" and r.at <= ").number(at).push(" and (r.at, r.id) < (").number(at);
        sql.push(", ").text(&ids.concat()).push(")");
    }
    for wanted in gathered(&filter.filters) {
        filter_call(&mut sql, db, &wanted);
    }
    sql.push(" order by r.at desc, r.id desc limit ").number(filter.limit.clamp(1, MAX_PAGE).into());
    let calls = sql.fetch::<StoredCall>(db).await?.into_iter().map(|stored| stored.0).collect();
    with_attempts(db, calls).await
}

/// What to ask for as `after` for the calls that follow this one.
pub fn cursor_after(call: &CallRow) -> String {
    cursor::encode(call.at, &[&call.id])
}

/// The call with this id, with its attempts.
///
/// # Errors
/// When the database cannot be read.
pub async fn request(db: &Db, id: &str) -> Result<Option<CallRow>, StoreError> {
    // Calls lie in the order of their arrival. Every id is made here, so what is no id is not there.
    let Ok(made) = Ulid::from_string(id) else { return Ok(None) };
    let made = i64::try_from(made.timestamp_ms()).unwrap_or(i64::MAX);
    for slack in SLACKS {
        let mut sql = Sql::default();
        sql.push("select ").push(&REQUEST_COLUMNS.join(", ")).push(" from requests where at >= ");
        sql.number(made.saturating_sub(slack)).push(" and at <= ").number(made.saturating_add(slack));
        sql.push(" and id = ").text(&id.to_ascii_uppercase()).push(" limit 1");
        let calls: Vec<CallRow> = sql.fetch::<StoredCall>(db).await?.into_iter().map(|stored| stored.0).collect();
        if !calls.is_empty() {
            return Ok(with_attempts(db, calls).await?.pop());
        }
    }
    Ok(None)
}

async fn with_attempts(db: &Db, mut calls: Vec<CallRow>) -> Result<Vec<CallRow>, StoreError> {
    if calls.is_empty() {
        return Ok(calls);
    }
    let mut sql = Sql::default();
    sql.push("select ").push(&ATTEMPT_COLUMNS.join(", ")).push(" from attempts where (at, id) in (values ");
    for (index, call) in calls.iter().enumerate() {
        sql.push(if index == 0 { "(" } else { ", (" }).number(call.at).push(", ").text(&call.id).push(")");
    }
    sql.push(") order by at, id, number");
    let mut attempts: HashMap<(i64, String), Vec<AttemptRow>> = HashMap::new();
    for stored in sql.fetch::<StoredAttempt>(db).await? {
        attempts.entry(stored.call).or_default().push(stored.row);
    }
    for call in &mut calls {
        call.attempts = attempts.remove(&(call.at, call.id.to_string())).unwrap_or_default();
    }
    Ok(calls)
}
