//! Roll-ups of a batch: what its calls add to the hourly sums.
//!
//! There are three tables of one shape. `usage_hours` sums all calls. `usage_hours_by_tag` has a row for each tag of a
//! call, so a call with two tags is in it twice, under either. `usage_hours_by_user` has the calls that name an end
//! user. So a query by project or model never reads through the rows of a million end users.
//!
//! An attempt counts at its own target and provider; a call counts at those of its last attempt, or at none when it was
//! never sent. The hour is that of the call's arrival, for its attempts as well.

use std::collections::HashMap;

use super::{
    CallRow,
    sums::{MEASURES, Sums},
};

/// An hour in milliseconds.
pub(super) const HOUR: i64 = 3_600_000;

/// The three tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Rollup {
    All,
    ByTag,
    ByUser,
}

/// What a row of a roll-up is about: its primary key, in the order of its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Group<'a> {
    pub hour: i64,
    /// The tag, the end user, or empty.
    pub facet: &'a str,
    pub project: &'a str,
    pub key_id: &'a str,
    pub model: &'a str,
    pub provider: &'a str,
    pub target: &'a str,
}

impl Rollup {
    pub(super) const EVERY: [Self; 3] = [Self::All, Self::ByTag, Self::ByUser];

    pub(super) const fn table(self) -> &'static str {
        match self {
            Self::All => "usage_hours",
            Self::ByTag => "usage_hours_by_tag",
            Self::ByUser => "usage_hours_by_user",
        }
    }

    /// The end of an insert that adds to the row that is there. `least` is the database's word for the smaller of two.
    pub(super) fn on_conflict(self, least: &str) -> String {
        let table = self.table();
        let sums = MEASURES
            .map(|measure| format!("{measure} = {least}({table}.{measure} + excluded.{measure}, {MAX_SUM})"))
            .join(", ");
        format!("on conflict ({}) do update set {sums}", KEY.join(", "))
    }
}

impl<'a> Group<'a> {
    /// The texts of the key, which follow the hour.
    pub(super) const fn texts(&self) -> [&'a str; KEY.len() - 1] {
        [self.facet, self.project, self.key_id, self.model, self.provider, self.target]
    }
}

/// The columns of a roll-up's primary key, in the order of [`Group`].
const KEY: [&str; 7] = ["hour", "facet", "project", "key_id", "model", "provider", "target"];

/// Where a sum stays. Adding what a batch can hold does not overflow from there.
const MAX_SUM: i64 = 9_000_000_000_000_000_000;

/// The columns of a roll-up.
pub(super) fn columns() -> [&'static str; KEY.len() + MEASURES.len()] {
    let mut columns = [""; KEY.len() + MEASURES.len()];
    for (column, name) in columns.iter_mut().zip(KEY.into_iter().chain(MEASURES)) {
        *column = name;
    }
    columns
}

/// What these calls add to each of the tables, in the order of the rows' keys: writers that take their locks in one
/// order never wait for each other in a circle.
pub(super) fn of_calls<'a>(calls: &[&'a CallRow]) -> [(Rollup, Vec<(Group<'a>, Sums)>); 3] {
    Rollup::EVERY.map(|rollup| {
        let mut groups: HashMap<Group<'a>, Sums> = HashMap::new();
        for call in calls {
            match rollup {
                Rollup::All => add(&mut groups, call, ""),
                Rollup::ByTag => call.who.tags.iter().for_each(|tag| add(&mut groups, call, tag)),
                Rollup::ByUser => call.who.end_user.iter().for_each(|user| add(&mut groups, call, user)),
            }
        }
        let mut sorted: Vec<(Group<'a>, Sums)> = groups.into_iter().collect();
        sorted.sort_unstable_by_key(|(group, _)| *group);
        (rollup, sorted)
    })
}

fn add<'a>(groups: &mut HashMap<Group<'a>, Sums>, call: &'a CallRow, facet: &'a str) {
    let mut group = Group {
        hour: call.at - call.at.rem_euclid(HOUR),
        facet,
        project: &call.who.project,
        key_id: &call.who.key_id,
        model: &call.model,
        provider: "",
        target: "",
    };
    if call.attempts.is_empty() {
        groups.entry(group).or_default().add(&Sums::of_unsent(call));
    }
    for (index, attempt) in call.attempts.iter().enumerate() {
        group.provider = &attempt.provider;
        group.target = &attempt.target;
        let ends = (index + 1 == call.attempts.len()).then_some(call);
        groups.entry(group).or_default().add(&Sums::of_attempt(attempt, ends));
    }
}
