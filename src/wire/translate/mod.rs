//! Between any two formats: the one place that knows them all. A call is translated in four steps, each of which
//! chooses by [`Format`]: read the client's request, write the provider's; read the provider's reply or stream, write
//! the client's.

use super::{
    anthropic,
    conversation::{BadField, BadReply, Encoded, Event, Format, Losses, Reply, ReplyOptions, Request, Undo},
    openai_chat::convert as openai_chat,
    sse::Frame,
};

/// What is known about the target of a request, in its own format's terms.
#[derive(Clone, Debug)]
pub enum Target<'o> {
    OpenAiChat(openai_chat::Options<'o>),
    Anthropic(anthropic::Options<'o>),
}

/// Reads a client's request. Errors name the field at fault.
pub fn decode_request(format: Format, body: &[u8]) -> Result<Request<'_>, BadField> {
    match format {
        Format::OpenAiChat => openai_chat::decode_request(body),
        Format::Anthropic => anthropic::decode_request(body),
    }
}

/// Writes a request for a target.
pub fn encode_request(request: &Request<'_>, target: &Target<'_>) -> Encoded {
    match target {
        Target::OpenAiChat(options) => openai_chat::encode_request(request, options),
        Target::Anthropic(options) => anthropic::encode_request(request, options),
    }
}

/// Reads a provider's whole reply. `undo` comes with the encoded request.
pub fn decode_reply<'a>(format: Format, body: &'a [u8], undo: &Undo) -> Result<Reply<'a>, BadReply> {
    match format {
        Format::OpenAiChat => openai_chat::decode_reply(body, undo),
        Format::Anthropic => anthropic::decode_reply(body, undo),
    }
}

/// Writes a whole reply for a client.
pub fn encode_reply(format: Format, reply: &Reply<'_>, options: &ReplyOptions<'_>, losses: &mut Losses) -> Vec<u8> {
    match format {
        Format::OpenAiChat => openai_chat::encode_reply(reply, options, losses),
        Format::Anthropic => anthropic::encode_reply(reply, options, losses),
    }
}

/// A provider's stream, turned into events.
#[derive(Debug)]
pub enum Decoder {
    OpenAiChat(openai_chat::Decoder),
    Anthropic(anthropic::Decoder),
}

/// Events, turned into a client's stream.
#[derive(Debug)]
pub enum Encoder {
    OpenAiChat(openai_chat::Encoder),
    Anthropic(anthropic::Encoder),
}

/// A stream on its way from one format to another. Frames come from a `FrameReader`, whatever the chunks it was fed.
#[derive(Debug)]
pub struct StreamTranslator {
    decoder: Decoder,
    encoder: Encoder,
}

impl StreamTranslator {
    /// `undo` comes with the encoded request.
    pub fn new(from: Format, to: Format, undo: &Undo, options: &ReplyOptions<'_>) -> Self {
        let decoder = match from {
            Format::OpenAiChat => Decoder::OpenAiChat(openai_chat::Decoder::new(options.request_id, undo)),
            Format::Anthropic => Decoder::Anthropic(anthropic::Decoder::new(undo)),
        };
        let encoder = match to {
            Format::OpenAiChat => Encoder::OpenAiChat(openai_chat::Encoder::new(options)),
            Format::Anthropic => Encoder::Anthropic(anthropic::Encoder::new(options)),
        };
        Self { decoder, encoder }
    }

    /// Appends what a frame becomes to `out`, which may be nothing; `see` sees the events on their way.
    pub fn frame(&mut self, frame: &Frame, out: &mut Vec<u8>, see: &mut dyn FnMut(&Event<'_>)) {
        let Self { decoder, encoder } = self;
        decoder.read(frame, &mut |event| {
            see(&event);
            encoder.write(event, out);
        });
    }

    /// The connection has come to its end: appends the end of the stream, or an error if it was not complete.
    pub fn finish(&mut self, out: &mut Vec<u8>, see: &mut dyn FnMut(&Event<'_>)) {
        let Self { decoder, encoder } = self;
        decoder.finish(&mut |event| {
            see(&event);
            encoder.write(event, out);
        });
    }

    /// An event of the gateway's own: a failure, or a ping in silence.
    pub fn inject(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        self.encoder.write(event, out);
    }

    /// What could not be said so far.
    pub fn losses(&self) -> &Losses {
        self.encoder.losses()
    }

    /// Whether the last frame was written.
    pub fn ended(&self) -> bool {
        self.encoder.ended()
    }
}

impl Decoder {
    /// Reads the next frame and hands its events to `each`.
    pub fn read(&mut self, frame: &Frame, each: &mut dyn FnMut(Event<'_>)) {
        match self {
            Self::OpenAiChat(decoder) => decoder.read(frame, each),
            Self::Anthropic(decoder) => decoder.read(frame, each),
        }
    }

    /// At the end of the connection: hands out the last event if that is still to come.
    pub fn finish(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        match self {
            Self::OpenAiChat(decoder) => decoder.finish(each),
            Self::Anthropic(decoder) => decoder.finish(each),
        }
    }
}

impl Encoder {
    /// Appends the frames of an event to `out`.
    pub fn write(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match self {
            Self::OpenAiChat(encoder) => encoder.write(event, out),
            Self::Anthropic(encoder) => encoder.write(event, out),
        }
    }

    pub fn losses(&self) -> &Losses {
        match self {
            Self::OpenAiChat(encoder) => encoder.losses(),
            Self::Anthropic(encoder) => encoder.losses(),
        }
    }

    pub fn ended(&self) -> bool {
        match self {
            Self::OpenAiChat(encoder) => encoder.ended(),
            Self::Anthropic(encoder) => encoder.ended(),
        }
    }
}

#[cfg(test)]
mod tests;
