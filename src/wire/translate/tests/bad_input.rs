//! Requests and replies that are not what they should be.

use proptest::prelude::*;

use super::*;

#[test]
fn a_malformed_request_is_refused_by_the_field_at_fault() {
    let cases: &[(Format, &str, &str)] = &[
        (Format::Anthropic, "[]", ""),
        (Format::Anthropic, "{", ""),
        (Format::Anthropic, r#"{"messages":[]}"#, "model"),
        (Format::Anthropic, r#"{"model":7,"messages":[]}"#, "model"),
        (Format::Anthropic, r#"{"model":"m"}"#, "messages"),
        (Format::Anthropic, r#"{"model":"m","messages":{}}"#, "messages"),
        (Format::Anthropic, r#"{"model":"m","messages":["x"]}"#, "messages[0]"),
        (Format::Anthropic, r#"{"model":"m","messages":[{"role":"x","content":""}]}"#, "messages[0].role"),
        (Format::Anthropic, r#"{"model":"m","messages":[{"role":"user"}]}"#, "messages[0].content"),
        (
            Format::Anthropic,
            r#"{"model":"m","messages":[{"role":"user","content":[{"text":"x"}]}]}"#,
            "messages[0].content[0].type",
        ),
        (
            Format::Anthropic,
            r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"user","content":[{"type":"text","text":"x"},{"type":"image","source":{"type":"base64","data":"x"}}]}]}"#,
            "messages[1].content[1].source.media_type",
        ),
        (
            Format::Anthropic,
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"image"}]}]}]}"#,
            "messages[0].content[0].content[0].source",
        ),
        (
            Format::Anthropic,
            r#"{"model":"m","messages":[{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"n","input":"{}"}]}]}"#,
            "messages[0].content[0].input",
        ),
        (Format::Anthropic, r#"{"model":"m","messages":[],"max_tokens":-1}"#, "max_tokens"),
        (Format::Anthropic, r#"{"model":"m","messages":[],"tools":[{"name":"x"}]}"#, "tools[0].input_schema"),
        (Format::Anthropic, r#"{"model":"m","messages":[],"tool_choice":{"type":"tool"}}"#, "tool_choice.name"),
        (
            Format::Anthropic,
            r#"{"model":"m","messages":[],"thinking":{"type":"enabled","budget_tokens":"x"}}"#,
            "thinking.budget_tokens",
        ),
        (
            Format::Anthropic,
            r#"{"model":"m","messages":[{"role":"user","role":"assistant","content":""}]}"#,
            "messages[0].role",
        ),
        (Format::OpenAiChat, r#"{"model":"m","messages":[{"role":"user"}]}"#, "messages[0].content"),
        (Format::OpenAiChat, r#"{"model":"m","messages":[{"content":"x"}]}"#, "messages[0].role"),
        (Format::OpenAiChat, r#"{"model":"m","messages":[{"role":"user","content":7}]}"#, "messages[0].content"),
        (
            Format::OpenAiChat,
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]}"#,
            "messages[0].content[0].image_url.url",
        ),
        (Format::OpenAiChat, r#"{"model":"m","messages":[{"role":"tool","content":"x"}]}"#, "messages[0].tool_call_id"),
        (
            Format::OpenAiChat,
            r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"arguments":""}}]}]}"#,
            "messages[0].tool_calls[0].function.name",
        ),
        (Format::OpenAiChat, r#"{"model":"m","messages":[],"tools":[{"type":"function"}]}"#, "tools[0].function"),
        (Format::OpenAiChat, r#"{"model":"m","messages":[],"tool_choice":"some"}"#, "tool_choice"),
        (Format::OpenAiChat, r#"{"model":"m","messages":[],"stop":["a",1]}"#, "stop[1]"),
        (
            Format::OpenAiChat,
            r#"{"model":"m","messages":[],"response_format":{"type":"json_schema"}}"#,
            "response_format.json_schema",
        ),
        (Format::OpenAiChat, r#"{"model":"m","messages":[],"stream":"yes"}"#, "stream"),
    ];
    for (format, text, path) in cases {
        let bad = decode_request(*format, text.as_bytes()).unwrap_err();
        assert_eq!(bad.path, *path, "{text}: {bad}");
        assert!(!bad.problem.is_empty());
    }
    let invalid = decode_request(Format::OpenAiChat, b"{\"model\":\"\xff\"}").unwrap_err();
    assert_eq!(invalid.to_string(), "the body is not valid UTF-8");
}

#[test]
fn nesting_is_refused_before_it_is_deep() {
    let mut block = r#"{"type":"text","text":"x"}"#.to_owned();
    for _ in 0..100 {
        block = format!(r#"{{"type":"tool_result","tool_use_id":"t","content":[{block}]}}"#);
    }
    let text = format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{block}]}}]}}"#);
    let bad = decode_request(Format::Anthropic, text.as_bytes()).unwrap_err();
    assert!(bad.problem.contains("nested too deeply"), "{bad}");
}

#[test]
fn a_malformed_reply_is_an_error() {
    for (format, text) in [
        (Format::OpenAiChat, "{}"),
        (Format::OpenAiChat, "[]"),
        (Format::OpenAiChat, "not json"),
        (Format::OpenAiChat, r#"{"choices":[]}"#),
        (Format::OpenAiChat, r#"{"choices":[{}]}"#),
        (Format::OpenAiChat, r#"{"choices":[{"message":{"content":{}}}]}"#),
        (Format::OpenAiChat, r#"{"choices":[{"message":{"tool_calls":[{"id":1}]}}]}"#),
        (Format::OpenAiChat, r#"{"error":{"message":"x"}}"#),
        (Format::Anthropic, "{}"),
        (Format::Anthropic, r#"{"content":"x"}"#),
        (Format::Anthropic, r#"{"content":[{"type":"tool_use","name":"x"}]}"#),
        (Format::Anthropic, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
    ] {
        assert!(decode_reply(format, text.as_bytes(), &Undo::default()).is_err(), "{text}");
    }
    let reported = decode_reply(
        Format::Anthropic,
        br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
        &Undo::default(),
    );
    let Err(BadReply::Reported(error)) = reported else { panic!("{reported:?}") };
    assert_eq!(error.class, crate::wire::openai_chat::ErrorClass::Overloaded);
}

#[test]
fn a_document_cut_anywhere_is_refused() {
    for (_, format, text) in REQUESTS {
        for cut in 0..text.trim_end().len() {
            assert!(decode_request(*format, &text.as_bytes()[..cut]).is_err());
        }
    }
}

/// A fixture with some of its bytes changed.
fn damaged(text: &str, damage: &[(u16, u8)]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for (at, byte) in damage {
        let at = usize::from(*at) % bytes.len();
        bytes[at] = *byte;
    }
    bytes
}

/// Changes that are likely to leave JSON behind.
fn damage() -> impl Strategy<Value = Vec<(u16, u8)>> {
    let byte = proptest::sample::select(&b"0a_x.e-\" ,:{}[]1\\"[..]);
    proptest::collection::vec((any::<u16>(), byte), 1..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Whatever is read as a request is written as one, in every format, and means the same when it is read again.
    #[test]
    fn damaged_requests_are_refused_or_written_as_requests(which in 0usize..6, damage in damage()) {
        let (_, from, text) = REQUESTS[which];
        let bytes = damaged(text, &damage);
        let Ok(request) = decode_request(from, &bytes) else { return Ok(()) };
        for to in FORMATS {
            let encoded = encode_request(&request, &target(to));
            let again = decode_request(to, &encoded.body);
            prop_assert!(again.is_ok(), "{:?}: {}", again, String::from_utf8_lossy(&encoded.body));
            let twice = encode_request(&again.unwrap(), &target(to));
            prop_assert_eq!(&twice.body, &encoded.body);
        }
    }

    #[test]
    fn damaged_replies_are_refused_or_written_as_json(which in 0usize..3, damage in damage()) {
        let (_, from, text) = REPLIES[which];
        let bytes = damaged(text, &damage);
        let Ok(reply) = decode_reply(from, &bytes, &Undo::default()) else { return Ok(()) };
        for to in FORMATS {
            let written = encode_reply(to, &reply, &options(), &mut Losses::default());
            prop_assert!(decode_reply(to, &written, &Undo::default()).is_ok(), "{}", String::from_utf8_lossy(&written));
        }
    }
}
