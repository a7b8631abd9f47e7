//! Tokens as providers report them: fewer buckets than the ledger has, and the same for all of them.

use std::ops::AddAssign;

use schemars::JsonSchema;
use serde::Serialize;

use crate::types::Usage;

/// Disjoint counts that every provider's report can be brought to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tokens {
    /// Uncached input, images included.
    pub input: u64,
    pub cache_read: u64,
    /// Written to the cache, for however long.
    pub cache_write: u64,
    pub audio_input: u64,
    /// Output, reasoning and images included.
    pub output: u64,
    pub audio_output: u64,
}

impl Tokens {
    /// The sum of all.
    pub fn total(&self) -> u64 {
        self.total_input().saturating_add(self.output).saturating_add(self.audio_output)
    }

    /// All input, cached or not.
    pub fn total_input(&self) -> u64 {
        [self.cache_read, self.cache_write, self.audio_input].into_iter().fold(self.input, u64::saturating_add)
    }

    /// Each count with a name for people.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("uncached input", self.input),
            ("cache read", self.cache_read),
            ("cache write", self.cache_write),
            ("audio input", self.audio_input),
            ("output", self.output),
            ("audio output", self.audio_output),
        ]
    }
}

impl AddAssign for Tokens {
    fn add_assign(&mut self, other: Self) {
        let Self { input, cache_read, cache_write, audio_input, output, audio_output } = other;
        self.input = self.input.saturating_add(input);
        self.cache_read = self.cache_read.saturating_add(cache_read);
        self.cache_write = self.cache_write.saturating_add(cache_write);
        self.audio_input = self.audio_input.saturating_add(audio_input);
        self.output = self.output.saturating_add(output);
        self.audio_output = self.audio_output.saturating_add(audio_output);
    }
}

impl From<&Usage> for Tokens {
    fn from(usage: &Usage) -> Self {
        Self {
            input: usage.input + usage.image_input,
            cache_read: usage.cache_read,
            cache_write: usage.cache_write + usage.cache_write_1h,
            audio_input: usage.audio_input,
            output: usage.output + usage.reasoning + usage.image_output,
            audio_output: usage.audio_output,
        }
    }
}
