//! Names of tools. OpenAI's servers take 64 letters, digits, `_` and `-`; Anthropic's clients use up to 128, and names
//! made from those of MCP servers do get long.

use std::borrow::Cow;

use crate::wire::conversation::{BlockKind, Request, Text};

/// The longest name, in bytes.
const MAX_NAME: usize = 64;

/// Writes a name as the provider takes it.
pub(super) fn write_name(out: &mut Vec<u8>, name: &Text<'_>) {
    let decoded = name.decode();
    match short_name(&decoded) {
        Cow::Borrowed(_) => name.write(out),
        Cow::Owned(short) => Text::new(&short).write(out),
    }
}

/// The names of a request that are not sent as they are: the name sent, and the tool's own.
pub(super) fn short_names(request: &Request<'_>) -> Vec<(String, String)> {
    let blocks = request.turns.iter().flat_map(|turn| &turn.content.blocks);
    let called = blocks.filter_map(|block| match &block.kind {
        BlockKind::ToolUse(call) => Some(&call.name),
        _ => None,
    });
    let mut names: Vec<(String, String)> = Vec::new();
    for name in request.tools.iter().map(|tool| &tool.name).chain(called) {
        let name = name.decode();
        if let Cow::Owned(short) = short_name(&name)
            && !names.iter().any(|(sent, _)| *sent == short)
        {
            names.push((short, name.clone().into_owned()));
        }
    }
    names
}

/// A name that is taken: the same one if it can be, else its beginning and a hash of the whole, so that names that
/// differ stay apart and the same name is always written the same.
fn short_name(name: &str) -> Cow<'_, str> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.len() <= MAX_NAME && name.bytes().all(|byte| plain(&byte)) {
        return Cow::Borrowed(name);
    }
    // FNV-1a.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let begin = name.bytes().take(MAX_NAME - 17).map(|byte| if plain(&byte) { char::from(byte) } else { '_' });
    Cow::Owned(format!("{}_{hash:016x}", begin.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_plain_and_apart() {
        assert_eq!(short_name("mcp__a-b__c1"), "mcp__a-b__c1");
        let long = "mcp__".to_owned() + &"x".repeat(100);
        let other = long.clone() + "y";
        for name in [long.as_str(), other.as_str(), "a.b", "é"] {
            let short = short_name(name);
            assert!(short.len() <= 64 && short.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{short}");
        }
        assert_ne!(short_name(&long), short_name(&other));
    }
}
