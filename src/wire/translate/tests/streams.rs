//! Streams: whatever comes, what is written keeps to the target's grammar, says what was said, and ends cleanly only
//! if the source did.

use proptest::prelude::*;

use super::*;
use crate::wire::anthropic::grammar::Ending;

fn ends_cleanly(name: &str) -> bool {
    !name.contains("error")
}

#[test]
fn translated_streams_keep_to_the_grammar_and_to_the_text() {
    for (name, format, text) in STREAMS {
        for to in FORMATS {
            let (written, _) = translate(text.as_bytes(), *format, to, usize::MAX, false);
            let (ending, said) = check(&written, to);
            let expected = if ends_cleanly(name) { Ending::Clean } else { Ending::Error };
            assert_eq!(ending, expected, "{name} to {to:?}\n{written}");
            let (_, original) = check_loosely(text, *format);
            // A refusal is text in one format and not in the other.
            if !name.contains("openai_refusal") {
                assert_eq!(said, original, "{name} to {to:?}");
            }
        }
    }
}

/// The text of a fixture, which need not keep to the strict grammar itself.
fn check_loosely(stream: &str, format: Format) -> (Ending, String) {
    let mut said = String::new();
    for frame in frames(stream) {
        let Some(data) = frame.data() else { continue };
        let Ok(value) = crate::wire::json::Value::parse(&data) else { continue };
        let delta = match format {
            Format::Anthropic => value.get("delta").and_then(|delta| delta.get("text")),
            Format::OpenAiChat => {
                value.get("choices").and_then(|choices| choices.items().next()?.get("delta")?.get("content"))
            }
        };
        said.extend(delta.and_then(|text| text.as_str().map(std::borrow::Cow::into_owned)));
    }
    (Ending::Clean, said)
}

/// The end of the frame that makes a source complete.
fn complete_at(text: &str, format: Format) -> Option<usize> {
    match format {
        Format::Anthropic => text.find("\"message_stop\"}").map(|at| at + "\"message_stop\"}\n".len()),
        Format::OpenAiChat => {
            let word = "\"finish_reason\":\"";
            let at = text.find(word)?;
            Some(at + text[at..].find('\n')? + 1)
        }
    }
}

#[test]
fn a_stream_cut_anywhere_never_looks_complete() {
    for (name, format, text) in STREAMS {
        let complete = complete_at(text, *format).unwrap_or(usize::MAX);
        for cut in 0..text.len() {
            for to in FORMATS {
                let (written, _) = translate(&text.as_bytes()[..cut], *format, to, usize::MAX, false);
                let (ending, _) = check(&written, to);
                if cut < complete || !ends_cleanly(name) {
                    assert_eq!(ending, Ending::Error, "{name} cut at {cut} to {to:?}\n{written}");
                }
                assert_eq!(written.contains("[DONE]") || written.contains("message_stop"), ending == Ending::Clean);
            }
        }
    }
}

#[test]
fn calls_are_rebuilt_whole_and_in_order_however_they_are_interleaved() {
    let calls = |name: &str| {
        let (written, _) = translate(named(STREAMS, name).as_bytes(), Format::OpenAiChat, Format::Anthropic, 7, false);
        let mut calls: Vec<(String, String, String)> = Vec::new();
        for frame in frames(&written) {
            let data: serde_json::Value = serde_json::from_slice(&frame.data().unwrap()).unwrap();
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            if data["content_block"]["type"] == "tool_use" {
                calls.push((text(&data["content_block"]["id"]), text(&data["content_block"]["name"]), String::new()));
            }
            if data["delta"]["type"] == "input_json_delta" {
                calls.last_mut().unwrap().2.push_str(&text(&data["delta"]["partial_json"]));
            }
        }
        assert!(written.contains(r#""stop_reason":"tool_use""#));
        calls
    };
    let call = |id: &str, name: &str, input: &str| (id.to_owned(), name.to_owned(), input.to_owned());
    assert_eq!(
        calls("stream_openai_parallel.sse"),
        [call("call_a", "f", r#"{"a":1}"#), call("call_b", "g", r#"{"b":"}"}"#), call("call_c", "h", ""),]
    );
    assert_eq!(
        calls("stream_openai_index_zero.sse"),
        [call("call_a", "f", r#"{"a":1}"#), call("call_b", "g", r#"{"b":2}"#)]
    );
}

#[test]
fn calls_get_indices_from_zero_and_whole_arguments() {
    let text = named(STREAMS, "stream_anthropic_tools.sse");
    let (written, _) = translate(text.as_bytes(), Format::Anthropic, Format::OpenAiChat, 5, false);
    let mut grammar = crate::wire::openai_chat::grammar::Grammar::default();
    frames(&written).iter().for_each(|frame| grammar.check(frame).unwrap());
    assert_eq!(grammar.calls(), [r#"{"path": "/a.rs"}"#, "{}"]);
    assert!(written.contains(r#""finish_reason":"tool_calls""#));
    assert!(written.contains(r#""prompt_tokens":129,"completion_tokens":90"#), "{written}");
}

#[test]
fn json_output_by_a_tool_is_streamed_as_text_and_shows_no_envelope() {
    let text = named(STREAMS, "stream_anthropic_json.sse");
    for to in FORMATS {
        let (written, _) = translate(text.as_bytes(), Format::Anthropic, to, 9, true);
        let (ending, said) = check(&written, to);
        assert_eq!((ending, said.as_str()), (Ending::Clean, r#"{"a":"\u00e9"}"#));
        assert!(!written.contains("switchboard_json_output") && !written.contains("tool"), "{written}");
    }
}

#[test]
fn events_out_of_turn_are_errors() {
    const START: &str = r#"{"type":"message_start","message":{"id":"m","model":"c"}}"#;
    const TEXT: &str = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    const CLOSE: &str = r#"{"type":"content_block_stop","index":0}"#;
    const STOP: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}"#;
    const END: &str = r#"{"type":"message_stop"}"#;
    let thinking = r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"x"}}"#;
    let other = r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"x"}}"#;
    let sequences: &[&[&str]] = &[
        &[START, END],
        &[START, TEXT, CLOSE, END],
        &[START, START],
        &[TEXT],
        &[START, TEXT, TEXT],
        &[START, TEXT, thinking],
        &[START, TEXT, other],
        &[START, CLOSE],
        &[START, TEXT, STOP, END],
        &[STOP, END],
        &[START, STOP, TEXT],
        &[START, STOP],
        &[START, r#"{"kind":"x"}"#],
        &[START, "[]"],
        &[START, "not json"],
    ];
    for events in sequences {
        let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        for to in FORMATS {
            let (written, _) = translate(stream.as_bytes(), Format::Anthropic, to, usize::MAX, false);
            assert_eq!(check(&written, to).0, Ending::Error, "{stream}\n{written}");
        }
    }
    let whole: String =
        [START, TEXT, CLOSE, r#"{"type":"new_kind"}"#, STOP, END].map(|e| format!("data: {e}\n\n")).concat();
    let (written, _) = translate(whole.as_bytes(), Format::Anthropic, Format::Anthropic, usize::MAX, false);
    assert_eq!(check(&written, Format::Anthropic).0, Ending::Clean);
}

/// What a stream says: its text, its thinking, its calls, and why it ends.
fn meaning(stream: &str, format: Format) -> (String, String, Vec<(String, String, String)>, String) {
    let (mut text, mut thinking, mut calls, mut reason) = (String::new(), String::new(), Vec::new(), String::new());
    let mut indices: Vec<usize> = Vec::new();
    let mut decoder = match format {
        Format::OpenAiChat => Decoder::OpenAiChat(openai_chat::Decoder::new("r", &Undo::default())),
        Format::Anthropic => Decoder::Anthropic(anthropic::Decoder::new(&Undo::default())),
    };
    for frame in frames(stream) {
        decoder.read(&frame, &mut |event| match event {
            Event::BlockStart { index, kind: conversation::StreamBlock::ToolUse { id, name } } => {
                indices.push(index);
                calls.push((id.decode().into_owned(), name.decode().into_owned(), String::new()));
            }
            Event::BlockDelta { index, delta: conversation::Delta::Json(json) } => {
                let at = indices.iter().position(|known| *known == index).unwrap();
                calls[at].2.push_str(&json.decode());
            }
            Event::BlockDelta { delta: conversation::Delta::Text(said), .. } => text.push_str(&said.decode()),
            Event::BlockDelta { delta: conversation::Delta::Thinking(said), .. } => thinking.push_str(&said.decode()),
            // Some providers say `stop` although there are calls.
            Event::Stop(stop) => reason = format!("{:?}", stop.reason.with_calls(!calls.is_empty())),
            _ => {}
        });
    }
    // No arguments are an empty object.
    calls.iter_mut().filter(|call| call.2.is_empty()).for_each(|call| call.2.push_str("{}"));
    (text, thinking, calls, reason)
}

#[test]
fn streams_mean_the_same_there_and_back() {
    // A refusal is text in one format and not in the other, and which stop sequence it was one of them does not say.
    let differs = |name: &str| name.contains("openai_refusal") || name.contains("stopped");
    let streams = STREAMS.iter().filter(|(name, ..)| ends_cleanly(name) && !differs(name));
    for (name, format, text) in streams {
        let other = if *format == Format::OpenAiChat { Format::Anthropic } else { Format::OpenAiChat };
        let (there, _) = translate(text.as_bytes(), *format, other, usize::MAX, false);
        let (back, _) = translate(there.as_bytes(), other, *format, usize::MAX, false);
        let (before, after) = (meaning(text, *format), meaning(&back, *format));
        assert_eq!(before, after, "{name}\n{there}\n{back}");
    }
}

#[test]
fn a_block_that_overlaps_without_end_is_an_error() {
    let mut encoder = anthropic::Encoder::new(&ReplyOptions { max_held: 1000, ..options() });
    let mut out = Vec::new();
    let call = |id| conversation::StreamBlock::ToolUse { id: Text::new(id), name: Text::literal("f") };
    encoder.write(Event::Start { id: None, model: None, tier: None }, &mut out);
    encoder.write(Event::BlockStart { index: 0, kind: call("a") }, &mut out);
    encoder.write(Event::BlockStart { index: 1, kind: call("b") }, &mut out);
    for _ in 0..200 {
        let delta = conversation::Delta::Json(Text::literal("[1,2,3,4,5,6,7,8,"));
        encoder.write(Event::BlockDelta { index: 1, delta }, &mut out);
    }
    assert!(encoder.ended());
    assert_eq!(check(std::str::from_utf8(&out).unwrap(), Format::Anthropic).0, Ending::Error);
}

use crate::wire::conversation::{self, Text};

/// Deltas of an OpenAI stream that may come in any order.
const DELTAS: &[&str] = &[
    r#"{"content":"a"}"#,
    r#"{"content":""}"#,
    r#"{"content":"é😀","reasoning_content":"r"}"#,
    r#"{"reasoning":"think"}"#,
    r#"{"refusal":"no"}"#,
    r#"{"tool_calls":[{"index":0,"id":"c0","type":"function","function":{"name":"f","arguments":""}}]}"#,
    r#"{"tool_calls":[{"index":1,"id":"c1","function":{"name":"g"}}]}"#,
    r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}"#,
    r#"{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}"#,
    r#"{"tool_calls":[{"index":1,"function":{"arguments":"{}"}},{"index":0,"function":{"arguments":" "}}]}"#,
    r#"{"tool_calls":[{"id":"c9","function":{"name":"h","arguments":"{}"}}]}"#,
    r#"{"tool_calls":[{"function":{"arguments":"x"}}]}"#,
    r#"{"tool_calls":null,"content":null}"#,
    r#"{"annotations":[{"url_citation":{"url":"u"}}]}"#,
    r#"{}"#,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn chunks_make_no_difference(which in 0usize..13, chunk in 1usize..200) {
        let (_, format, text) = STREAMS[which];
        for to in FORMATS {
            let whole = translate(text.as_bytes(), format, to, usize::MAX, false).0;
            prop_assert_eq!(&whole, &translate(text.as_bytes(), format, to, chunk, false).0);
        }
    }

    /// Whatever OpenAI's chunks say and in whatever order, Anthropic's stream keeps to its grammar.
    #[test]
    fn any_order_of_deltas_makes_a_stream_in_order(
        deltas in proptest::collection::vec(proptest::sample::select(DELTAS), 0..20),
        reason in proptest::sample::select(&["stop", "length", "tool_calls", "content_filter"][..]),
    ) {
        let mut text = String::new();
        for delta in &deltas {
            text.push_str(&format!("data: {{\"id\":\"i\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n"));
        }
        text.push_str(&format!("data: {{\"id\":\"i\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{reason}\"}}]}}\n\ndata: [DONE]\n\n"));
        let (written, _) = translate(text.as_bytes(), Format::OpenAiChat, Format::Anthropic, 31, false);
        let (ending, _) = check(&written, Format::Anthropic);
        prop_assert_eq!(ending, Ending::Clean);
    }

    /// Fixtures with bytes changed: an error perhaps, a panic or a stream against the grammar never.
    #[test]
    fn damaged_streams_are_errors_at_worst(which in 0usize..13, damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4)) {
        let (_, format, text) = STREAMS[which];
        let mut bytes = text.as_bytes().to_vec();
        for (at, byte) in damage {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        for to in FORMATS {
            let (written, _) = translate(&bytes, format, to, usize::MAX, false);
            let (ending, _) = check(&written, to);
            prop_assert_ne!(ending, Ending::Missing);
        }
    }
}
