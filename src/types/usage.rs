//! What a call consumed, in disjoint buckets: a token is counted in exactly one of them, so sums need no care.

use serde::Serialize;

/// Tokens of one reply. Providers disagree on whether `prompt_tokens` includes cached tokens; whoever fills
/// this in resolves that, so that here `input` is uncached input only and `output` excludes reasoning and audio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Input read at full price.
    pub input: u64,
    /// Input served from the provider's prompt cache.
    pub cache_read: u64,
    /// Input written to the provider's prompt cache.
    pub cache_write: u64,
    /// Audio input.
    pub audio_input: u64,
    /// Visible output text.
    pub output: u64,
    /// Output spent on reasoning, shown or not.
    pub reasoning: u64,
    /// Audio output.
    pub audio_output: u64,
}

impl Usage {
    /// All input, cached or not.
    pub fn total_input(&self) -> u64 {
        self.input + self.cache_read + self.cache_write + self.audio_input
    }

    /// All output, reasoning included.
    pub fn total_output(&self) -> u64 {
        self.output + self.reasoning + self.audio_output
    }
}
