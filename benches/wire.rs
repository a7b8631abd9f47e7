//! What reading and patching cost: `cargo bench --bench wire`.

#![expect(clippy::unwrap_used, reason = "a bench whose input is refused should stop")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use switchboard::wire::{
    conversation::{Format, Losses, ReplyOptions, Undo},
    envelope::{Edit, Envelope},
    json,
    openai_chat::{Seen, Shape, StreamObserver, hide_usage},
    sse::FrameReader,
    tap::Tap,
    translate::{StreamTranslator, Target, decode_reply, decode_request, encode_reply, encode_request},
};

criterion_group!(benches, envelopes, streams, replies, translations);
criterion_main!(benches);

/// A request as it passes through: validated, and its model and stream options edited; beside building a tree of it.
fn envelopes(criterion: &mut Criterion) {
    let bodies = [
        ("1KB", chat(1 << 10, 0)),
        ("3.4KB", chat(3400, 120)),
        ("32KB-escapes", chat(32 << 10, 50)),
        ("104KB", chat(104 << 10, 80)),
        ("20MB-base64", image(20 << 20)),
    ];
    for (name, body) in bodies {
        let mut group = criterion.benchmark_group(format!("envelope/{name}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        if body.len() > 1 << 20 {
            group.sample_size(20);
        }
        group.bench_function("parse", |bencher| bencher.iter(|| Envelope::parse(black_box(&body).clone()).unwrap()));
        group.bench_function("parse+patch", |bencher| {
            bencher.iter(|| {
                let envelope = Envelope::parse(black_box(&body).clone()).unwrap();
                envelope.patch(&[
                    Edit::Set { name: "model", value: Bytes::from_static(b"\"gpt-5.5-2026-04\"") },
                    Edit::Set { name: "stream_options", value: Bytes::from_static(b"{\"include_usage\":true}") },
                    Edit::Rename { from: "max_tokens", to: "max_completion_tokens" },
                ])
            });
        });
        group.bench_function("serde_json::Value", |bencher| {
            bencher.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(&body)).unwrap());
        });
        group.finish();
    }
}

/// A stream of chunks of about 250 bytes each, framed and observed.
fn streams(criterion: &mut Criterion) {
    const CHUNKS: usize = 1000;
    let chunk = |usage: &str| {
        let text = r#"{"id":"chatcmpl-BxYzAbCdEfGhIjKlMnOpQrStUv","object":"chat.completion.chunk","created":1760000000,"model":"gpt-5.5-2026-04","service_tier":"default","system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]"#;
        format!("data: {text}{usage}}}\n\n")
    };
    for (name, usage) in [("plain", ""), ("null-usage", ",\"usage\":null,\"obfuscation\":\"a1B2c3\"")] {
        let whole = Bytes::from(chunk(usage).repeat(CHUNKS));
        let mut group = criterion.benchmark_group(format!("stream/{name}/{CHUNKS}-chunks"));
        group.throughput(Throughput::Elements(CHUNKS as u64));
        let read = |mut seen: Box<dyn FnMut(&switchboard::wire::sse::Frame)>| {
            let mut reader = FrameReader::new(1 << 20);
            reader.push(whole.clone());
            while let Some(frame) = reader.next().unwrap() {
                seen(&frame);
            }
        };
        group.bench_function("frames", |bencher| {
            bencher.iter(|| {
                read(Box::new(|frame| {
                    black_box(frame.bytes());
                }));
            });
        });
        group.bench_function("frames+observe", |bencher| {
            bencher.iter(|| {
                let mut observer = StreamObserver::new(Shape::Chat, 1);
                read(Box::new(move |frame| assert!(matches!(observer.observe(frame), Seen::Output))));
            });
        });
        group.bench_function("frames+observe+hide", |bencher| {
            bencher.iter(|| {
                let mut observer = StreamObserver::new(Shape::Chat, 1);
                read(Box::new(move |frame| {
                    black_box(observer.observe(frame));
                    black_box(hide_usage(frame));
                }));
            });
        });
        group.finish();
    }
}

/// An embeddings answer that streams through.
fn replies(criterion: &mut Criterion) {
    let numbers = vec!["-0.012345678"; 1536].join(",");
    let item = format!("{{\"object\":\"embedding\",\"index\":0,\"embedding\":[{numbers}]}}");
    let items = vec![item.as_str(); 500].join(",");
    let body =
        format!("{{\"object\":\"list\",\"data\":[{items}],\"usage\":{{\"prompt_tokens\":8,\"total_tokens\":8}}}}");
    let mut group = criterion.benchmark_group("reply/embeddings");
    group.throughput(Throughput::Bytes(body.len() as u64)).sample_size(20);
    group.bench_function("tap", |bencher| {
        bencher.iter_batched_ref(
            || Tap::new(&["usage", "model"], 1 << 16),
            |tap| {
                black_box(&body).as_bytes().chunks(16 << 10).for_each(|chunk| tap.feed(chunk));
                assert!(tap.complete());
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("validate", |bencher| {
        bencher.iter(|| json::Value::parse(black_box(&body).as_bytes()).unwrap());
    });
    group.finish();
}

/// Calls between two formats: the request one way and its reply the other, and streams chunk by chunk.
fn translations(criterion: &mut Criterion) {
    let body = chat(4 << 10, 80);
    let options = ReplyOptions { request_id: "req", ..ReplyOptions::default() };
    let reply = br#"{"id":"msg_01","type":"message","role":"assistant","model":"claude-opus-5","content":[{"type":"thinking","thinking":"Let me see.","signature":"EpAB=="},{"type":"text","text":"It rains in the mountains of the far north, and the fox jumps."},{"type":"tool_use","id":"toolu_1","name":"look","input":{"where":"north"}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":1000,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":90}}"#;
    let mut group = criterion.benchmark_group("translate/4KB-chat");
    group.bench_function("openai-to-anthropic-and-back", |bencher| {
        bencher.iter(|| {
            let request = decode_request(Format::OpenAiChat, black_box(&body)).unwrap();
            let encoded = encode_request(&request, &Target::Anthropic(Default::default()));
            let reply = decode_reply(Format::Anthropic, black_box(reply), &encoded.undo).unwrap();
            (encoded, encode_reply(Format::OpenAiChat, &reply, &options, &mut Losses::default()))
        });
    });
    let claude = messages(4 << 10);
    let answer = br#"{"id":"chatcmpl-1","object":"chat.completion","created":1790000000,"model":"gpt-5.5","choices":[{"index":0,"message":{"role":"assistant","content":"It rains in the mountains of the far north, and the fox jumps.","refusal":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"look","arguments":"{\"where\":\"north\"}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1000,"completion_tokens":90,"total_tokens":1090,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#;
    group.bench_function("anthropic-to-openai-and-back", |bencher| {
        bencher.iter(|| {
            let request = decode_request(Format::Anthropic, black_box(&claude)).unwrap();
            let encoded = encode_request(&request, &Target::OpenAiChat(Default::default()));
            let reply = decode_reply(Format::OpenAiChat, black_box(answer), &encoded.undo).unwrap();
            (encoded, encode_reply(Format::Anthropic, &reply, &options, &mut Losses::default()))
        });
    });
    group.finish();
    let picture = image(20 << 20);
    let mut group = criterion.benchmark_group("translate/20MB-image");
    group.throughput(Throughput::Bytes(picture.len() as u64)).sample_size(10);
    group.bench_function("openai-to-anthropic", |bencher| {
        bencher.iter(|| {
            let request = decode_request(Format::OpenAiChat, black_box(&picture)).unwrap();
            encode_request(&request, &Target::Anthropic(Default::default()))
        });
    });
    group.finish();
    const CHUNKS: usize = 1000;
    let openai = r#"data: {"id":"chatcmpl-BxYzAbCdEfGhIjKlMnOpQrStUv","object":"chat.completion.chunk","created":1760000000,"model":"gpt-5.5-2026-04","service_tier":"default","system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}],"usage":null}"#;
    let start = "data: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude\"}}\n\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
    let delta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" token\"}}\n\n";
    let streams = [
        ("openai-to-anthropic", Format::OpenAiChat, Format::Anthropic, format!("{openai}\n\n").repeat(CHUNKS)),
        ("anthropic-to-openai", Format::Anthropic, Format::OpenAiChat, format!("{start}{}", delta.repeat(CHUNKS))),
    ];
    for (name, from, to, stream) in streams {
        let stream = Bytes::from(stream);
        let mut group = criterion.benchmark_group(format!("translate/{CHUNKS}-chunks"));
        group.throughput(Throughput::Elements(CHUNKS as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut translator = StreamTranslator::new(from, to, &Undo::default(), &options);
                let mut reader = FrameReader::new(1 << 20);
                let mut out = Vec::with_capacity(1 << 18);
                reader.push(stream.clone());
                while let Some(frame) = reader.next().unwrap() {
                    translator.frame(&frame, &mut out, &mut |_| {});
                }
                assert!(!translator.ended());
                out
            });
        });
        group.finish();
    }
}

/// A conversation of about this many bytes, with an escape about every so many bytes.
fn chat(size: usize, escape_every: usize) -> Bytes {
    let mut sentence =
        "The quick brown fox jumps over the lazy dog while it rains in the mountains of the far north. ".repeat(4);
    if escape_every > 0 {
        for at in (escape_every..sentence.len()).step_by(escape_every).rev() {
            sentence.insert_str(at, "\\n");
        }
    }
    let mut messages = String::new();
    while messages.len() + 300 < size {
        let role = if messages.is_empty() { "system" } else { "user" };
        let comma = if messages.is_empty() { "" } else { "," };
        messages.push_str(&format!("{comma}{{\"role\":\"{role}\",\"content\":\"{sentence}\"}}"));
    }
    format!("{{\"model\":\"gpt-5.5\",\"messages\":[{messages}],\"temperature\":0.7,\"max_tokens\":512,\"stream\":true,\"stream_options\":{{\"include_usage\":false}},\"user\":\"u-123\",\"metadata\":{{\"trace\":\"abc\"}}}}").into()
}

/// The same in Anthropic's format, with a tool and a cache mark.
fn messages(size: usize) -> Bytes {
    let chat = String::from_utf8(chat(size, 80).to_vec()).unwrap();
    let (_, turns) = chat.split_once("},").unwrap();
    let (turns, _) = turns.split_once("],").unwrap();
    format!("{{\"model\":\"claude-opus-5\",\"max_tokens\":512,\"system\":[{{\"type\":\"text\",\"text\":\"Be brief.\",\"cache_control\":{{\"type\":\"ephemeral\"}}}}],\"messages\":[{turns}],\"tools\":[{{\"name\":\"look\",\"description\":\"Looks.\",\"input_schema\":{{\"type\":\"object\",\"properties\":{{\"where\":{{\"type\":\"string\"}}}}}}}}],\"stream\":true,\"metadata\":{{\"user_id\":\"u-123\"}}}}").into()
}

/// One message with a picture in it.
fn image(size: usize) -> Bytes {
    let picture = "iVBORw0KGgoAAAANSUhEUgAA/+9".repeat(size / 27);
    format!("{{\"model\":\"gpt-5.5\",\"messages\":[{{\"role\":\"user\",\"content\":[{{\"type\":\"image_url\",\"image_url\":{{\"url\":\"data:image/png;base64,{picture}\"}}}}]}}]}}").into()
}
