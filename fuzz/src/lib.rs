//! What must hold for any bytes whatsoever. Each function takes one input and panics if something does not hold.

use bytes::Bytes;
use serde::de::IgnoredAny;
use switchboard::{
    accounting::journal::{Cursor, Found, header},
    wire::{
        anthropic::{self, grammar::Ending},
        conversation::{Format, Losses, ReplyOptions, Undo},
        envelope::{Edit, Envelope, Problem},
        openai_chat::{
            self, Hidden, Shape, StreamObserver, classify, error::shown_status, grammar, hide_usage, is_error_object,
            read_reply, read_usage, render_provider, render_translated,
        },
        sse::{Frame, FrameReader},
        tap::Tap,
        translate::{StreamTranslator, Target, decode_reply, decode_request, encode_reply, encode_request},
    },
};

const MAX_FRAME: usize = 1 << 20;

/// The envelope accepts what serde_json accepts, and a patch changes what it names and nothing else.
pub fn envelope(input: &[u8]) {
    let text = input.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(input);
    let expected = serde_json::from_slice::<IgnoredAny>(text).is_ok();
    let envelope = match Envelope::parse(Bytes::copy_from_slice(input)) {
        Ok(envelope) => envelope,
        Err(malformed) => {
            assert!(malformed.at <= input.len() && !malformed.to_string().is_empty());
            assert!(!expected || !matches!(malformed.problem, Problem::Syntax(_) | Problem::Trailing), "{malformed}");
            return;
        }
    };
    assert!(expected);
    assert_eq!(envelope.patch(&[]).to_vec(), text);
    for (name, value) in envelope.members() {
        let _ = (value.as_str(), value.as_f64(), value.is_empty());
        assert!(name.contains('\u{fffd}') || envelope.get(&name).is_some());
    }
    let value = Bytes::from_static(b"[\"new\"]");
    let edits = [
        Edit::Set { name: "model", value: value.clone() },
        Edit::Remove { name: "a" },
        Edit::Rename { from: "b", to: "c" },
    ];
    let pieces = envelope.patch(&edits);
    assert_eq!(pieces.len(), pieces.to_vec().len());
    let after = Envelope::parse(pieces.to_vec().into()).expect("a patched object is an object");
    assert_eq!(after.get("model").expect("it was set").raw, value);
    assert!(after.get("a").is_none() && after.get("b").is_none());
    assert_eq!(after.get("c").is_some(), envelope.get("b").is_some() || envelope.get("c").is_some());
    for (name, value) in envelope.members().filter(|(name, _)| !["model", "a", "b", "c"].contains(&&**name)) {
        assert!(name.contains('\u{fffd}') || after.get(&name).is_some_and(|kept| kept.raw == value.raw));
    }
}

/// Chunks make no difference to what frames mean, and their bytes are the stream.
pub fn sse(input: &[u8]) {
    let Some((&size, stream)) = input.split_first() else { return };
    let whole = frames(stream, stream.len().max(1));
    let split = frames(stream, usize::from(size % 16) + 1);
    let meaning = |frames: &[Frame]| frames.iter().map(meaning).collect::<Vec<_>>();
    assert_eq!(meaning(&whole.0), meaning(&split.0));
    assert_eq!(whole.1.as_ref().map(self::meaning), split.1.as_ref().map(self::meaning));
    for (frames, rest) in [whole, split] {
        let bytes = frames.iter().map(|frame| frame.bytes().as_ref()).collect::<Vec<_>>().concat();
        let left = stream.strip_prefix(bytes.as_slice()).expect("frames are the stream");
        if let Some(rest) = rest {
            assert!(left.starts_with(rest.bytes().trim_ascii_end()));
        }
    }
}

/// Nothing a provider sends makes the observer panic, and hiding token counts leaves a frame.
pub fn openai_stream(input: &[u8]) {
    let mut observer = StreamObserver::new(Shape::Chat, 2);
    let (frames, rest) = frames(input, 64);
    for frame in frames.iter().chain(&rest) {
        let _ = observer.observe(frame);
        if let Hidden::Rewritten(bytes) = hide_usage(frame) {
            assert!(bytes.len() < frame.bytes().len() + frame.bytes().len() * 7);
            let mut reader = FrameReader::new(MAX_FRAME * 8);
            reader.push(bytes);
            while let Some(frame) = reader.next().expect("it is short enough") {
                let _ = observer.observe(&frame);
            }
            assert!(reader.is_empty());
        }
    }
    for shape in [Shape::Chat, Shape::Completion, Shape::Embedding] {
        let _ = read_reply(shape, input);
    }
    let _ = read_usage(input).map(|usage| usage.total_input() + usage.total_output());
    for status in [200, 400, 429, 500] {
        assert!(is_error_object(&render_provider(&classify(status, input))));
    }
}

/// A tap finds in any chunks what an envelope finds in the whole.
pub fn tap(input: &[u8]) {
    let Some((&size, document)) = input.split_first() else { return };
    let read = |size: usize| {
        let mut tap = Tap::new(&["usage", "model"], MAX_FRAME);
        document.chunks(size).for_each(|chunk| tap.feed(chunk));
        tap
    };
    let (whole, split) = (read(document.len().max(1)), read(usize::from(size % 16) + 1));
    assert_eq!(whole.complete(), split.complete());
    for name in ["usage", "model"] {
        assert_eq!(whole.get(name), split.get(name));
        if let Ok(envelope) = Envelope::parse(Bytes::copy_from_slice(document)) {
            assert!(whole.complete());
            assert_eq!(whole.get(name), envelope.get(name).map(|value| value.raw));
        }
    }
}

/// A segment of any bytes is read to its end, what is found in it is in order and adds up to it, and what follows a whole
/// header is found from wherever damage ends.
pub fn journal(input: &[u8]) {
    let marker = *b"\x01seg";
    let headed = [&header(u32::from_le_bytes(marker))[..], input].concat();
    // A record around the input whose checksum is right: what is in it may be anything all the same.
    let length = (input.len() as u32).to_le_bytes();
    let sum = crc32fast::hash(&[&length[..], &[1], input].concat()).to_le_bytes();
    let record = [&header(u32::from_le_bytes(marker))[..], &marker, &length, &sum, &[1], input].concat();
    for bytes in [input, &headed, &record] {
        let Ok(mut cursor) = Cursor::new(bytes) else { continue };
        let mut end = 0;
        while let Some(found) = cursor.next(bytes) {
            let (from, to) = match found {
                Found::Record(record) => {
                    let id = record.row().map(|row| row.id);
                    assert!(id.is_none() || id.as_deref() == record.id());
                    (record.at, record.end())
                }
                Found::Damage { from, to } => (from, to),
                Found::Tail { from } => (from, bytes.len()),
            };
            assert!(from < to && to <= bytes.len() && from >= end, "{found:?} after {end}");
            assert!(end == from || end == 0, "{found:?} leaves a gap after {end}");
            end = to;
        }
        assert!(end == bytes.len() || end == 0 && bytes.len() <= header(1).len());
    }
}

fn frames(stream: &[u8], size: usize) -> (Vec<Frame>, Option<Frame>) {
    let mut reader = FrameReader::new(MAX_FRAME);
    let mut frames = Vec::new();
    for chunk in stream.chunks(size) {
        reader.push(Bytes::copy_from_slice(chunk));
        while let Ok(Some(frame)) = reader.next() {
            frames.push(frame);
        }
    }
    (frames, reader.take_rest())
}

/// What a frame says, apart from how it is spelt.
fn meaning(frame: &Frame) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    (frame.data().map(Into::into), frame.event().map(Into::into))
}

const FORMATS: [Format; 2] = [Format::OpenAiChat, Format::Anthropic];

/// Whatever request is read can be written in every format, always with the same bytes; what is written is read again;
/// and written once more in its own format it no longer changes.
pub fn request(input: &[u8]) {
    for from in FORMATS {
        let Ok(request) = decode_request(from, input) else { continue };
        for target in [Target::OpenAiChat(Default::default()), Target::Anthropic(Default::default())] {
            let encoded = encode_request(&request, &target);
            assert_eq!(encoded.body, encode_request(&request, &target).body);
            let to = match target {
                Target::OpenAiChat(_) => Format::OpenAiChat,
                Target::Anthropic(_) => Format::Anthropic,
            };
            let again = decode_request(to, &encoded.body).expect("what was written is a request");
            assert_eq!(encode_request(&again, &target).body, encoded.body);
        }
    }
}

/// Whatever reply is read can be written in every format, and is JSON there.
pub fn reply(input: &[u8]) {
    let options = ReplyOptions { request_id: "r", ..Default::default() };
    for from in FORMATS {
        for json_tool in [false, true] {
            let undo = Undo { json_tool, ..Undo::default() };
            let Ok(reply) = decode_reply(from, input, &undo) else { continue };
            for to in FORMATS {
                let written = encode_reply(to, &reply, &options, &mut Losses::default());
                assert!(switchboard::wire::json::Value::parse(&written).is_ok());
            }
        }
    }
}

/// Whatever stream comes, in whatever chunks, what is written keeps to its format's grammar, has an end, and is the same.
pub fn stream(input: &[u8]) {
    let Some((&size, stream)) = input.split_first() else { return };
    for from in FORMATS {
        for to in FORMATS {
            for json_tool in [false, true] {
                let whole = translated(stream, from, to, stream.len().max(1), json_tool);
                assert_ne!(ending(to, &whole), Ending::Missing);
                assert_eq!(whole, translated(stream, from, to, usize::from(size % 64) + 1, json_tool));
            }
        }
    }
}

fn translated(stream: &[u8], from: Format, to: Format, size: usize, json_tool: bool) -> Vec<u8> {
    let options = ReplyOptions { request_id: "r", stream_usage: true, ..Default::default() };
    let mut out = Vec::new();
    let mut translator = StreamTranslator::new(from, to, &Undo { json_tool, ..Undo::default() }, &options);
    let (frames, rest) = frames(stream, size);
    for frame in frames.iter().chain(&rest) {
        translator.frame(frame, &mut out, &mut |_| {});
    }
    translator.finish(&mut out, &mut |_| {});
    assert!(translator.ended());
    out
}

/// Whatever a provider answers to say no, each client is told in its own format, whole and as the last event of a stream.
pub fn error(input: &[u8]) {
    for status in [200, 400, 401, 413, 429, 500, 503, 529, 999] {
        for said in [classify(status, input), anthropic::error::classify(status, input)] {
            assert!(is_error_object(&render_provider(&said)) && is_error_object(&render_translated(&said)));
            assert!((400..600).contains(&shown_status(said.class)));
            let id = input.first().map(|_| "req_1");
            assert!(anthropic::error::is_error_object(&anthropic::error::render_provider(&said, id)));
            let (kind, shown) = anthropic::error::shown(said.class);
            assert!(kind.ends_with("error") || kind == "request_too_large");
            assert!((400..600).contains(&shown));
            let event = anthropic::error::render_event(said.class, &said.message);
            assert_eq!(ending(Format::Anthropic, &event), Ending::Error);
            let event = openai_chat::render_event(&said.message, "upstream_error", "upstream_error");
            assert_eq!(ending(Format::OpenAiChat, &event), Ending::Error);
        }
    }
}

fn ending(format: Format, stream: &[u8]) -> Ending {
    let (frames, rest) = frames(stream, stream.len().max(1));
    assert!(rest.is_none());
    let (mut openai, mut anthropic) = (grammar::Grammar::default(), anthropic::grammar::Grammar::default());
    for frame in &frames {
        match format {
            Format::OpenAiChat => openai.check(frame).expect("chunks keep to the grammar"),
            Format::Anthropic => anthropic.check(frame).expect("events keep to the grammar"),
        }
    }
    match format {
        Format::OpenAiChat => openai.ending(),
        Format::Anthropic => anthropic.ending(),
    }
}
