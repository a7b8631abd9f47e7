//! `GET /admin/v1/usage`: sums over time, by up to two things.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{ask, endpoint::Answer, params::Limit};
use crate::{
    accounting::report::{self, By, Every, Filters, UsageQuestion, UsageReport},
    error::Error,
    http::Surface,
    types::{Moment, Zone},
};

pub(super) const SUMMARY: &str = "What was used and what it cost, by time and up to two names";

/// Groups on a page unless the query says.
const LIMIT: u32 = 100;

/// Groups on the largest page.
const MAX_LIMIT: u32 = 1_000;

/// What the route takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Params {
    /// One or two names, with a comma: what sums are grouped by. Left out: one sum of all.
    #[serde(default)]
    group_by: By,
    /// Divides the time. Left out: it is one stretch.
    bucket: Option<Every>,
    /// The zone that days and months are those of, and dates in `from` and `to`.
    #[serde(default = "utc")]
    tz: Zone,
    /// Calls that arrived then or later. Left out: the beginning of this month.
    from: Option<Moment>,
    /// Calls that arrived before this. Left out: now.
    to: Option<Moment>,
    /// The `next_cursor` of the page before; all else as it was.
    cursor: Option<String>,
    /// How many groups at most.
    #[serde(default)]
    limit: Limit<LIMIT, MAX_LIMIT>,
    #[serde(flatten)]
    filters: Filters,
}

impl Answer for UsageReport {}

pub(super) async fn usage(surface: Arc<Surface>, params: Params) -> Result<UsageReport, Error> {
    let Params { group_by, bucket, tz, from, to, cursor, limit, filters } = params;
    let now = Timestamp::try_from(surface.clock.wall()).unwrap_or(Timestamp::MAX);
    let question = UsageQuestion { from, to, zone: tz, bucket, by: group_by, filters, limit: limit.0, cursor, now };
    ask(&surface, report::usage(&surface.db, &question)).await
}

pub(super) fn utc() -> Zone {
    Zone::UTC
}
