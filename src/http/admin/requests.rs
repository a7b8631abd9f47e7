//! `GET /admin/v1/requests` and `/admin/v1/requests/{id}`: single calls, with every attempt.

use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{ask, endpoint::Answer, params::Limit, usage::utc};
use crate::{
    accounting::report::{self, Filters, Receipt, ReceiptPage, RequestQuestion},
    error::Error,
    http::Surface,
    types::{Moment, Zone},
};

pub(super) const LIST_SUMMARY: &str = "Single calls with their attempts, newest first";
pub(super) const ONE_SUMMARY: &str = "One call with its attempts";

/// Calls on a page unless the query says.
const LIMIT: u32 = 20;

/// Calls on the largest page. Fewer than the store gives at most: one more tells whether there is another page.
const MAX_LIMIT: u32 = 500;

/// What the list takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ListParams {
    /// The zone of dates in `from` and `to`.
    #[serde(default = "utc")]
    tz: Zone,
    /// Calls that arrived then or later.
    from: Option<Moment>,
    /// Calls that arrived before this.
    to: Option<Moment>,
    /// The `next_cursor` of the page before; all else as it was.
    cursor: Option<String>,
    /// How many calls at most.
    #[serde(default)]
    limit: Limit<LIMIT, MAX_LIMIT>,
    #[serde(flatten)]
    filters: Filters,
}

/// What one call is named by.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct OneParams {
    /// The call's id, as `x-request-id` carried it.
    id: String,
}

impl Answer for ReceiptPage {}

impl Answer for Receipt {}

pub(super) async fn list(surface: Arc<Surface>, params: ListParams) -> Result<ReceiptPage, Error> {
    let ListParams { tz, from, to, cursor, limit, filters } = params;
    let question = RequestQuestion { from, to, zone: tz, filters, limit: limit.0, cursor };
    ask(&surface, report::requests(&surface.db, &question)).await
}

pub(super) async fn one(surface: Arc<Surface>, params: OneParams) -> Result<Receipt, Error> {
    const MISSING: &str = "The ledger has no call with this id. Rows are written a moment after a call has ended, and \
                           old ones are given up in the end.";
    let found = ask(&surface, report::request(&surface.db, &params.id)).await?;
    found.ok_or_else(|| Error::client(StatusCode::NOT_FOUND, "request_not_found", MISSING))
}
