//! Token counts where a provider states none, or never gets to state them.
//!
//! Models of a family whose vocabulary is known are counted with it ([`UsageSource::Counted`]): OpenAI, Llama, DeepSeek,
//! Qwen, Mistral, Kimi, GLM, MiniMax. That is exact for the text, and leaves out a few tokens of the chat template. For
//! all others ([`UsageSource::Estimated`]) an ASCII character is a quarter of a token, a Chinese, Japanese or Korean
//! character is one, and any other is half of one. An image, a sound or a file inside a request is [`MEDIA`] tokens,
//! whichever format it is in.
//!
//! What is long is counted by its beginning, and multiplied. A vocabulary is loaded when the first call needs it: that
//! takes a tenth of a second and 9 to 27 MiB, which stay. Counting is work for the settlements' task, and is done on a
//! thread of its own; no call waits for it.

use std::{iter, ops::Range, sync::OnceLock};

use bytes::Bytes;
use memchr::memmem;

use crate::{
    types::{Usage, UsageSource},
    wire::{
        envelope::Envelope,
        openai_chat::{Said, Words},
    },
};

/// What something that is not text counts as.
pub const MEDIA: u64 = 1_000;
/// What the frame of a message counts as: its role and its separators.
const MESSAGE: u64 = 4;
/// As much of a request's text is counted; the rest is taken to be like it. In bytes.
const SAMPLE: usize = 64 * 1024;
/// As much of a request is kept for as long as a stream takes, in bytes.
pub(super) const KEPT_BY_STREAM: usize = 16 * 1024;
/// As much of a request is kept until its settlement has been counted, in bytes.
pub(super) const KEPT_TO_COUNT: usize = 128 * 1024;

/// What a call asked, as far as counting its tokens needs it. Shares the request's bytes.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The JSON of `messages`, `prompt` or `input`.
    content: Bytes,
    /// The JSON of `tools` or `functions`.
    tools: Bytes,
    /// The JSON of Anthropic's `system`, which is counted with the tools.
    system: Bytes,
    /// How long both were, without media.
    content_bytes: u64,
    tools_bytes: u64,
    media: u64,
    /// How many bytes of letters that take several there are, once somebody has asked.
    wide: OnceLock<u64>,
}

/// Texts whose tokens are to be counted, with what their counts are to be multiplied by.
#[derive(Debug, Default)]
struct Sample {
    content: String,
    messages: u64,
    /// Of the bytes of the content, how many were looked at.
    spanned: u64,
    /// Token numbers instead of text.
    numbers: u64,
    tools: String,
    text: String,
    reasoning: String,
}

/// A vocabulary that text can be counted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vocabulary(&'static str);

impl Asked {
    /// Of a request; nothing is copied.
    pub fn of(request: &Envelope) -> Self {
        let get = |names: &[&str]| {
            let value = names.iter().find_map(|name| request.get(name));
            value.map(|value| request.bytes().slice_ref(value.raw)).unwrap_or_default()
        };
        let (content, tools) = (get(&["messages", "prompt", "input"]), get(&["tools", "functions"]));
        let system = get(&["system"]);
        let (mut media, mut media_bytes) = (0, 0);
        for range in media_in(&content) {
            media += 1;
            media_bytes += range.len() as u64;
        }
        let content_bytes = content.len() as u64 - media_bytes;
        let tools_bytes = (tools.len() + system.len()) as u64;
        Self { content_bytes, tools_bytes, media, content, tools, system, wide: OnceLock::new() }
    }

    /// Roughly how many tokens of input it is, from lengths alone.
    pub fn quick(&self) -> u64 {
        (self.content_bytes + self.tools_bytes).div_ceil(4) + MEDIA * self.media
    }

    /// How many tokens of input it may be, rather too many than too few: what is set aside before the call. Where letters
    /// take several bytes, two bytes may be a token. Reads the whole request the first time, and remembers.
    pub fn at_most(&self) -> u64 {
        let wide = self.wide.get_or_init(|| wide(&self.content) + wide(&self.tools) + wide(&self.system));
        self.quick() + wide.div_ceil(4)
    }

    /// Lets go of a request that is larger than `most`: only its beginning is kept.
    pub(super) fn keep(&mut self, most: usize) {
        if self.content.len() + self.tools.len() + self.system.len() > most {
            let cut = |bytes: &Bytes, room: usize| Bytes::copy_from_slice(&bytes[..bytes.len().min(room)]);
            let half = if self.system.is_empty() { most / 2 } else { most / 4 };
            self.content = cut(&self.content, most / 2);
            (self.tools, self.system) = (cut(&self.tools, half), cut(&self.system, half));
        }
    }

    /// Lets go of the request, of which nothing has to be counted.
    pub(super) fn let_go(&mut self) {
        (self.content, self.tools, self.system) = (Bytes::new(), Bytes::new(), Bytes::new());
    }

    /// What is to be counted of it, and of an answer.
    fn sample(&self, said: Option<&Said>) -> Sample {
        let mut sample = Sample::default();
        sample.read(&self.content);
        let tools = &self.tools[..self.tools.len().min(SAMPLE)];
        sample.tools = String::from_utf8_lossy(tools).into_owned();
        let system = &self.system[..self.system.len().min(SAMPLE)];
        sample.tools.push_str(&String::from_utf8_lossy(system));
        if let Some(said) = said {
            sample.text = said.text.sample().into_owned();
            sample.reasoning = said.reasoning.sample().into_owned();
        }
        sample
    }

    /// The usage that counts of a sample's texts come to.
    fn usage(&self, sample: &Sample, said: Option<&Said>, count: &dyn Fn(&str) -> u64) -> Usage {
        let content = scaled(
            count(&sample.content) + MESSAGE * sample.messages + sample.numbers,
            self.content_bytes,
            sample.spanned,
        );
        let tools = scaled(count(&sample.tools), self.tools_bytes, sample.tools.len() as u64);
        let spoken = |words: Option<&Words>, text: &str| {
            words.map_or(0, |words| scaled(count(text), words.bytes(), words.sampled()))
        };
        Usage {
            input: content + tools + MEDIA * self.media,
            output: spoken(said.map(|said| &said.text), &sample.text),
            reasoning: spoken(said.map(|said| &said.reasoning), &sample.reasoning),
            ..Usage::default()
        }
    }
}

/// What a model consumed by the rule of thumb, without a look at the texts.
pub fn by_length(asked: &Asked, said: Option<&Said>) -> (Usage, UsageSource) {
    let spoken = |words: Option<&Words>| words.map_or(0, |words| words.bytes().div_ceil(4));
    let usage = Usage {
        input: asked.quick(),
        output: spoken(said.map(|said| &said.text)),
        reasoning: spoken(said.map(|said| &said.reasoning)),
        ..Usage::default()
    };
    (usage, UsageSource::Estimated)
}

/// What a model consumed, by what is said and in which script. Takes a tenth of a millisecond at most.
pub fn by_script(asked: &Asked, said: Option<&Said>) -> (Usage, UsageSource) {
    (asked.usage(&asked.sample(said), said, &quarters), UsageSource::Estimated)
}

/// What a model consumed, counted with its vocabulary. May load that, and takes some milliseconds: not for a thread
/// that serves calls.
pub fn by_vocabulary(asked: &Asked, said: Option<&Said>, vocabulary: Vocabulary) -> (Usage, UsageSource) {
    match tiktoken::get_encoding(vocabulary.0) {
        Some(encoding) => {
            let usage = asked.usage(&asked.sample(said), said, &|text| encoding.count(text) as u64);
            (usage, UsageSource::Counted)
        }
        // Left out of the build.
        None => by_script(asked, said),
    }
}

impl Vocabulary {
    /// The vocabulary of a model, by its name or the last part of it: `meta-llama/Llama-3.3-70B-Instruct`.
    pub fn of(model: &str) -> Option<Self> {
        let last = model.rsplit('/').next().unwrap_or(model);
        let name = tiktoken::model_to_encoding(model).or_else(|| tiktoken::model_to_encoding(last)).or_else(|| {
            let lower = last.to_ascii_lowercase();
            tiktoken::model_to_encoding(&lower)
        })?;
        // These differ in special tokens alone, and each would be loaded anew.
        Some(Self(match name {
            "o200k_harmony" => "o200k_base",
            "p50k_edit" => "p50k_base",
            "deepseek_v4" => "deepseek_v3",
            "kimi_k3" => "kimi_k2",
            "glm5" => "glm4",
            name => name,
        }))
    }
}

impl Sample {
    /// Gathers the text of a request's JSON, which may end anywhere.
    fn read(&mut self, json: &[u8]) {
        let (mut at, mut media, mut spanned) = (0, 0_u64, json.len());
        let (mut name, mut named_at): (&[u8], usize) = (b"", 0);
        while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr(b'"', rest)) {
            if self.content.len() >= SAMPLE {
                spanned = at;
                break;
            }
            let start = at + found + 1;
            let end = start + string_length(&json[start..]);
            let string = &json[start..end];
            at = (end + 1).min(json.len());
            if json[at..].trim_ascii_start().first() == Some(&b':') {
                (name, named_at) = (string, start - 1);
                self.messages += u64::from(name == b"role");
            } else if is_media(string) || name == b"data" && source(json, named_at).is_some() {
                media += string.len() as u64;
            } else if !matches!(name, b"role" | b"type" | b"id" | b"tool_call_id" | b"detail" | b"format") {
                let taken = self.push(string);
                if taken < string.len() {
                    spanned = start + taken;
                    break;
                }
            }
        }
        if self.content.is_empty() && self.messages == 0 {
            // A prompt of token numbers.
            let has_numbers = json.iter().any(u8::is_ascii_digit);
            self.numbers = if has_numbers { 1 + memchr::memchr_iter(b',', json).count() as u64 } else { 0 };
        }
        self.spanned = (spanned as u64).saturating_sub(media);
    }

    /// Says how much of the string there was room for.
    fn push(&mut self, string: &[u8]) -> usize {
        let room = SAMPLE.saturating_sub(self.content.len());
        let cut = &string[..string.len().min(room)];
        match memchr::memchr(b'\\', cut) {
            None => self.content.push_str(&String::from_utf8_lossy(cut)),
            Some(_) => self.content.push_str(&unescaped(cut)),
        }
        self.content.push('\n');
        cut.len()
    }
}

/// The tokens of text by its script.
fn quarters(text: &str) -> u64 {
    let mut quarters: u64 = 0;
    for character in text.chars() {
        quarters += match character {
            '\0'..='\x7f' => 1,
            // Kana, Han, Hangul, and their wide forms.
            '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ffef}' => 4,
            '\u{20000}'.. => 4,
            _ => 2,
        };
    }
    quarters.div_ceil(4)
}

/// `count` of a part, for the whole. Rounded up.
fn scaled(count: u64, whole: u64, part: u64) -> u64 {
    if part == 0 || part >= whole {
        return count;
    }
    let scaled = (u128::from(count) * u128::from(whole)).div_ceil(u128::from(part));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// How many bytes are not ASCII. Of most texts there are few, and passing over those that have none is fast.
fn wide(text: &[u8]) -> u64 {
    let mixed = text.chunks(1024).filter(|chunk| !chunk.is_ascii());
    mixed.map(|chunk| chunk.iter().filter(|byte| !byte.is_ascii()).count() as u64).sum()
}

/// Where media stand in a request: as data addresses, or as the bytes of a source. None begins within another.
fn media_in(json: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut addresses = memmem::find_iter(json, b";base64,").map(|at| at..string_end(json, at)).peekable();
    let mut sources = memmem::find_iter(json, DATA).filter_map(|at| source(json, at)).peekable();
    let mut at = 0;
    iter::from_fn(move || {
        while addresses.next_if(|address| address.start < at).is_some() {}
        while sources.next_if(|source| source.start < at).is_some() {}
        let is_address = match (addresses.peek(), sources.peek()) {
            (Some(address), Some(source)) => address.start < source.start,
            (address, _) => address.is_some(),
        };
        let found = if is_address { addresses.next() } else { sources.next() }?;
        at = found.end;
        Some(found)
    })
}

/// The member of a source that holds its bytes.
const DATA: &[u8] = b"\"data\"";

/// The bytes of a source whose member `data` is named at this place: an object that says `base64`, as in Anthropic's
/// format, or that is named `input_audio`, as in OpenAI's.
fn source(json: &[u8], at: usize) -> Option<Range<usize>> {
    /// What else such an object says is short.
    const NEAR: usize = 160;
    let after_name = json.get(at + DATA.len()..)?.trim_ascii_start();
    let bytes = after_name.strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    let start = json.len() - bytes.len();
    let end = string_end(json, start);
    let before = &json[at.saturating_sub(NEAR)..at];
    let (outside, before) = before.split_at(memchr::memrchr(b'{', before)?);
    let after = &json[end..json.len().min(end + NEAR)];
    let after = &after[..memchr::memchr(b'}', after).unwrap_or(after.len())];
    let says_so = [before, after].iter().any(|part| memmem::find(part, b"\"base64\"").is_some());
    let name = outside.trim_ascii_end().strip_suffix(b":").unwrap_or_default().trim_ascii_end();
    (says_so || name.ends_with(b"\"input_audio\"")).then_some(start..end)
}

/// Where the next quotation mark is: media have no escaped ones.
fn string_end(json: &[u8], at: usize) -> usize {
    memchr::memchr(b'"', &json[at..]).map_or(json.len(), |length| at + length)
}

fn is_media(string: &[u8]) -> bool {
    string.starts_with(b"data:") && memmem::find(&string[..string.len().min(256)], b";base64,").is_some()
}

/// How long the content of a JSON string is, up to its closing quote or to where it breaks off.
fn string_length(json: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if json[at] == b'"' {
            return at;
        }
        at += 2;
    }
    json.len()
}

/// The text of a part of a JSON string. What is not whole at its end is left out.
fn unescaped(part: &[u8]) -> String {
    let mut quoted = Vec::with_capacity(part.len() + 2);
    quoted.push(b'"');
    // A cut may have split an escape: up to the last that is surely whole.
    let whole = part.len().saturating_sub(12);
    let end = memchr::memrchr(b'\\', part).filter(|at| *at >= whole).unwrap_or(part.len());
    quoted.extend_from_slice(&part[..end]);
    quoted.push(b'"');
    match serde_json::from_slice::<String>(&quoted) {
        Ok(text) => text,
        Err(_) => String::from_utf8_lossy(part).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &str) -> Asked {
        Asked::of(&Envelope::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap())
    }

    fn by_text(asked: &Asked, said: Option<&Said>, model: &str) -> (Usage, UsageSource) {
        match Vocabulary::of(model) {
            Some(vocabulary) => by_vocabulary(asked, said, vocabulary),
            None => by_script(asked, said),
        }
    }

    fn input(asked: &Asked, model: &str) -> (u64, UsageSource) {
        let (usage, source) = by_text(asked, None, model);
        assert_eq!(usage.total_input(), usage.input);
        (usage.input, source)
    }

    #[test]
    fn a_vocabulary_is_found_by_the_name_of_its_family() {
        let cases = [
            ("gpt-4o-mini", Some("o200k_base")),
            ("openai/gpt-oss-120b", Some("o200k_base")),
            ("text-embedding-3-small", Some("cl100k_base")),
            ("meta-llama/Llama-3.3-70B-Instruct", Some("llama3")),
            ("accounts/fireworks/models/deepseek-v3", Some("deepseek_v3")),
            ("deepseek-chat", Some("deepseek_v3")),
            ("Qwen/Qwen3-32B", Some("qwen2")),
            ("claude-opus-4-7", None),
            ("gemini-3-pro", None),
            ("", None),
        ];
        for (model, name) in cases {
            assert_eq!(Vocabulary::of(model), name.map(Vocabulary), "{model}");
        }
    }

    #[test]
    fn text_is_counted_with_the_vocabulary_of_its_model() {
        let call = asked(r#"{"model":"m","messages":[{"role":"user","content":"hello world"}]}"#);
        // Two words, the line's end, and the message.
        assert_eq!(input(&call, "gpt-4o"), (2 + 1 + MESSAGE, UsageSource::Counted));
        assert_eq!(input(&call, "claude-opus-4-7"), (3 + MESSAGE, UsageSource::Estimated));
    }

    #[test]
    fn only_what_is_read_by_the_model_counts() {
        let plain = asked(r#"{"input":["one two","three"]}"#);
        assert_eq!(input(&plain, "text-embedding-3-small").0, 3 + 2);
        let tokens = asked(r#"{"prompt":[1,2,3,4]}"#);
        assert_eq!(input(&tokens, "gpt-4o").0, 4);
        assert_eq!(input(&asked(r#"{"prompt":null}"#), "gpt-4o").0, 0);
        let image = format!(
            r#"{{"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{}"}}}},{{"type":"text","text":"what is it?"}}]}}]}}"#,
            "iVBORw0K".repeat(10_000)
        );
        let image = asked(&image);
        let (counted, _) = input(&image, "gpt-4o");
        assert!((MEDIA + 4..MEDIA + 20).contains(&counted), "{counted}");
        assert!((MEDIA..MEDIA + 60).contains(&image.quick()), "{}", image.quick());
        assert_eq!(image.at_most(), image.quick());
        let with_tools = asked(r#"{"messages":[],"tools":[{"type":"function","function":{"name":"f"}}]}"#);
        assert!((8..20).contains(&input(&with_tools, "gpt-4o").0));
    }

    #[test]
    fn media_are_found_wherever_their_bytes_stand() {
        let bytes = "iVBORw0K".repeat(10_000);
        let sources = [
            (r#"{"type":"base64","media_type":"image/png","data":"@"}"#, 1),
            (r#"{ "data" : "@" , "media_type" : "image/png", "type":"base64" }"#, 1),
            (r#"{"data":"data:image/png;base64,@","type":"base64"}"#, 1),
            (r#"{"url":"data:image/png;base64,@"},{"type":"base64","media_type":"application/pdf","data":"@"}"#, 2),
            (r#"{"type":"input_audio","input_audio":{"data":"@","format":"wav"}}"#, 1),
            (r#"{"type":"input_audio","input_audio": {"format":"wav","data":"@"}}"#, 1),
            // Text, whatever it looks like.
            (r#"{"type":"text","media_type":"text/plain","data":"@"}"#, 0),
            (r#"{"type":"tool_use","input":{"data":"@"}},{"type":"base64"}"#, 0),
            (r#"{"type":"base64","data":7},{"text":"@"}"#, 0),
        ];
        for (source, media) in sources {
            let body = format!(r#"{{"messages":[{{"role":"user","content":[{source}]}}]}}"#);
            let mut call = asked(&body.replace('@', &bytes));
            assert_eq!(call.media, media, "{source}");
            if media > 0 {
                let (quick, (counted, _)) = (call.quick(), input(&call, "claude-opus-4-7"));
                assert!((MEDIA * media..MEDIA * media + 100).contains(&quick), "{source}: {quick}");
                assert!((MEDIA * media..MEDIA * media + 100).contains(&counted), "{source}: {counted}");
                call.keep(KEPT_BY_STREAM);
                assert_eq!(call.quick(), quick);
            } else {
                assert!(call.quick() > 20_000, "{source}: {}", call.quick());
            }
        }
    }

    #[test]
    fn what_is_set_aside_for_letters_of_several_bytes_stays_when_the_request_goes() {
        let mut call = asked(&format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, "日本語".repeat(40_000)));
        let at_most = call.at_most();
        assert!((180_000..181_000).contains(&at_most), "{at_most}");
        call.keep(KEPT_BY_STREAM);
        assert_eq!(call.at_most(), at_most);
        assert_eq!(asked(r#"{"input":"naïve"}"#).at_most(), 8_u64.div_ceil(4) + 1);
    }

    #[test]
    fn a_long_request_is_counted_by_its_beginning() {
        let line = "The quick brown fox jumps over the lazy dog, and says \\\"hello\\\" to it.\\n";
        let body = |lines: usize| format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, line.repeat(lines));
        let (one, _) = input(&asked(&body(100)), "gpt-4o");
        for lines in [1_000, 5_000] {
            let mut call = asked(&body(lines));
            let expected = one * lines as u64 / 100;
            for kept in ["whole", "little"] {
                let (counted, source) = input(&call, "gpt-4o");
                let off = counted.abs_diff(expected) * 100 / expected;
                assert!(off < 3 && source == UsageSource::Counted, "{lines} {kept}: {counted} for {expected}");
                call.keep(KEPT_BY_STREAM);
                assert!(call.content.len() <= KEPT_BY_STREAM);
            }
        }
    }

    #[test]
    fn scripts_weigh_differently() {
        for (text, tokens) in [("", 0), ("four", 1), ("hello world!", 3), ("日本語", 3), ("Привет", 3), ("naïve", 2)]
        {
            assert_eq!(quarters(text), tokens, "{text}");
        }
    }

    #[test]
    fn an_answer_is_counted_by_what_was_heard_of_it() {
        let said = Said::of_answer(
            crate::wire::openai_chat::Shape::Chat,
            format!(
                r#"{{"choices":[{{"message":{{"content":"{}","reasoning":"hello world"}}}}]}}"#,
                "hello world ".repeat(5_000)
            )
            .as_bytes(),
        );
        let (usage, source) = by_text(&Asked::default(), Some(&said), "gpt-4o");
        assert_eq!((usage.input, usage.reasoning, source), (0, 2, UsageSource::Counted));
        assert!(usage.output.abs_diff(10_000) < 200, "{}", usage.output);
        let (quick, source) = by_length(&Asked::default(), Some(&said));
        assert_eq!((quick.output, source), (15_000, UsageSource::Estimated));
    }

    #[test]
    fn nonsense_is_counted_without_harm() {
        let bodies = [r#"{"messages":[{"content":"\ud800\ud800"}]}"#, r#"{"input":{}}"#, r#"{"messages":7}"#, "{}"];
        for body in bodies {
            let mut call = asked(body);
            call.keep(16);
            let (usage, _) = by_text(&call, None, "gpt-4o");
            assert!(usage.input < 40, "{body}: {usage:?}");
        }
        for end in 0..40 {
            let part = &br#"{"role":"user","content":"a\u00e4\"b\\c"}"#[..end];
            let mut sample = Sample::default();
            sample.read(part);
        }
    }
}
