//! `GET /admin/v1/audit`: what administrators did.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{endpoint::Answer, params::Limit, undone, usage::utc};
use crate::{
    auth::manage::AuditPage,
    error::Error,
    http::Surface,
    store::AuditFilter,
    types::{Moment, Zone},
};

pub(super) const SUMMARY: &str = "What administrators did, newest first";

/// Entries on a page unless the query says.
const LIMIT: u32 = 50;

/// Entries on the largest page.
const MAX_LIMIT: u32 = 500;

/// What the route takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Params {
    /// What was done to things of this kind: `key`, `project`, `admin_key`.
    kind: Option<String>,
    /// What was done to the thing with this id.
    object: Option<String>,
    /// Who did it: `admin_key`, `command` or `gateway`.
    actor: Option<String>,
    /// What was done, as `key.create`.
    action: Option<String>,
    /// The zone of dates in `since` and `until`.
    #[serde(default = "utc")]
    tz: Zone,
    /// What was done then or later.
    since: Option<Moment>,
    /// What was done before this.
    until: Option<Moment>,
    /// The `next_cursor` of the page before; all else as it was.
    cursor: Option<String>,
    /// How many entries at most.
    #[serde(default)]
    limit: Limit<LIMIT, MAX_LIMIT>,
}

impl Answer for AuditPage {}

pub(super) async fn list(surface: Arc<Surface>, params: Params) -> Result<AuditPage, Error> {
    let Params { kind, object, actor, action, tz, since, until, cursor, limit } = params;
    let at = |name: &'static str, moment: Option<Moment>| {
        let at = moment.map(|moment| moment.at(&tz)).transpose();
        at.map(|at| at.map(Timestamp::as_millisecond)).map_err(|why| Error::bad_field("invalid_parameter", name, why))
    };
    let (since, until) = (at("since", since)?, at("until", until)?);
    let filter = AuditFilter { object_kind: kind, object_id: object, actor, action, since, until };
    surface.keys.audit(&filter, cursor.as_deref(), limit.0).await.map_err(undone)
}
