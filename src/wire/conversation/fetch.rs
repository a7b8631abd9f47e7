//! Images and documents that are named by URL and that the target cannot fetch itself. Which these are, what may come of
//! them, and putting them in their place is done here; fetching them, with all that has to be guarded, is not.

use std::{fmt::Write, sync::Arc};

use base64::Engine;

use super::{
    block::{Block, BlockKind, Place, Source},
    request::{Format, Request, Role},
    text::Text,
};

/// Which URLs a target follows by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follows {
    pub images: bool,
    pub documents: bool,
}

/// Something to be fetched before the request can be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where the URL stands first: `messages[2].content[0].source.url`.
    pub path: String,
    pub url: String,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Image,
    Document,
}

/// What was fetched, in the form in which a request holds it.
#[derive(Debug)]
pub struct Fetched {
    url: String,
    what: What,
    content: Fill,
}

#[derive(Debug)]
enum Fill {
    Base64 {
        media_type: &'static str,
        data: Vec<u8>,
    },
    /// A document of words.
    Text(Text<'static>),
}

impl Wanted {
    /// Looks at what came for it: an image that models know, a PDF, or text. What the server calls it matters for text
    /// alone; all else is known by its first bytes. Works as long as it takes to write the bytes in base64.
    ///
    /// # Errors
    /// Why it is none of these: completes a sentence that begins with the URL.
    pub fn filled(&self, media_type: &str, bytes: &[u8]) -> Result<Fetched, &'static str> {
        let content = match (self.what, kind(bytes)) {
            (_, _) if bytes.is_empty() => return Err("is empty"),
            (What::Image, Some(kind)) if kind.starts_with("image/") => encoded(kind, bytes),
            (What::Image, _) => return Err("is no image in PNG, JPEG, GIF or WebP"),
            (What::Document, Some(PDF)) => encoded(PDF, bytes),
            (What::Document, None) if says_text(media_type) => match std::str::from_utf8(bytes) {
                Ok(text) => Fill::Text(Text::new(text.strip_prefix('\u{feff}').unwrap_or(text))),
                Err(_) => return Err("is text, but not in UTF-8"),
            },
            (What::Document, _) => return Err("is neither a PDF nor text"),
        };
        Ok(Fetched { url: self.url.clone(), what: self.what, content })
    }
}

impl Fetched {
    fn place(&self) -> Place<'_> {
        match &self.content {
            Fill::Base64 { media_type, data } => {
                Place::Base64 { media_type: Text::literal(media_type), data: Text::spelt(data.as_slice()) }
            }
            Fill::Text(text) => Place::Text(text.as_borrowed()),
        }
    }

    /// The length of its spelling in bytes.
    fn len(&self) -> usize {
        match &self.content {
            Fill::Base64 { data, .. } => data.len(),
            Fill::Text(text) => text.len(),
        }
    }
}

const PDF: &str = "application/pdf";

/// What bytes are by how they begin.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    const MAGIC: &[(&[u8], &str)] = &[
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"%PDF-", PDF),
    ];
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some("image/webp");
    }
    MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, kind)| *kind)
}

/// Whether a server says that it sends words. A page of the web is none: as often as not it says that something went
/// wrong.
fn says_text(media_type: &str) -> bool {
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let data = ["application/json", "application/xml", "application/yaml", "application/x-yaml", "application/toml"];
    media_type.starts_with("text/") && media_type != "text/html" || data.contains(&&*media_type)
}

fn encoded(media_type: &'static str, bytes: &[u8]) -> Fill {
    Fill::Base64 { media_type, data: base64::engine::general_purpose::STANDARD.encode(bytes).into_bytes() }
}

/// What has to be fetched for this target, each once, in order.
pub fn pending(request: &Request<'_>, follows: Follows) -> Vec<Wanted> {
    let mut list: Vec<Wanted> = Vec::new();
    for (index, turn) in request.turns.iter().enumerate() {
        // The parts of a tool's message are its own, and no list inside it.
        let flat = request.format == Format::OpenAiChat && turn.role == Role::Tool;
        let mut place = format!("messages[{index}].content");
        for (position, block) in turn.content.blocks.iter().enumerate() {
            match &block.kind {
                BlockKind::ToolResult(result) if flat => {
                    each(&result.content.blocks, &mut place, request.format, &mut |kind, path| {
                        note(kind, path, follows, &mut list);
                    });
                }
                _ => each_at(block, position, &mut place, request.format, &mut |kind, path| {
                    note(kind, path, follows, &mut list);
                }),
            }
        }
    }
    list
}

fn note(kind: &BlockKind<'_>, path: String, follows: Follows, list: &mut Vec<Wanted>) {
    let (source, what, follows) = match kind {
        BlockKind::Image(source) => (source, What::Image, follows.images),
        BlockKind::Document { source, .. } => (source, What::Document, follows.documents),
        _ => return,
    };
    if let Place::Url(url) = &source.place {
        let url = url.decode().into_owned();
        if !follows && !list.iter().any(|wanted| wanted.url == url && wanted.what == what) {
            list.push(Wanted { path, url, what });
        }
    }
}

type Look<'l> = dyn FnMut(&BlockKind<'_>, String) + 'l;

fn each(blocks: &[Block<'_>], place: &mut String, format: Format, look: &mut Look<'_>) {
    for (position, block) in blocks.iter().enumerate() {
        each_at(block, position, place, format, look);
    }
}

/// Looks at one block of the list at `place`, and at those inside it.
fn each_at(block: &Block<'_>, position: usize, place: &mut String, format: Format, look: &mut Look<'_>) {
    let length = place.len();
    // Writing to a string cannot fail.
    let _ = write!(place, "[{position}]");
    match &block.kind {
        BlockKind::ToolResult(result) => {
            place.push_str(".content");
            each(&result.content.blocks, place, format, look);
        }
        BlockKind::Document { source: Source { place: Place::Blocks(blocks), .. }, .. } => {
            place.push_str(".source.content");
            each(blocks, place, format, look);
        }
        kind => {
            let member = match (format, kind) {
                (Format::Anthropic, _) => "source.url",
                (Format::OpenAiChat, BlockKind::Image(_)) => "image_url.url",
                (Format::OpenAiChat, _) => "file.file_data",
            };
            look(kind, format!("{place}.{member}"));
        }
    }
    place.truncate(length);
}

/// Puts what was fetched in the place of its URLs.
pub fn fill<'a>(request: &mut Request<'a>, fetched: &'a [Arc<Fetched>]) {
    if fetched.is_empty() {
        return;
    }
    request.size += fetched.iter().map(|found| found.len()).sum::<usize>();
    for turn in &mut request.turns {
        fill_blocks(&mut turn.content.blocks, fetched);
    }
}

fn fill_blocks<'a>(blocks: &mut [Block<'a>], fetched: &'a [Arc<Fetched>]) {
    for block in blocks {
        match &mut block.kind {
            BlockKind::ToolResult(result) => fill_blocks(&mut result.content.blocks, fetched),
            BlockKind::Document { source: Source { place: Place::Blocks(blocks), native }, .. } => {
                fill_blocks(blocks, fetched);
                *native = None;
            }
            BlockKind::Image(source) => fill_source(source, What::Image, fetched),
            BlockKind::Document { source, .. } => fill_source(source, What::Document, fetched),
            _ => {}
        }
    }
}

fn fill_source<'a>(source: &mut Source<'a>, what: What, fetched: &'a [Arc<Fetched>]) {
    let Place::Url(url) = &source.place else { return };
    if let Some(found) = fetched.iter().find(|found| found.what == what && *url == *found.url.as_str()) {
        source.place = found.place();
        source.native = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_known_by_its_bytes_and_text_by_its_type() {
        const WEBP: &[u8] = b"RIFF\x01\x02\x03\x04WEBPVP8 ";
        type Case<'c> = (What, &'c str, &'c [u8], Result<&'c str, &'c str>);
        let cases: &[Case<'_>] = &[
            (What::Image, "image/png", b"\x89PNG\r\n\x1a\n...", Ok("image/png")),
            (What::Image, "application/octet-stream", b"\xff\xd8\xff\xe0", Ok("image/jpeg")),
            (What::Image, "image/png", b"GIF89a", Ok("image/gif")),
            (What::Image, "", WEBP, Ok("image/webp")),
            (What::Image, "image/png", b"<html>", Err("is no image in PNG, JPEG, GIF or WebP")),
            (What::Image, "image/svg+xml", b"<svg/>", Err("is no image in PNG, JPEG, GIF or WebP")),
            (What::Image, "image/png", b"%PDF-1.7", Err("is no image in PNG, JPEG, GIF or WebP")),
            (What::Image, "image/png", b"RIFF\0\0\0\0WAVE", Err("is no image in PNG, JPEG, GIF or WebP")),
            (What::Image, "image/png", b"", Err("is empty")),
            (What::Document, "text/plain", b"%PDF-1.7", Ok("application/pdf")),
            (What::Document, "Text/Markdown; charset=utf-8", b"# Hi", Ok("text")),
            (What::Document, "application/json", b"{}", Ok("text")),
            (What::Document, "text/html", b"<html>", Err("is neither a PDF nor text")),
            (What::Document, "application/octet-stream", b"hi", Err("is neither a PDF nor text")),
            (What::Document, "text/plain", b"\xff\xfe", Err("is text, but not in UTF-8")),
            (What::Document, "application/pdf", b"\x89PNG\r\n\x1a\n", Err("is neither a PDF nor text")),
        ];
        for (what, media_type, bytes, expected) in cases {
            let wanted = Wanted { path: String::new(), url: "u".into(), what: *what };
            let found = wanted.filled(media_type, bytes).map(|fetched| match fetched.content {
                Fill::Base64 { media_type, .. } => media_type,
                Fill::Text(_) => "text",
            });
            assert_eq!(found, *expected, "{media_type} {}", String::from_utf8_lossy(bytes));
        }
    }
}
