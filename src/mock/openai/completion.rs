//! `POST /v1/completions`: `CreateCompletionResponse`, which is its own chunk when streamed.

use bytes::Bytes;
use serde::Serialize;

use super::{SYSTEM_FINGERPRINT, Start, event, saying::Usage};
use crate::mock::{
    player::{Player, Stop},
    saying::Saying,
    text::Text,
};

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    system_fingerprint: &'static str,
    /// Absent, `null` or the numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct Choice<'a> {
    text: &'a str,
    index: u32,
    logprobs: (),
    finish_reason: Option<&'a str>,
}

/// The answer as one object.
pub(super) fn whole(start: &Start, saying: &Saying) -> Result<Bytes, serde_json::Error> {
    let text = saying.text.as_ref().map(Text::whole).unwrap_or_default();
    let text = "x".repeat(start.script.frame_bytes.unwrap_or(0) as usize) + &text;
    let choice = |index| Choice { text: &text, index, logprobs: (), finish_reason: Some(&start.finish_reason) };
    let choices = (0..start.choices).map(choice).collect();
    let usage = start.usage.of_whole(start.script.usage_mode).map(Some);
    serde_json::to_vec(&completion(start, choices, usage)).map(Bytes::from)
}

/// The answer as a stream.
pub(in crate::mock) struct Stream {
    pub(super) start: Start,
    pub(super) saying: Saying,
}

impl Stream {
    /// Plays it, choice by choice in turn.
    pub(in crate::mock) async fn play(&self, player: &mut Player) -> Result<(), Stop> {
        let (start, saying) = (&self.start, &self.saying);
        for _ in 0..start.script.preamble {
            player.preamble(&self.frame(0, "", None, self.usage(0, false))).await?;
        }
        let filler = start.script.frame_bytes.map(|bytes| "x".repeat(bytes as usize));
        let mut chunks = 0;
        for piece in filler.as_deref().into_iter().chain(saying.text.iter().flat_map(Text::pieces)) {
            for index in 0..start.choices {
                chunks += 1;
                let mut frame = self.frame(index, piece, None, self.usage(chunks, false));
                if start.script.invalid_json && chunks == 1 {
                    frame.truncate(frame.len() / 2);
                    frame.extend_from_slice(b"\n\n");
                }
                player.content(&frame).await?;
            }
        }
        for index in 0..start.choices {
            let usage = self.usage(chunks, index + 1 == start.choices);
            player.tail(&self.frame(index, "", Some(&start.finish_reason), usage)).await?;
        }
        if start.sends_usage_chunk() {
            player.tail(&event(&completion(start, Vec::new(), Some(Some(start.usage))))).await?;
        }
        start.close(player).await
    }

    fn usage(&self, chunks: u64, is_end: bool) -> Option<Option<Usage>> {
        self.start.usage_in_chunk(chunks, is_end)
    }

    fn frame(&self, index: u32, text: &str, finish_reason: Option<&str>, usage: Option<Option<Usage>>) -> Vec<u8> {
        event(&completion(&self.start, vec![Choice { text, index, logprobs: (), finish_reason }], usage))
    }
}

fn completion<'a>(start: &'a Start, choices: Vec<Choice<'a>>, usage: Option<Option<Usage>>) -> Completion<'a> {
    Completion {
        id: &start.id,
        object: "text_completion",
        created: start.created,
        model: &start.model,
        choices,
        system_fingerprint: SYSTEM_FINGERPRINT,
        usage,
    }
}
