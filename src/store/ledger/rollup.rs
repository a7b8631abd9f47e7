//! Roll-ups of a batch: what its calls add to the hourly sums.
//!
//! Three tables are of one shape. `usage_hours` sums all calls. `usage_hours_by_tag` has a row for each tag of a call, so
//! a call with two tags is in it twice, under either. `usage_hours_by_user` has the calls that name an end user. So a
//! query by project or model never reads through the rows of a million end users. There an attempt counts at its own
//! target and provider; a call counts at those of its last attempt, or at none when it was never sent.
//!
//! Two more are narrow, because they are about the call and not about its attempts: `usage_hours_by_outcome`, and
//! `usage_hours_by_workflow` with the calls that name a workflow or a step. And since the hours of many end users are
//! nearly as many as their calls, `usage_days_by_user` has their days (UTC), in each project.
//!
//! The hour or day is that of the call's arrival, for its attempts as well.

use std::collections::HashMap;

use super::{
    CallRow,
    sums::{MEASURES, Sums},
};

/// An hour in milliseconds.
pub(super) const HOUR: i64 = 3_600_000;

/// A day in milliseconds.
pub(super) const DAY: i64 = 24 * HOUR;

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Rollup {
    All,
    ByOutcome,
    ByTag,
    ByUser,
    ByUserAndDay,
    ByWorkflow,
}

/// The most texts in a key.
const MAX_TEXTS: usize = 6;

/// What a row of a roll-up is about: its primary key, in the order of [`Rollup::key`]. Texts that the table has not are
/// empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Group<'a> {
    /// When the hour or the day begins, in Unix milliseconds.
    pub time: i64,
    pub texts: [&'a str; MAX_TEXTS],
}

/// Groups of one table and their sums, as they come.
struct Gathered<'a> {
    groups: Vec<(Group<'a>, Sums)>,
    places: HashMap<Group<'a>, usize>,
    /// Where the last one was: most calls are of the same group as the one before them.
    last: usize,
}

impl Rollup {
    pub(super) const EVERY: [Self; 6] =
        [Self::All, Self::ByOutcome, Self::ByTag, Self::ByUser, Self::ByUserAndDay, Self::ByWorkflow];

    /// Those by hour. The ones with more dimensions for fewer rows come first.
    pub(super) const BY_HOUR: [Self; 5] = [Self::All, Self::ByOutcome, Self::ByTag, Self::ByUser, Self::ByWorkflow];

    pub(super) const fn table(self) -> &'static str {
        match self {
            Self::All => "usage_hours",
            Self::ByOutcome => "usage_hours_by_outcome",
            Self::ByTag => "usage_hours_by_tag",
            Self::ByUser => "usage_hours_by_user",
            Self::ByUserAndDay => "usage_days_by_user",
            Self::ByWorkflow => "usage_hours_by_workflow",
        }
    }

    /// The one of days that has what this one has by the hour, though not by all dimensions.
    pub(super) const fn by_day(self) -> Option<Self> {
        match self {
            Self::ByUser => Some(Self::ByUserAndDay),
            _ => None,
        }
    }

    /// Whether calls that were sent nowhere are in rows of their own: those without a target.
    pub(super) const fn tells_sent(self) -> bool {
        matches!(self, Self::All | Self::ByTag | Self::ByUser)
    }

    /// The columns of the primary key: the time, then texts. `facet` is the tag, the end user, or empty.
    pub(super) const fn key(self) -> &'static [&'static str] {
        match self {
            Self::All | Self::ByTag | Self::ByUser => {
                &["hour", "facet", "project", "key_id", "model", "provider", "target"]
            }
            Self::ByUserAndDay => &["day", "end_user", "project"],
            Self::ByOutcome => &["hour", "operation", "outcome", "project", "model"],
            Self::ByWorkflow => &["hour", "workflow", "step", "project", "model"],
        }
    }

    /// The column of the time.
    pub(super) fn time(self) -> &'static str {
        self.key()[0]
    }

    /// All columns: those of the key, then the measures.
    pub(super) fn columns(self) -> Vec<&'static str> {
        self.key().iter().copied().chain(MEASURES).collect()
    }

    /// The texts of a group's key that this table has.
    pub(super) fn texts<'g, 'a>(self, group: &'g Group<'a>) -> &'g [&'a str] {
        &group.texts[..self.key().len() - 1]
    }

    /// The end of an insert that adds to the row that is there. `least` is the database's word for the smaller of two.
    pub(super) fn on_conflict(self, least: &str) -> String {
        let table = self.table();
        let sums = MEASURES
            .map(|measure| format!("{measure} = {least}({table}.{measure} + excluded.{measure}, {MAX_SUM})"))
            .join(", ");
        format!("on conflict ({}) do update set {sums}", self.key().join(", "))
    }

    fn group<'a>(self, call: &'a CallRow, facet: &'a str, provider: &'a str, target: &'a str) -> Group<'a> {
        let who = &call.who;
        let texts: [&str; MAX_TEXTS] = match self {
            Self::All | Self::ByTag | Self::ByUser => [facet, &who.project, &who.key_id, &call.model, provider, target],
            Self::ByUserAndDay => [facet, &who.project, "", "", "", ""],
            Self::ByOutcome => [&call.operation, call.outcome.as_str(), &who.project, &call.model, "", ""],
            Self::ByWorkflow => {
                let (workflow, step) = (who.workflow.as_deref(), who.step.as_deref());
                [workflow.unwrap_or_default(), step.unwrap_or_default(), &who.project, &call.model, "", ""]
            }
        };
        let length = if self == Self::ByUserAndDay { DAY } else { HOUR };
        Group { time: call.at - call.at.rem_euclid(length), texts }
    }
}

/// Where a sum stays. Adding what a batch can hold does not overflow from there.
const MAX_SUM: i64 = 9_000_000_000_000_000_000;

/// What these calls add to each of the tables, in the order of the rows' keys: writers that take their locks in one
/// order never wait for each other in a circle.
pub(super) fn of_calls<'a>(calls: &[&'a CallRow]) -> [(Rollup, Vec<(Group<'a>, Sums)>); Rollup::EVERY.len()] {
    Rollup::EVERY.map(|rollup| {
        let mut gathered = Gathered { groups: Vec::new(), places: HashMap::new(), last: 0 };
        for call in calls {
            let who = &call.who;
            match rollup {
                Rollup::All | Rollup::ByOutcome => gathered.add(rollup, call, ""),
                Rollup::ByTag => who.tags.iter().for_each(|tag| gathered.add(rollup, call, tag)),
                Rollup::ByUser | Rollup::ByUserAndDay => {
                    who.end_user.iter().for_each(|user| gathered.add(rollup, call, user));
                }
                Rollup::ByWorkflow if who.workflow.is_none() && who.step.is_none() => {}
                Rollup::ByWorkflow => gathered.add(rollup, call, ""),
            }
        }
        gathered.groups.sort_unstable_by_key(|(group, _)| *group);
        (rollup, gathered.groups)
    })
}

impl<'a> Gathered<'a> {
    fn add(&mut self, rollup: Rollup, call: &'a CallRow, facet: &'a str) {
        if call.attempts.is_empty() {
            self.sums(rollup.group(call, facet, "", "")).add(&Sums::of_unsent(call));
        }
        for (index, attempt) in call.attempts.iter().enumerate() {
            let ends = (index + 1 == call.attempts.len()).then_some(call);
            let group = rollup.group(call, facet, &attempt.provider, &attempt.target);
            self.sums(group).add(&Sums::of_attempt(attempt, ends));
        }
    }

    fn sums(&mut self, group: Group<'a>) -> &mut Sums {
        if self.groups.get(self.last).is_none_or(|(last, _)| *last != group) {
            self.last = *self.places.entry(group).or_insert(self.groups.len());
            if self.last == self.groups.len() {
                self.groups.push((group, Sums::default()));
            }
        }
        &mut self.groups[self.last].1
    }
}
