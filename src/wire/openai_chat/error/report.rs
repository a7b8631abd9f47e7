//! Reading error reports in every shape that providers and the proxies before them are known to send.

use std::borrow::Cow;

use crate::wire::json::{Kind, Value};

/// What a report says, as far as it says it.
#[derive(Debug, Default)]
pub(super) struct Report<'a> {
    pub(super) message: Option<Cow<'a, str>>,
    pub(super) code: Option<Cow<'a, str>>,
    pub(super) kind: Option<Cow<'a, str>>,
    pub(super) param: Option<Cow<'a, str>>,
    /// An HTTP status named in the report.
    pub(super) status: Option<u16>,
    /// Further words that tell what happened: Gemini's status, Azure's inner code, what OpenRouter was told.
    pub(super) detail: Vec<Cow<'a, str>>,
}

/// How many characters of a text that is not JSON make the message.
const MAX_TEXT: usize = 300;
/// How much of a body is looked at when it is not JSON, and kept for the record in any case, in bytes.
const MAX_EXCERPT: usize = 4096;
/// How deep reports wrap one another.
const MAX_WRAPS: usize = 4;

impl<'a> Report<'a> {
    pub(super) fn read(body: &'a [u8]) -> Self {
        let mut report = Self::default();
        match Value::parse(body) {
            Ok(document) => report.read_value(document, MAX_WRAPS),
            Err(_) => report.message = plain_text(body).map(Cow::Owned),
        }
        report
    }

    fn read_value(&mut self, value: Value<'a>, depth: usize) {
        match value.kind {
            Kind::String => set(&mut self.message, value.as_str()),
            // Gemini's compatible endpoint wraps its report in an array, FastAPI lists what failed validation.
            Kind::Array if depth > 0 => {
                if let Some(first) = value.items().next() {
                    self.read_value(first, depth - 1);
                }
            }
            Kind::Object if depth > 0 => self.read_object(value, depth - 1),
            _ => {}
        }
    }

    /// Members are read outermost first: what a wrapper says counts unless what it wraps is more exact.
    fn read_object(&mut self, object: Value<'a>, depth: usize) {
        // Wrapped reports first, so that their words win.
        for (name, value) in object.members() {
            match name.bytes().as_ref() {
                b"error" | b"detail" | b"errors" | b"base_resp" => self.read_value(value, depth),
                b"message" if value.kind == Kind::Object => self.read_value(value, depth),
                b"metadata" | b"innererror" | b"inner_error" => self.read_detail(value),
                _ => {}
            }
        }
        for (name, value) in object.members() {
            match name.bytes().as_ref() {
                b"message" | b"msg" | b"status_msg" | b"title" => set(&mut self.message, value.as_str()),
                b"code" | b"error_code" | b"status_code" => self.read_code(value),
                b"type" | b"error_type" => set(&mut self.kind, value.as_str()),
                b"param" => set(&mut self.param, value.as_str()),
                // FastAPI's path to the field at fault: ["body", "messages", 0].
                b"loc" => set(&mut self.param, path(value)),
                // A status by number, or in words with Google.
                b"status" => match value.as_str() {
                    Some(word) => self.detail.push(word),
                    None => self.status = self.status.or(http_status(value)),
                },
                _ => {}
            }
        }
    }

    fn read_code(&mut self, value: Value<'a>) {
        self.status = self.status.or(http_status(value));
        let code = match value.kind {
            Kind::String => value.as_str(),
            Kind::Number => std::str::from_utf8(value.raw).ok().map(Cow::Borrowed),
            _ => None,
        };
        set(&mut self.code, code);
    }

    fn read_detail(&mut self, value: Value<'a>) {
        for (name, value) in value.members() {
            if matches!(name.bytes().as_ref(), b"raw" | b"code" | b"error_type" | b"provider_error_code") {
                self.detail.extend(value.as_str());
            }
        }
    }
}

/// The start of a body, for the record.
pub(super) fn excerpt(body: &[u8]) -> String {
    let cut = &body[..body.len().min(MAX_EXCERPT)];
    let mut text = String::from_utf8_lossy(cut).into_owned();
    // Cutting may have halved a character, and replacing bad bytes may have lengthened the text.
    if cut.len() < body.len() && text.ends_with(char::REPLACEMENT_CHARACTER) {
        text.pop();
    }
    text.truncate(text.floor_char_boundary(MAX_EXCERPT));
    text
}

fn set<'a>(place: &mut Option<Cow<'a, str>>, found: Option<Cow<'a, str>>) {
    if place.is_none() {
        *place = found.filter(|text| !text.trim().is_empty());
    }
}

fn http_status(value: Value<'_>) -> Option<u16> {
    let number = match value.kind {
        Kind::String => value.as_str()?.parse().ok(),
        _ => value.as_u64().and_then(|number| u16::try_from(number).ok()),
    };
    number.filter(|status| (400..600).contains(status))
}

fn path(value: Value<'_>) -> Option<Cow<'_, str>> {
    let steps = value.items().filter_map(|step| match step.kind {
        Kind::Number => std::str::from_utf8(step.raw).ok().map(Cow::Borrowed),
        _ => step.as_str().filter(|step| step != "body"),
    });
    let path = steps.collect::<Vec<_>>().join(".");
    (!path.is_empty()).then_some(Cow::Owned(path))
}

/// The text of a page or a plain sentence: no tags, no scripts, whitespace collapsed, cut to a readable length.
fn plain_text(body: &[u8]) -> Option<String> {
    let page = excerpt(body);
    let mut text = String::new();
    let mut rest = page.as_str();
    while let Some(open) = rest.find('<') {
        text.push_str(&rest[..open]);
        text.push(' ');
        let tag = &rest[open..];
        let hidden = ["script", "style"]
            .iter()
            .find(|name| tag.get(1..=name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)));
        let from = hidden.and_then(|name| tag.find(&format!("</{name}"))).unwrap_or(0);
        rest = tag[from..].find('>').map_or("", |close| &tag[from + close + 1..]);
    }
    text.push_str(rest);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text.chars().take(MAX_TEXT).collect();
    (!text.is_empty()).then_some(text)
}
