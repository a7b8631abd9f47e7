//! `count_tokens` where nobody can be asked: an estimate, marked as one.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    Call, Gateway, Refusal, Reply, ReplyBody,
    failure::{Failed, Next},
    headers::names,
    lane::{Lane, unread},
};
use crate::{
    accounting::{Charge, estimate},
    providers::Operation,
    routing::{self, Resolved},
    telemetry::Outcome,
    wire::anthropic,
};

/// Whether a call only asks for a count that no target of its model can give.
pub(super) fn is_unanswerable(call: &Call, route: &Resolved) -> bool {
    call.operation == Operation::CountTokens
        && !routing::plan(route, &mut fastrand::f64)
            .candidates
            .iter()
            .any(|candidate| Lane::of(call.operation, &candidate.target.provider).is_some())
}

/// Whether a call only asks for a count that no target could give: not because of what was asked.
pub(super) fn is_unanswered(call: &Call, failed: &Failed) -> bool {
    let status = failed.failure.provider.as_ref().map(|answer| answer.said);
    let is_missing = matches!(status, Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED));
    let is_theirs = !matches!(failed.failure.next, Next::Nowhere | Next::Fallback(_));
    call.operation == Operation::CountTokens && (is_missing || is_theirs)
}

/// An estimate of the input's tokens.
///
/// # Errors
/// [`Refusal`] with a 400: it is no request.
pub(super) fn estimated(gateway: &Gateway, call: &Call, mut charge: Charge) -> Result<Reply, Refusal> {
    if let Err(bad) = anthropic::decode_request(call.envelope.bytes()) {
        return Err(Failed { failure: unread(&bad), target: None }.refuse(gateway, call, charge));
    }
    let (usage, _) = estimate::by_script(&call.asked, None);
    let body = anthropic::encode_count(usage.total_input().max(1));
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(names::ESTIMATED, HeaderValue::from_static("true"));
    charge.committed(200, false);
    charge.sent(body.len());
    charge.settle(Outcome::Ok);
    Ok(Reply { headers, body: ReplyBody::Whole(Some(body.into())) })
}
