//! The parts of a message's content: texts, images, sounds and files.

use crate::wire::{
    conversation::{
        BadField, Block, BlockKind, Content, Fields, Path, Place, Raw, Rest, Source, Text, Wrote, write_list,
        write_object, write_word,
    },
    json::{Kind, Value},
};

/// Reads `content`: a string, a list of parts, or nothing.
pub(super) fn read_content<'a>(value: Option<Value<'a>>, path: &Path<'_>) -> Result<Content<'a>, BadField> {
    let Some(value) = value else { return Ok(Content { blocks: Vec::new(), plain: true }) };
    match value.kind {
        Kind::Null => Ok(Content { blocks: Vec::new(), plain: true }),
        Kind::String => Ok(Content::plain(Text::of(value).unwrap_or_default())),
        Kind::Array => {
            let parts = value.items().enumerate().map(|(index, part)| read_part(part, &path.index(index)));
            Ok(Content { blocks: parts.collect::<Result<_, _>>()?, plain: false })
        }
        _ => Err(path.bad("must be a string or a list of content parts")),
    }
}

fn read_part<'a>(value: Value<'a>, path: &Path<'_>) -> Result<Block<'a>, BadField> {
    // Some clients put bare strings among the parts.
    if let Some(text) = Text::of(value) {
        return Ok(Block::new(BlockKind::Other {
            kind: Text::literal("text"),
            native: Raw::of(value),
            words: Some(text),
        }));
    }
    let mut fields = Fields::read(value, path)?;
    let kind = fields.need_text("type", path)?;
    let kind = match &*kind.decode() {
        "text" => BlockKind::Text { text: fields.need_text("text", path)?, citations: None },
        "refusal" => BlockKind::Refusal { text: fields.need_text("refusal", path)? },
        "image_url" => BlockKind::Image(read_image(&mut fields, path)?),
        "input_audio" => BlockKind::Audio(read_audio(&mut fields, path)?),
        "file" => read_file(&mut fields, path)?,
        _ => return Ok(Block::new(BlockKind::Other { kind, native: Raw::of(value), words: None })),
    };
    let cache = read_cache(&mut fields, path)?;
    Ok(Block { kind, cache, rest: fields.rest() })
}

/// A cache mark in Anthropic's words, which OpenRouter and LiteLLM take as well, or in OpenAI's.
pub(super) fn read_cache<'a>(fields: &mut Fields<'a>, path: &Path<'_>) -> Result<Option<Raw<'a>>, BadField> {
    let mark = fields.object("cache_control", path)?;
    let breakpoint = fields.object("prompt_cache_breakpoint", path)?;
    Ok(mark.or(breakpoint.map(|_| Raw::made(&br#"{"type":"ephemeral"}"#[..]))))
}

fn read_image<'a>(fields: &mut Fields<'a>, path: &Path<'_>) -> Result<Source<'a>, BadField> {
    let path = &path.name("image_url");
    let value = fields.take("image_url").ok_or_else(|| path.bad("is missing"))?;
    let url = match Text::of(value) {
        Some(url) => url,
        None => Fields::read(value, path)?.need_text("url", path)?,
    };
    Ok(Source { place: place_of_url(url), native: Some(Raw::of(value)) })
}

fn read_audio<'a>(fields: &mut Fields<'a>, path: &Path<'_>) -> Result<Source<'a>, BadField> {
    let path = &path.name("input_audio");
    let value = fields.take("input_audio").ok_or_else(|| path.bad("is missing"))?;
    let mut fields = Fields::read(value, path)?;
    let data = fields.need_text("data", path)?;
    let format = fields.need_text("format", path)?;
    let place = Place::Base64 { media_type: Text::new(&format!("audio/{}", format.decode())), data };
    Ok(Source { place, native: Some(Raw::of(value)) })
}

fn read_file<'a>(fields: &mut Fields<'a>, path: &Path<'_>) -> Result<BlockKind<'a>, BadField> {
    let path = &path.name("file");
    let value = fields.take("file").ok_or_else(|| path.bad("is missing"))?;
    let mut fields = Fields::read(value, path)?;
    let title = fields.text("filename", path)?;
    let place = match (fields.text("file_data", path)?, fields.text("file_id", path)?) {
        (Some(data), _) => match place_of_url(data) {
            // Bare base64; a PDF, unless its name says otherwise.
            Place::Url(data) if !is_web(&data) => Place::Base64 { media_type: media_type(title.as_ref()), data },
            place => place,
        },
        (None, Some(id)) => Place::File(id),
        (None, None) => return Err(path.bad("must have `file_data` or `file_id`")),
    };
    let place = text_document(place);
    let source = Source { place, native: Some(Raw::of(value)) };
    let is_image =
        matches!(&source.place, Place::Base64 { media_type, .. } if media_type.spelling().starts_with(b"image/"));
    Ok(if is_image { BlockKind::Image(source) } else { BlockKind::Document { source, title, context: None } })
}

fn media_type(name: Option<&Text<'_>>) -> Text<'static> {
    let name = name.map(|name| name.decode().to_ascii_lowercase()).unwrap_or_default();
    Text::literal(if name.ends_with(".txt") || name.ends_with(".md") { "text/plain" } else { "application/pdf" })
}

/// A document of plain text is carried as text, not as base64.
fn text_document(place: Place<'_>) -> Place<'_> {
    let Place::Base64 { media_type, data } = &place else { return place };
    if !media_type.spelling().starts_with(b"text/") {
        return place;
    }
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(data.as_borrowed().plain());
    match bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(text) => Place::Text(Text::new(&text)),
        None => place,
    }
}

fn is_web(url: &Text<'_>) -> bool {
    memchr::memmem::find(&url.spelling()[..url.len().min(16)], b"://").is_some()
}

/// Takes a data URL apart (RFC 2397); any other URL stays one.
pub(super) fn place_of_url(url: Text<'_>) -> Place<'_> {
    if !url.spelling().get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:")) {
        return Place::Url(url);
    }
    // No escape has a comma in it, so what follows one is a spelling by itself: an image is not unescaped, slashes that
    // PHP has escaped and all.
    let Some((head, data)) = url.split_at(b',') else { return Place::Unknown };
    let head = head.decode();
    let Some(media_type) = head.get(5..).and_then(|head| head.strip_suffix(";base64")) else { return Place::Unknown };
    // Anthropic knows its media types in small letters alone.
    let media_type = media_type.split(';').next().unwrap_or_default().to_ascii_lowercase();
    let media_type = Text::new(if media_type.is_empty() { "text/plain" } else { &media_type });
    Place::Base64 { media_type, data }
}

/// Writes a list of parts. `mark`: under which name a block's cache mark is written, if at all.
pub(super) fn write_parts<'b, 'a: 'b>(
    out: &mut Vec<u8>,
    blocks: impl IntoIterator<Item = &'b Block<'a>>,
    same: bool,
    mark: Option<Mark>,
) {
    write_list(out, blocks, |block, out| write_part(out, block, same, mark));
}

/// How a cache mark is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    CacheControl,
    Breakpoint,
}

pub(super) fn write_part(out: &mut Vec<u8>, block: &Block<'_>, same: bool, mark: Option<Mark>) {
    let empty = Rest::default();
    let rest = if same { &block.rest } else { &empty };
    let (kind, member) = match &block.kind {
        BlockKind::Refusal { .. } if same => ("refusal", "refusal"),
        BlockKind::Text { .. } | BlockKind::Refusal { .. } => ("text", "text"),
        BlockKind::Image(_) => ("image_url", "image_url"),
        BlockKind::Audio(_) => ("input_audio", "input_audio"),
        BlockKind::Document { source: Source { place: Place::Text(_), .. }, .. } if !same => ("text", "text"),
        BlockKind::Document { .. } => ("file", "file"),
        BlockKind::Other { native, .. } if same => return native.write(out),
        BlockKind::Other { words: Some(words), .. } => {
            return write_part(out, &Block::text(words.as_borrowed()), false, mark);
        }
        _ => return write_part(out, &Block::text(Text::default()), false, mark),
    };
    write_object(out, rest, &["type", member, "cache_control", "prompt_cache_breakpoint"], |name, out| {
        match name {
            "type" => write_word(out, kind),
            "cache_control" | "prompt_cache_breakpoint" if same => return Wrote::Same,
            "cache_control" if mark == Some(Mark::CacheControl) => match &block.cache {
                Some(cache) => cache.write(out),
                None => return Wrote::Nothing,
            },
            "prompt_cache_breakpoint" if mark == Some(Mark::Breakpoint) && block.cache.is_some() => {
                out.extend_from_slice(br#"{"mode":"explicit"}"#);
            }
            "cache_control" | "prompt_cache_breakpoint" => return Wrote::Nothing,
            _ => write_member(out, &block.kind, same),
        }
        Wrote::Value
    });
}

fn write_member(out: &mut Vec<u8>, kind: &BlockKind<'_>, same: bool) {
    match kind {
        BlockKind::Text { text, .. } | BlockKind::Refusal { text } => text.write(out),
        BlockKind::Image(source) | BlockKind::Audio(source) | BlockKind::Document { source, .. }
            if same && source.native.is_some() =>
        {
            source.native.iter().for_each(|native| native.write(out));
        }
        BlockKind::Image(source) => {
            out.extend_from_slice(b"{\"url\":");
            write_url(out, &source.place);
            out.push(b'}');
        }
        BlockKind::Document { source: Source { place: Place::Text(text), .. }, title, .. } => {
            let mut whole = match title {
                Some(title) => {
                    let mut whole = title.clone();
                    whole.push(&Text::literal("\\n\\n"));
                    whole
                }
                None => Text::default(),
            };
            whole.push(text);
            whole.write(out);
        }
        BlockKind::Document { source, title, .. } => {
            out.extend_from_slice(b"{\"filename\":");
            title.clone().unwrap_or(Text::literal("document.pdf")).write(out);
            match &source.place {
                Place::File(id) => {
                    out.extend_from_slice(b",\"file_id\":");
                    id.write(out);
                }
                place => {
                    out.extend_from_slice(b",\"file_data\":");
                    write_url(out, place);
                }
            }
            out.push(b'}');
        }
        BlockKind::Audio(Source { place: Place::Base64 { media_type, data }, .. }) => {
            let format = media_type.decode();
            out.extend_from_slice(b"{\"data\":");
            data.write(out);
            out.extend_from_slice(b",\"format\":");
            Text::new(format.strip_prefix("audio/").unwrap_or(&format)).write(out);
            out.push(b'}');
        }
        _ => out.extend_from_slice(b"null"),
    }
}

fn write_url(out: &mut Vec<u8>, place: &Place<'_>) {
    match place {
        Place::Base64 { media_type, data } => {
            out.extend_from_slice(b"\"data:");
            out.extend_from_slice(media_type.spelling());
            out.extend_from_slice(b";base64,");
            out.extend_from_slice(data.spelling());
            out.push(b'"');
        }
        Place::Url(url) => url.write(out),
        _ => out.extend_from_slice(b"\"\""),
    }
}
