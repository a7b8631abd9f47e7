//! Inserts into SQLite: a step of a prepared statement for each row.

use std::sync::LazyLock;

use rusqlite::{CachedStatement, Connection, Result, ToSql, Transaction, TransactionBehavior};

use super::super::{
    AttemptRow, CallRow,
    rollup::{self, Group, Rollup},
    stored::{ATTEMPT_COLUMNS, REQUEST_COLUMNS, attempt_detail, call_detail, is_last, tags_text},
    sums::Sums,
};
use crate::types::Nanos;

static REQUESTS: LazyLock<String> = LazyLock::new(|| text("requests", &REQUEST_COLUMNS, "on conflict do nothing"));
static ATTEMPTS: LazyLock<String> = LazyLock::new(|| text("attempts", &ATTEMPT_COLUMNS, ""));
static ROLLUPS: LazyLock<[String; Rollup::EVERY.len()]> =
    LazyLock::new(|| Rollup::EVERY.map(|rollup| text(rollup.table(), &rollup.columns(), &rollup.on_conflict("min"))));

/// Inserts a sorted batch, all or nothing, and says how many calls were new.
pub(super) fn insert(connection: &mut Connection, batch: &[&CallRow]) -> Result<usize> {
    // The write lock is taken first: a transaction that read before it would fail when another one wrote meanwhile.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let new = insert_calls(&transaction, batch)?;
    insert_sums(&transaction, &new)?;
    transaction.commit()?;
    Ok(new.len())
}

/// Inserts the calls that are not there, with their attempts, and says which these are.
fn insert_calls<'a>(transaction: &Transaction<'_>, batch: &[&'a CallRow]) -> Result<Vec<&'a CallRow>> {
    let mut requests = Insert::prepare(transaction, &REQUESTS)?;
    let mut attempts = Insert::prepare(transaction, &ATTEMPTS)?;
    let mut new = Vec::with_capacity(batch.len());
    for &call in batch {
        if requests.row(|row| bind_request(row, call))? == 0 {
            continue;
        }
        new.push(call);
        for attempt in &call.attempts {
            attempts.row(|row| bind_attempt(row, call, attempt))?;
        }
    }
    Ok(new)
}

/// Adds calls that are new to the roll-ups.
fn insert_sums(transaction: &Transaction<'_>, new: &[&CallRow]) -> Result<()> {
    for ((rollup, groups), sql) in rollup::of_calls(new).iter().zip(ROLLUPS.iter()) {
        if groups.is_empty() {
            continue;
        }
        let mut sums = Insert::prepare(transaction, sql)?;
        for group in groups {
            sums.row(|row| bind_group(row, *rollup, group))?;
        }
    }
    Ok(())
}

/// In the order of [`REQUEST_COLUMNS`].
fn bind_request(row: &mut Row<'_, '_>, call: &CallRow) -> Result<()> {
    let who = &call.who;
    row.put(call.at)?;
    for text in [&call.id, &who.project, &who.key_id, &call.model, &call.operation] {
        row.put(&**text)?;
    }
    row.put(call.outcome.as_str())?;
    row.put(who.end_user.as_deref())?;
    row.put(tags_text(call))?;
    for text in [&who.workflow, &who.session, &who.step] {
        row.put(text.as_deref())?;
    }
    row.put_json(|json| call_detail(call, json))
}

/// In the order of [`ATTEMPT_COLUMNS`].
fn bind_attempt(row: &mut Row<'_, '_>, call: &CallRow, attempt: &AttemptRow) -> Result<()> {
    row.put(call.at)?;
    row.put(&*call.id)?;
    row.put(attempt.number)?;
    row.put(is_last(call, attempt))?;
    row.put(attempt.at)?;
    for text in [&attempt.target, &attempt.provider, &attempt.upstream_model] {
        row.put(&**text)?;
    }
    row.put(attempt.provider_key)?;
    row.put(attempt.outcome.as_str())?;
    row.put(attempt.usage_source.as_str())?;
    row.put(attempt.cost.map(|Nanos(nanos)| nanos))?;
    row.put(attempt.reported_cost.map(|Nanos(nanos)| nanos))?;
    for (_, count) in attempt.usage.buckets() {
        row.put(count.cast_signed())?;
    }
    row.put_json(|json| attempt_detail(attempt, json))
}

/// In the order of a roll-up's columns.
fn bind_group(row: &mut Row<'_, '_>, rollup: Rollup, (group, sums): &(Group<'_>, Sums)) -> Result<()> {
    row.put(group.time)?;
    for text in rollup.texts(group) {
        row.put(text)?;
    }
    for measure in sums.values() {
        row.put(measure)?;
    }
    Ok(())
}

/// A statement that inserts one row.
struct Insert<'c> {
    statement: CachedStatement<'c>,
    /// For texts that are put together, over and over.
    scratch: Vec<u8>,
}

/// The parameters of a row while they are bound, in their order.
struct Row<'s, 'c> {
    insert: &'s mut Insert<'c>,
    bound: usize,
}

impl<'c> Insert<'c> {
    fn prepare(connection: &'c Connection, sql: &str) -> Result<Self> {
        Ok(Self { statement: connection.prepare_cached(sql)?, scratch: Vec::new() })
    }

    /// Inserts the row that `bind` binds, and says how many rows were inserted or changed.
    fn row(&mut self, bind: impl FnOnce(&mut Row<'_, 'c>) -> Result<()>) -> Result<usize> {
        bind(&mut Row { insert: self, bound: 0 })?;
        self.statement.raw_execute()
    }
}

impl Row<'_, '_> {
    fn put(&mut self, value: impl ToSql) -> Result<()> {
        self.bound += 1;
        self.insert.statement.raw_bind_parameter(self.bound, value)
    }

    /// The text that `write` writes.
    fn put_json(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut scratch = std::mem::take(&mut self.insert.scratch);
        scratch.clear();
        write(&mut scratch);
        let bound = self.put(str::from_utf8(&scratch).unwrap_or_default());
        self.insert.scratch = scratch;
        bound
    }
}

/// The insert of a row into these columns.
fn text(table: &str, columns: &[&str], tail: &str) -> String {
    let marks = vec!["?"; columns.len()].join(", ");
    format!("insert into {table} ({}) values ({marks}) {tail}", columns.join(", "))
}
