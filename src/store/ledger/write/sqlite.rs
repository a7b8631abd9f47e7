//! Inserts into SQLite: statements of many rows each. Going through its thread costs more than a row does.
//!
//! The parameters are plain `?`: for named ones the driver looks up each name in a list of all of them.

use std::sync::{Arc, LazyLock};

use sqlx::{
    Arguments, AssertSqlSafe, Connection, Encode, Sqlite, SqliteConnection, Transaction, Type, error::BoxDynError,
    sqlite::SqliteArguments,
};

use super::{
    super::{
        AttemptRow, CallRow, Who,
        rollup::{self, Group, Rollup},
        stored::{ATTEMPT_COLUMNS, REQUEST_COLUMNS, attempt_detail, call_detail, is_last, tags_text},
        sums::{MEASURES, Sums},
    },
    only_new,
};
use crate::types::{Nanos, Outcome, Usage, UsageSource};

/// How many rows a statement has: as many of the longest as there are rows for, then of the shorter ones. The texts are
/// few, so that each connection keeps them prepared. SQLite takes 32,766 parameters.
const ROWS: [usize; 4] = [128, 16, 4, 1];

/// What a call has that went well and says nothing of whom it is made for. Where all of this holds, the statement says so:
/// parameters are most of what a row costs.
const PLAIN: [(&str, &str); 6] = [
    ("outcome", "'ok'"),
    ("end_user", "null"),
    ("tags", "null"),
    ("workflow", "null"),
    ("session", "null"),
    ("step", "null"),
];

/// What an attempt has that was its call's only one, went well and told its usage, in the buckets that most have.
const USUAL: [(&str, &str); 15] = [
    ("number", "1"),
    ("is_last", "1"),
    ("outcome", "'ok'"),
    ("usage_source", "'reported'"),
    ("cache_write", "0"),
    ("cache_write_1h", "0"),
    ("audio_input", "0"),
    ("image_input", "0"),
    ("audio_output", "0"),
    ("image_output", "0"),
    ("searches", "0"),
    ("tool_calls", "0"),
    ("images", "0"),
    ("millis", "0"),
    ("characters", "0"),
];

/// One insert, for each number of rows.
struct Statements([String; ROWS.len()]);

/// An attempt with its call.
type Attempt<'a> = (&'a CallRow, &'a AttemptRow);

static REQUESTS: LazyLock<Statements> =
    LazyLock::new(|| Statements::new("requests", &REQUEST_COLUMNS, "on conflict do nothing"));
/// For [`PLAIN`] calls.
static PLAIN_REQUESTS: LazyLock<Statements> =
    LazyLock::new(|| Statements::with_constants("requests", &REQUEST_COLUMNS, &PLAIN, "on conflict do nothing"));
static NEW_REQUESTS: LazyLock<Statements> =
    LazyLock::new(|| Statements::new("requests", &REQUEST_COLUMNS, "on conflict do nothing returning at, id"));
static ATTEMPTS: LazyLock<Statements> = LazyLock::new(|| Statements::new("attempts", &ATTEMPT_COLUMNS, ""));
/// For [`USUAL`] attempts.
static USUAL_ATTEMPTS: LazyLock<Statements> =
    LazyLock::new(|| Statements::with_constants("attempts", &ATTEMPT_COLUMNS, &USUAL, ""));
static ROLLUPS: LazyLock<[Statements; Rollup::EVERY.len()]> =
    LazyLock::new(|| Rollup::EVERY.map(Statements::of_rollup));

/// The words for outcomes, shared: binding one copies no text.
static OUTCOMES: LazyLock<[Arc<str>; Outcome::ALL.len()]> =
    LazyLock::new(|| Outcome::ALL.map(|outcome| outcome.as_str().into()));
static SOURCES: LazyLock<[Arc<str>; UsageSource::ALL.len()]> =
    LazyLock::new(|| UsageSource::ALL.map(|source| source.as_str().into()));

/// Inserts a sorted batch, all or nothing, and says how many calls were new.
pub(super) async fn insert(connection: &mut SqliteConnection, batch: &[&CallRow]) -> Result<usize, sqlx::Error> {
    // The write lock is taken first: a transaction that read before it would fail when another one wrote meanwhile.
    let mut transaction = connection.begin_with("begin immediate").await?;
    if insert_requests(&mut transaction, batch).await? == batch.len() {
        insert_rest(&mut transaction, batch).await?;
        transaction.commit().await?;
        return Ok(batch.len());
    }
    // Some were there already, which is rare: once more, asking which.
    transaction.rollback().await?;
    let mut transaction = connection.begin_with("begin immediate").await?;
    let new = insert_new_requests(&mut transaction, batch).await?;
    insert_rest(&mut transaction, &new).await?;
    transaction.commit().await?;
    Ok(new.len())
}

async fn insert_requests(transaction: &mut Transaction<'_, Sqlite>, batch: &[&CallRow]) -> Result<usize, sqlx::Error> {
    let (plain, others): (Vec<&CallRow>, Vec<&CallRow>) = batch.iter().partition(|call| is_plain(call));
    let mut inserted = 0;
    for (sql, rows) in PLAIN_REQUESTS.over(&plain) {
        let columns = REQUEST_COLUMNS.len() - PLAIN.len();
        inserted += execute(transaction, sql, rows, columns, |row, call| bind_plain_request(row, call)).await?;
    }
    for (sql, rows) in REQUESTS.over(&others) {
        let columns = REQUEST_COLUMNS.len();
        inserted += execute(transaction, sql, rows, columns, |row, call| bind_request(row, call)).await?;
    }
    Ok(inserted)
}

async fn insert_new_requests<'a>(
    transaction: &mut Transaction<'_, Sqlite>,
    batch: &[&'a CallRow],
) -> Result<Vec<&'a CallRow>, sqlx::Error> {
    let mut inserted: Vec<(i64, String)> = Vec::new();
    for (sql, rows) in NEW_REQUESTS.over(batch) {
        let (arguments, _kept) = arguments(rows, REQUEST_COLUMNS.len(), |row, call| bind_request(row, call))?;
        inserted.extend(sqlx::query_as_with(AssertSqlSafe(sql), arguments).fetch_all(&mut **transaction).await?);
    }
    Ok(only_new(batch, inserted))
}

/// Inserts the attempts of calls that are new, and adds them to the roll-ups.
async fn insert_rest(transaction: &mut Transaction<'_, Sqlite>, new: &[&CallRow]) -> Result<(), sqlx::Error> {
    let attempts = new.iter().flat_map(|call| call.attempts.iter().map(|attempt| (*call, attempt)));
    let (usual, others): (Vec<Attempt<'_>>, Vec<Attempt<'_>>) = attempts.partition(is_usual);
    for (sql, rows) in USUAL_ATTEMPTS.over(&usual) {
        let columns = ATTEMPT_COLUMNS.len() - USUAL.len();
        execute(transaction, sql, rows, columns, bind_usual).await?;
    }
    for (sql, rows) in ATTEMPTS.over(&others) {
        let columns = ATTEMPT_COLUMNS.len();
        execute(transaction, sql, rows, columns, bind_attempt).await?;
    }
    for ((rollup, groups), statements) in rollup::of_calls(new).iter().zip(ROLLUPS.iter()) {
        let columns = rollup.key().len() + MEASURES.len();
        for (sql, rows) in statements.over(groups) {
            execute(transaction, sql, rows, columns, |row, group| bind_group(row, *rollup, group)).await?;
        }
    }
    Ok(())
}

/// Says how many rows were inserted or changed.
async fn execute<T>(
    transaction: &mut Transaction<'_, Sqlite>,
    sql: &'static str,
    rows: &[T],
    columns: usize,
    bind: impl Fn(&mut Binder, &T),
) -> Result<usize, sqlx::Error> {
    let (arguments, _kept) = arguments(rows, columns, bind)?;
    let done = sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut **transaction).await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

/// The parameters of a statement for these rows, and the texts in them that nobody else holds. Whoever keeps those until
/// SQLite's thread has let go of its own gives their memory back where it came from, and finds it warm the next time.
fn arguments<T>(
    rows: &[T],
    columns: usize,
    bind: impl Fn(&mut Binder, &T),
) -> Result<(SqliteArguments, Vec<Arc<str>>), sqlx::Error> {
    let mut binder =
        Binder { arguments: SqliteArguments::default(), made: Vec::new(), scratch: Vec::new(), error: None };
    binder.arguments.reserve(rows.len() * columns, 0);
    rows.iter().for_each(|row| bind(&mut binder, row));
    match binder.error {
        None => Ok((binder.arguments, binder.made)),
        Some(error) => Err(sqlx::Error::Encode(error)),
    }
}

/// Whether all of [`PLAIN`] holds.
fn is_plain(call: &CallRow) -> bool {
    let Who { end_user, tags, workflow, session, step, .. } = &call.who;
    let names_nobody = tags.is_empty() && [end_user, workflow, session, step].iter().all(|text| text.is_none());
    names_nobody && call.outcome == Outcome::Ok
}

/// In the order of [`REQUEST_COLUMNS`].
fn bind_request(row: &mut Binder, call: &CallRow) {
    let who = &call.who;
    bind_route(row, call);
    row.shared(&OUTCOMES[call.outcome.index()]);
    row.add(who.end_user.clone());
    row.add(tags_text(call));
    row.add(who.workflow.clone());
    row.add(who.session.clone());
    row.add(who.step.clone());
    row.made(|json| call_detail(call, json));
}

/// In the order of [`REQUEST_COLUMNS`], without those that are [`PLAIN`].
fn bind_plain_request(row: &mut Binder, call: &CallRow) {
    bind_route(row, call);
    row.made(|json| call_detail(call, json));
}

/// What of the columns comes before those that may be [`PLAIN`].
fn bind_route(row: &mut Binder, call: &CallRow) {
    let who = &call.who;
    row.number(call.at);
    for text in [&call.id, &who.project, &who.key_id, &call.model, &call.operation] {
        row.shared(text);
    }
}

/// Whether all of [`USUAL`] holds.
fn is_usual((call, attempt): &Attempt<'_>) -> bool {
    let Usage { input, cache_read, output, reasoning, .. } = attempt.usage;
    let has_usual_buckets = attempt.usage == Usage { input, cache_read, output, reasoning, ..Usage::default() };
    let is_reported = attempt.usage_source == UsageSource::Reported;
    has_usual_buckets
        && is_reported
        && attempt.outcome == Outcome::Ok
        && attempt.number == 1
        && is_last(call, attempt) == 1
}

/// In the order of [`ATTEMPT_COLUMNS`].
fn bind_attempt(row: &mut Binder, (call, attempt): &Attempt<'_>) {
    row.number(call.at);
    row.shared(&call.id);
    row.number(attempt.number.into());
    row.number(is_last(call, attempt));
    row.number(attempt.at);
    for text in [&attempt.target, &attempt.provider, &attempt.upstream_model] {
        row.shared(text);
    }
    row.number(attempt.provider_key.into());
    row.shared(&OUTCOMES[attempt.outcome.index()]);
    row.shared(&SOURCES[attempt.usage_source as usize]);
    row.amount(attempt.cost);
    row.amount(attempt.reported_cost);
    for (_, count) in attempt.usage.buckets() {
        row.number(count.cast_signed());
    }
    row.made(|json| attempt_detail(attempt, json));
}

/// In the order of [`ATTEMPT_COLUMNS`], without those that are [`USUAL`].
fn bind_usual(row: &mut Binder, (call, attempt): &Attempt<'_>) {
    let Usage { input, cache_read, output, reasoning, .. } = attempt.usage;
    row.number(call.at);
    row.shared(&call.id);
    row.number(attempt.at);
    for text in [&attempt.target, &attempt.provider, &attempt.upstream_model] {
        row.shared(text);
    }
    row.number(attempt.provider_key.into());
    row.amount(attempt.cost);
    row.amount(attempt.reported_cost);
    for count in [input, cache_read, output, reasoning] {
        row.number(count.cast_signed());
    }
    row.made(|json| attempt_detail(attempt, json));
}

/// In the order of a roll-up's columns.
fn bind_group(row: &mut Binder, rollup: Rollup, (group, sums): &(Group<'_>, Sums)) {
    row.number(group.time);
    for text in rollup.texts(group) {
        row.text(text);
    }
    for measure in sums.values() {
        row.number(measure);
    }
}

/// The parameters of a statement while they are put together.
struct Binder {
    arguments: SqliteArguments,
    /// Texts that were made for this statement.
    made: Vec<Arc<str>>,
    scratch: Vec<u8>,
    error: Option<BoxDynError>,
}

impl Binder {
    fn number(&mut self, number: i64) {
        self.add(number);
    }

    fn amount(&mut self, amount: Option<Nanos>) {
        self.add(amount.map(|nanos| nanos.0));
    }

    /// Copies no text.
    fn shared(&mut self, text: &Arc<str>) {
        self.add(Arc::clone(text));
    }

    fn text(&mut self, text: &str) {
        let text = Arc::<str>::from(text);
        self.made.push(text.clone());
        self.add(text);
    }

    /// The text that `write` writes.
    fn made(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        write(&mut scratch);
        self.text(str::from_utf8(&scratch).unwrap_or_default());
        self.scratch = scratch;
    }

    fn add<'t>(&mut self, value: impl Encode<'t, Sqlite> + Type<Sqlite>) {
        if let Err(error) = self.arguments.add(value) {
            self.error.get_or_insert(error);
        }
    }
}

impl Statements {
    fn new(table: &str, columns: &[&str], tail: &str) -> Self {
        Self::with_constants(table, columns, &[], tail)
    }

    /// Inserts these values into the columns that are named with them, which have no parameters then.
    fn with_constants(table: &str, columns: &[&str], constants: &[(&str, &'static str)], tail: &str) -> Self {
        let constant = |column: &str| constants.iter().find(|(name, _)| *name == column).map(|(_, value)| *value);
        let values = columns.iter().map(|column| constant(column).unwrap_or("?"));
        let row = format!("({})", values.collect::<Vec<_>>().join(", "));
        let columns = columns.join(", ");
        Self(ROWS.map(|rows| {
            format!("insert into {table} ({columns}) values {} {tail}", vec![row.as_str(); rows].join(", "))
        }))
    }

    fn of_rollup(rollup: Rollup) -> Self {
        Self::new(rollup.table(), &rollup.columns(), &rollup.on_conflict("min"))
    }

    /// Divides `rows` over the statements.
    fn over<'a, T>(&'static self, mut rows: &'a [T]) -> impl Iterator<Item = (&'static str, &'a [T])> {
        std::iter::from_fn(move || {
            let (count, sql) = ROWS.into_iter().zip(&self.0).find(|(count, _)| *count <= rows.len())?;
            let (now, later) = rows.split_at(count);
            rows = later;
            Some((sql.as_str(), now))
        })
    }
}
