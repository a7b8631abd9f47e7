//! Content: ordered blocks.

use super::{
    fields::Rest,
    text::{Raw, Text},
};

/// The blocks of a message, of the system instructions or of a tool's result.
#[derive(Clone, Debug, Default)]
pub struct Content<'a> {
    pub blocks: Vec<Block<'a>>,
    /// Written as a bare string instead of a list.
    pub plain: bool,
}

#[derive(Clone, Debug)]
pub struct Block<'a> {
    pub kind: BlockKind<'a>,
    /// The cache mark, as it came: `{"type":"ephemeral","ttl":"1h"}`.
    pub cache: Option<Raw<'a>>,
    pub rest: Rest<'a>,
}

#[derive(Clone, Debug)]
pub enum BlockKind<'a> {
    Text {
        text: Text<'a>,
        /// The list of citations as it came, Anthropic's `citations`.
        citations: Option<Raw<'a>>,
    },
    /// The model's words for declining.
    Refusal {
        text: Text<'a>,
    },
    Image(Source<'a>),
    Audio(Source<'a>),
    Document {
        source: Source<'a>,
        title: Option<Text<'a>>,
        context: Option<Text<'a>>,
    },
    Thinking {
        text: Text<'a>,
        /// Proof for its issuer that the text is its own. Empty texts may be signed.
        signature: Option<Text<'a>>,
        issuer: Issuer,
    },
    /// Thinking that only its issuer can read.
    RedactedThinking {
        data: Text<'a>,
        issuer: Issuer,
    },
    ToolUse(ToolUse<'a>),
    ToolResult(ToolResult<'a>),
    /// A block of one format that no other has: server tools and their results, search results, compaction. `native`
    /// is the whole block, and `words` what of it can be said in plain text.
    Other {
        kind: Text<'a>,
        native: Raw<'a>,
        words: Option<Text<'a>>,
    },
}

#[derive(Clone, Debug)]
pub struct ToolUse<'a> {
    pub id: Text<'a>,
    pub name: Text<'a>,
    pub input: Input<'a>,
}

/// The arguments of a call.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// As a JSON object.
    Json(Raw<'a>),
    /// As JSON inside a string, which the model wrote and which may be anything.
    Spelt(Text<'a>),
    /// Free text, for a custom tool.
    Free(Text<'a>),
}

#[derive(Clone, Debug)]
pub struct ToolResult<'a> {
    /// The call it answers.
    pub id: Text<'a>,
    pub content: Content<'a>,
    pub is_error: Option<bool>,
}

/// Where an image, a document or a sound is to be had.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    pub place: Place<'a>,
    /// The value as it came, for writing the same format again; unset when the place was changed.
    pub native: Option<Raw<'a>>,
}

#[derive(Clone, Debug)]
pub enum Place<'a> {
    Base64 {
        media_type: Text<'a>,
        data: Text<'a>,
    },
    Url(Text<'a>),
    /// A file uploaded to one provider, which no other knows.
    File(Text<'a>),
    /// The words of a text document.
    Text(Text<'a>),
    /// A document made of blocks.
    Blocks(Vec<Block<'a>>),
    /// In a shape not known here.
    Unknown,
}

/// Whose thinking it is. What one has signed, nobody else accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    Anthropic,
    /// Nobody signed it: a reasoning text such as DeepSeek's.
    Unsigned,
    /// Signed or sealed by someone else.
    Foreign,
}

/// Stands where Anthropic's format wants a signature and there is none. Recognised when the client sends it back.
pub const UNSIGNED: &str = "switchboard.unsigned";

impl Issuer {
    /// Who made a signature that a client of Anthropic's format sent.
    pub fn of_signature(signature: Option<&Text<'_>>) -> Self {
        match signature {
            None => Self::Unsigned,
            Some(signature) if signature.is_empty() || *signature == UNSIGNED => Self::Unsigned,
            Some(_) => Self::Anthropic,
        }
    }
}

impl<'a> Content<'a> {
    /// One text, written as a bare string.
    pub fn plain(text: Text<'a>) -> Self {
        // An empty string is no content.
        let blocks = if text.is_empty() { Vec::new() } else { vec![Block::text(text)] };
        Self { blocks, plain: true }
    }
}

impl<'a> Block<'a> {
    pub fn new(kind: BlockKind<'a>) -> Self {
        Self { kind, cache: None, rest: Rest::default() }
    }

    pub fn text(text: Text<'a>) -> Self {
        Self::new(BlockKind::Text { text, citations: None })
    }

    pub fn is_thinking(&self) -> bool {
        matches!(self.kind, BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. })
    }

    pub fn is_tool_use(&self) -> bool {
        matches!(self.kind, BlockKind::ToolUse(_))
    }
}
