//! Tables of cases, all of whose failures are shown together.

use std::fmt::Debug;

/// What was found wrong, row by row.
#[derive(Debug, Default)]
pub struct Rows {
    row: String,
    rows: usize,
    wrong: Vec<String>,
}

impl Rows {
    pub fn new() -> Self {
        Self::default()
    }

    /// The checks that follow are about this row.
    pub fn row(&mut self, name: impl Into<String>) {
        self.row = name.into();
        self.rows += 1;
    }

    /// Notes a difference.
    #[expect(clippy::needless_pass_by_value, reason = "a row reads better without a forest of `&`")]
    pub fn equal<T: PartialEq + Debug>(&mut self, what: &str, found: T, expected: T) {
        if found != expected {
            self.wrong.push(format!("{}: {what}\n      found    {found:?}\n      expected {expected:?}", self.row));
        }
    }

    /// Notes what does not hold; `found` tells what was there instead.
    pub fn holds(&mut self, what: &str, holds: bool, found: impl Debug) {
        if !holds {
            self.wrong.push(format!("{}: {what}\n      found    {found:?}", self.row));
        }
    }

    /// Notes an error.
    pub fn fine(&mut self, result: Result<(), String>) {
        if let Err(error) = result {
            self.wrong.push(format!("{}: {error}", self.row));
        }
    }

    /// Ends the table.
    pub fn finish(self) {
        assert!(self.rows > 0, "the table is empty");
        let count = self.wrong.len();
        assert!(count == 0, "{count} checks of {} rows failed\n  {}", self.rows, self.wrong.join("\n  "));
    }
}
