//! A store that does what a test tells it to.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard},
};

use crate::store::ledger::{CallRow, Refused, Written};

/// What a write does instead of working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written.
    Down,
    /// It never answers.
    Hang,
    /// All is written, and the answer is lost.
    Unanswered,
    /// Half of it is written, then it fails.
    Half,
}

/// Rows by id, and how often each was inserted or found to be there.
#[derive(Debug, Default)]
pub struct Script(Mutex<Told>);

#[derive(Debug, Default)]
pub struct Told {
    pub rows: BTreeMap<String, CallRow>,
    /// What the next writes do; after these they work.
    pub faults: VecDeque<Fault>,
    /// What every write does that has no fault of its own.
    pub always: Option<Fault>,
    /// Ids of rows that are never taken.
    pub poison: BTreeSet<String>,
    pub writes: usize,
    /// The longest batch.
    pub longest: usize,
}

impl Script {
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap()
    }

    pub(super) async fn write(&self, rows: &[CallRow]) -> Result<Written, String> {
        let fault = self.told().begin(rows);
        if fault == Some(Fault::Hang) {
            std::future::pending::<()>().await;
        }
        self.told().write(rows, fault)
    }
}

impl Told {
    fn begin(&mut self, rows: &[CallRow]) -> Option<Fault> {
        self.writes += 1;
        self.longest = self.longest.max(rows.len());
        self.faults.pop_front().or(self.always)
    }

    fn write(&mut self, rows: &[CallRow], fault: Option<Fault>) -> Result<Written, String> {
        let mut written = Written::default();
        let count = match fault {
            Some(Fault::Down | Fault::Hang) => 0,
            Some(Fault::Half) => rows.len() / 2,
            Some(Fault::Unanswered) | None => rows.len(),
        };
        for row in &rows[..count] {
            if self.poison.contains(&*row.id) {
                written.refused.push(Refused { id: row.id.clone(), reason: "poison".to_owned() });
            } else if self.rows.contains_key(&*row.id) {
                written.skipped += 1;
            } else {
                self.rows.insert(row.id.to_string(), row.clone());
                written.inserted += 1;
            }
        }
        match fault {
            None => Ok(written),
            Some(fault) => Err(format!("{fault:?}")),
        }
    }
}
