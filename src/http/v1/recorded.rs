//! Answers whose content is logged: they pass as they are, and their record sees them pass.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::{
    auth::Principal,
    http::Surface,
    providers::Operation,
    telemetry::content::{Caller, Record},
    types::RequestId,
    wire::envelope::Envelope,
};

/// The body of an answer, and the record of its call, which ends with it.
struct Recorded {
    body: Body,
    record: Box<Record>,
    /// How long the answer is, where that is known.
    expected: Option<u64>,
}

/// Begins the record of a call, if its content is logged.
pub(super) async fn begin(
    surface: &Surface,
    id: RequestId,
    operation: Operation,
    principal: &Principal,
    body: &Bytes,
) -> Option<Box<Record>> {
    if !surface.content.takes(principal.log_content()) {
        return None;
    }
    let caller =
        Caller { key_id: principal.id.clone(), key_name: principal.name.clone(), project: principal.project.clone() };
    let read = body.clone();
    let model = surface.gateway.aside.work(body.len(), move || model(read)).await.unwrap_or_default();
    surface.content.begin(id, surface.clock.unix_millis(), caller, operation.label(), &model, body)
}

/// The model that a body names, if it can be read at all.
fn model(body: Bytes) -> Option<String> {
    Some(Envelope::parse(body).ok()?.get("model")?.as_str()?.into_owned())
}

/// The answer, with its record behind it.
pub(super) fn with(response: Response, record: Option<Box<Record>>) -> Response {
    let Some(mut record) = record else { return response };
    record.answered(response.status().as_u16());
    response.map(|body| {
        let expected = body.size_hint().exact();
        Body::new(Recorded { body, record, expected })
    })
}

impl http_body::Body for Recorded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(piece) = frame.data_ref() {
                    self.record.said(piece);
                }
                // A body of known length is dropped after its last byte and not asked for its end.
                if self.expected == Some(self.record.answer_bytes()) {
                    self.record.ended();
                }
            }
            Poll::Ready(None) => self.record.ended(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::telemetry::{Metrics, content::ContentLog, settings::ContentSettings};

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("content.jsonl");
        let settings: ContentSettings = serde_json::from_value(json!({ "to": to })).unwrap();
        let log = ContentLog::open(Some(&settings), &Metrics::new().content_lines_dropped).unwrap();
        let broken = || std::io::Error::other("the provider is gone");
        for pieces in [vec![Ok("half")], vec![Ok("half"), Err(broken())]] {
            let (key_id, key_name, project) = ("k1".into(), "ci".into(), "default".into());
            let caller = Caller { key_id, key_name, project };
            let record = log.begin(RequestId::new(0), 0, caller, "chat", "m", &Bytes::from_static(b"{}"));
            let body = Body::from_stream(futures_util::stream::iter(pieces));
            let _ = with(Response::new(body), record).into_body().collect().await;
        }
        log.flush(std::time::Duration::from_secs(5));
        let text = std::fs::read_to_string(&to).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: Vec<_> = lines.iter().map(|line| (&line["answer"], &line["whole"])).collect();
        assert_eq!(told, [(&json!("half"), &json!(true)), (&json!("half"), &json!(false))]);
    }
}
