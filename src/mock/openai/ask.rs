//! What the mock looks at in a request.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::Failure;

/// The members of a request that decide about the answer. All others are read over, as long as they are JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::mock) struct Ask<'a> {
    pub(in crate::mock) model: Option<String>,
    pub(in crate::mock) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
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
    pub(super) dimensions: Option<u32>,
    pub(super) encoding_format: Option<String>,
    /// The script for the answer.
    #[serde(borrow)]
    pub(in crate::mock) mock: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamOptions {
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
    pub(in crate::mock) fn read(body: &'a [u8]) -> Result<Self, Failure> {
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

    /// The text of the last user message, if there is one.
    pub(super) fn last_user_text(&self) -> Option<String> {
        let messages: Vec<Message<'_>> = serde_json::from_str(self.messages?.get()).ok()?;
        let last = messages.iter().rev().find(|message| message.role == "user")?;
        let content: Value = serde_json::from_str(last.content?.get()).ok()?;
        match content {
            Value::String(text) => Some(text),
            Value::Array(parts) => {
                Some(parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" "))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        }
    }

    /// The schema of a function the client insists on being called, with its name.
    pub(super) fn insisted_tool(&self) -> Option<(String, Value)> {
        let choice: Value = serde_json::from_str(self.tool_choice?.get()).ok()?;
        let tools: Vec<Value> = serde_json::from_str(self.tools?.get()).ok()?;
        let wanted = choice["function"]["name"].as_str();
        if wanted.is_none() && choice != "required" {
            return None;
        }
        let tool = tools.iter().map(|tool| &tool["function"]).find(|function| match wanted {
            Some(name) => function["name"] == name,
            None => function.is_object(),
        })?;
        Some((tool["name"].as_str().unwrap_or_default().to_owned(), tool["parameters"].clone()))
    }
}
