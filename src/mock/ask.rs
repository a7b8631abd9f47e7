//! What the mock looks at in a request, whatever its wire format.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::failure::Failure;

/// The members of a request that decide about the answer. All others are read over, as long as they are JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ask<'a> {
    pub(super) model: Option<String>,
    pub(super) stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    pub(super) n: Option<u32>,
    #[serde(borrow)]
    pub(super) messages: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tools: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_choice: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) response_format: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) system: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) max_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) temperature: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) top_p: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) top_k: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) stop_sequences: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) output_config: Option<&'a RawValue>,
    pub(super) dimensions: Option<u32>,
    pub(super) encoding_format: Option<String>,
    /// The script for the answer.
    #[serde(borrow)]
    pub(super) mock: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

impl<'a> Ask<'a> {
    /// Reads a request body.
    ///
    /// # Errors
    /// The provider's answer to a body that is not JSON, no object, or has a member of the wrong type.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Failure> {
        serde_json::from_slice(body).map_err(|error| {
            let message = if error.is_data() {
                format!("Invalid request body: {error}.")
            } else {
                format!("We could not parse the JSON body of your request: {error}.")
            };
            Failure::bad_request(message, None)
        })
    }

    /// Whether the client asked for usage in the stream.
    pub(super) fn asks_for_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// The text of the last user message, if there is one. Messages that only bring the results of tools are passed
    /// over, as are those of another role.
    pub(super) fn last_user_text(&self) -> Option<String> {
        let messages: Vec<Message<'_>> = serde_json::from_str(self.messages?.get()).ok()?;
        let contents = messages.iter().rev().filter(|message| message.role == "user");
        let mut contents = contents.map(|message| serde_json::from_str(message.content?.get()).ok());
        match contents.find(|content| !content.as_ref().is_some_and(is_of_tools))?? {
            Value::String(text) => Some(text),
            Value::Array(parts) => {
                Some(parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" "))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        }
    }
}

/// Whether content consists of results of tools, in Anthropic's form.
fn is_of_tools(content: &Value) -> bool {
    let parts = content.as_array().map_or(&[][..], Vec::as_slice);
    !parts.is_empty() && parts.iter().all(|part| part["type"] == "tool_result")
}
