//! What a call did to its quotas, for its receipt: what was set aside, what it counts as, and which had no room.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    refused::{Refused, Why},
    rule::Rule,
};
use crate::{
    shared::CounterId,
    store::ledger::{LimitNote, LimitRow, Notes},
};

/// What a receipt says of one counter.
pub(super) type Line = (CounterId, LimitRow, LimitNote);

/// The counters that had no room for the call, each once and a bounded number of them.
#[derive(Debug, Default)]
pub(super) struct Touched(SmallVec<[Line; 1]>);

impl Touched {
    /// Notes that there was no room at a counter; `of` is whose it is.
    pub(super) fn refuse(&mut self, refused: &Refused, of: LimitNote, unix_millis: u64) {
        let (limit, used) = match refused.why {
            Why::Short { limit, used, .. } => (limit, Some(used)),
            Why::Unpriced | Why::Unavailable | Why::Full => (refused.rule.limit_at(unix_millis), None),
        };
        if self.0.len() < Notes::MAX_LIMITS && self.0.iter().all(|(counter, ..)| *counter != refused.counter) {
            let row = LimitRow { refused: true, ..row(&refused.rule, limit, used, 0, 0) };
            self.0.push((refused.counter, row, of));
        }
    }

    /// What the receipt says: first of those that had no room, then of the `others` that the call counted in.
    pub(super) fn rows(self, others: impl Iterator<Item = Line>) -> Vec<(LimitRow, LimitNote)> {
        let mut rows = self.0;
        // The others are each once, so they are looked for among these only.
        let refused = rows.len();
        rows.reserve(others.size_hint().0);
        for (counter, row, of) in others {
            match rows[..refused].iter_mut().find(|(refused, ..)| *refused == counter) {
                // How full it was when it had no room says more.
                Some((_, known, about)) => {
                    *known = LimitRow { refused: true, used: known.used.or(row.used), ..row };
                    *about = of;
                }
                None => rows.push((counter, row, of)),
            }
        }
        rows.truncate(Notes::MAX_LIMITS);
        rows.into_iter().map(|(_, row, of)| (row, of)).collect()
    }
}

/// A quota's part in the receipt, in which it had room.
pub(super) fn row(rule: &Arc<Rule>, limit: u64, used: Option<u64>, held: u64, settled: u64) -> LimitRow {
    let (quota, measure) = (rule.name.clone(), rule.measure.as_str().into());
    LimitRow { quota, measure, limit, used, held, settled, refused: false }
}
