//! The formats against one another: every fixture read and written in every format.

mod bad_input;
mod fields;
mod golden;
mod identity;
mod meaning;
mod memory;
mod streams;

use super::*;
use crate::wire::sse::FrameReader;

/// A fixture: its name, the format it is in, and its text.
type Fixture = (&'static str, Format, &'static str);

macro_rules! fixture {
    ($name:literal, $format:ident) => {
        ($name, Format::$format, include_str!(concat!("../fixtures/", $name)))
    };
}

const REQUESTS: &[Fixture] = &[
    fixture!("request_openai_tools.json", OpenAiChat),
    fixture!("request_openai_legacy.json", OpenAiChat),
    fixture!("request_openai_reasoning.json", OpenAiChat),
    fixture!("request_anthropic_claude_code.json", Anthropic),
    fixture!("request_anthropic_documents.json", Anthropic),
    fixture!("request_anthropic_claude_code_search.json", Anthropic),
    fixture!("request_openai_search.json", OpenAiChat),
    fixture!("request_anthropic_effort.json", Anthropic),
];

const REPLIES: &[Fixture] = &[
    fixture!("reply_openai.json", OpenAiChat),
    fixture!("reply_openai_refusal.json", OpenAiChat),
    fixture!("reply_anthropic.json", Anthropic),
    fixture!("reply_openai_stopped.json", OpenAiChat),
    fixture!("reply_anthropic_paused.json", Anthropic),
    fixture!("reply_anthropic_window.json", Anthropic),
];

const STREAMS: &[Fixture] = &[
    fixture!("stream_anthropic_tools.sse", Anthropic),
    fixture!("stream_anthropic_search.sse", Anthropic),
    fixture!("stream_anthropic_refusal.sse", Anthropic),
    fixture!("stream_anthropic_error.sse", Anthropic),
    fixture!("stream_anthropic_json.sse", Anthropic),
    fixture!("stream_openai_text.sse", OpenAiChat),
    fixture!("stream_openai_parallel.sse", OpenAiChat),
    fixture!("stream_openai_index_zero.sse", OpenAiChat),
    fixture!("stream_openai_reasoning.sse", OpenAiChat),
    fixture!("stream_openai_refusal.sse", OpenAiChat),
    fixture!("stream_openai_citation.sse", OpenAiChat),
    fixture!("stream_openai_length.sse", OpenAiChat),
    fixture!("stream_openai_error.sse", OpenAiChat),
    fixture!("stream_openai_stopped.sse", OpenAiChat),
    fixture!("stream_anthropic_stopped.sse", Anthropic),
];

const FORMATS: [Format; 2] = [Format::OpenAiChat, Format::Anthropic];

fn named(list: &'static [Fixture], name: &str) -> &'static str {
    list.iter().find(|(fixture, ..)| *fixture == name).unwrap().2
}

fn target(format: Format) -> Target<'static> {
    match format {
        Format::OpenAiChat => Target::OpenAiChat(openai_chat::Options::default()),
        Format::Anthropic => Target::Anthropic(anthropic::Options::default()),
    }
}

fn options() -> ReplyOptions<'static> {
    ReplyOptions {
        request_id: "req1",
        created: 1_760_000_000,
        input_estimate: 42,
        stream_usage: true,
        ..Default::default()
    }
}

/// JSON without the whitespace between its tokens.
fn compact(text: &str) -> String {
    let (mut out, mut in_string, mut escaped) = (String::new(), false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_string = !in_string,
            ' ' | '\n' | '\r' | '\t' if !in_string => continue,
            _ => {}
        }
        out.push(c);
    }
    out
}

/// A stream cut into frames after `chunk` bytes each, and translated.
fn translate(stream: &[u8], from: Format, to: Format, chunk: usize, json_tool: bool) -> (String, Losses) {
    let mut translator = StreamTranslator::new(from, to, &Undo { json_tool, ..Undo::default() }, &options());
    let mut reader = FrameReader::new(1 << 20);
    let mut out = Vec::new();
    for chunk in stream.chunks(chunk.max(1)) {
        reader.push(bytes::Bytes::copy_from_slice(chunk));
        while let Some(frame) = reader.next().unwrap() {
            translator.frame(&frame, &mut out, &mut |_| {});
        }
    }
    if let Some(frame) = reader.take_rest() {
        translator.frame(&frame, &mut out, &mut |_| {});
    }
    translator.finish(&mut out, &mut |_| {});
    assert!(translator.ended());
    (String::from_utf8(out).unwrap(), translator.losses().clone())
}

/// The frames of a stream.
fn frames(stream: &str) -> Vec<Frame> {
    let mut reader = FrameReader::new(1 << 20);
    reader.push(bytes::Bytes::copy_from_slice(stream.as_bytes()));
    let mut frames = Vec::new();
    while let Some(frame) = reader.next().unwrap() {
        frames.push(frame);
    }
    assert!(reader.is_empty(), "{stream}");
    frames
}

/// Checks a stream against its format's grammar: how it ended, and the text it had.
fn check(stream: &str, format: Format) -> (anthropic::grammar::Ending, String) {
    match format {
        Format::Anthropic => {
            let mut grammar = anthropic::grammar::Grammar::default();
            for frame in frames(stream) {
                grammar.check(&frame).unwrap_or_else(|problem| panic!("{problem}: {frame:?} in\n{stream}"));
            }
            (grammar.ending(), grammar.text().to_owned())
        }
        Format::OpenAiChat => {
            let mut grammar = crate::wire::openai_chat::grammar::Grammar::default();
            for frame in frames(stream) {
                grammar.check(&frame).unwrap_or_else(|problem| panic!("{problem}: {frame:?} in\n{stream}"));
            }
            (grammar.ending(), grammar.text().to_owned())
        }
    }
}
