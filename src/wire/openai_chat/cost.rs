//! What a provider says an answer cost, in the `usage` object beside the counts. There is no standard for it, so it is
//! told by its shape:
//!
//! * `cost`, a number of dollars: OpenRouter, LiteLLM and others. OpenRouter's is what it takes itself; of a call with
//!   the customer's own key (`is_byok`) the provider takes `cost_details.upstream_inference_cost` besides.
//! * `cost.total_cost`, a number of dollars: Perplexity.
//! * `estimated_cost`, a number of dollars: DeepInfra.
//! * `cost_in_usd_ticks`, of which 10,000,000,000 are a dollar: xAI.
//!
//! These are floating-point numbers by the time they get here, so they are rounded to the nano-dollar. A negative one,
//! or one that is no number, is no statement.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::{
    types::{Nanos, money},
    wire::{
        envelope::{Edit, Envelope},
        json::{Kind, Value},
        sse::Frame,
    },
};

/// What the `usage` object says of money.
pub(super) fn read_cost(usage: Value<'_>) -> Option<Nanos> {
    let (mut cost, mut upstream, mut own_key) = (None, None, false);
    for (name, value) in usage.members() {
        match name.bytes().as_ref() {
            b"cost" if value.kind == Kind::Object => cost = value.get("total_cost").and_then(dollars).or(cost),
            b"cost" => cost = dollars(value).or(cost),
            b"estimated_cost" => cost = cost.or_else(|| dollars(value)),
            b"cost_in_usd_ticks" => cost = amount(value, -1).or(cost),
            b"cost_details" => upstream = value.get("upstream_inference_cost").and_then(dollars),
            b"is_byok" => own_key = value.kind == Kind::True,
            _ => {}
        }
    }
    match upstream.filter(|_| own_key) {
        Some(upstream) => Some(cost.unwrap_or_default() + upstream),
        None => cost,
    }
}

/// Reads an amount of dollars that stands alone, such as the value of a header.
pub fn read_dollars(text: &str) -> Option<Nanos> {
    Nanos::from_dollars_rounded(text.trim()).ok().filter(|cost| *cost >= Nanos::ZERO)
}

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));

/// The frame with a member `cost`, a number of dollars, in its `usage` object, in place of one that may be there; every
/// other byte stays. `None` for a frame without such an object, or when the cost is not known.
pub fn show_cost(frame: &Frame, cost: impl FnOnce() -> Option<Nanos>) -> Option<Bytes> {
    let bytes = frame.bytes();
    USAGE.find(bytes)?;
    let place = frame.data_range()?;
    let chunk = Envelope::parse(Bytes::copy_from_slice(&bytes[place.clone()])).ok()?;
    let usage = chunk.get("usage").filter(|usage| usage.kind == Kind::Object)?;
    let usage = Envelope::parse(chunk.bytes().slice_ref(usage.raw)).ok()?;
    let cost = cost()?.to_string().into();
    let usage = usage.patch(&[Edit::Set { name: "cost", value: cost }]).to_vec().into();
    let chunk = chunk.patch(&[Edit::Set { name: "usage", value: usage }]).to_vec();
    Some([&bytes[..place.start], &chunk, &bytes[place.end..]].concat().into())
}

fn dollars(value: Value<'_>) -> Option<Nanos> {
    amount(value, 9)
}

/// A number, or one in quotes, times ten to the power of `scale` as nano-dollars.
fn amount(value: Value<'_>, scale: i32) -> Option<Nanos> {
    let text = match value.kind {
        Kind::Number => std::str::from_utf8(value.raw).ok()?.into(),
        Kind::String => value.as_str()?,
        _ => return None,
    };
    money::rounded(&text, scale).ok().map(Nanos).filter(|cost| *cost >= Nanos::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sse::FrameReader;

    #[test]
    fn the_cost_is_put_beside_the_counts_and_nothing_else_changes() {
        let cases = [
            (
                "data: {\"choices\":[],\"usage\":{\"prompt_tokens\": 1}}\n\n",
                "data: {\"choices\":[],\"usage\":{\"prompt_tokens\": 1,\"cost\":0.000375}}\n\n",
            ),
            (
                "data:{\"usage\":{\"cost\":9,\"a\":1.50},\"x\":1e3}\r\n\r\n",
                "data:{\"usage\":{\"cost\":0.000375,\"a\":1.50},\"x\":1e3}\r\n\r\n",
            ),
        ];
        let shown = |text: &str, cost| {
            let mut reader = FrameReader::new(1 << 20);
            reader.push(Bytes::copy_from_slice(text.as_bytes()));
            show_cost(&reader.next().unwrap().unwrap(), || cost)
        };
        for (text, expected) in cases {
            assert_eq!(shown(text, Some(Nanos(375_000))).unwrap(), expected);
            assert_eq!(shown(text, None), None);
        }
        for text in ["data: {\"usage\":null}\n\n", "data: {\"a\":\"\\\"usage\\\"\"}\n\n", "data: [DONE]\n\n"] {
            assert_eq!(shown(text, Some(Nanos(1))), None, "{text}");
        }
    }

    #[test]
    fn a_stated_cost_is_read_in_every_shape() {
        let cases = [
            ("openrouter", r#"{"cost":0.00014,"cost_details":{"upstream_inference_cost":null}}"#, Some(140_000)),
            (
                "openrouter with its own key",
                r#"{"cost":0.95,"is_byok":false,"cost_details":{"upstream_inference_cost":0.95}}"#,
                Some(950_000_000),
            ),
            (
                "openrouter with the customer's key",
                r#"{"cost":0.05,"is_byok":true,"cost_details":{"upstream_inference_cost":1}}"#,
                Some(1_050_000_000),
            ),
            ("perplexity", r#"{"cost":{"input_tokens_cost":0.00238,"total_cost":0.59962}}"#, Some(599_620_000)),
            ("deepinfra", r#"{"estimated_cost":7.999999999999999e-06}"#, Some(8_000)),
            ("xai", r#"{"cost_in_usd_ticks":37756000}"#, Some(3_775_600)),
            ("in quotes", r#"{"cost":"0.0006766"}"#, Some(676_600)),
            ("nothing", r#"{"cost":0}"#, Some(0)),
            ("no number", r#"{"cost":"free"}"#, None),
            ("null", r#"{"cost":null}"#, None),
            ("negative", r#"{"cost":-1}"#, None),
            ("beyond all bounds", r#"{"cost":1e30}"#, None),
            ("not said", r#"{"prompt_tokens":1}"#, None),
        ];
        for (name, text, expected) in cases {
            assert_eq!(read_cost(Value::parse(text.as_bytes()).unwrap()), expected.map(Nanos), "{name}");
        }
        assert_eq!(read_dollars(" 3.45e-05 "), Some(Nanos(34_500)));
        assert_eq!(read_dollars("None"), None);
    }
}
