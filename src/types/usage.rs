//! What a call consumed, in disjoint buckets: a token is counted in exactly one of them, so sums need no care.

use std::ops::AddAssign;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one reply consumed. Providers disagree on whether `prompt_tokens` includes cached tokens; whoever fills
/// this in resolves that, so that here `input` is uncached text only and `output` excludes reasoning, audio and images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Usage {
    /// Input tokens read at full price.
    pub input: u64,
    /// Input tokens served from the provider's prompt cache.
    pub cache_read: u64,
    /// Input tokens written to the provider's prompt cache, to live for as long as is usual there (Anthropic: 5 minutes).
    pub cache_write: u64,
    /// Input tokens written to the provider's prompt cache to live for an hour.
    pub cache_write_1h: u64,
    /// Audio input tokens.
    pub audio_input: u64,
    /// Image input tokens, where a provider tells them from text.
    pub image_input: u64,
    /// Visible output text, in tokens.
    pub output: u64,
    /// Output tokens spent on reasoning, shown or not.
    pub reasoning: u64,
    /// Audio output tokens.
    pub audio_output: u64,
    /// Image output tokens.
    pub image_output: u64,
    /// Searches the provider ran.
    pub searches: u64,
    /// Other tool runs that the provider charges for.
    pub tool_calls: u64,
    /// Whole images made, where they are charged by the piece.
    pub images: u64,
    /// Milliseconds of audio or of computing time, where that is charged.
    pub millis: u64,
    /// Characters, where they are charged.
    pub characters: u64,
}

/// How the figures of a [`Usage`] came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider said so.
    Reported,
    /// Counted here with the model family's own tokenizer; close, because chat templates add a few tokens.
    Counted,
    /// A rule of thumb: bytes of text by a number for each token.
    Estimated,
    /// There is nothing to count: nothing was sent, or the provider refused before it worked.
    #[default]
    None,
}

impl Usage {
    /// All input tokens, cached or not.
    pub fn total_input(&self) -> u64 {
        let parts = [self.cache_read, self.cache_write, self.cache_write_1h, self.audio_input, self.image_input];
        parts.into_iter().fold(self.input, u64::saturating_add)
    }

    /// All output tokens, reasoning included.
    pub fn total_output(&self) -> u64 {
        [self.reasoning, self.audio_output, self.image_output].into_iter().fold(self.output, u64::saturating_add)
    }

    /// This usage, with the tokens of `before` for a direction in which it has none: of two statements about one answer,
    /// the later counts, but none of them takes back what was consumed.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        let (input, output) = (self.total_input() > 0, self.total_output() > 0);
        let of_input = if input { &self } else { before };
        let of_output = if output { &self } else { before };
        Self {
            input: of_input.input,
            cache_read: of_input.cache_read,
            cache_write: of_input.cache_write,
            cache_write_1h: of_input.cache_write_1h,
            audio_input: of_input.audio_input,
            image_input: of_input.image_input,
            output: of_output.output,
            reasoning: of_output.reasoning,
            audio_output: of_output.audio_output,
            image_output: of_output.image_output,
            searches: self.searches.max(before.searches),
            tool_calls: self.tool_calls.max(before.tool_calls),
            images: self.images.max(before.images),
            millis: self.millis.max(before.millis),
            characters: self.characters.max(before.characters),
        }
    }

    /// Every bucket with the name it has in the ledger, in the order of its columns.
    pub fn buckets(&self) -> [(&'static str, u64); 15] {
        [
            ("input", self.input),
            ("cache_read", self.cache_read),
            ("cache_write", self.cache_write),
            ("cache_write_1h", self.cache_write_1h),
            ("audio_input", self.audio_input),
            ("image_input", self.image_input),
            ("output", self.output),
            ("reasoning", self.reasoning),
            ("audio_output", self.audio_output),
            ("image_output", self.image_output),
            ("searches", self.searches),
            ("tool_calls", self.tool_calls),
            ("images", self.images),
            ("millis", self.millis),
            ("characters", self.characters),
        ]
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
        self.cache_write_1h = self.cache_write_1h.saturating_add(other.cache_write_1h);
        self.audio_input = self.audio_input.saturating_add(other.audio_input);
        self.image_input = self.image_input.saturating_add(other.image_input);
        self.output = self.output.saturating_add(other.output);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
        self.audio_output = self.audio_output.saturating_add(other.audio_output);
        self.image_output = self.image_output.saturating_add(other.image_output);
        self.searches = self.searches.saturating_add(other.searches);
        self.tool_calls = self.tool_calls.saturating_add(other.tool_calls);
        self.images = self.images.saturating_add(other.images);
        self.millis = self.millis.saturating_add(other.millis);
        self.characters = self.characters.saturating_add(other.characters);
    }
}

impl UsageSource {
    pub const ALL: [Self; 4] = [Self::Reported, Self::Counted, Self::Estimated, Self::None];

    /// The word used in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Counted => "counted",
            Self::Estimated => "estimated",
            Self::None => "none",
        }
    }

    /// The source of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A usage whose every bucket holds another power of two, so that a sum tells which buckets are in it.
    fn distinct() -> Usage {
        let mut bit = 0;
        let mut next = || {
            bit += 1;
            1 << (bit - 1)
        };
        Usage {
            input: next(),
            cache_read: next(),
            cache_write: next(),
            cache_write_1h: next(),
            audio_input: next(),
            image_input: next(),
            output: next(),
            reasoning: next(),
            audio_output: next(),
            image_output: next(),
            searches: next(),
            tool_calls: next(),
            images: next(),
            millis: next(),
            characters: next(),
        }
    }

    #[test]
    fn sums_do_not_wrap() {
        let most = Usage { input: u64::MAX, cache_read: 1, output: u64::MAX, reasoning: 1, ..Usage::default() };
        assert_eq!((most.total_input(), most.total_output()), (u64::MAX, u64::MAX));
        let mut sum = most;
        sum += most;
        assert_eq!((sum.input, sum.cache_read), (u64::MAX, 2));
    }

    #[test]
    fn every_token_bucket_is_in_one_total() {
        let usage = distinct();
        assert_eq!(usage.total_input() + usage.total_output(), (1 << 10) - 1);
        assert_eq!(usage.buckets().iter().map(|(_, count)| count).sum::<u64>(), (1 << 15) - 1);
    }

    #[test]
    fn adding_reaches_every_bucket() {
        let mut sum = distinct();
        sum += distinct();
        for ((_, one), (name, two)) in distinct().buckets().into_iter().zip(sum.buckets()) {
            assert_eq!(two, 2 * one, "{name}");
        }
    }
}
