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

/// An estimate of the input's tokens. Reading it takes as long as translating it; large ones are read aside.
///
/// # Errors
/// [`Refusal`] with a 400: it is no request.
pub(super) async fn estimated(gateway: &Gateway, call: &Call, mut charge: Charge) -> Result<Reply, Refusal> {
    let (asked, bytes) = (call.asked.clone(), call.envelope.bytes().clone());
    let size = bytes.len();
    let weigh = move || anthropic::decode_request(&bytes).map(|_| estimate::by_script(&asked, None));
    let (usage, _) = match gateway.aside.work(size, weigh).await {
        Ok(estimate) => estimate,
        Err(bad) => return Err(Failed { failure: unread(&bad), target: None }.refuse(gateway, call, charge)),
    };
    let body = anthropic::encode_count(usage.total_input().max(1));
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(names::ESTIMATED, HeaderValue::from_static("true"));
    charge.committed(200, false);
    charge.sent(body.len());
    charge.settle(Outcome::Ok);
    Ok(Reply { headers, body: ReplyBody::Whole(Some(body.into())) })
}
