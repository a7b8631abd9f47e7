//! As written: the first target takes every call that it can.

/// The indices of `count` targets as they stand.
pub(super) fn order(count: usize) -> Vec<usize> {
    (0..count).collect()
}
