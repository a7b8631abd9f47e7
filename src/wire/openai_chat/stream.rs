//! Watching a stream of chunks go by. Until the first real output each chunk is read properly, because the answer's
//! fate hangs on it. After that a chunk is only searched for the few words that matter, and read if one is found: a
//! quote inside a JSON string is always escaped, so `"usage"` with its quotes is never part of what a model said.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::{Answer, ProviderError, Said, Shape, Stated, convert::write_usage, error};
use crate::{types::Usage, wire::sse::Frame};

/// What one frame of a stream was.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A comment, a blank line, a ping.
    Silent,
    /// A chunk without output before any output: the role, empty content, a content filter's verdict on the prompt.
    Preamble,
    /// A chunk with output; after the first of them, any chunk that belongs to the answer.
    Output,
    /// Token counts and nothing else.
    UsageOnly,
    /// `[DONE]`.
    Done,
    /// The provider reports a failure inside the stream.
    Error(ProviderError),
    /// Not a chunk at all; says what is wrong with it.
    Malformed(&'static str),
}

/// Follows one streamed answer.
#[derive(Debug)]
pub struct StreamObserver {
    shape: Shape,
    /// How many alternatives were asked for (`n`).
    choices: usize,
    /// Which of them have ended, a bit each.
    ended: smallvec::SmallVec<[u64; 2]>,
    finish_reason: Option<String>,
    stated: Stated,
    said: Said,
    /// How much was said when usage was stated last, in bytes.
    said_before_usage: u64,
    has_output: bool,
    done: bool,
}

/// Alternatives beyond this many are not followed one by one: OpenAI allows 128, times the prompts of a batch.
const MAX_CHOICES: usize = 1 << 14;

static CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"choices\""));
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
static FINISH_REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));

impl StreamObserver {
    /// `choices`: how many alternatives the client asked for (`n`, 1 by default; times the prompts of a batch).
    pub fn new(shape: Shape, choices: u32) -> Self {
        Self {
            shape,
            choices: usize::try_from(choices).unwrap_or(MAX_CHOICES).clamp(1, MAX_CHOICES),
            ended: smallvec::SmallVec::new(),
            finish_reason: None,
            stated: Stated::default(),
            said: Said::default(),
            said_before_usage: 0,
            has_output: false,
            done: false,
        }
    }

    /// Looks at the next frame.
    pub fn observe(&mut self, frame: &Frame) -> Seen {
        let plain = frame.sole_data().filter(|_| self.has_output).and_then(plain_choices);
        if let Some(choices) = plain {
            self.said.add(self.shape, choices);
            return Seen::Output;
        }
        let Some(data) = frame.data() else { return Seen::Silent };
        let event = frame.event();
        match data.trim_ascii() {
            b"" => Seen::Silent,
            b"[DONE]" => {
                self.done = true;
                Seen::Done
            }
            report if event == Some(b"error") => Seen::Error(error::classify_in_band(report)),
            _ if event == Some(b"ping") => Seen::Silent,
            chunk => self.read(chunk),
        }
    }

    /// The last token counts reported; some providers repeat them, growing, in every chunk.
    pub fn usage(&self) -> Option<Usage> {
        self.stated.usage
    }

    /// What the provider has stated beside the answer so far.
    pub fn stated(&self) -> &Stated {
        &self.stated
    }

    /// What the provider states beside the answer. Asked for again, it is gone.
    pub fn take_stated(&mut self) -> Stated {
        self.stated.usage_is_early = self.stated.usage.is_some() && self.said.bytes() > self.said_before_usage;
        std::mem::take(&mut self.stated)
    }

    /// What was said so far, in all alternatives.
    pub fn said(&self) -> &Said {
        &self.said
    }

    /// What was said so far, in all alternatives. Asked for again, it is gone.
    pub fn take_said(&mut self) -> Said {
        std::mem::take(&mut self.said)
    }

    /// How much was said so far in all alternatives, in bytes as they are spelt in JSON.
    pub fn spoken(&self) -> u64 {
        self.said.bytes()
    }

    /// The end of a stream that is broken off here: what a model says that has reached its output limit. Alternatives that
    /// have ended are left alone. With `usage`, a chunk of its own says that.
    pub fn cut(&mut self, usage: Option<&Usage>) -> Bytes {
        let has_ended = |index: usize| self.ended.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1);
        let empty = if self.shape == Shape::Completion { "\"text\":\"\"" } else { "\"delta\":{}" };
        let choices: Vec<String> = (0..self.choices)
            .filter(|index| !has_ended(*index))
            .map(|index| format!("{{\"index\":{index},{empty},\"finish_reason\":\"length\"}}"))
            .collect();
        let object = if self.shape == Shape::Completion { "text_completion" } else { "chat.completion.chunk" };
        let id = serde_json::Value::from(self.stated.id.as_deref().unwrap_or_default());
        self.finish_reason = Some("length".to_owned());
        let choices = choices.join(",");
        let head = format!("data: {{\"id\":{id},\"object\":\"{object}\",\"created\":0,\"model\":\"\",\"choices\":[");
        let mut text = format!("{head}{choices}]}}\n\n").into_bytes();
        if let Some(usage) = usage {
            text.extend_from_slice(head.as_bytes());
            text.extend_from_slice(b"],\"usage\":");
            write_usage(&mut text, usage);
            text.extend_from_slice(b"}\n\n");
        }
        text.extend_from_slice(b"data: [DONE]\n\n");
        text.into()
    }

    /// Whether every alternative has come to its end.
    pub fn finished(&self) -> bool {
        self.ended.iter().map(|word| word.count_ones() as usize).sum::<usize>() >= self.choices
    }

    /// Whether `[DONE]` was seen.
    pub fn done(&self) -> bool {
        self.done
    }

    /// Whether there was any real output.
    pub fn has_output(&self) -> bool {
        self.has_output
    }

    /// Why the answer ended; of several alternatives, the last that did.
    pub fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    fn read(&mut self, chunk: &[u8]) -> Seen {
        let answer = match Answer::read(chunk) {
            Ok(answer) => answer,
            Err(malformed) => return Seen::Malformed(complaint(&malformed.problem)),
        };
        let mut counted = answer.state(&mut self.stated);
        let mut any = false;
        for (position, choice) in answer.choices(self.shape).enumerate() {
            any = true;
            self.has_output |= choice.has_output;
            if let Some(usage) = choice.usage {
                counted |= self.stated.take_usage(usage);
            }
            if let Some(reason) = choice.finish_reason {
                self.end(choice.index.and_then(|index| usize::try_from(index).ok()).unwrap_or(position));
                if self.finish_reason.as_deref() != Some(&*reason) {
                    self.finish_reason = Some(reason.into_owned());
                }
            }
        }
        if answer.is_error() {
            return Seen::Error(error::classify_in_band(chunk));
        }
        if any {
            self.said.add(self.shape, chunk);
        }
        if counted {
            self.said_before_usage = self.said.bytes();
        }
        match (any, counted) {
            (false, true) => Seen::UsageOnly,
            (false, false) if answer.kind.is_some_and(|kind| kind.raw == b"\"ping\"") => Seen::Silent,
            _ if self.has_output => Seen::Output,
            _ => Seen::Preamble,
        }
    }

    fn end(&mut self, index: usize) {
        if index < MAX_CHOICES {
            if self.ended.len() <= index / 64 {
                self.ended.resize(index / 64 + 1, 0);
            }
            self.ended[index / 64] |= 1 << (index % 64);
        }
    }
}

/// A chunk from its choices on, if by the look of it it carries nothing but another piece of the answer.
fn plain_choices(data: &[u8]) -> Option<&[u8]> {
    let is_object = data.first() == Some(&b'{') && data.last() == Some(&b'}');
    let choices = CHOICES.find(data).filter(|_| is_object)?;
    let is_plain = is_void(&FINISH_REASON, data) && is_void(&USAGE, data) && is_void(&ERROR, data);
    data.get(choices..).filter(|_| is_plain)
}

/// Whether this word, in its quotes, occurs only as the name of a member that is null or an empty string.
fn is_void(word: &Finder<'_>, data: &[u8]) -> bool {
    word.find_iter(data).all(|at| {
        let after = data[at + word.needle().len()..].trim_ascii_start();
        let Some(value) = after.strip_prefix(b":") else { return false };
        let value = value.trim_ascii_start();
        value.starts_with(b"null") || value.starts_with(b"\"\"")
    })
}

fn complaint(problem: &crate::wire::json::Problem) -> &'static str {
    use crate::wire::json::Problem;
    match problem {
        Problem::Utf8 => "a chunk of the stream is not valid UTF-8",
        Problem::Syntax(_) | Problem::Trailing | Problem::Duplicate(_) => "a chunk of the stream is not valid JSON",
        Problem::NotAnObject => "a chunk of the stream is not a JSON object",
        Problem::TooDeep => "a chunk of the stream nests too deeply",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{openai_chat::ErrorClass, sse::FrameReader};

    fn frame(text: &str) -> Frame {
        let mut reader = FrameReader::new(1 << 20);
        reader.push(bytes::Bytes::copy_from_slice(text.as_bytes()));
        reader.next().unwrap().unwrap()
    }

    fn chunk(json: &str) -> Frame {
        frame(&format!("data: {json}\n\n"))
    }

    fn delta(delta: &str) -> Frame {
        chunk(&format!(
            r#"{{"id":"x","object":"chat.completion.chunk","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#
        ))
    }

    fn started(choices: u32) -> StreamObserver {
        let mut observer = StreamObserver::new(Shape::Chat, choices);
        assert!(matches!(observer.observe(&delta(r#"{"content":"Hi"}"#)), Seen::Output));
        observer
    }

    #[test]
    fn usage_before_the_last_words_is_early() {
        let usage = r#"{"prompt_tokens":10,"completion_tokens":1}"#;
        let with_usage = |delta: &str| {
            chunk(&format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}],"usage":{usage}}}"#))
        };
        let (say, silent) = (r#"{"content":"Hi"}"#, r#"{"role":"assistant"}"#);
        let alone = chunk(&format!(r#"{{"choices":[],"usage":{usage}}}"#));
        let cases = [
            (vec![with_usage(silent), delta(say)], true),
            (vec![alone.clone(), delta(say), delta(say)], true),
            (vec![with_usage(say), delta(say)], true),
            (vec![with_usage(silent), delta(say), with_usage(say)], false),
            (vec![with_usage(say), with_usage(say)], false),
            (vec![delta(say), alone], false),
            (vec![delta(say)], false),
        ];
        for (index, (frames, is_early)) in cases.into_iter().enumerate() {
            let mut observer = StreamObserver::new(Shape::Chat, 1);
            for frame in &frames {
                observer.observe(frame);
            }
            assert_eq!(observer.take_stated().usage_is_early, is_early, "case {index}");
        }
    }

    #[test]
    fn what_says_something_is_output_whatever_it_is_called() {
        for output in [
            r#"{"content":"a"}"#,
            r#"{"role":"assistant","content":"\n"}"#,
            r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}]}"#,
            r#"{"content":null,"reasoning_content":"hm"}"#,
            r#"{"content":"","reasoning":"hm"}"#,
            r#"{"thinking":"hm"}"#,
            r#"{"refusal":"no"}"#,
            r#"{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]}"#,
            r#"{"function_call":{"name":"f","arguments":""}}"#,
            r#"{"audio":{"id":"a"}}"#,
            r#"{"something_new":{"x":1}}"#,
        ] {
            let mut observer = StreamObserver::new(Shape::Chat, 1);
            assert!(matches!(observer.observe(&delta(output)), Seen::Output), "{output}");
            assert!(observer.has_output());
        }
        let mut observer = StreamObserver::new(Shape::Completion, 1);
        assert!(matches!(observer.observe(&chunk(r#"{"choices":[{"index":0,"text":"a"}]}"#)), Seen::Output));
    }

    #[test]
    fn what_says_nothing_is_preamble() {
        let mut observer = StreamObserver::new(Shape::Chat, 1);
        let mut frames: Vec<_> = [
            "{}",
            r#"{"role":"assistant"}"#,
            r#"{"role":"assistant","content":""}"#,
            r#"{"role":"assistant","content":null,"refusal":null,"tool_calls":[],"function_call":null,"reasoning":""}"#,
            r#"{"content":[]}"#,
            r#"{"audio":{}}"#,
            r#"{"provider_specific_fields":{"refusal":null}}"#,
        ]
        .map(delta)
        .into();
        frames.extend(
            [
                r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false}}}],"usage":null}"#,
                r#"{"id":"x","object":"chat.completion.chunk"}"#,
                r#"{"choices":[{"index":0,"text":""}],"error":null}"#,
                r#"{"choices":[{"index":0,"delta":{},"finish_reason":""}]}"#,
            ]
            .map(chunk),
        );
        for frame in frames {
            assert!(matches!(observer.observe(&frame), Seen::Preamble), "{frame:?}");
        }
        assert!(!observer.has_output() && !observer.finished());
    }

    #[test]
    fn an_end_that_is_an_answer_by_itself_is_output_and_a_plain_stop_is_not() {
        for (reason, is_output) in
            [("stop", false), ("length", true), ("content_filter", true), ("tool_calls", true), ("error", false)]
        {
            let mut observer = StreamObserver::new(Shape::Chat, 1);
            observer
                .observe(&chunk(&format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]}}"#)));
            assert_eq!((observer.has_output(), observer.finished()), (is_output, true), "{reason}");
            assert_eq!(observer.finish_reason(), Some(reason));
        }
    }

    #[test]
    fn frames_without_a_message_are_silent() {
        let mut observer = StreamObserver::new(Shape::Chat, 1);
        for text in [
            ": OPENROUTER PROCESSING\n\n",
            "\n",
            "data:\n\n",
            "data: \n\n",
            "event: ping\ndata: {}\n\n",
            "retry: 3000\n\n",
            "data: {\"type\":\"ping\"}\n\n",
        ] {
            assert!(matches!(observer.observe(&frame(text)), Seen::Silent), "{text:?}");
        }
    }

    #[test]
    fn a_stream_is_finished_when_every_choice_is() {
        let mut observer = started(3);
        let end =
            |index: u32| chunk(&format!(r#"{{"choices":[{{"index":{index},"delta":{{}},"finish_reason":"stop"}}]}}"#));
        for index in [0, 2, 2] {
            observer.observe(&end(index));
            assert!(!observer.finished());
        }
        observer.observe(&end(1));
        assert!(observer.finished() && !observer.done());
        assert!(matches!(observer.observe(&frame("data: [DONE]\n\n")), Seen::Done));
        assert!(observer.done());
        // A hostile index costs nothing.
        observer.observe(&chunk(r#"{"choices":[{"index":18446744073709551615,"delta":{},"finish_reason":"stop"}]}"#));
    }

    #[test]
    fn the_last_usage_wins_wherever_it_stands() {
        let mut observer = started(1);
        assert_eq!(observer.usage(), None);
        let with = |n: u64| {
            format!(
                r#"{{"choices":[{{"index":0,"delta":{{"content":"a"}},"finish_reason":null}}],"usage":{{"prompt_tokens":9,"completion_tokens":{n}}}}}"#
            )
        };
        for n in 1..4 {
            assert!(matches!(observer.observe(&chunk(&with(n))), Seen::Output));
            assert_eq!(observer.usage().unwrap().output, n);
        }
        let only = chunk(r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16}}"#);
        assert!(matches!(observer.observe(&only), Seen::UsageOnly));
        assert_eq!(observer.usage().unwrap().output, 7);
        observer.observe(&chunk(r#"{"choices":[{"index":0,"delta":{}}],"usage":null}"#));
        assert_eq!(observer.usage().unwrap().output, 7);
        let groq = chunk(
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"x_groq":{"id":"r","usage":{"prompt_tokens":1,"completion_tokens":2}}}"#,
        );
        observer.observe(&groq);
        assert_eq!(observer.usage().unwrap().output, 2);
        assert!(observer.finished());
    }

    #[test]
    fn what_a_model_says_is_never_taken_for_more() {
        let mut observer = started(1);
        let said = [
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"usage\":{\"prompt_tokens\":1},\"error\":{\"message\":\"x\"},\"finish_reason\":\"stop\"}"}}]}"#,
            r#"{"content":"usage"}"#,
            r#"{"content":"error"}"#,
            r#"{"content":"finish_reason"}"#,
            r#"{"error":{"message":"in the delta"},"usage":{"completion_tokens":5}}"#,
        ];
        for text in said {
            assert!(matches!(observer.observe(&delta(text)), Seen::Output), "{text}");
        }
        assert_eq!((observer.usage(), observer.finished()), (None, false));
    }

    #[test]
    fn failures_are_found_before_and_after_the_first_output() {
        let cases = [
            (r#"data: {"error":{"message":"Overloaded","type":"overloaded_error"}}"#, ErrorClass::Overloaded),
            (
                r#"data: {"error":{"code":502,"message":"gone"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#,
                ErrorClass::Server,
            ),
            ("event: error\ndata: {\"message\":\"Rate limit exceeded\"}", ErrorClass::RateLimited),
            ("data: {\"message\":\"it broke\"}\nevent: error", ErrorClass::Unknown),
            ("event: error\ndata: it broke", ErrorClass::Unknown),
            (r#"data: {"object":"error","message":"no","type":"BadRequestError","code":400}"#, ErrorClass::BadRequest),
            (r#"data: {"detail":"Internal Server Error"}"#, ErrorClass::Unknown),
            (r#"data: {"error":"out of memory"}"#, ErrorClass::Unknown),
        ];
        for (text, class) in cases {
            for mut observer in [StreamObserver::new(Shape::Chat, 1), started(1)] {
                match observer.observe(&frame(&format!("{text}\n\n"))) {
                    Seen::Error(error) => assert_eq!(error.class, class, "{text}"),
                    other => panic!("{text}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn what_is_no_chunk_is_malformed_before_and_after_the_first_output() {
        for text in [
            "hello",
            "[1]",
            "{\"choices\":[",
            "{\"choices\":[]",
            "{} {}",
            "<html>",
            "{\"choices\":[{\"delta\":{\"content\":\"a",
        ] {
            for mut observer in [StreamObserver::new(Shape::Chat, 1), started(1)] {
                assert!(matches!(observer.observe(&chunk(text)), Seen::Malformed(_)), "{text}");
            }
        }
    }

    #[test]
    fn data_on_several_lines_is_one_chunk() {
        let mut observer = StreamObserver::new(Shape::Chat, 1);
        let text = "data: {\"choices\":\r\ndata: [{\"delta\":{\"content\":\"a\"}}]}\r\n\r\n";
        assert!(matches!(observer.observe(&frame(text)), Seen::Output));
        assert!(matches!(observer.observe(&frame(text)), Seen::Output));
    }
}
