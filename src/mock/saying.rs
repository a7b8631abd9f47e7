//! What an answer says, before it takes the form of a wire format, as one object or as a stream.

use serde_json::Value;

use super::{ask::Ask, behaviour::Behaviour, schema, text::Text};

/// How much of the user's message is echoed, in characters.
const ECHO: usize = 2_000;
/// The text of a tool call's arguments travels in pieces of about this many bytes.
const ARGUMENT_PIECE: usize = 12;

/// The content of an answer.
#[derive(Debug)]
pub(super) struct Saying {
    pub(super) reasoning: Option<Text>,
    pub(super) refusal: Option<Text>,
    /// `None` when the answer consists of tool calls or a refusal.
    pub(super) text: Option<Text>,
    pub(super) tool_calls: Vec<Call>,
}

/// What a request wants to hear, as its wire format puts it.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// A text in the format the client asked for, if it asked for one.
    pub(super) structured: Option<String>,
    /// The tool the client insists on being called: its name and its schema.
    pub(super) tool: Option<(String, Value)>,
    /// What the ids of tool calls begin with.
    pub(super) call_prefix: &'static str,
}

/// A tool call, ready to be sent.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

impl Saying {
    /// What `script` says to `ask`; `number` is the request's.
    pub(super) fn new(ask: &Ask<'_>, wanted: &Wanted, script: &Behaviour, number: u64) -> Self {
        let tool_calls = if script.empty { Vec::new() } else { calls(wanted, script, number) };
        let refusal = script.refusal.clone().map(Text::Words).filter(|_| !script.empty);
        let text = text(ask, wanted, script, tool_calls.is_empty() && refusal.is_none());
        let reasoning = script.reasoning.clone().map(Text::Words).filter(|_| !script.empty);
        Self { reasoning, refusal, text, tool_calls }
    }

    /// The bytes of reasoning.
    pub(super) fn thought(&self) -> u64 {
        self.reasoning.as_ref().map_or(0, Text::len)
    }

    /// The bytes of everything else, with what the script adds to it.
    pub(super) fn said(&self, script: &Behaviour) -> u64 {
        [&self.text, &self.refusal].into_iter().flatten().map(Text::len).sum::<u64>()
            + self.tool_calls.iter().map(|call| (call.name.len() + call.arguments.len()) as u64).sum::<u64>()
            + u64::from(script.frame_bytes.unwrap_or(0))
    }
}

impl Call {
    /// The text of the arguments, cut for a stream.
    pub(super) fn arguments(&self) -> Text {
        let pieces = self.arguments.len().div_ceil(ARGUMENT_PIECE);
        Text::Parts(self.arguments.clone(), u32::try_from(pieces).unwrap_or(u32::MAX))
    }
}

/// A made-up identifier: the same for the same number, and looking random as the provider's do.
pub(super) fn id(number: u64, length: usize) -> String {
    let mut random = fastrand::Rng::with_seed(number);
    (0..length).map(|_| random.alphanumeric()).collect()
}

/// Four bytes are about a token.
pub(super) fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(4)
}

/// What the mock says when it has not been told what to say.
pub(super) fn echo(ask: &Ask<'_>) -> String {
    let said = match ask.prompt {
        Some(prompt) => serde_json::from_str::<String>(prompt.get()).ok(),
        None => ask.last_user_text(),
    };
    match said {
        Some(said) => format!("You said: {}", said.chars().take(ECHO).collect::<String>()),
        None => "This is an answer of the mock provider.".into(),
    }
}

fn text(ask: &Ask<'_>, wanted: &Wanted, script: &Behaviour, is_wanted: bool) -> Option<Text> {
    if script.empty {
        return Some(Text::Words(String::new()));
    }
    let unit = || script.chunk_text.clone().unwrap_or_else(|| "word ".into());
    match (&script.text, script.chunks) {
        (Some(text), Some(chunks)) => Some(Text::Parts(text.clone(), chunks)),
        (Some(text), None) => Some(Text::Words(text.clone())),
        (None, Some(chunks)) => Some(Text::Repeat(unit(), chunks)),
        (None, None) if script.chunk_text.is_some() => Some(Text::Repeat(unit(), 8)),
        (None, None) if is_wanted => Some(Text::Words(wanted.structured.clone().unwrap_or_else(|| echo(ask)))),
        (None, None) => None,
    }
}

fn calls(wanted: &Wanted, script: &Behaviour, number: u64) -> Vec<Call> {
    let made =
        |index: usize| wanted.call_prefix.to_owned() + &id(number.wrapping_mul(131).wrapping_add(index as u64), 24);
    if script.tool_calls.is_empty() && script.text.is_none() && script.refusal.is_none() {
        let insisted = wanted.tool.iter();
        return insisted
            .map(|(name, schema)| Call {
                id: made(0),
                name: name.clone(),
                arguments: schema::instance(schema).to_string(),
            })
            .collect();
    }
    let written = |arguments: &Value| match arguments {
        Value::String(text) => text.clone(),
        Value::Null => "{}".into(),
        value => value.to_string(),
    };
    let scripted = script.tool_calls.iter().enumerate();
    scripted
        .map(|(index, call)| Call {
            id: call.id.clone().unwrap_or_else(|| made(index)),
            name: call.name.clone(),
            arguments: written(&call.arguments),
        })
        .collect()
}
