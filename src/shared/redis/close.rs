//! The end of holds, told the short way: by how much each counter changes. Usually this replica knows exactly what is in a
//! hold's record, and then Redis has to read none, and changes a counter once for many holds. Where Redis does not have a
//! record any more, or this replica is not sure, each hold is told of by itself.

use std::collections::HashMap;

use super::{account::Record, bucket_width, pack::Pack};
use crate::shared::{CounterId, Window};

/// The bucket of the moment in which the script runs.
const NOW: i64 = -1;

/// Changes that fit in one command.
const MOST: usize = 8_000;

/// Holds that end, and what that changes.
#[derive(Debug, Default)]
pub(super) struct Closing {
    holds: Vec<u64>,
    changes: HashMap<(CounterId, i64), (Window, i64)>,
}

impl Closing {
    pub(super) fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.changes.len() >= MOST
    }

    /// Adds the end of a hold that has one record, of which `actual` was consumed: of what was taken first, first.
    pub(super) fn add(&mut self, record: &Record) {
        self.holds.push(record.number);
        let mut rest: Vec<(CounterId, Window, u64)> = Vec::with_capacity(record.actual.len());
        for entry in &record.actual {
            match rest.iter_mut().find(|(id, ..)| *id == entry.id) {
                Some((_, _, amount)) => *amount = amount.saturating_add(entry.amount),
                None => rest.push(entry.parts()),
            }
        }
        for entry in &record.entries {
            let left = rest.iter_mut().find(|(id, ..)| *id == entry.id).filter(|_| entry.window != Window::Slots);
            let consumed = left.map_or(0, |(_, _, left)| {
                let consumed = entry.amount.min(*left);
                *left -= consumed;
                consumed
            });
            self.change(entry.id, entry.window, bucket(entry.window, entry.at), consumed, entry.amount);
        }
        for entry in &record.returning {
            self.change(entry.id, entry.window, bucket(entry.window, entry.at), 0, entry.amount);
        }
        for (id, window, left) in rest.into_iter().filter(|(_, window, _)| *window != Window::Slots) {
            let bucket = if matches!(window, Window::Rolling { .. }) { NOW } else { 0 };
            self.change(id, window, bucket, left, 0);
        }
    }

    fn change(&mut self, id: CounterId, window: Window, bucket: i64, more: u64, less: u64) {
        if more != less {
            let signed = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
            let (_, change) = self.changes.entry((id, bucket)).or_insert((window, 0));
            *change = change.saturating_add(signed(more)).saturating_sub(signed(less));
        }
    }

    /// What the script is given.
    pub(super) fn pack(&self, prefix: &str, session: &str, epoch: &str) -> Vec<u8> {
        let mut pack = Pack::new(128 + self.holds.len() * 8 + self.changes.len() * 48);
        pack.text(prefix).text(session).text(epoch).holds(&self.holds);
        for ((id, bucket), (window, change)) in self.changes.iter().filter(|(_, (_, change))| *change != 0) {
            pack.counter(*id, *window).signed(*bucket).signed(*change);
        }
        pack.finish()
    }
}

fn bucket(window: Window, at: u64) -> i64 {
    match window {
        Window::Rolling { millis } => i64::try_from(at / bucket_width(millis)).unwrap_or(i64::MAX),
        Window::Period { .. } | Window::Slots => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::redis::account::Entry;

    #[test]
    fn changes_of_many_holds_are_one_change_of_each_counter_and_bucket() {
        let minute = Window::Rolling { millis: 60_000 };
        let id = |name: &str| CounterId::of([name.as_bytes()]);
        let entry = |name: &str, window, amount, at| Entry { id: id(name), window, amount, history: false, at };
        let mut closing = Closing::default();
        for number in [1, 2] {
            let entries = vec![
                entry("m", minute, 5, 10_500),
                entry("s", Window::Slots, 1, 10_500),
                entry("h", Window::Period { ends: 1 << 50 }, 5, 10_500),
                entry("m", minute, 5, 12_000),
            ];
            let mut record = Record::new(number, None, entries);
            record.returning = vec![entry("g", minute, 3, 10_500)];
            record.actual = vec![
                entry("m", minute, 7, 0),
                entry("s", Window::Slots, 1, 0),
                entry("h", Window::Period { ends: 1 << 50 }, 9, 0),
            ];
            closing.add(&record);
        }
        let mut changes: Vec<_> = closing.changes.iter().map(|((id, bucket), (_, by))| (*id, *bucket, *by)).collect();
        changes.sort_unstable();
        let mut expected = [(id("m"), 12, -6), (id("s"), 0, -2), (id("h"), 0, 8), (id("g"), 10, -6)];
        expected.sort_unstable();
        assert_eq!(changes, expected);
        assert_eq!(closing.holds, [1, 2]);
    }

    #[test]
    fn what_was_consumed_beyond_a_hold_is_of_now() {
        let minute = Window::Rolling { millis: 60_000 };
        let id = CounterId::of([b"m".as_slice()]);
        let entry = |amount| Entry { id, window: minute, amount, history: false, at: 10_500 };
        let mut record = Record::new(1, None, vec![entry(5)]);
        record.actual = vec![entry(8)];
        let mut closing = Closing::default();
        closing.add(&record);
        assert_eq!(closing.changes.into_iter().collect::<Vec<_>>(), [((id, NOW), (minute, 3))]);
    }
}
