//! A query that is put together at run time: constants of this program in its text, everything else bound.

use std::time::Duration;

use sqlx::{AssertSqlSafe, FromRow, postgres::PgRow, sqlite::SqliteRow};

use crate::store::{Db, StoreError, run::on};

/// How long an answer may take. Sums over a year of rows take their time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The text of a query and its parameters.
#[derive(Debug, Default)]
pub(super) struct Sql {
    text: String,
    values: Vec<Value>,
}

#[derive(Debug)]
enum Value {
    Number(i64),
    Text(String),
}

impl Sql {
    /// Adds text of this program's own.
    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a parameter.
    pub(super) fn number(&mut self, number: i64) -> &mut Self {
        self.values.push(Value::Number(number));
        self.placeholder()
    }

    /// Adds a parameter. No text of the ledger holds a NUL, and Postgres takes none: the mark that stands for it there is
    /// looked for.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.values.push(Value::Text(text.replace('\0', "\u{fffd}")));
        self.placeholder()
    }

    /// Adds `column in (…)`.
    pub(super) fn one_of(&mut self, column: &str, values: &[&str]) -> &mut Self {
        self.push(column).push(" in (");
        for (index, value) in values.iter().enumerate() {
            self.push(if index == 0 { "" } else { ", " }).text(value);
        }
        self.push(")")
    }

    /// Asks the database. The text is not kept prepared, because it seldom comes again.
    pub(super) async fn fetch<T>(&self, db: &Db) -> Result<Vec<T>, StoreError>
    where
        T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        on!(db, PATIENCE, |connection| {
            let query = sqlx::query_as(AssertSqlSafe(self.text.as_str())).persistent(false);
            let bound = self.values.iter().fold(query, |query, value| match value {
                Value::Number(number) => query.bind(*number),
                Value::Text(text) => query.bind(text.as_str()),
            });
            Ok(bound.fetch_all(&mut *connection).await?)
        })
    }

    fn placeholder(&mut self) -> &mut Self {
        let number = self.values.len();
        self.push(&format!("${number}"))
    }
}
