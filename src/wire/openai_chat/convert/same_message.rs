//! Writing a message that was read from this format.

use super::{
    part::write_parts,
    write_message::{For, write_call},
};
use crate::wire::conversation::{Block, BlockKind, Content, Role, Turn, Wrote, write_list, write_object};

/// Writes a message that was read from this format: its own members in their order.
pub(super) fn write_same(out: &mut Vec<u8>, turn: &Turn<'_>) {
    let blocks = &turn.content.blocks;
    write_object(out, &turn.rest, &[], |name, out| {
        match (name, turn.role) {
            ("content", Role::Tool) => match blocks.first().map(|block| &block.kind) {
                Some(BlockKind::ToolResult(result)) => return write_content(out, &result.content),
                _ => return Wrote::Nothing,
            },
            ("content", Role::Assistant) => {
                let spoken = blocks.iter().filter(|block| is_spoken(block));
                let plain = turn.content.plain;
                // A refusal beside the content is a member of its own; one within is a part.
                let spoken = spoken.filter(|block| !plain || !matches!(block.kind, BlockKind::Refusal { .. }));
                let spoken: Vec<&Block<'_>> = spoken.collect();
                match spoken.as_slice() {
                    [] => return Wrote::Nothing,
                    [Block { kind: BlockKind::Text { text, .. }, .. }] if plain => text.write(out),
                    spoken => {
                        let beside = turn.rest.get("refusal").is_some_and(|refusal| !refusal.is_null());
                        let count = spoken.len() - usize::from(beside && !plain);
                        write_parts(out, spoken[..count].iter().copied(), true, None);
                    }
                }
            }
            ("content", _) => return write_content(out, &turn.content),
            ("tool_calls", _) => {
                let calls: Vec<&Block<'_>> = blocks.iter().filter(|block| block.is_tool_use()).collect();
                if calls.is_empty() {
                    return Wrote::Nothing;
                }
                write_list(out, calls, |block, out| write_call(out, block, For::Same));
            }
            ("reasoning_content" | "reasoning", _) => match blocks.first().map(|block| &block.kind) {
                Some(BlockKind::Thinking { text, .. }) => text.write(out),
                _ => return Wrote::Nothing,
            },
            _ => return Wrote::Same,
        }
        Wrote::Value
    });
}

fn write_content(out: &mut Vec<u8>, content: &Content<'_>) -> Wrote {
    match (content.plain, content.blocks.as_slice()) {
        (true, [Block { kind: BlockKind::Text { text, .. }, .. }]) => text.write(out),
        (_, []) => return Wrote::Nothing,
        (_, blocks) => write_parts(out, blocks, true, None),
    }
    Wrote::Value
}

fn is_spoken(block: &Block<'_>) -> bool {
    !block.is_thinking() && !block.is_tool_use()
}
