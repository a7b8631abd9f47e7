//! What is known of a model besides its price.

use std::fmt;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Deserialize;

/// What a model is for, what it can do, and how much goes in. An absent fact is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub mode: Option<Mode>,
    /// The longest input with its output, in tokens.
    pub context: Option<u64>,
    /// The longest output, in tokens.
    pub max_output: Option<u64>,
    pub can: Capabilities,
    /// The day its vendor withdraws it.
    pub retires: Option<Date>,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Chat,
    Completion,
    Embedding,
    Image,
    Video,
    Transcription,
    Speech,
    Realtime,
    Rerank,
    Moderation,
    Ocr,
    Search,
}

/// Something that not every model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Calls functions.
    Tools,
    /// Calls several functions at once.
    ParallelTools,
    /// Reads images.
    Vision,
    /// Answers in the shape of a JSON Schema.
    JsonSchema,
    /// Thinks before it answers.
    Reasoning,
    /// Caches prompts.
    Cache,
    /// Reads PDF documents.
    Pdf,
    /// Hears.
    AudioInput,
    /// Speaks.
    AudioOutput,
    /// Watches.
    Video,
    /// Draws.
    ImageOutput,
    /// Searches the web by itself.
    WebSearch,
    /// Operates a computer.
    ComputerUse,
}

/// A set of capabilities.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities(u16);

impl Mode {
    pub const ALL: [Self; 12] = [
        Self::Chat,
        Self::Completion,
        Self::Embedding,
        Self::Image,
        Self::Video,
        Self::Transcription,
        Self::Speech,
        Self::Realtime,
        Self::Rerank,
        Self::Moderation,
        Self::Ocr,
        Self::Search,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completion => "completion",
            Self::Embedding => "embedding",
            Self::Image => "image",
            Self::Video => "video",
            Self::Transcription => "transcription",
            Self::Speech => "speech",
            Self::Realtime => "realtime",
            Self::Rerank => "rerank",
            Self::Moderation => "moderation",
            Self::Ocr => "ocr",
            Self::Search => "search",
        }
    }
}

impl Capability {
    pub const ALL: [Self; 13] = [
        Self::Tools,
        Self::ParallelTools,
        Self::Vision,
        Self::JsonSchema,
        Self::Reasoning,
        Self::Cache,
        Self::Pdf,
        Self::AudioInput,
        Self::AudioOutput,
        Self::Video,
        Self::ImageOutput,
        Self::WebSearch,
        Self::ComputerUse,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::ParallelTools => "parallel_tools",
            Self::Vision => "vision",
            Self::JsonSchema => "json_schema",
            Self::Reasoning => "reasoning",
            Self::Cache => "cache",
            Self::Pdf => "pdf",
            Self::AudioInput => "audio_input",
            Self::AudioOutput => "audio_output",
            Self::Video => "video",
            Self::ImageOutput => "image_output",
            Self::WebSearch => "web_search",
            Self::ComputerUse => "computer_use",
        }
    }
}

impl Capabilities {
    pub fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u16) != 0
    }

    /// In the order of [`Capability::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.into_iter().filter(move |capability| self.has(*capability))
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |bits, capability| bits | 1 << capability as u16))
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Capability::as_str)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_else() {
        let set: Capabilities = [Capability::Tools, Capability::ComputerUse].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [Capability::Tools, Capability::ComputerUse]);
        assert!(!set.has(Capability::Vision) && !Capabilities::default().has(Capability::Tools));
    }

    #[test]
    fn words_are_those_of_the_schema() {
        for capability in Capability::ALL {
            let read: Capability = serde_json::from_value(capability.as_str().into()).unwrap();
            assert_eq!(read, capability);
        }
        for mode in Mode::ALL {
            assert_eq!(serde_json::from_value::<Mode>(mode.as_str().into()).unwrap(), mode);
        }
    }
}
