//! Images and documents that are named by URL and that the target cannot fetch itself. Which these are, and putting
//! the bytes in, is done here; fetching them, with all that has to be guarded, is not.

use base64::Engine;

use super::{
    block::{Block, BlockKind, Place, Source},
    request::Request,
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
pub struct Fetch {
    pub url: String,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Image,
    Document,
}

/// What was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub url: String,
    /// As the server named it; parameters such as `charset` do not matter.
    pub media_type: String,
    pub bytes: bytes::Bytes,
}

/// The URLs that have to be fetched for this target, each once, in order.
pub fn pending(request: &Request<'_>, follows: Follows) -> Vec<Fetch> {
    let mut list: Vec<Fetch> = Vec::new();
    for turn in &request.turns {
        each_block(&turn.content.blocks, &mut |kind| {
            let (source, what, follows) = match kind {
                BlockKind::Image(source) => (source, What::Image, follows.images),
                BlockKind::Document { source, .. } => (source, What::Document, follows.documents),
                _ => return,
            };
            if let Place::Url(url) = &source.place {
                let url = url.decode().into_owned();
                if !follows && !list.iter().any(|fetch| fetch.url == url) {
                    list.push(Fetch { url, what });
                }
            }
        });
    }
    list
}

/// Puts fetched bytes in the place of their URLs.
pub fn fill(request: &mut Request<'_>, fetched: &[Fetched]) {
    for turn in &mut request.turns {
        fill_blocks(&mut turn.content.blocks, fetched);
    }
}

fn each_block(blocks: &[Block<'_>], look: &mut dyn FnMut(&BlockKind<'_>)) {
    for block in blocks {
        look(&block.kind);
        match &block.kind {
            BlockKind::ToolResult(result) => each_block(&result.content.blocks, look),
            BlockKind::Document { source: Source { place: Place::Blocks(blocks), .. }, .. } => each_block(blocks, look),
            _ => {}
        }
    }
}

fn fill_blocks(blocks: &mut [Block<'_>], fetched: &[Fetched]) {
    for block in blocks {
        match &mut block.kind {
            BlockKind::ToolResult(result) => fill_blocks(&mut result.content.blocks, fetched),
            BlockKind::Document { source: Source { place: Place::Blocks(blocks), .. }, .. } => {
                fill_blocks(blocks, fetched);
            }
            BlockKind::Image(source) | BlockKind::Document { source, .. } => fill_source(source, fetched),
            _ => {}
        }
    }
}

fn fill_source(source: &mut Source<'_>, fetched: &[Fetched]) {
    let Place::Url(url) = &source.place else { return };
    let Some(found) = fetched.iter().find(|found| *url == *found.url.as_str()) else { return };
    let media_type = found.media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let text = media_type.starts_with("text/").then(|| std::str::from_utf8(&found.bytes).ok()).flatten();
    source.place = match text {
        Some(text) => Place::Text(Text::new(text)),
        None => Place::Base64 {
            media_type: Text::new(&media_type),
            data: Text::spelt(base64::engine::general_purpose::STANDARD.encode(&found.bytes).into_bytes()),
        },
    };
    source.native = None;
}
