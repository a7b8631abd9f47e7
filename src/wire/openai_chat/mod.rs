//! OpenAI's chat completions, completions and embeddings: what the gateway must know about answers that it passes on
//! byte for byte. Nothing here re-serialises an answer.

pub mod convert;
mod cost;
pub mod error;
pub mod grammar;
mod hide;
pub mod reply;
mod said;
mod stated;
pub mod stream;
pub mod usage;

use std::borrow::Cow;

use super::json::{Kind, Malformed, Object, Value};

pub use cost::{read_dollars, show_cost};
pub use error::{
    ErrorClass, ProviderError, classify, is_error_object, render, render_event, render_provider, render_translated,
};
pub use hide::{Hidden, hide_usage};
pub use reply::{BadReply, Reply, read_reply};
pub use said::{Said, Words};
pub use stated::Stated;
pub use stream::{Seen, StreamObserver};
pub use usage::read_usage;

/// Which of the three endpoints answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// `/chat/completions`
    Chat,
    /// `/completions`
    Completion,
    /// `/embeddings`
    Embedding,
}

/// The top-level members of an answer, or of one chunk of it, that the gateway looks at.
#[derive(Default)]
struct Answer<'a> {
    choices: Option<Value<'a>>,
    data: Option<Value<'a>>,
    usage: Option<Value<'a>>,
    groq: Option<Value<'a>>,
    model: Option<Value<'a>>,
    id: Option<Value<'a>>,
    service_tier: Option<Value<'a>>,
    kind: Option<Value<'a>>,
    /// Something that says that this is an error.
    error: bool,
    /// Something that would be an error's text if this is no answer.
    complaint: bool,
}

impl<'a> Answer<'a> {
    /// Validates the whole document on the way.
    fn read(document: &'a [u8]) -> Result<Self, Malformed> {
        let mut object = Object::open(document)?;
        let mut answer = Self::default();
        while let Some(member) = object.next()? {
            let (name, value) = (member.name(document), member.value(document));
            match name.bytes().as_ref() {
                b"choices" => answer.choices = Some(value),
                b"data" => answer.data = Some(value),
                b"usage" => answer.usage = Some(value),
                b"x_groq" => answer.groq = Some(value),
                b"model" => answer.model = Some(value),
                b"id" => answer.id = Some(value),
                b"service_tier" => answer.service_tier = Some(value),
                b"type" => answer.kind = Some(value),
                b"error" => answer.error |= !value.is_empty(),
                b"object" => answer.error |= value.raw == b"\"error\"",
                // MiniMax reports errors with status 200, in a member that good answers have too.
                b"base_resp" => answer.error |= value.get("status_code").is_some_and(|code| code.raw != b"0"),
                b"detail" | b"message" | b"errors" => answer.complaint |= !value.is_empty(),
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Whether this is an error report, in whatever shape.
    fn is_error(&self) -> bool {
        self.error || self.complaint && self.choices.is_none() && self.data.is_none() && self.usage.is_none()
    }

    fn choices(&self, shape: Shape) -> impl Iterator<Item = Choice<'a>> + use<'a> {
        self.choices.into_iter().flat_map(|choices| choices.items()).map(move |choice| Choice::read(shape, choice))
    }

    /// Notes what it states beside its content. Says whether there were token counts.
    fn state(&self, stated: &mut Stated) -> bool {
        stated.take_id(self.id);
        stated.take_service_tier(self.service_tier);
        let usage = self.usage.filter(|usage| usage.kind == Kind::Object);
        let usage = usage.or_else(|| self.groq?.get("usage"));
        usage.is_some_and(|usage| stated.take_usage(usage))
    }
}

/// One of the alternatives that an answer consists of, or one chunk of it.
struct Choice<'a> {
    index: Option<u64>,
    /// Whether it says anything: not a role, nor empty members.
    has_output: bool,
    finish_reason: Option<Cow<'a, str>>,
    /// Moonshot's streams have their token counts here.
    usage: Option<Value<'a>>,
}

impl<'a> Choice<'a> {
    fn read(shape: Shape, choice: Value<'a>) -> Self {
        let mut read = Self { index: None, has_output: false, finish_reason: None, usage: None };
        for (name, value) in choice.members() {
            match name.bytes().as_ref() {
                b"index" => read.index = value.as_u64(),
                // Whatever a provider calls its reasoning, output is output: only the role is known not to be.
                b"delta" | b"message" => {
                    read.has_output |= value.members().any(|(name, value)| name != *"role" && !value.is_empty());
                }
                b"text" if shape == Shape::Completion => read.has_output |= !value.is_empty(),
                b"usage" => read.usage = Some(value),
                b"finish_reason" => read.finish_reason = value.as_str().filter(|reason| !reason.is_empty()),
                _ => {}
            }
        }
        // An answer cut off at its first token, or withheld, is still the answer.
        let reason = read.finish_reason.as_deref();
        read.has_output |= matches!(reason, Some("length" | "content_filter" | "tool_calls" | "function_call"));
        read
    }
}
