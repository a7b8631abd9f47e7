//! `POST /v1/embeddings`: `CreateEmbeddingResponse`. Vectors are unit vectors made from a hash of their input: equal
//! inputs have equal vectors. Large answers are made while they are sent, so they cost no memory.

use std::fmt::Write;

use serde_json::Value;

use super::failure::missing;
use crate::mock::{
    ask::Ask,
    base64,
    behaviour::Behaviour,
    failure::Failure,
    player::{Player, Stop},
    saying::tokens,
};

/// The length of a vector when neither the request nor the script says one.
const DIMENSIONS: u32 = 8;
/// A large answer is sent in pieces of at least this many bytes.
const PIECE: usize = 64 * 1024;

/// The embeddings that are asked for.
pub(in crate::mock) struct List {
    head: String,
    tail: String,
    /// The vectors as JSON, one for each input.
    vectors: Vec<String>,
    /// How many are returned; more than there are vectors when the script says so.
    count: u32,
    pub(super) prompt_tokens: u64,
}

impl List {
    pub(super) fn new(ask: &Ask<'_>, model: &str, script: &Behaviour) -> Result<Self, Failure> {
        let input = ask.input.ok_or_else(|| missing("input"))?;
        let inputs = match serde_json::from_str(input.get()).unwrap_or_default() {
            // An array of numbers is one input, given as tokens.
            Value::Array(inputs) if inputs.first().is_some_and(Value::is_number) => vec![Value::Array(inputs)],
            Value::Array(inputs) if !inputs.is_empty() => inputs,
            text @ Value::String(_) => vec![text],
            _ => return Err(Failure::bad_request("'$.input' is invalid.", Some("input"))),
        };
        let dimensions = ask.dimensions.or(script.embedding_dimensions).unwrap_or(DIMENSIONS);
        if dimensions == 0 || dimensions > 65_536 {
            return Err(Failure::bad_request("'dimensions' must lie between 1 and 65536.", Some("dimensions")));
        }
        let in_base64 = ask.encoding_format.as_deref() == Some("base64");
        let vectors: Vec<String> = inputs.iter().map(|input| written(&vector(input, dimensions), in_base64)).collect();
        let count = script.embedding_count.unwrap_or(u32::try_from(vectors.len()).unwrap_or(u32::MAX));
        let prompt = script.usage.prompt_tokens.unwrap_or(tokens(input.get().len() as u64));
        let tail = serde_json::json!({
            "model": model,
            "usage": { "prompt_tokens": prompt, "total_tokens": prompt },
        });
        // The object's text without its opening brace follows the array.
        let tail = format!("],{}", tail.to_string().trim_start_matches('{'));
        Ok(Self { head: r#"{"object":"list","data":["#.into(), tail, vectors, count, prompt_tokens: prompt })
    }

    /// Whether the answer is small enough to be built before it is sent.
    pub(super) fn is_small(&self) -> bool {
        self.vectors.first().map_or(0, String::len).saturating_mul(self.count as usize) <= 4 * PIECE
    }

    /// The answer as one text.
    pub(super) fn whole(&self) -> String {
        let mut text = self.head.clone();
        for index in 0..self.count {
            self.write(index, &mut text);
        }
        text + &self.tail
    }

    /// Sends the answer while making it; its pieces count as content chunks.
    pub(in crate::mock) async fn play(&self, player: &mut Player) -> Result<(), Stop> {
        let mut text = self.head.clone();
        for index in 0..self.count {
            self.write(index, &mut text);
            if text.len() >= PIECE {
                player.content(text.as_bytes()).await?;
                text.clear();
            }
        }
        player.tail((text + &self.tail).as_bytes()).await
    }

    fn write(&self, index: u32, text: &mut String) {
        let vector = self.vectors.get(index as usize).or(self.vectors.first()).map_or("[]", String::as_str);
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(text, r#"{comma}{{"object":"embedding","index":{index},"embedding":{vector}}}"#);
    }
}

/// A unit vector that depends on `input` alone.
fn vector(input: &Value, dimensions: u32) -> Vec<f32> {
    // FNV-1a, to turn a text into a seed.
    let seed = input
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut random = fastrand::Rng::with_seed(seed);
    let raw: Vec<f32> = (0..dimensions).map(|_| random.f32() * 2.0 - 1.0).collect();
    let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.into_iter().map(|x| x / length).collect()
}

/// A vector as a JSON array, or as Base64 of its little-endian floats, which is what `encoding_format` asks for.
fn written(vector: &[f32], in_base64: bool) -> String {
    if in_base64 {
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut text = String::from('"');
        base64::encode(&bytes, &mut text);
        return text + "\"";
    }
    serde_json::to_string(vector).unwrap_or_default()
}
