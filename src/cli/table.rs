//! Tables for people and for spreadsheets.

use comfy_table::{CellAlignment, Table, presets::NOTHING};

/// Rows under headers. Columns from `numbers` on hold numbers, which end below each other.
pub(super) struct Rows {
    pub(super) head: Vec<String>,
    pub(super) numbers: usize,
    pub(super) rows: Vec<Vec<String>>,
}

impl Rows {
    /// Aligned with spaces, the headers in capitals.
    pub(super) fn aligned(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(self.head.iter().map(|name| name.to_uppercase().replace('_', " ")));
        table.add_rows(self.rows.iter().map(|row| row.iter().map(|cell| on_one_line(cell))));
        for index in 0..self.head.len() {
            let Some(column) = table.column_mut(index) else { continue };
            column.set_padding((0, 2));
            if index >= self.numbers {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    /// Comma-separated values (RFC 4180) with a line of headers.
    pub(super) fn csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        // Writing to memory cannot fail, and every row has as many fields as there are headers.
        let _ = writer.write_record(&self.head);
        for row in &self.rows {
            let _ = writer.write_record(row.iter().map(|cell| unspreadable(cell)));
        }
        String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
    }
}

/// A list in one cell. An empty one allows nothing, which is worth a word.
pub(super) fn listed(texts: &[String]) -> String {
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// What clients chose (names of users, tags) must not move the cursor or begin a line of its own.
fn on_one_line(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Spreadsheets run what begins like a formula. Numbers may begin with a sign.
fn unspreadable(cell: &str) -> String {
    let is_number =
        cell.strip_prefix(['-', '+']).unwrap_or(cell).bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number { format!("'{cell}") } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        Rows {
            head: row(["end_user", "cost"]),
            numbers: 1,
            rows: vec![row(["=cmd()\x1b[31m", "-1.50"]), row(["a,\"b\"", "100.25"])],
        }
    }

    #[test]
    fn numbers_end_below_each_other_and_nothing_escapes_its_cell() {
        assert_eq!(rows().aligned(), "END USER       COST\n=cmd()\u{fffd}[31m   -1.50\na,\"b\"        100.25\n");
    }

    #[test]
    fn a_spreadsheet_finds_no_formula() {
        assert_eq!(rows().csv(), "end_user,cost\n'=cmd()\u{1b}[31m,-1.50\n\"a,\"\"b\"\"\",100.25\n");
    }
}
