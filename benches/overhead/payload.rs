//! What is said: prompts as a client library sends them and answers as a provider gives them, made once.

use memchr::memmem;
use serde_json::json;

/// Number of content chunks in a burst.
pub const BURST_CHUNKS: usize = 200;

/// A content chunk's text carries the upstream's clock after `@t` and, after `@h`, how long the upstream held the
/// request, each as sixteen hexadecimal digits of nanoseconds: so the far end can tell the proxy's share.
pub const STAMP: &str = "@t0000000000000000@h0000000000000000";

const PASSAGE: &str = "Please review the function below.\n```rust\nlet path = \"C:\\\\logs\\\\\";\n\tprintln!(\"{path}\");\n```\n\
    It says \"done\" too early — why? Consider naïve callers, 東京 time zones and a retry.\n";

/// The format the provider answers in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speech {
    OpenAi,
    Anthropic,
}

const USAGE: &str = r#"{"prompt_tokens":219,"completion_tokens":200,"total_tokens":419,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}"#;

/// A chat completion request for `model` of about `bytes` bytes: a system message and turns of a conversation about
/// code, so that the text has the line ends, quotes and backslashes that real prompts have.
pub fn request_body(model: &str, bytes: usize, stream: bool) -> Vec<u8> {
    let mut text = String::new();
    let mut body = request_around(model, &text, stream);
    while body.len() < bytes {
        let missing = PASSAGE.ceil_char_boundary((bytes - body.len()).min(PASSAGE.len()));
        text.push_str(&PASSAGE[..missing]);
        body = request_around(model, &text, stream);
    }
    body.into_bytes()
}

/// A request with an image of about `bytes` bytes in it.
pub fn image_body(model: &str, bytes: usize) -> Vec<u8> {
    let image = "iVBORw0KGgoAAAANSUhEUgAA/+9AQm".repeat(bytes / 30);
    format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}},{{"type":"text","text":"What is it?"}}]}}],"max_tokens":512}}"#
    )
    .into_bytes()
}

/// The provider's answer to a call without streaming, head included.
pub fn whole_answer(speech: Speech) -> Vec<u8> {
    let text =
        json!("The loop returns before the last write is flushed, so \"done\" is printed early.\nAwait the flush.");
    let body = match speech {
        Speech::OpenAi => format!(
            r#"{{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1763640000,"model":"bench-model-2026-08-01","choices":[{{"index":0,"message":{{"role":"assistant","content":{text},"refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{USAGE},"service_tier":"default","system_fingerprint":"fp_44709d6fcb"}}"#
        ),
        Speech::Anthropic => format!(
            r#"{{"id":"msg_013Zva2CMHLNnXjNJJKqJ2EF","type":"message","role":"assistant","model":"bench-model-20260801","content":[{{"type":"text","text":{text}}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":219,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}},"output_tokens":200,"service_tier":"standard"}}}}"#
        ),
    };
    format!("{}content-length: {}\r\n\r\n{body}", head("application/json"), body.len()).into_bytes()
}

/// The provider's head of a streamed answer and the chunk that opens every stream.
pub fn stream_start(speech: Speech) -> Vec<u8> {
    let mut start =
        format!("{}transfer-encoding: chunked\r\n\r\n", head("text/event-stream; charset=utf-8")).into_bytes();
    match speech {
        Speech::OpenAi => start.extend(chunk(r#"{"role":"assistant","content":"","refusal":null}"#, "null")),
        Speech::Anthropic => {
            start.extend(named(
                "message_start",
                r#","message":{"id":"msg_013Zva2CMHLNnXjNJJKqJ2EF","type":"message","role":"assistant","model":"bench-model-20260801","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":219,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}"#,
            ));
            let block = r#","index":0,"content_block":{"type":"text","text":""}"#;
            start.extend(named("content_block_start", block));
        }
    }
    start
}

/// A content chunk of about 250 bytes, framed as one HTTP chunk, with [`STAMP`] for its text.
pub fn content_chunk(speech: Speech) -> Vec<u8> {
    match speech {
        Speech::OpenAi => chunk(&format!(r#"{{"content":"{STAMP}"}}"#), "null"),
        Speech::Anthropic => {
            let delta = format!(r#","index":0,"delta":{{"type":"text_delta","text":"{STAMP}"}}"#);
            named("content_block_delta", &delta)
        }
    }
}

/// `count` content chunks of equal length, each with its number in the stamp: some gateways cut a stream that repeats
/// itself.
pub fn content_chunks(speech: Speech, count: usize) -> Vec<u8> {
    let (one, empty) = (content_chunk(speech), STAMP.as_bytes());
    let at = memmem::find(&one, empty).unwrap_or(0);
    let mut chunks = one.repeat(count);
    for (number, chunk) in chunks.chunks_mut(one.len()).enumerate() {
        chunk[at..at + empty.len()].copy_from_slice(stamp(number as u64, 0).as_bytes());
    }
    chunks
}

/// A filled-in [`STAMP`].
pub fn stamp(sent: u64, held: u64) -> String {
    format!("@t{sent:016x}@h{held:016x}")
}

/// What follows the last content chunk, up to the end of the HTTP body: finish reason, usage if asked, `[DONE]`.
pub fn stream_end(speech: Speech, include_usage: bool) -> Vec<u8> {
    if speech == Speech::Anthropic {
        let delta = r#","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":200}"#;
        let frames = [("content_block_stop", r#","index":0"#), ("message_delta", delta), ("message_stop", "")];
        let mut end: Vec<u8> = frames.iter().flat_map(|(event, rest)| named(event, rest)).collect();
        end.extend_from_slice(b"0\r\n\r\n");
        return end;
    }
    let mut end = chunk("{}", r#""stop""#);
    if include_usage {
        end.extend(event("[]", USAGE));
    }
    end.extend(framed("data: [DONE]\n\n"));
    end.extend_from_slice(b"0\r\n\r\n");
    end
}

fn request_around(model: &str, text: &str, stream: bool) -> String {
    // Turns of about four kilobytes each: real histories are lists, not one string.
    let mut turns = vec![json!({"role": "system", "content": "You are a careful reviewer. Answer in one paragraph."})];
    let mut rest = text;
    while !rest.is_empty() {
        let (turn, left) = rest.split_at(rest.ceil_char_boundary(rest.len().min(4096)));
        let role = if turns.len() % 2 == 1 { "user" } else { "assistant" };
        turns.push(json!({"role": role, "content": turn}));
        rest = left;
    }
    let (turns, stream) = (json!(turns), if stream { r#","stream":true"# } else { "" });
    format!(r#"{{"model":"{model}","messages":{turns},"temperature":0.7,"max_tokens":512{stream}}}"#)
}

fn chunk(delta: &str, finish_reason: &str) -> Vec<u8> {
    event(&format!(r#"[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish_reason}}}]"#), "null")
}

fn event(choices: &str, usage: &str) -> Vec<u8> {
    framed(&format!(
        "data: {{\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\",\"created\":1763640000,\
         \"model\":\"bench-model\",\"choices\":{choices},\"usage\":{usage}}}\n\n"
    ))
}

/// An event of Anthropic's: its type, and the rest of its members.
fn named(kind: &str, rest: &str) -> Vec<u8> {
    framed(&format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n"))
}

fn framed(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

fn head(content_type: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ndate: Fri, 20 Nov 2026 12:00:00 GMT\r\ncontent-type: {content_type}\r\n\
         openai-organization: bench\r\nopenai-processing-ms: 12\r\nopenai-version: 2020-10-01\r\n\
         x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 9999\r\n\
         x-ratelimit-remaining-tokens: 1999000\r\nx-request-id: req_0f9d1f5f5f0c4c1c8a7f\r\n"
    )
}
