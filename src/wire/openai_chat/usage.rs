//! Token counts as OpenAI's format has them, sorted into disjoint buckets.
//!
//! `prompt_tokens` includes cached and audio input; `completion_tokens` includes reasoning and audio output. So say
//! OpenAI and most who follow. Those who do otherwise are told apart by arithmetic, not by name: xAI and Gemini leave
//! reasoning out of `completion_tokens` but not out of `total_tokens`, Perplexity reports more reasoning than
//! completion, and proxies before Anthropic leave cached tokens out of `prompt_tokens` only.

use crate::{
    types::Usage,
    wire::json::{Kind, Value},
};

/// Counts above this are taken for nonsense, so that sums of counts cannot overflow.
const MAX_COUNT: u64 = 1 << 48;

/// Reads a `usage` object. `None` if it holds no count of anything; a count that is missing, null, negative or not an
/// integer is taken as absent.
pub fn read_usage(raw: &[u8]) -> Option<Usage> {
    Value::parse(raw).ok().filter(|usage| usage.kind == Kind::Object).and_then(sort)
}

/// The counts as they were reported.
#[derive(Default)]
struct Report {
    prompt: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    /// DeepSeek: what of the prompt was not cached.
    uncached: Option<u64>,
    cache_write: Option<u64>,
    audio_input: Option<u64>,
    reasoning: Option<u64>,
    audio_output: Option<u64>,
}

fn sort(usage: Value<'_>) -> Option<Usage> {
    let report = Report::read(usage);
    let known_input = report.cached.zip(report.uncached).map(|(cached, uncached)| cached + uncached);
    let completion = report.completion.unwrap_or(0);
    // Some embedding providers report the total only.
    let prompt = report.prompt.or(known_input).or(report.total.map(|total| total.saturating_sub(completion)));
    if prompt.is_none() && report.completion.is_none() {
        return None;
    }
    let (mut input, mut output) = (prompt.unwrap_or(0), completion);
    // What the total has beyond its two halves was left out of one of them. Embeddings have one half only.
    let surplus = report.total.filter(|_| report.completion.is_some()).unwrap_or(0).saturating_sub(input + output);
    let through_cache = report.cached.unwrap_or(0) + report.cache_write.unwrap_or(0);
    let reported_reasoning = report.reasoning.unwrap_or(0);
    let mut reasoning = 0;
    if surplus > 0 && surplus == through_cache {
        input += surplus;
    } else if reported_reasoning == 0 {
        reasoning = surplus;
    } else if surplus >= reported_reasoning || reported_reasoning > output {
        reasoning = reported_reasoning;
    }
    if reasoning == 0 {
        reasoning = take(&mut output, report.reasoning);
    }
    let cache_read = take(&mut input, report.cached);
    let cache_write = take(&mut input, report.cache_write);
    let audio_input = take(&mut input, report.audio_input);
    let audio_output = take(&mut output, report.audio_output);
    Some(Usage { input, cache_read, cache_write, audio_input, output, reasoning, audio_output })
}

impl Report {
    fn read(usage: Value<'_>) -> Self {
        let mut report = Self::default();
        for (name, value) in usage.members() {
            match name.bytes().as_ref() {
                b"prompt_tokens" | b"input_tokens" => report.prompt = count(value).or(report.prompt),
                b"completion_tokens" | b"output_tokens" => report.completion = count(value).or(report.completion),
                b"total_tokens" => report.total = count(value),
                // DeepSeek, Moonshot and Mistral put it beside the total.
                b"prompt_cache_hit_tokens" | b"cached_tokens" | b"num_cached_tokens" | b"cache_read_input_tokens" => {
                    report.cached = report.cached.max(count(value));
                }
                b"prompt_cache_miss_tokens" => report.uncached = count(value),
                b"cache_creation_input_tokens" => report.cache_write = count(value).or(report.cache_write),
                b"reasoning_tokens" => report.reasoning = count(value).or(report.reasoning),
                b"prompt_tokens_details" | b"prompt_token_details" | b"input_tokens_details" => {
                    report.read_input_details(value);
                }
                b"completion_tokens_details" | b"completion_token_details" | b"output_tokens_details" => {
                    report.read_output_details(value);
                }
                _ => {}
            }
        }
        report
    }

    fn read_input_details(&mut self, details: Value<'_>) {
        for (name, value) in details.members() {
            match name.bytes().as_ref() {
                b"cached_tokens" => self.cached = self.cached.max(count(value)),
                b"cache_write_tokens" | b"cache_creation_tokens" => {
                    self.cache_write = count(value).or(self.cache_write);
                }
                b"audio_tokens" => self.audio_input = count(value),
                _ => {}
            }
        }
    }

    fn read_output_details(&mut self, details: Value<'_>) {
        for (name, value) in details.members() {
            match name.bytes().as_ref() {
                b"reasoning_tokens" => self.reasoning = count(value).or(self.reasoning),
                b"audio_tokens" => self.audio_output = count(value),
                _ => {}
            }
        }
    }
}

fn count(value: Value<'_>) -> Option<u64> {
    value.as_u64().filter(|count| *count <= MAX_COUNT)
}

/// Moves a part out of the whole that includes it; never more than there is, so that the sum stays the whole.
fn take(whole: &mut u64, part: Option<u64>) -> u64 {
    let part = part.unwrap_or(0).min(*whole);
    *whole -= part;
    part
}
