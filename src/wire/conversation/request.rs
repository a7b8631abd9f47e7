//! A request in the neutral form.

use super::{
    block::Content,
    fields::Rest,
    text::{Raw, Text},
};

/// The wire formats of conversations. What is kept as it came (`Rest`, `Source::native`) belongs to one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    OpenAiChat,
    Anthropic,
}

/// What a client asks for. Borrows from the body it was read from.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The format it was read from.
    pub format: Format,
    pub model: Text<'a>,
    /// Instructions that stand apart from the turns. Formats without such a place leave it empty and have turns of
    /// the role `System`.
    pub system: Content<'a>,
    /// One per message, in order.
    pub turns: Vec<Turn<'a>>,
    pub tools: Vec<Tool<'a>>,
    pub tool_choice: Option<ToolChoice<'a>>,
    /// Whether the model may call several tools at once; unset leaves it to the provider.
    pub parallel_tools: Option<bool>,
    pub output: Option<OutputFormat<'a>>,
    pub sampling: Sampling<'a>,
    pub reasoning: Reasoning<'a>,
    pub max_tokens: Option<u64>,
    pub stop: Vec<Text<'a>>,
    pub service_tier: Option<Text<'a>>,
    /// Who the client acts for, as an opaque word.
    pub user: Option<Text<'a>>,
    /// A cache mark for the request as a whole (Anthropic's top-level `cache_control`).
    pub cache: Option<Raw<'a>>,
    pub web_search: Option<WebSearch<'a>>,
    pub stream: bool,
    /// Whether a streaming client wants token counts at the end of the stream.
    pub stream_usage: bool,
    /// How many alternative answers; 1 unless the client said otherwise.
    pub choices: u64,
    /// The length of the document it was read from, in bytes.
    pub size: usize,
    /// Members of members that have no home, by their paths: `output_config.task_budget`.
    pub unhoused: Vec<String>,
    pub rest: Rest<'a>,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Turn<'a> {
    pub role: Role,
    pub content: Content<'a>,
    /// A cache mark on the message as a whole; it counts for the message's last block.
    pub cache: Option<Raw<'a>>,
    pub rest: Rest<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
    /// A message that holds tool results and nothing else.
    Tool,
}

/// A tool the model may call.
#[derive(Clone, Debug)]
pub struct Tool<'a> {
    pub name: Text<'a>,
    pub description: Option<Text<'a>>,
    pub kind: ToolKind<'a>,
    pub strict: Option<bool>,
    pub cache: Option<Raw<'a>>,
    /// Members without a home, by name.
    pub extras: Vec<Text<'a>>,
    /// The tool as it came.
    pub native: Raw<'a>,
}

#[derive(Clone, Debug)]
pub enum ToolKind<'a> {
    /// Called with an object; `None` takes no arguments.
    Function { schema: Option<Raw<'a>> },
    /// Called with free text (OpenAI's custom tools).
    FreeText,
    /// Run by the provider. Its type: `web_search_20250305`.
    Server { kind: Text<'a> },
}

/// What the model must, may or must not call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice<'a> {
    Auto,
    /// Some tool, whichever.
    Any,
    None,
    Tool(Text<'a>),
    /// Only these tools, and, if `required`, at least one of them.
    Among {
        names: Vec<Text<'a>>,
        required: bool,
    },
}

#[derive(Clone, Debug)]
pub enum OutputFormat<'a> {
    /// Any JSON object.
    JsonObject,
    JsonSchema {
        name: Option<Text<'a>>,
        description: Option<Text<'a>>,
        schema: Raw<'a>,
        strict: Option<bool>,
    },
}

/// Numbers in the client's own spelling.
#[derive(Clone, Debug, Default)]
pub struct Sampling<'a> {
    pub temperature: Option<Raw<'a>>,
    pub top_p: Option<Raw<'a>>,
    pub top_k: Option<Raw<'a>>,
}

/// How much the model should think before it answers.
#[derive(Clone, Debug, Default)]
pub struct Reasoning<'a> {
    pub thinking: Option<Thinking>,
    /// `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`.
    pub effort: Option<Text<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    Disabled,
    /// The model decides how much.
    Adaptive,
    /// At most this many tokens.
    Budget(u64),
}

impl Reasoning<'_> {
    /// Whether the model shall not think.
    pub fn is_off(&self) -> bool {
        match self.thinking {
            Some(thinking) => thinking == Thinking::Disabled,
            None => self.effort.as_ref().is_some_and(|effort| *effort == "none"),
        }
    }
}

/// A search of the web by the provider, as a parameter of the request (OpenAI's `web_search_options`).
#[derive(Clone, Debug)]
pub struct WebSearch<'a> {
    /// The members of an approximate place: city, country, region, timezone.
    pub place: Vec<(&'static str, Text<'a>)>,
}
