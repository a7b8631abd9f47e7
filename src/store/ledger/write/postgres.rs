//! Inserts into Postgres: an array for each column, however many rows there are. That is one short statement, prepared
//! once, and costs the client a few nanoseconds for each value. `copy` cannot skip rows that are there already.

use std::{collections::BTreeSet, sync::LazyLock};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Transaction, postgres::PgArguments, query::Query};

use super::{
    super::{
        AttemptRow, CallRow,
        partitions::{self, Month},
        rollup::{self, Group, Rollup},
        stored::{ATTEMPT_COLUMNS, REQUEST_COLUMNS, attempt_detail, call_detail, is_last, tags_text, text_of},
        sums::{MEASURES, Sums},
    },
    only_new,
};

static REQUESTS: LazyLock<String> = LazyLock::new(|| insert_of("requests", &REQUEST_COLUMNS, "on conflict do nothing"));
static NEW_REQUESTS: LazyLock<String> =
    LazyLock::new(|| insert_of("requests", &REQUEST_COLUMNS, "on conflict do nothing returning at, id"));
static ATTEMPTS: LazyLock<String> = LazyLock::new(|| insert_of("attempts", &ATTEMPT_COLUMNS, ""));
static ROLLUPS: LazyLock<[String; Rollup::EVERY.len()]> = LazyLock::new(|| {
    Rollup::EVERY.map(|rollup| insert_of(rollup.table(), &rollup.columns(), &rollup.on_conflict("least")))
});

/// The columns that hold a number; all others hold a text.
const NUMBERS: [&str; 9] =
    ["at", "number", "is_last", "sent_at", "provider_key", "cost", "reported_cost", "hour", "day"];

/// Inserts a sorted batch, all or nothing, and says how many calls were new. Makes the partitions it needs.
pub(super) async fn insert(connection: &mut PgConnection, batch: &[&CallRow]) -> Result<usize, sqlx::Error> {
    match insert_all(connection, batch).await {
        Err(error) if lacks_partition(&error) => {
            let months: BTreeSet<Month> = batch.iter().map(|call| Month::of(call.at)).collect();
            partitions::make(connection, &months).await?;
            insert_all(connection, batch).await
        }
        done => done,
    }
}

async fn insert_all(connection: &mut PgConnection, batch: &[&CallRow]) -> Result<usize, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let done = bind_requests(&REQUESTS, batch).execute(&mut *transaction).await?;
    if usize::try_from(done.rows_affected()).is_ok_and(|inserted| inserted == batch.len()) {
        insert_rest(&mut transaction, batch).await?;
        transaction.commit().await?;
        return Ok(batch.len());
    }
    // Some were there already, which is rare: once more, asking which.
    transaction.rollback().await?;
    let mut transaction = connection.begin().await?;
    let inserted = bind_requests(&NEW_REQUESTS, batch).fetch_all(&mut *transaction).await?;
    let inserted = inserted.iter().map(sqlx::FromRow::from_row).collect::<Result<_, _>>()?;
    let new = only_new(batch, inserted);
    insert_rest(&mut transaction, &new).await?;
    transaction.commit().await?;
    Ok(new.len())
}

/// Inserts the attempts of calls that are new, and adds them to the roll-ups. These come last, because their rows stay
/// locked until the commit and other replicas wait for them.
async fn insert_rest(transaction: &mut Transaction<'_, Postgres>, new: &[&CallRow]) -> Result<(), sqlx::Error> {
    let attempts: Vec<(&CallRow, &AttemptRow)> =
        new.iter().flat_map(|call| call.attempts.iter().map(|attempt| (*call, attempt))).collect();
    if !attempts.is_empty() {
        bind_attempts(&attempts).execute(&mut **transaction).await?;
    }
    for ((rollup, groups), sql) in rollup::of_calls(new).iter().zip(ROLLUPS.iter()) {
        if !groups.is_empty() {
            bind_groups(sql, *rollup, groups).execute(&mut **transaction).await?;
        }
    }
    Ok(())
}

type Insert<'q> = Query<'q, Postgres, PgArguments>;

/// In the order of [`REQUEST_COLUMNS`].
fn bind_requests(sql: &'static str, calls: &[&CallRow]) -> Insert<'static> {
    let texts = |text: fn(&CallRow) -> &str| -> Vec<&str> { calls.iter().map(|call| text(call)).collect() };
    let optional =
        |text: fn(&CallRow) -> Option<&str>| -> Vec<Option<&str>> { calls.iter().map(|call| text(call)).collect() };
    sqlx::query(AssertSqlSafe(sql))
        .bind(calls.iter().map(|call| call.at).collect::<Vec<i64>>())
        .bind(texts(|call| &call.id))
        .bind(texts(|call| &call.who.project))
        .bind(texts(|call| &call.who.key_id))
        .bind(texts(|call| &call.model))
        .bind(texts(|call| &call.operation))
        .bind(texts(|call| call.outcome.as_str()))
        .bind(optional(|call| call.who.end_user.as_deref()))
        .bind(calls.iter().map(|call| tags_text(call)).collect::<Vec<_>>())
        .bind(optional(|call| call.who.workflow.as_deref()))
        .bind(optional(|call| call.who.session.as_deref()))
        .bind(optional(|call| call.who.step.as_deref()))
        .bind(calls.iter().map(|call| text_of(|json| call_detail(call, json))).collect::<Vec<_>>())
}

/// In the order of [`ATTEMPT_COLUMNS`].
fn bind_attempts(attempts: &[(&CallRow, &AttemptRow)]) -> Insert<'static> {
    let texts = |text: fn(&AttemptRow) -> &str| -> Vec<&str> { attempts.iter().map(|(_, row)| text(row)).collect() };
    let numbers =
        |number: fn(&AttemptRow) -> i64| -> Vec<i64> { attempts.iter().map(|(_, row)| number(row)).collect() };
    let mut query = sqlx::query(AssertSqlSafe(ATTEMPTS.as_str()))
        .bind(attempts.iter().map(|(call, _)| call.at).collect::<Vec<i64>>())
        .bind(attempts.iter().map(|(call, _)| &*call.id).collect::<Vec<&str>>())
        .bind(numbers(|row| row.number.into()))
        .bind(attempts.iter().map(|(call, row)| is_last(call, row)).collect::<Vec<i64>>())
        .bind(numbers(|row| row.at))
        .bind(texts(|row| &row.target))
        .bind(texts(|row| &row.provider))
        .bind(texts(|row| &row.upstream_model))
        .bind(numbers(|row| row.provider_key.into()))
        .bind(texts(|row| row.outcome.as_str()))
        .bind(texts(|row| row.usage_source.as_str()))
        .bind(attempts.iter().map(|(_, row)| row.cost.map(|cost| cost.0)).collect::<Vec<_>>())
        .bind(attempts.iter().map(|(_, row)| row.reported_cost.map(|cost| cost.0)).collect::<Vec<_>>());
    let usages: Vec<[(&str, u64); 15]> = attempts.iter().map(|(_, row)| row.usage.buckets()).collect();
    for bucket in 0..15 {
        query = query.bind(usages.iter().map(|usage| usage[bucket].1.cast_signed()).collect::<Vec<i64>>());
    }
    query.bind(attempts.iter().map(|(_, row)| text_of(|json| attempt_detail(row, json))).collect::<Vec<_>>())
}

/// In the order of a roll-up's columns.
fn bind_groups(sql: &'static str, rollup: Rollup, groups: &[(Group<'_>, Sums)]) -> Insert<'static> {
    let mut query =
        sqlx::query(AssertSqlSafe(sql)).bind(groups.iter().map(|(group, _)| group.time).collect::<Vec<i64>>());
    for column in 0..rollup.key().len() - 1 {
        query = query.bind(groups.iter().map(|(group, _)| group.texts[column]).collect::<Vec<&str>>());
    }
    let sums: Vec<_> = groups.iter().map(|(_, sums)| sums.values()).collect();
    for measure in 0..MEASURES.len() {
        query = query.bind(sums.iter().map(|values| values[measure]).collect::<Vec<i64>>());
    }
    query
}

/// `insert into … select * from unnest($1::…[], …)`: a row for each place in the arrays, in their order.
fn insert_of(table: &str, columns: &[&str], tail: &str) -> String {
    let holds_number = |column: &&str| NUMBERS.contains(column) || MEASURES.contains(column);
    let arrays: Vec<String> = columns
        .iter()
        .zip(1..)
        .map(|(column, n)| format!("${n}::{}[]", if holds_number(column) { "bigint" } else { "text" }))
        .collect();
    format!("insert into {table} ({}) select * from unnest({}) {tail}", columns.join(", "), arrays.join(", "))
}

/// Postgres has no code of its own for a row without a partition: it is a violated check that names no constraint.
fn lacks_partition(error: &sqlx::Error) -> bool {
    let database_error = error.as_database_error();
    database_error.is_some_and(|error| error.code().as_deref() == Some("23514") && error.constraint().is_none())
}
