//! `POST /v1/chat/completions`: `CreateChatCompletionResponse` and `CreateChatCompletionStreamResponse`.

use bytes::Bytes;
use serde::Serialize;

use super::{SERVICE_TIER, SYSTEM_FINGERPRINT, Start, event, saying::Usage};
use crate::mock::{
    player::{Player, Stop},
    saying::{Call, Saying},
    text::Text,
};

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    service_tier: &'static str,
    system_fingerprint: &'static str,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: (),
    finish_reason: &'a str,
}

#[derive(Clone, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
    refusal: Option<&'a str>,
    annotations: [(); 0],
}

#[derive(Clone, Serialize)]
struct ToolCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Clone, Serialize)]
struct Function<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    service_tier: &'static str,
    system_fingerprint: &'static str,
    choices: &'a [ChunkChoice<'a>],
    /// Absent, `null` or the numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: (),
    finish_reason: Option<&'a str>,
}

/// What a chunk adds. The double options tell an absent member from `null`.
#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[CallPart<'a>; 1]>,
}

#[derive(Serialize)]
struct CallPart<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    function: Function<'a>,
}

/// The answer as one object.
pub(super) fn whole(start: &Start, saying: &Saying) -> Result<Bytes, serde_json::Error> {
    let text = saying.text.as_ref().map(Text::whole);
    let padded = start.script.frame_bytes.map(|n| "x".repeat(n as usize) + text.as_deref().unwrap_or_default());
    let reasoning = saying.reasoning.as_ref().map(Text::whole);
    let refusal = saying.refusal.as_ref().map(Text::whole);
    let message = Message {
        role: "assistant",
        content: padded.as_deref().or(text.as_deref()),
        reasoning_content: reasoning.as_deref(),
        tool_calls: saying.tool_calls.iter().map(tool_call).collect(),
        refusal: refusal.as_deref(),
        annotations: [],
    };
    let choice = |index| Choice { index, message: message.clone(), logprobs: (), finish_reason: &start.finish_reason };
    let completion = Completion {
        id: &start.id,
        object: "chat.completion",
        created: start.created,
        model: &start.model,
        choices: (0..start.choices).map(choice).collect(),
        usage: start.usage.of_whole(start.script.usage_mode),
        service_tier: SERVICE_TIER,
        system_fingerprint: SYSTEM_FINGERPRINT,
    };
    serde_json::to_vec(&completion).map(Bytes::from)
}

/// The answer as a stream.
pub(in crate::mock) struct Stream {
    pub(super) start: Start,
    pub(super) saying: Saying,
}

impl Stream {
    /// Plays it, choice by choice in turn.
    pub(in crate::mock) async fn play(&self, player: &mut Player) -> Result<(), Stop> {
        let mut out = Out { stream: self, player, chunks: 0 };
        let content = if self.saying.text.is_some() { Some("") } else { None };
        let opening =
            || Delta { role: Some("assistant"), content: Some(content), refusal: Some(None), ..Delta::default() };
        out.preamble(opening).await?;
        for _ in 0..self.start.script.preamble {
            out.preamble(opening).await?;
        }
        for piece in self.saying.reasoning.iter().flat_map(Text::pieces) {
            out.content(|| Delta { reasoning_content: Some(piece), ..Delta::default() }).await?;
        }
        for piece in self.saying.refusal.iter().flat_map(Text::pieces) {
            out.content(|| Delta { refusal: Some(Some(piece)), ..Delta::default() }).await?;
        }
        if let Some(bytes) = self.start.script.frame_bytes {
            let filler = "x".repeat(bytes as usize);
            out.content(|| Delta { content: Some(Some(&filler)), ..Delta::default() }).await?;
        }
        for piece in self.saying.text.iter().flat_map(Text::pieces) {
            out.content(|| Delta { content: Some(Some(piece)), ..Delta::default() }).await?;
        }
        self.play_calls(&mut out).await?;
        out.end().await
    }

    /// Opens every call, then sends the arguments of all of them in turn.
    async fn play_calls(&self, out: &mut Out<'_, '_>) -> Result<(), Stop> {
        for (index, call) in self.saying.tool_calls.iter().enumerate() {
            let function = || Function { name: Some(&call.name), arguments: "" };
            out.content(|| {
                part(CallPart { index, id: Some(&call.id), r#type: Some("function"), function: function() })
            })
            .await?;
        }
        let cut: Vec<Text> = self.saying.tool_calls.iter().map(Call::arguments).collect();
        let mut open: Vec<_> = cut.iter().map(Text::pieces).enumerate().collect();
        while !open.is_empty() {
            let mut still_open = Vec::with_capacity(open.len());
            for (index, mut pieces) in open {
                let Some(piece) = pieces.next() else { continue };
                let function = || Function { name: None, arguments: piece };
                out.content(|| part(CallPart { index, id: None, r#type: None, function: function() })).await?;
                still_open.push((index, pieces));
            }
            open = still_open;
        }
        Ok(())
    }
}

/// Writes the chunks of one stream.
struct Out<'a, 'b> {
    stream: &'a Stream,
    player: &'b mut Player,
    chunks: u64,
}

impl Out<'_, '_> {
    async fn preamble<'d>(&mut self, delta: impl Fn() -> Delta<'d>) -> Result<(), Stop> {
        for index in 0..self.stream.start.choices {
            let frame = self.frame(&[choice(index, delta(), None)], self.usage(false));
            self.player.preamble(&frame).await?;
        }
        Ok(())
    }

    async fn content<'d>(&mut self, delta: impl Fn() -> Delta<'d>) -> Result<(), Stop> {
        for index in 0..self.stream.start.choices {
            self.chunks += 1;
            let mut frame = self.frame(&[choice(index, delta(), None)], self.usage(false));
            if self.stream.start.script.invalid_json && self.chunks == 1 {
                frame.truncate(frame.len() / 2);
                frame.extend_from_slice(b"\n\n");
            }
            self.player.content(&frame).await?;
        }
        Ok(())
    }

    /// The finish reasons, the usage chunk and `[DONE]`.
    async fn end(&mut self) -> Result<(), Stop> {
        let start = &self.stream.start;
        for index in 0..start.choices {
            let is_last = index + 1 == start.choices;
            let finish = choice(index, Delta::default(), Some(&start.finish_reason));
            let frame = self.frame(&[finish], self.usage(is_last));
            self.player.tail(&frame).await?;
        }
        if start.sends_usage_chunk() {
            let frame = self.frame(&[], Some(Some(start.usage)));
            self.player.tail(&frame).await?;
        }
        start.close(self.player).await
    }

    fn usage(&self, is_end: bool) -> Option<Option<Usage>> {
        self.stream.start.usage_in_chunk(self.chunks, is_end)
    }

    fn frame(&self, choices: &[ChunkChoice<'_>], usage: Option<Option<Usage>>) -> Vec<u8> {
        let start = &self.stream.start;
        event(&Chunk {
            id: &start.id,
            object: "chat.completion.chunk",
            created: start.created,
            model: &start.model,
            service_tier: SERVICE_TIER,
            system_fingerprint: SYSTEM_FINGERPRINT,
            choices,
            usage,
        })
    }
}

fn choice<'a>(index: u32, delta: Delta<'a>, finish_reason: Option<&'a str>) -> ChunkChoice<'a> {
    ChunkChoice { index, delta, logprobs: (), finish_reason }
}

fn part(part: CallPart<'_>) -> Delta<'_> {
    Delta { tool_calls: Some([part]), ..Delta::default() }
}

fn tool_call(call: &Call) -> ToolCall<'_> {
    ToolCall {
        id: &call.id,
        r#type: "function",
        function: Function { name: Some(&call.name), arguments: &call.arguments },
    }
}
