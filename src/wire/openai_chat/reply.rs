//! Reading whole answers without building a tree: embeddings run to a hundred megabytes.

use super::{Answer, ProviderError, Said, Shape, Stated, error};
use crate::wire::json::{Kind, Malformed, Problem};

/// What the gateway wants to know of a whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub stated: Stated,
    /// What it says, where no token counts are stated.
    pub said: Option<Said>,
    /// Whether it says anything at all; an answer that does not is a failure.
    pub has_output: bool,
    /// Why the first alternative ended.
    pub finish_reason: Option<String>,
    /// Which model the provider says has answered.
    pub model: Option<String>,
}

/// Why a body with a status of success is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BadReply {
    #[error("the provider's reply is empty")]
    Empty,
    #[error("the provider's reply is not a JSON object: {0}")]
    NotJson(Malformed),
    #[error("the provider's reply is an error report: {}", .0.message)]
    Error(ProviderError),
    #[error("the provider's reply has no {0}")]
    WrongShape(&'static str),
}

/// Reads a whole answer with a status of success.
pub fn read_reply(shape: Shape, body: &[u8]) -> Result<Reply, BadReply> {
    if body.trim_ascii().is_empty() {
        return Err(BadReply::Empty);
    }
    let answer = match Answer::read(body) {
        Ok(answer) => answer,
        Err(Malformed { problem: Problem::NotAnObject, .. }) if error::is_listed_error(body) => {
            return Err(BadReply::Error(error::classify_in_band(body)));
        }
        Err(malformed) => return Err(BadReply::NotJson(malformed)),
    };
    if simdutf8::basic::from_utf8(body).is_err() {
        return Err(BadReply::NotJson(Malformed::new(Problem::Utf8, 0, body)));
    }
    if answer.is_error() {
        return Err(BadReply::Error(error::classify_in_band(body)));
    }
    let mut reply = Reply { model: answer.model.and_then(|model| model.as_str()).map(Into::into), ..Reply::default() };
    answer.state(&mut reply.stated);
    if shape == Shape::Embedding {
        let data = answer.data.filter(|data| data.kind == Kind::Array).ok_or(BadReply::WrongShape("`data` array"))?;
        reply.has_output = data.raw.get(1..).is_some_and(|inside| inside.trim_ascii_start() != b"]");
        return Ok(reply);
    }
    if answer.choices.is_none_or(|choices| choices.kind != Kind::Array) {
        return Err(BadReply::WrongShape("`choices` array"));
    }
    for choice in answer.choices(shape) {
        reply.has_output |= choice.has_output;
        if reply.finish_reason.is_none() {
            reply.finish_reason = choice.finish_reason.map(Into::into);
        }
        if let Some(usage) = choice.usage {
            reply.stated.take_usage(usage);
        }
    }
    if reply.stated.usage.is_none() {
        reply.said = Some(Said::of_answer(shape, body));
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{types::Usage, wire::openai_chat::ErrorClass};

    fn chat(message: &str, reason: &str) -> Result<Reply, BadReply> {
        let body = format!(
            r#"{{"id":"x","object":"chat.completion","model":"m-1","choices":[{{"index":0,"message":{message},"finish_reason":{reason}}}],"usage":{{"prompt_tokens":3,"completion_tokens":2}}}}"#
        );
        read_reply(Shape::Chat, body.as_bytes())
    }

    #[test]
    fn what_the_gateway_records_is_read() {
        let reply = chat(r#"{"role":"assistant","content":"Hi"}"#, "\"stop\"").unwrap();
        let usage = Usage { input: 3, output: 2, ..Usage::default() };
        let expected = Reply {
            stated: Stated { id: Some("x".into()), usage: Some(usage), ..Stated::default() },
            said: None,
            has_output: true,
            finish_reason: Some("stop".to_owned()),
            model: Some("m-1".to_owned()),
        };
        assert_eq!(reply, expected);
    }

    #[test]
    fn an_answer_that_says_nothing_is_told_apart() {
        let cases = [
            (r#"{"role":"assistant","content":""}"#, "\"stop\"", false),
            (
                r#"{"role":"assistant","content":null,"tool_calls":[],"refusal":null,"annotations":[]}"#,
                "\"stop\"",
                false,
            ),
            (r#"{"role":"assistant","content":null}"#, "null", false),
            (r#"{"role":"assistant","content":""}"#, "\"length\"", true),
            (r#"{"role":"assistant","content":""}"#, "\"content_filter\"", true),
            (r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c"}]}"#, "\"tool_calls\"", true),
            (r#"{"role":"assistant","content":null,"refusal":"no"}"#, "\"stop\"", true),
            (r#"{"role":"assistant","content":"","reasoning_content":"hm"}"#, "\"stop\"", true),
            (r#"{"role":"assistant","content":null,"audio":{"id":"a"}}"#, "\"stop\"", true),
        ];
        for (message, reason, has_output) in cases {
            assert_eq!(chat(message, reason).unwrap().has_output, has_output, "{message} {reason}");
        }
        let text = br#"{"choices":[{"text":""},{"text":" a"}]}"#;
        assert!(read_reply(Shape::Completion, text).unwrap().has_output);
        assert!(!read_reply(Shape::Chat, br#"{"choices":[]}"#).unwrap().has_output);
    }

    #[test]
    fn embeddings_are_read_by_their_data() {
        let full = br#"{"object":"list","data":[{"embedding":[0.1,-2e-3],"index":0}],"model":"e","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
        let reply = read_reply(Shape::Embedding, full).unwrap();
        assert_eq!((reply.has_output, reply.stated.usage.unwrap().input), (true, 8));
        assert!(!read_reply(Shape::Embedding, br#"{"data":[ ]}"#).unwrap().has_output);
        assert!(matches!(read_reply(Shape::Embedding, br#"{"choices":[]}"#), Err(BadReply::WrongShape(_))));
    }

    #[test]
    fn what_is_no_answer_says_why() {
        let read = |body: &str| read_reply(Shape::Chat, body.as_bytes()).unwrap_err();
        for empty in ["", " \r\n"] {
            assert!(matches!(read(empty), BadReply::Empty));
        }
        for broken in ["<html>502</html>", "{\"choices\":[", "[]", "\"hello\"", "data: {}"] {
            assert!(matches!(read(broken), BadReply::NotJson(_)), "{broken}");
        }
        assert!(matches!(read_reply(Shape::Chat, b"{\"choices\":[\"\xff\"]}"), Err(BadReply::NotJson(_))));
        for wrong in ["{}", r#"{"choices":null}"#, r#"{"choices":{}}"#, r#"{"data":[]}"#] {
            assert!(matches!(read(wrong), BadReply::WrongShape(_)), "{wrong}");
        }
        let errors = [
            (r#"{"error":{"message":"Overloaded","code":529}}"#, ErrorClass::Overloaded),
            (
                r#"[{"error":{"code":429,"message":"Resource exhausted","status":"RESOURCE_EXHAUSTED"}}]"#,
                ErrorClass::RateLimited,
            ),
            (
                r#"{"choices":null,"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#,
                ErrorClass::QuotaExhausted,
            ),
            (r#"{"detail":"Not Found"}"#, ErrorClass::Unknown),
        ];
        for (body, class) in errors {
            match read(body) {
                BadReply::Error(error) => assert_eq!((error.class, &*error.raw), (class, body)),
                other => panic!("{body}: {other:?}"),
            }
        }
        let fine =
            r#"{"choices":[{"message":{"content":"a"}}],"error":null,"base_resp":{"status_code":0,"status_msg":""}}"#;
        assert!(read_reply(Shape::Chat, fine.as_bytes()).is_ok());
    }
}
