//! Token counts as Anthropic has them: `input_tokens` is uncached input only, `output_tokens` includes thinking.

use crate::{
    types::Usage,
    wire::{
        conversation::{Rest, Tier, Wrote, write_number, write_object, write_word},
        json::{Kind, Value},
    },
};

/// Counts above this are taken for nonsense, so that sums of counts cannot overflow.
const MAX_COUNT: u64 = 1 << 48;

/// The counts reported so far. A stream reports them twice, at its start and at its end; what the second report leaves
/// out still holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct UsageReport {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    /// Of that, what is to live for an hour.
    cache_write_1h: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
    searches: Option<u64>,
    /// What summing up the conversation took, which the counts above leave out.
    compaction: Option<Compaction>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Compaction {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_1h: u64,
    output: u64,
}

impl UsageReport {
    /// Takes in a `usage` object.
    pub fn add(&mut self, usage: Value<'_>) {
        self.add_input(usage);
        self.searches = within(usage, "server_tool_use", "web_search_requests").or(self.searches);
        self.output = later(count_of(usage, "output_tokens"), self.output);
        self.thinking = within(usage, "output_tokens_details", "thinking_tokens").or(self.thinking);
        self.compaction = usage.get("iterations").and_then(Compaction::among).or(self.compaction);
    }

    /// Takes in what was read. Some servers state it at the beginning, and zeros at the end: those take nothing back.
    fn add_input(&mut self, usage: Value<'_>) {
        let (input, cache_read) = (count_of(usage, "input_tokens"), count_of(usage, "cache_read_input_tokens"));
        let for_an_hour = within(usage, "cache_creation", "ephemeral_1h_input_tokens");
        let for_minutes = within(usage, "cache_creation", "ephemeral_5m_input_tokens");
        let parts = for_minutes.or(for_an_hour).map(|_| for_minutes.unwrap_or(0) + for_an_hour.unwrap_or(0));
        let cache_write = count_of(usage, "cache_creation_input_tokens").max(parts);
        let says_nothing = [input, cache_read, cache_write].into_iter().all(|count| count.unwrap_or(0) == 0);
        let was_said = [self.input, self.cache_read, self.cache_write].into_iter().any(|count| count.unwrap_or(0) > 0);
        if says_nothing && was_said {
            return;
        }
        self.input = input.or(self.input);
        self.cache_read = cache_read.or(self.cache_read);
        self.cache_write = cache_write.or(self.cache_write);
        self.cache_write_1h = for_an_hour.or(self.cache_write_1h);
    }

    /// The counts in their buckets; `None` if nothing was reported.
    pub fn usage(&self) -> Option<Usage> {
        if self.input.is_none() && self.output.is_none() {
            return None;
        }
        let output = self.output.unwrap_or(0);
        let reasoning = self.thinking.unwrap_or(0).min(output);
        let written = self.cache_write.unwrap_or(0);
        let cache_write_1h = self.cache_write_1h.unwrap_or(0).min(written);
        let compaction = self.compaction.unwrap_or_default();
        Some(Usage {
            input: self.input.unwrap_or(0) + compaction.input,
            cache_read: self.cache_read.unwrap_or(0) + compaction.cache_read,
            cache_write: written - cache_write_1h + compaction.cache_write,
            cache_write_1h: cache_write_1h + compaction.cache_write_1h,
            output: output - reasoning + compaction.output,
            reasoning,
            searches: self.searches.unwrap_or(0),
            ..Usage::default()
        })
    }
}

fn count(value: Value<'_>) -> Option<u64> {
    value.as_count().filter(|count| *count <= MAX_COUNT)
}

fn count_of(usage: Value<'_>, name: &str) -> Option<u64> {
    usage.get(name).and_then(count)
}

fn within(usage: Value<'_>, outer: &str, name: &str) -> Option<u64> {
    count_of(usage.get(outer)?, name)
}

/// The later of two counts of one answer, unless it takes all back.
fn later(now: Option<u64>, before: Option<u64>) -> Option<u64> {
    now.filter(|now| *now > 0 || before.is_none()).or(before)
}

impl Compaction {
    /// Of all iterations that summed up, together; `None` if there was none.
    fn among(iterations: Value<'_>) -> Option<Self> {
        let is_compaction = |item: &Value<'_>| item.get("type").is_some_and(|kind| kind.raw == b"\"compaction\"");
        iterations.items().filter(is_compaction).fold(None, |sum: Option<Self>, item| {
            let count = |value: Option<Value<'_>>| value.and_then(|value| value.as_count()).unwrap_or(0).min(MAX_COUNT);
            let add = |sum: u64, count: u64| (sum + count).min(MAX_COUNT);
            let (sum, written) = (sum.unwrap_or_default(), count(item.get("cache_creation_input_tokens")));
            let for_an_hour = item.get("cache_creation").and_then(|of| of.get("ephemeral_1h_input_tokens"));
            let for_an_hour = count(for_an_hour).min(written);
            Some(Self {
                input: add(sum.input, count(item.get("input_tokens"))),
                cache_read: add(sum.cache_read, count(item.get("cache_read_input_tokens"))),
                cache_write: add(sum.cache_write, written - for_an_hour),
                cache_write_1h: add(sum.cache_write_1h, for_an_hour),
                output: add(sum.output, count(item.get("output_tokens"))),
            })
        })
    }
}

/// Reads a `usage` object. `None` if it holds no count.
pub fn read_usage(raw: &[u8]) -> Option<Usage> {
    let usage = Value::parse(raw).ok().filter(|usage| usage.kind == Kind::Object)?;
    let mut report = UsageReport::default();
    report.add(usage);
    report.usage()
}

/// The service tier that a `usage` object names.
pub(super) fn read_tier(usage: Value<'_>) -> Option<Tier> {
    match &*usage.get("service_tier")?.as_str()? {
        "standard" => Some(Tier::Standard),
        "priority" => Some(Tier::Priority),
        _ => None,
    }
}

/// Writes a `usage` object.
pub(super) fn write_usage(out: &mut Vec<u8>, usage: &Usage, tier: Option<Tier>) {
    let names = &[
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "output_tokens",
        "output_tokens_details",
        "service_tier",
    ];
    write_object(out, &Rest::default(), names, |name, out| {
        let count = match name {
            "input_tokens" => usage.input + usage.audio_input,
            "cache_creation_input_tokens" => usage.cache_write + usage.cache_write_1h,
            "cache_read_input_tokens" => usage.cache_read,
            "output_tokens" => usage.total_output(),
            "service_tier" => match tier {
                Some(tier) => {
                    let word = if tier == Tier::Priority { "priority" } else { "standard" };
                    write_word(out, word);
                    return Wrote::Value;
                }
                None => return Wrote::Nothing,
            },
            _ if usage.reasoning > 0 => {
                out.extend_from_slice(b"{\"thinking_tokens\":");
                write_number(out, usage.reasoning);
                out.push(b'}');
                return Wrote::Value;
            }
            _ => return Wrote::Nothing,
        };
        write_number(out, count);
        Wrote::Value
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_sorted_into_disjoint_buckets_and_written_back() {
        let text = r#"{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":7,"output_tokens":30,"output_tokens_details":{"thinking_tokens":20}}"#;
        let usage = read_usage(text.as_bytes()).unwrap();
        let expected =
            Usage { input: 10, cache_read: 7, cache_write: 5, output: 10, reasoning: 20, ..Usage::default() };
        assert_eq!(usage, expected);
        let mut out = Vec::new();
        write_usage(&mut out, &usage, None);
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }

    #[test]
    fn cache_writes_are_told_by_their_life_and_searches_are_counted() {
        let text = r#"{"input_tokens":1,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":5,"ephemeral_1h_input_tokens":4},"output_tokens":2,"server_tool_use":{"web_search_requests":3}}"#;
        let usage = read_usage(text.as_bytes()).unwrap();
        assert_eq!((usage.cache_write, usage.cache_write_1h, usage.searches), (5, 4, 3));
    }

    #[test]
    fn parts_of_what_was_written_to_the_cache_stand_for_a_sum_that_is_left_out() {
        let text = r#"{"input_tokens":1.0,"cache_creation":{"ephemeral_5m_input_tokens":5,"ephemeral_1h_input_tokens":4},"output_tokens":2}"#;
        let usage = read_usage(text.as_bytes()).unwrap();
        assert_eq!((usage.input, usage.cache_write, usage.cache_write_1h, usage.output), (1, 5, 4, 2));
    }

    #[test]
    fn zeros_at_the_end_of_a_stream_take_nothing_back() {
        let start =
            r#"{"input_tokens":10,"cache_read_input_tokens":7,"cache_creation_input_tokens":3,"output_tokens":1}"#;
        let said = Usage { input: 10, cache_read: 7, cache_write: 3, output: 5, ..Usage::default() };
        let cases = [
            (
                r#"{"input_tokens":0,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"output_tokens":5}"#,
                said,
            ),
            (r#"{"input_tokens":0,"output_tokens":5}"#, said),
            (
                r#"{"input_tokens":20,"cache_read_input_tokens":0,"output_tokens":5}"#,
                Usage { input: 20, cache_read: 0, ..said },
            ),
            (r#"{"output_tokens":0}"#, Usage { output: 1, ..said }),
        ];
        for (end, expected) in cases {
            let mut report = UsageReport::default();
            for text in [start, end] {
                report.add(Value::parse(text.as_bytes()).unwrap());
            }
            assert_eq!(report.usage(), Some(expected), "{end}");
        }
    }

    #[test]
    fn what_summing_up_a_conversation_took_is_counted_once() {
        let text = r#"{"input_tokens":10,"output_tokens":20,"iterations":[{"type":"compaction","input_tokens":1000,"cache_read_input_tokens":200,"cache_creation_input_tokens":30,"cache_creation":{"ephemeral_1h_input_tokens":10},"output_tokens":400},{"type":"message","input_tokens":10,"output_tokens":20},{"type":"compaction","input_tokens":1,"output_tokens":2}]}"#;
        let expected = Usage {
            input: 1_011,
            cache_read: 200,
            cache_write: 20,
            cache_write_1h: 10,
            output: 422,
            ..Usage::default()
        };
        assert_eq!(read_usage(text.as_bytes()), Some(expected));
        // A stream says it again at its end, and may leave it out.
        let mut report = UsageReport::default();
        for said in [text, text, r#"{"output_tokens":21}"#] {
            report.add(Value::parse(said.as_bytes()).unwrap());
        }
        assert_eq!(report.usage(), Some(Usage { output: 423, ..expected }));
        let huge = r#"{"input_tokens":1,"iterations":[{"type":"compaction","input_tokens":18446744073709551615},{"type":"compaction","output_tokens":-1},7,null]}"#;
        assert_eq!(read_usage(huge.as_bytes()).unwrap().input, MAX_COUNT + 1);
    }

    #[test]
    fn nonsense_counts_nothing() {
        for text in ["null", "[]", "{}", r#"{"input_tokens":null}"#, r#"{"input_tokens":-1}"#, "{"] {
            assert_eq!(read_usage(text.as_bytes()), None, "{text}");
        }
        let odd = read_usage(br#"{"output_tokens":3,"output_tokens_details":{"thinking_tokens":9}}"#).unwrap();
        assert_eq!((odd.output, odd.reasoning), (0, 3));
    }
}
