//! Thinking that a client does not send back comes back all the same.

use super::*;
use crate::wire::conversation::memory::{Memo, Recorder, missing, restore};

/// What is remembered of a streamed reply.
fn remembered(name: &str, format: Format, max_bytes: usize) -> Vec<Memo> {
    let mut translator = StreamTranslator::new(format, Format::OpenAiChat, &Undo::default(), &options());
    let mut recorder = Recorder::new(max_bytes);
    let mut out = Vec::new();
    for frame in frames(named(STREAMS, name)) {
        translator.frame(&frame, &mut out, &mut |event| recorder.observe(event));
    }
    recorder.finish()
}

const TURN_TWO: &str = r#"{"model":"claude","messages":[{"role":"user","content":"Go."},{"role":"assistant","content":"Zürich","tool_calls":[{"id":"toolu_1","type":"function","function":{"name":"Read","arguments":"{}"}},{"id":"toolu_2","type":"function","function":{"name":"now","arguments":"{}"}}]},{"role":"tool","tool_call_id":"toolu_1","content":"a"},{"role":"tool","tool_call_id":"toolu_2","content":"b"}]}"#;

#[test]
fn turn_two_carries_the_exact_bytes_of_turn_one() {
    let memos = remembered("stream_anthropic_tools.sse", Format::Anthropic, 1 << 20);
    let ids: Vec<_> = memos.iter().map(|memo| memo.call_id.as_str()).collect();
    assert_eq!(ids, ["toolu_1", "toolu_2"]);
    let mut request = decode_request(Format::OpenAiChat, TURN_TWO.as_bytes()).unwrap();
    assert_eq!(missing(&request), ["toolu_1", "toolu_2"]);
    restore(&mut request, &memos);
    assert!(missing(&request).is_empty());
    let body = encode_request(&request, &target(Format::Anthropic)).body;
    let expected = concat!(
        r#"{"role":"assistant","content":[{"type":"thinking","thinking":"Let me look 😀.","signature":"EpABCk=="},"#,
        r#"{"type":"redacted_thinking","data":"EmwKAhgB"},{"type":"text","text":"Zürich"},"#,
        r#"{"type":"tool_use","id":"toolu_1","name":"Read","input":{}},"#,
        r#"{"type":"thinking","thinking":"And.","signature":"EpABCl=="},"#,
        r#"{"type":"tool_use","id":"toolu_2","name":"now","input":{}}]}"#
    );
    let body = std::str::from_utf8(&body).unwrap();
    assert!(body.contains(expected), "{body}");
}

#[test]
fn a_whole_reply_is_remembered_like_a_stream() {
    let reply =
        decode_reply(Format::Anthropic, named(REPLIES, "reply_anthropic.json").as_bytes(), &Undo::default()).unwrap();
    let mut recorder = Recorder::new(1 << 20);
    recorder.observe_turn(&reply.turn);
    let memos = recorder.finish();
    assert_eq!(memos.len(), 1);
    assert_eq!((memos[0].call_id.as_str(), memos[0].first), ("toolu_1", true));
    assert_eq!(
        std::str::from_utf8(&memos[0].blocks).unwrap(),
        r#"[{"type":"thinking","thinking":"Let me see.","signature":"EpAB=="},{"type":"redacted_thinking","data":"EmwK"}]"#
    );
}

#[test]
fn turns_with_thinking_of_their_own_stay_as_they_are() {
    let memos = remembered("stream_anthropic_tools.sse", Format::Anthropic, 1 << 20);
    let text = TURN_TWO.replace(
        r#""content":"Zürich""#,
        r#""content":"Zürich","thinking_blocks":[{"type":"thinking","thinking":"Mine.","signature":"s"}]"#,
    );
    let mut request = decode_request(Format::OpenAiChat, text.as_bytes()).unwrap();
    restore(&mut request, &memos);
    let body = encode_request(&request, &target(Format::Anthropic)).body;
    let body = std::str::from_utf8(&body).unwrap();
    assert!(body.contains("Mine.") && !body.contains("Let me look"), "{body}");
}

#[test]
fn more_thinking_than_may_be_kept_is_not_kept_in_part() {
    assert!(remembered("stream_anthropic_tools.sse", Format::Anthropic, 20).is_empty());
}

#[test]
fn reasoning_that_nobody_signed_comes_back_to_those_who_want_it_and_to_nobody_else() {
    let memos = remembered("stream_openai_reasoning.sse", Format::OpenAiChat, 1 << 20);
    let text = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Go."},{"role":"assistant","content":[{"type":"tool_use","id":"call_a","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_a","content":"x"}]}]}"#;
    let mut request = decode_request(Format::Anthropic, text.as_bytes()).unwrap();
    restore(&mut request, &memos);
    let deepseek = openai_chat::Options {
        reasoning: openai_chat::ReasoningField::Named { name: "reasoning_content", required: true },
        ..Default::default()
    };
    let body = encode_request(&request, &Target::OpenAiChat(deepseek)).body;
    assert!(std::str::from_utf8(&body).unwrap().contains(r#""reasoning_content":"Let me think.""#));
    let encoded = encode_request(&request, &target(Format::Anthropic));
    assert!(!std::str::from_utf8(&encoded.body).unwrap().contains("Let me think."));
    assert!(!encoded.losses.is_empty());
}
