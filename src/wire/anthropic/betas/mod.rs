//! Betas: what a request may have only where a word in the header `anthropic-beta` allows it. The word and what it gates
//! go together: where a backend does not take the one, it is not sent the other.
//!
//! A beta is named here without its date. What has become part of the format since (effort, an output's schema, cache
//! marks for an hour) is gated by nothing any more, and its old word is only a word.

mod cut;

pub use cut::without;

/// One beta, or several that gate the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Without their dates: `context-management`.
    pub names: Vec<String>,
    pub places: Vec<Place>,
}

/// What a beta gates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A member of the request: `context_management`.
    Member(String),
    /// A member of one of its objects: `output_config.task_budget`.
    Inside(String, String),
    /// The items of one of its objects' lists whose type begins so: `context_management.edits[compact_*]`.
    Items(String, String, String),
    /// The tools whose type begins so: `tools[computer_*]`.
    Tools(String),
    /// A member of every tool: `tools[].defer_loading`.
    OfTools(String),
    /// A member of every message: `messages[].clear_at`.
    OfMessages(String),
    /// A member of every cache mark: `cache_control.scope`.
    OfMarks(String),
    /// Blocks of this type: `content[tool_addition]`.
    Blocks(String),
    /// Blocks whose source is of this type: `content[].source[file]`.
    Sources(String),
}

/// What lets a request say what becomes of thinking that no longer fits what stands before it.
pub const THINKING_BINDING: &str = "thinking-binding-controls-2026-08-01";

/// What lets a request name files by their ids.
pub const FILES: &str = "files-api-2025-04-14";

/// The betas that are known, and what they gate.
const BUILT_IN: &[(&[&str], &[&str])] = &[
    (
        &["advanced-tool-use", "tool-search-tool", "tool-examples"],
        &["tools[tool_search_tool_*]", "tools[].defer_loading", "tools[].input_examples", "tools[].allowed_callers"],
    ),
    (&["advisor-tool"], &["tools[advisor_*]"]),
    (&["cache-diagnosis"], &["diagnostics"]),
    (&["code-execution", "skills"], &["tools[code_execution_*]", "container"]),
    (&["compact"], &["context_management.edits[compact_*]", "compaction"]),
    (&["computer-use"], &["tools[computer_*]"]),
    (&["context-management"], &["context_management", "tools[memory_*]"]),
    (&["fast-mode"], &["speed"]),
    (&["files-api"], &["content[].source[file]", "content[container_upload]"]),
    (&["fine-grained-tool-streaming"], &["tools[].eager_input_streaming"]),
    (&["mcp-client"], &["mcp_servers", "tools[mcp_toolset]"]),
    (&["message-threads"], &["thread"]),
    (&["mid-conversation-output-config"], &["messages[].output_config"]),
    (&["mid-conversation-system-clear-at"], &["messages[].clear_at"]),
    (&["mid-conversation-tool-changes", "inline-tools"], &["content[tool_addition]", "content[tool_removal]"]),
    (&["prompt-caching-scope"], &["cache_control.scope"]),
    (&["server-side-fallback", "fallback-credit"], &["fallbacks", "fallback_credit_token"]),
    (&["structured-outputs"], &["output_format"]),
    (&["task-budgets"], &["output_config.task_budget"]),
    (&["thinking-binding-controls"], &["thinking.block_binding"]),
    (&["user-profiles-billing"], &["billing_policy"]),
    (&["web-fetch"], &["tools[web_fetch_*]"]),
];

/// The betas that are known here.
pub fn built_in() -> Vec<Feature> {
    let features = BUILT_IN.iter().map(|(names, places)| Feature {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        places: places.iter().filter_map(|place| Place::read(place)).collect(),
    });
    features.collect()
}

impl Place {
    /// Reads a place as the examples of its kinds are written.
    pub fn read(text: &str) -> Option<Self> {
        let word = |text: &str| {
            let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            plain.then(|| text.to_owned())
        };
        let bracketed = |text: &str| text.strip_prefix('[')?.strip_suffix(']').map(str::to_owned);
        let kind = |text: String| word(text.strip_suffix('*').unwrap_or(&text)).map(|_| text);
        if let Some(rest) = text.strip_prefix("tools") {
            return match rest.strip_prefix("[].") {
                Some(member) => word(member).map(Self::OfTools),
                None => bracketed(rest).and_then(kind).map(Self::Tools),
            };
        }
        if let Some(rest) = text.strip_prefix("messages") {
            return rest.strip_prefix("[].").and_then(word).map(Self::OfMessages);
        }
        if let Some(rest) = text.strip_prefix("content") {
            return match rest.strip_prefix("[].source") {
                Some(source) => bracketed(source).and_then(kind).map(Self::Sources),
                None => bracketed(rest).and_then(kind).map(Self::Blocks),
            };
        }
        match text.split_once('.') {
            None => word(text).map(Self::Member),
            Some(("cache_control", member)) => word(member).map(Self::OfMarks),
            Some((outer, inner)) => match inner.split_once('[') {
                None => Some(Self::Inside(word(outer)?, word(inner)?)),
                Some((list, rest)) => {
                    Some(Self::Items(word(outer)?, word(list)?, kind(rest.strip_suffix(']')?.to_owned())?))
                }
            },
        }
    }

    /// Something that a request without it does not hold.
    fn needle(&self) -> &str {
        let (Self::Member(word)
        | Self::Inside(_, word)
        | Self::Items(_, _, word)
        | Self::Tools(word)
        | Self::OfTools(word)
        | Self::OfMessages(word)
        | Self::OfMarks(word)
        | Self::Blocks(word)
        | Self::Sources(word)) = self;
        word.trim_end_matches('*')
    }
}

/// A beta's name without its date: `context-management` of `context-management-2025-06-27`.
pub fn undated(token: &str) -> &str {
    let date = token.len().checked_sub("-2025-06-27".len()).and_then(|at| token.split_at_checked(at));
    let compact = token.len().checked_sub("-20250219".len()).and_then(|at| token.split_at_checked(at));
    let is_date =
        |date: &str| date.starts_with("-20") && date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    match (date, compact) {
        (Some((name, date)), _) if is_date(date) => name,
        (_, Some((name, date))) if is_date(date) => name,
        _ => token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_the_table_is_read() {
        let places: usize = BUILT_IN.iter().map(|(_, places)| places.len()).sum();
        assert_eq!(built_in().iter().map(|feature| feature.places.len()).sum::<usize>(), places);
        for wrong in [
            "",
            "tools",
            "tools[]",
            "tools[].",
            "content",
            "content[].text[x]",
            "messages",
            "messages[x]",
            "a b",
            "a.",
            "a.b[",
            "[x]",
            "a.b.c",
        ] {
            assert_eq!(Place::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_is_what_stands_before_the_date() {
        let cases = [
            ("context-management-2025-06-27", "context-management"),
            ("claude-code-20250219", "claude-code"),
            ("context-1m-2025-08-07", "context-1m"),
            ("oauth", "oauth"),
            ("", ""),
            ("x-20", "x-20"),
            ("ü-2025-06-27", "ü"),
        ];
        for (token, name) in cases {
            assert_eq!(undated(token), name, "{token}");
        }
    }
}
