//! What the model and the platform that a request is encoded for take.

/// The words for an effort, the least first.
pub const EVERY_EFFORT: [&str; 5] = ["low", "medium", "high", "xhigh", "max"];

/// The sampling parameters.
pub const SAMPLING: [&str; 3] = ["temperature", "top_p", "top_k"];

/// What is known about the target of a request.
#[derive(Clone, Debug)]
pub struct Options<'o> {
    /// The model's name at the provider.
    pub model: &'o str,
    /// For requests that name no limit: the format demands one. In tokens.
    pub default_max_tokens: u64,
    pub thinking: ThinkingSupport,
    /// The words that `output_config.effort` takes, the least first; none if it is not taken.
    pub efforts: &'static [&'static str],
    pub sampling: SamplingSupport,
    /// Whether the model may be forced to call a tool.
    pub forced_tools: bool,
    /// Whether `output_config.format` and strict tools are offered; else a tool stands in.
    pub json_schema: bool,
    /// Whether system messages may stand among the turns.
    pub system_turns: bool,
    /// Whether images and documents may be named by URL; else the gateway fetches them.
    pub urls: bool,
    /// Whether thinking that no longer fits what stands before it is to be dropped by the provider instead of having the
    /// call refused. Models that hold thinking to its conversation know a parameter for that.
    pub drop_unfitting: bool,
}

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinkingSupport {
    None,
    /// `{"type":"enabled","budget_tokens":…}` (up to Claude Opus 4.5 and Sonnet 4.5).
    Budget,
    /// `{"type":"adaptive"}`, and it can be turned off.
    Adaptive,
    /// The model thinks as it likes and cannot be told not to.
    Always,
}

/// Which sampling parameters a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplingSupport {
    /// None at all (Claude Opus 4.7 and later).
    None,
    /// `temperature` or `top_p`, but not both (Claude Opus 4.1 and later).
    One,
    All,
}

impl Default for Options<'_> {
    /// A current model on Anthropic's own platform.
    fn default() -> Self {
        Self {
            model: "",
            default_max_tokens: 8192,
            thinking: ThinkingSupport::Adaptive,
            efforts: &EVERY_EFFORT,
            sampling: SamplingSupport::None,
            forced_tools: true,
            json_schema: true,
            system_turns: true,
            urls: true,
            drop_unfitting: false,
        }
    }
}
