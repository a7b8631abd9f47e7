//! Where the blocks of a request of another format go: Anthropic has the instructions apart, turns of two roles that
//! alternate, and a definition for every tool that is called.

use std::collections::HashSet;

use super::{
    block::{arguments, is_empty, obstacle},
    options::Options,
    parameters::Parameters,
    tools::is_strict,
};
use crate::wire::conversation::{
    Block, BlockKind, Input, Losses, Raw, Request, Role, Text, Tool, ToolChoice, ToolKind, Turn,
};

/// Where the blocks of a request of another format go.
pub(super) struct Layout<'r> {
    pub(super) system: Vec<Placed<'r>>,
    pub(super) messages: Vec<(Role, Vec<Placed<'r>>)>,
    pub(super) tools: Vec<&'r Tool<'r>>,
    /// Tools that the conversation has calls of and the request does not define.
    pub(super) undefined: Vec<&'r Text<'r>>,
    /// Instructions that wait for the end of the user's turn.
    deferred: Vec<Placed<'r>>,
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
        let mut layout = Self {
            system: Vec::new(),
            messages: Vec::new(),
            tools: Vec::new(),
            undefined: Vec::new(),
            deferred: Vec::new(),
        };
        for (position, block) in request.system.blocks.iter().enumerate() {
            place(&mut layout.system, block, block.cache.as_ref(), losses, || format!("system[{position}]"));
        }
        for (index, turn) in request.turns.iter().enumerate() {
            layout.add_turn(turn, index, options, losses);
        }
        layout.instruct();
        layout.system.append(&mut layout.deferred);
        layout.messages.retain(|(_, blocks)| !blocks.is_empty());
        // What answers calls comes first in its turn.
        for (_, blocks) in &mut layout.messages {
            if blocks.iter().any(|placed| is_result(placed.block)) {
                blocks.sort_by_key(|placed| !is_result(placed.block));
            }
        }
        if layout.messages.is_empty() && !layout.system.is_empty() {
            losses.note("messages", "a conversation begins with the user's turn, so the instructions are sent as one");
            layout.messages.push((Role::User, std::mem::take(&mut layout.system)));
        }
        layout.add_tools(request, options, parameters, losses);
        layout
    }

    fn add_turn(&mut self, turn: &'r Turn<'_>, index: usize, options: &Options<'_>, losses: &mut Losses) {
        note_members(turn, index, losses);
        let blocks = placed(turn, index, losses);
        let role = match turn.role {
            Role::User | Role::Tool => Role::User,
            Role::Assistant => Role::Assistant,
            Role::System | Role::Developer if self.messages.is_empty() => return self.system.extend(blocks),
            Role::System | Role::Developer if options.system_turns => return self.deferred.extend(blocks),
            Role::System | Role::Developer => {
                losses.note(format_args!("messages[{index}]"), "moved before the conversation");
                return self.system.extend(blocks);
            }
        };
        if role == Role::User && !self.deferred.is_empty() {
            losses.note(format_args!("messages[{index}]"), "instructions before this message are moved behind it");
        }
        // Messages that follow one another in the same role are one turn: results of parallel calls above all.
        match self.messages.last_mut() {
            Some((last, list)) if *last == role => list.extend(blocks),
            _ => {
                self.instruct();
                self.messages.push((role, blocks));
            }
        }
    }

    /// Instructions among the turns stand behind a user's turn, and before the assistant's or at the end.
    fn instruct(&mut self) {
        if !self.deferred.is_empty() && self.messages.last().is_some_and(|(role, _)| *role == Role::User) {
            self.messages.push((Role::System, std::mem::take(&mut self.deferred)));
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

/// The blocks of a turn that have a place here.
fn placed<'r>(turn: &'r Turn<'_>, index: usize, losses: &mut Losses) -> Vec<Placed<'r>> {
    let mut list = Vec::with_capacity(turn.content.blocks.len());
    let last = turn.content.blocks.iter().rposition(|block| !block.is_thinking());
    for (position, block) in turn.content.blocks.iter().enumerate() {
        let cache = block.cache.as_ref().or(turn.cache.as_ref().filter(|_| Some(position) == last));
        place(&mut list, block, cache, losses, || format!("messages[{index}].content[{position}]"));
    }
    list
}

/// Notes what a message has besides its content. Reasoning stands in several members, of which one was read; the name
/// in a function's message says what its call says.
fn note_members(turn: &Turn<'_>, index: usize, losses: &mut Losses) {
    let harmless = ["thinking_blocks", "reasoning_details", "reasoning_content", "reasoning", "name"];
    let count = harmless.len() - usize::from(turn.role != Role::Tool);
    turn.rest.note(format_args!("messages[{index}]"), &harmless[..count], losses);
}

fn is_result(block: &Block<'_>) -> bool {
    matches!(block.kind, BlockKind::ToolResult(_))
}

/// Puts a block in its place, unless there is none for it.
fn place<'r>(
    list: &mut Vec<Placed<'r>>,
    block: &'r Block<'_>,
    cache: Option<&'r Raw<'_>>,
    losses: &mut Losses,
    path: impl Fn() -> String,
) {
    match &block.kind {
        BlockKind::ToolUse(call) if matches!(&call.input, Input::Spelt(text) if arguments(text).is_none()) => {
            losses.note(path(), "arguments that are no JSON object are wrapped in one");
        }
        BlockKind::ToolResult(result) => {
            for why in result.content.blocks.iter().filter_map(obstacle) {
                losses.note(path(), why);
            }
        }
        _ => {}
    }
    match obstacle(block) {
        Some(why) => losses.note(path(), why),
        None if is_empty(block) => {}
        None => {
            if block.rest.unknown().next().is_some() {
                block.rest.note(path(), &["index"], losses);
            }
            list.push(Placed { block, cache });
        }
    }
}
