//! Token counts as OpenAI's format has them, sorted into disjoint buckets.
//!
//! `prompt_tokens` includes cached and audio input; `completion_tokens` includes reasoning and audio output. So say
//! OpenAI and most who follow. Those who do otherwise are told apart by arithmetic, not by name: xAI and Gemini leave
//! reasoning out of `completion_tokens` but not out of `total_tokens`, Perplexity reports more reasoning than
//! completion, and proxies before Anthropic leave cached tokens out of `prompt_tokens` only.
//!
//! What is charged beside tokens is counted where a provider says it: searches (Perplexity, xAI's live search and its
//! search tools, Anthropic's through proxies), other tools that run on the provider's side (xAI), seconds of audio
//! (Mistral). Perplexity's `citation_tokens` are in no bucket: most of its models do not charge for them.

use crate::{
    types::Usage,
    wire::json::{Kind, Value},
};

/// Counts above this are taken for nonsense, so that sums of counts cannot overflow.
const MAX_COUNT: u64 = 1 << 48;

/// Reads a `usage` object. `None` if it holds no count of anything; a count that is missing, null, negative or not
/// whole is taken as absent.
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
    /// Written to the cache, whatever its life.
    cache_write: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
    audio_input: Option<u64>,
    image_input: Option<u64>,
    reasoning: Option<u64>,
    audio_output: Option<u64>,
    image_output: Option<u64>,
    searches: Option<u64>,
    /// Of all tools on the provider's side, searches included.
    tools_in_all: Option<u64>,
    other_tools: Option<u64>,
    audio_seconds: Option<u64>,
}

/// The counts of a `usage` object, each token in one bucket.
pub(super) fn sort(usage: Value<'_>) -> Option<Usage> {
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
    let written = report.written();
    let through_cache = report.cached.unwrap_or(0) + written;
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
    let cache_write_1h = take(&mut input, report.cache_write_1h.map(|hour| hour.min(written)));
    let cache_write = take(&mut input, Some(written - cache_write_1h.min(written)));
    let audio_input = take(&mut input, report.audio_input);
    let image_input = take(&mut input, report.image_input);
    let audio_output = take(&mut output, report.audio_output);
    let image_output = take(&mut output, report.image_output);
    let searches = report.searches.unwrap_or(0);
    let tool_calls = report.other_tools.or(report.tools_in_all.map(|all| all.saturating_sub(searches))).unwrap_or(0);
    let millis = report.audio_seconds.unwrap_or(0).saturating_mul(1_000);
    Some(Usage {
        input,
        cache_read,
        cache_write,
        cache_write_1h,
        audio_input,
        image_input,
        output,
        reasoning,
        audio_output,
        image_output,
        searches,
        tool_calls,
        millis,
        ..Usage::default()
    })
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
                b"cache_creation" => report.read_cache_lives(value),
                b"reasoning_tokens" => report.reasoning = count(value).or(report.reasoning),
                b"prompt_tokens_details" | b"prompt_token_details" | b"input_tokens_details" => {
                    report.read_input_details(value);
                }
                b"completion_tokens_details" | b"completion_token_details" | b"output_tokens_details" => {
                    report.read_output_details(value);
                }
                b"prompt_audio_seconds" => report.audio_seconds = count(value),
                _ => report.read_tools(name.bytes().as_ref(), value),
            }
        }
        report
    }

    fn read_input_details(&mut self, details: Value<'_>) {
        for (name, value) in details.members() {
            match name.bytes().as_ref() {
                b"cached_tokens" => self.cached = self.cached.max(count(value)),
                b"cache_write_tokens" | b"cache_creation_tokens" | b"cache_creation_input_tokens" => {
                    self.cache_write = count(value).or(self.cache_write);
                }
                b"cache_creation" | b"cache_creation_token_details" => self.read_cache_lives(value),
                b"audio_tokens" => self.audio_input = count(value),
                b"image_tokens" => self.image_input = count(value),
                _ => {}
            }
        }
    }

    fn read_output_details(&mut self, details: Value<'_>) {
        for (name, value) in details.members() {
            match name.bytes().as_ref() {
                b"reasoning_tokens" => self.reasoning = count(value).or(self.reasoning),
                b"audio_tokens" => self.audio_output = count(value),
                b"image_tokens" => self.image_output = count(value),
                _ => {}
            }
        }
    }

    /// Anthropic's split of what was written to the cache, which its proxies and Alibaba keep.
    fn read_cache_lives(&mut self, lives: Value<'_>) {
        for (name, value) in lives.members() {
            match name.bytes().as_ref() {
                b"ephemeral_5m_input_tokens" => self.cache_write_5m = count(value),
                b"ephemeral_1h_input_tokens" => self.cache_write_1h = count(value),
                _ => {}
            }
        }
    }

    /// What ran on the provider's side.
    fn read_tools(&mut self, name: &[u8], value: Value<'_>) {
        match name {
            b"num_search_queries" | b"num_sources_used" => self.searches = self.searches.max(count(value)),
            b"num_server_side_tools_used" => self.tools_in_all = count(value),
            b"server_tool_use" => {
                let searches = value.get("web_search_requests").and_then(count);
                self.searches = self.searches.max(searches);
            }
            b"server_side_tool_usage_details" => {
                let (mut searches, mut others) = (0, 0);
                for (tool, value) in value.members() {
                    let runs = count(value).unwrap_or(0);
                    match tool.bytes().as_ref() {
                        b"web_search_calls" | b"x_search_calls" => searches += runs.min(MAX_COUNT - searches),
                        _ => others += runs.min(MAX_COUNT - others),
                    }
                }
                self.searches = self.searches.max(Some(searches));
                self.other_tools = Some(others);
            }
            _ => {}
        }
    }

    /// All that was written to the cache, by the sum or by its parts.
    fn written(&self) -> u64 {
        let parts = self.cache_write_5m.unwrap_or(0) + self.cache_write_1h.unwrap_or(0);
        self.cache_write.unwrap_or(0).max(parts)
    }
}

fn count(value: Value<'_>) -> Option<u64> {
    value.as_count().filter(|count| *count <= MAX_COUNT)
}

/// Moves a part out of the whole that includes it; never more than there is, so that the sum stays the whole.
fn take(whole: &mut u64, part: Option<u64>) -> u64 {
    let part = part.unwrap_or(0).min(*whole);
    *whole -= part;
    part
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usage(text: &str) -> Option<Usage> {
        read_usage(text.as_bytes())
    }

    #[test]
    fn counts_are_sorted_into_disjoint_buckets() {
        let zero = Usage::default();
        let cases = [
            (
                "openai",
                r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,"prompt_tokens_details":{"cached_tokens":60,"audio_tokens":10},"completion_tokens_details":{"reasoning_tokens":20,"audio_tokens":5,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#,
                Usage {
                    input: 30,
                    cache_read: 60,
                    audio_input: 10,
                    output: 25,
                    reasoning: 20,
                    audio_output: 5,
                    ..zero
                },
            ),
            ("embeddings", r#"{"prompt_tokens":8,"total_tokens":8}"#, Usage { input: 8, ..zero }),
            ("voyage", r#"{"total_tokens":8}"#, Usage { input: 8, ..zero }),
            (
                "deepseek",
                r#"{"prompt_tokens":90,"completion_tokens":10,"total_tokens":100,"prompt_tokens_details":{"cached_tokens":64},"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":26}"#,
                Usage { input: 26, cache_read: 64, output: 10, ..zero },
            ),
            (
                "deepseek without a total of its own",
                r#"{"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":26,"completion_tokens":1}"#,
                Usage { input: 26, cache_read: 64, output: 1, ..zero },
            ),
            (
                "moonshot",
                r#"{"prompt_tokens":19,"completion_tokens":21,"total_tokens":40,"cached_tokens":10}"#,
                Usage { input: 9, cache_read: 10, output: 21, ..zero },
            ),
            (
                "openrouter, to the cache",
                r#"{"prompt_tokens":194,"completion_tokens":2,"total_tokens":196,"cost":0.95,"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":100,"audio_tokens":0}}"#,
                Usage { input: 94, cache_write: 100, output: 2, ..zero },
            ),
            (
                "xai leaves reasoning out of the completion",
                r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"prompt_tokens_details":{"cached_tokens":6},"completion_tokens_details":{"reasoning_tokens":94}}"#,
                Usage { input: 26, cache_read: 6, output: 9, reasoning: 94, ..zero },
            ),
            (
                "gemini leaves it out and does not name it",
                r#"{"prompt_tokens":5,"completion_tokens":10,"total_tokens":300}"#,
                Usage { input: 5, output: 10, reasoning: 285, ..zero },
            ),
            (
                "perplexity reports more reasoning than completion",
                r#"{"prompt_tokens":33,"completion_tokens":7163,"total_tokens":7196,"citation_tokens":9,"reasoning_tokens":73997}"#,
                Usage { input: 33, output: 7163, reasoning: 73997, ..zero },
            ),
            (
                "cached tokens left out of the prompt",
                r#"{"prompt_tokens":5,"completion_tokens":10,"total_tokens":115,"cache_read_input_tokens":60,"cache_creation_input_tokens":40}"#,
                Usage { input: 5, cache_read: 60, cache_write: 40, output: 10, ..zero },
            ),
            (
                "anthropic behind a proxy, with two lives of its cache",
                r#"{"prompt_tokens":1000,"completion_tokens":10,"total_tokens":1010,"prompt_tokens_details":{"cached_tokens":200},"cache_creation_input_tokens":600,"cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":500}}"#,
                Usage { input: 200, cache_read: 200, cache_write: 100, cache_write_1h: 500, output: 10, ..zero },
            ),
            (
                "the same without the sum, and left out of the prompt",
                r#"{"prompt_tokens":5,"completion_tokens":10,"total_tokens":45,"prompt_tokens_details":{"cache_creation_token_details":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20}}}"#,
                Usage { input: 5, cache_write: 10, cache_write_1h: 20, output: 10, ..zero },
            ),
            (
                "images in and out",
                r#"{"prompt_tokens":300,"completion_tokens":1300,"total_tokens":1600,"prompt_tokens_details":{"text_tokens":42,"image_tokens":258,"cached_tokens":0},"completion_tokens_details":{"image_tokens":1290,"reasoning_tokens":0}}"#,
                Usage { input: 42, image_input: 258, output: 10, image_output: 1290, ..zero },
            ),
            (
                "perplexity searches",
                r#"{"prompt_tokens":1188,"completion_tokens":4240,"total_tokens":5428,"citation_tokens":8014,"num_search_queries":54}"#,
                Usage { input: 1188, output: 4240, searches: 54, ..zero },
            ),
            (
                "xai tools",
                r#"{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10,"num_sources_used":0,"num_server_side_tools_used":4,"server_side_tool_usage_details":{"web_search_calls":1,"x_search_calls":2,"code_interpreter_calls":1}}"#,
                Usage { input: 9, output: 1, searches: 3, tool_calls: 1, ..zero },
            ),
            (
                "xai tools, not told apart",
                r#"{"prompt_tokens":9,"completion_tokens":1,"num_server_side_tools_used":4}"#,
                Usage { input: 9, output: 1, tool_calls: 4, ..zero },
            ),
            (
                "anthropic's searches through openrouter",
                r#"{"prompt_tokens":20,"completion_tokens":11,"total_tokens":31,"server_tool_use":{"web_search_requests":2}}"#,
                Usage { input: 20, output: 11, searches: 2, ..zero },
            ),
            (
                "mistral listens",
                r#"{"prompt_audio_seconds":7,"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}"#,
                Usage { input: 12, output: 3, millis: 7_000, ..zero },
            ),
            (
                "nulls and nonsense are absent",
                r#"{"prompt_tokens":7,"completion_tokens":null,"total_tokens":-1,"prompt_tokens_details":null,"completion_tokens_details":{"reasoning_tokens":"many","audio_tokens":1.5}}"#,
                Usage { input: 7, ..zero },
            ),
            (
                "whole numbers with a point",
                r#"{"prompt_tokens":10.0,"completion_tokens":5e0,"total_tokens":15.0,"prompt_tokens_details":{"cached_tokens":4.0}}"#,
                Usage { input: 6, cache_read: 4, output: 5, ..zero },
            ),
            (
                "parts beyond the whole are cut to it",
                r#"{"prompt_tokens":10,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":8,"audio_tokens":8},"completion_tokens_details":{"audio_tokens":9}}"#,
                Usage { input: 0, cache_read: 8, audio_input: 2, audio_output: 3, ..zero },
            ),
            ("a refusal at no cost", r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#, zero),
        ];
        for (name, text, expected) in cases {
            assert_eq!(usage(text), Some(expected), "{name}");
        }
    }

    #[test]
    fn counts_of_one_thing_that_is_named_many_times_do_not_overflow() {
        for tool in ["x_search_calls", "other_calls"] {
            let runs = vec![format!("\"{tool}\":{MAX_COUNT}"); 70_000].join(",");
            let text = format!(r#"{{"prompt_tokens":1,"server_side_tool_usage_details":{{{runs}}}}}"#);
            let usage = usage(&text).unwrap();
            assert_eq!(usage.searches.max(usage.tool_calls), MAX_COUNT, "{tool}");
        }
    }

    #[test]
    fn what_counts_nothing_is_no_usage() {
        for text in [
            "null",
            "{}",
            "[]",
            "",
            "{",
            r#"{"prompt_tokens":null}"#,
            r#"{"prompt_tokens":1.5}"#,
            r#"{"prompt_tokens":1e300}"#,
            "7",
        ] {
            assert_eq!(usage(text), None, "{text}");
        }
    }

    #[test]
    fn absurd_counts_are_absent_and_sums_cannot_overflow() {
        let huge = u64::MAX;
        let most = MAX_COUNT;
        assert_eq!(usage(&format!("{{\"prompt_tokens\":{huge}}}")), None);
        let usage = usage(&format!(
            r#"{{"prompt_tokens":{most},"completion_tokens":{most},"total_tokens":{most},"cached_tokens":{most},"reasoning_tokens":{most}}}"#
        ));
        let usage = usage.unwrap();
        assert_eq!((usage.total_input(), usage.total_output()), (most, most));
    }
    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever parts a provider names, and however little they fit, no token is counted twice and none is lost.
        #[test]
        fn the_buckets_add_up_to_what_was_reported(
            prompt in 0u64..50, completion in 0u64..50, parts in proptest::array::uniform9(proptest::option::of(0u64..60)),
        ) {
            let [cached, written, five, hour, audio, image, reasoning, spoken, drawn] = parts;
            let reasoning = reasoning.map(|count| count.min(completion));
            let known = [
                ("prompt_tokens_details", vec![("cached_tokens", cached), ("audio_tokens", audio), ("image_tokens", image)]),
                ("cache_creation", vec![("ephemeral_5m_input_tokens", five), ("ephemeral_1h_input_tokens", hour)]),
                ("completion_tokens_details", vec![("reasoning_tokens", reasoning), ("audio_tokens", spoken), ("image_tokens", drawn)]),
            ];
            let mut text = serde_json::json!({
                "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
                "cache_creation_input_tokens": written,
            });
            for (name, members) in known {
                let members = members.into_iter().map(|(name, count)| (name.to_owned(), serde_json::json!(count)));
                text[name] = serde_json::Value::Object(members.collect());
            }
            let usage = usage(&text.to_string()).unwrap();
            prop_assert_eq!((usage.total_input(), usage.total_output()), (prompt, completion), "{}", text);
            prop_assert!(usage.cache_read <= cached.unwrap_or(0) && usage.reasoning <= reasoning.unwrap_or(0));
        }
    }
}
