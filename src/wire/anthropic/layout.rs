//! Where the blocks of a request of another format go: Anthropic has the instructions apart, turns of two roles that
//! alternate, and a definition for every tool that is called.

use std::collections::HashSet;

use super::{block::arguments, options::Options, parameters::Parameters, tools::is_strict};
use crate::wire::conversation::{
    Block, BlockKind, Input, Issuer, Losses, Place, Raw, Request, Role, Text, Tool, ToolChoice, ToolKind, Turn,
};

/// Why thinking is left out.
pub(super) const FOREIGN: &str = "thinking that another provider has made, or nobody has signed";

/// Where the blocks of a request of another format go.
pub(super) struct Layout<'r> {
    pub(super) system: Vec<Placed<'r>>,
    pub(super) messages: Vec<(Role, Vec<Placed<'r>>)>,
    pub(super) tools: Vec<&'r Tool<'r>>,
    /// Tools that the conversation has calls of and the request does not define.
    pub(super) undefined: Vec<&'r Text<'r>>,
}

pub(super) struct Placed<'r> {
    pub(super) block: &'r Block<'r>,
    pub(super) cache: Option<&'r Raw<'r>>,
}

impl<'r> Layout<'r> {
    pub(super) fn of(
        request: &'r Request<'_>,
        options: &Options<'_>,
        parameters: &Parameters<'_>,
        losses: &mut Losses,
    ) -> Self {
        let mut layout = Self { system: Vec::new(), messages: Vec::new(), tools: Vec::new(), undefined: Vec::new() };
        for (position, block) in request.system.blocks.iter().enumerate() {
            place(&mut layout.system, block, block.cache.as_ref(), losses, || format!("system[{position}]"));
        }
        for (index, turn) in request.turns.iter().enumerate() {
            layout.add_turn(turn, index, options, losses);
        }
        layout.messages.retain(|(_, blocks)| !blocks.is_empty());
        if layout.messages.is_empty() && !layout.system.is_empty() {
            losses.note("messages", "a conversation begins with the user's turn, so the instructions are sent as one");
            layout.messages.push((Role::User, std::mem::take(&mut layout.system)));
        }
        layout.add_tools(request, options, parameters, losses);
        layout
    }

    fn add_turn(&mut self, turn: &'r Turn<'_>, index: usize, options: &Options<'_>, losses: &mut Losses) {
        let role = match turn.role {
            Role::User | Role::Tool => Role::User,
            Role::Assistant => Role::Assistant,
            Role::System | Role::Developer => {
                let after_user = self.messages.last().is_some_and(|(role, _)| *role == Role::User);
                if options.system_turns && after_user {
                    Role::System
                } else {
                    if !self.messages.is_empty() {
                        losses.note(format_args!("messages[{index}]"), "moved before the conversation");
                    }
                    return self.add_blocks(None, turn, index, losses);
                }
            }
        };
        // Messages that follow one another in the same role are one turn: results of parallel calls above all.
        if self.messages.last().is_none_or(|(last, _)| *last != role) {
            self.messages.push((role, Vec::new()));
        }
        self.add_blocks(Some(role), turn, index, losses);
    }

    fn add_blocks(&mut self, role: Option<Role>, turn: &'r Turn<'_>, index: usize, losses: &mut Losses) {
        let list = match (role, self.messages.last_mut()) {
            (Some(_), Some((_, blocks))) => blocks,
            _ => &mut self.system,
        };
        let last = turn.content.blocks.iter().rposition(|block| !block.is_thinking());
        for (position, block) in turn.content.blocks.iter().enumerate() {
            let cache = block.cache.as_ref().or(turn.cache.as_ref().filter(|_| Some(position) == last));
            place(list, block, cache, losses, || format!("messages[{index}].content[{position}]"));
        }
        let name = turn.rest.unknown().find(|(name, value)| **name == *"name" && !value.is_null());
        // The name in a function's message says what its call says.
        if name.is_some() && turn.role != Role::Tool {
            losses.note(format_args!("messages[{index}].name"), "messages have no names");
        }
    }

    fn add_tools(
        &mut self,
        request: &'r Request<'_>,
        options: &Options<'_>,
        parameters: &Parameters<'_>,
        losses: &mut Losses,
    ) {
        let among = match &parameters.choice {
            Some(ToolChoice::Among { names, .. }) => Some(names),
            _ => None,
        };
        let allowed = |tool: &&Tool<'_>| among.is_none_or(|names| names.contains(&tool.name));
        self.tools = request.tools.iter().filter(allowed).collect();
        for (index, tool) in request.tools.iter().enumerate() {
            match &tool.kind {
                ToolKind::FreeText => losses.note(
                    format_args!("tools[{index}]"),
                    "a tool that takes free text becomes a function of one argument, `input`",
                ),
                ToolKind::Server { .. } => {
                    losses.note(format_args!("tools[{index}]"), "a tool of another provider");
                    self.tools.retain(|kept| !std::ptr::eq(*kept, tool));
                }
                ToolKind::Function { .. } if tool.strict == Some(true) && !is_strict(tool, options) => {
                    losses.note(format_args!("tools[{index}].strict"), "the model cannot be held to this schema");
                }
                ToolKind::Function { .. } => {}
            }
        }
        if !self.tools.is_empty() {
            return;
        }
        let mut seen = HashSet::new();
        let calls = request.turns.iter().flat_map(|turn| &turn.content.blocks);
        for block in calls {
            if let BlockKind::ToolUse(call) = &block.kind
                && seen.insert(call.name.decode())
            {
                self.undefined.push(&call.name);
            }
        }
    }
}

/// Puts a block in its place, unless there is none for it.
fn place<'r>(
    list: &mut Vec<Placed<'r>>,
    block: &'r Block<'_>,
    cache: Option<&'r Raw<'_>>,
    losses: &mut Losses,
    path: impl Fn() -> String,
) {
    let why = match &block.kind {
        BlockKind::Text { text, .. } | BlockKind::Refusal { text } if text.is_blank() => return,
        BlockKind::Audio(_) => Some("sound is not taken"),
        BlockKind::Other { words: None, .. } => Some("a kind of content that this provider does not know"),
        BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } if is_foreign(block) => Some(FOREIGN),
        BlockKind::Image(source) | BlockKind::Document { source, .. } => match &source.place {
            // Anthropic's own ids begin like this, and clients of other formats may well use them.
            Place::File(id) if !id.spelling().starts_with(b"file_") => Some("a file of another provider"),
            Place::Unknown => Some("a source that this provider does not know"),
            _ => None,
        },
        BlockKind::ToolUse(call) => {
            if matches!(&call.input, Input::Spelt(text) if arguments(text).is_none()) {
                losses.note(path(), "arguments that are no JSON object are wrapped in one");
            }
            None
        }
        _ => None,
    };
    match why {
        Some(why) => losses.note(path(), why),
        None => list.push(Placed { block, cache }),
    }
}

/// Whether it is thinking that Anthropic would refuse.
pub(super) fn is_foreign(block: &Block<'_>) -> bool {
    block.is_thinking() && !is_own_thinking(block)
}

pub(super) fn is_own_thinking(block: &Block<'_>) -> bool {
    match &block.kind {
        BlockKind::Thinking { issuer, .. } | BlockKind::RedactedThinking { issuer, .. } => *issuer == Issuer::Anthropic,
        _ => false,
    }
}
