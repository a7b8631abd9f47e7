//! Betas on their way to a backend of Anthropic's format: the words that it takes, and a request without what the others
//! gate.

use http::HeaderValue;

use super::{Call, headers::ANTHROPIC_BETA, lane::Lane};
use crate::{
    providers::Provider,
    wire::{
        anthropic::betas::without,
        conversation::{Format, Losses},
        envelope::{Edit, Envelope},
    },
};

/// What a backend is sent of the betas of a call.
#[derive(Debug, Default)]
pub(super) struct Sent<'p> {
    /// The value of `anthropic-beta`.
    pub header: Option<HeaderValue>,
    /// What has to be done to the request.
    pub edits: Vec<Edit<'p>>,
    pub losses: Losses,
}

/// What `provider` is sent of the betas of a call: of the client's, where it speaks the provider's format, and of `own`,
/// which the request needs.
pub(super) fn sent<'p>(
    call: &Call,
    provider: &'p Provider,
    lane: Lane,
    request: &Envelope,
    own: &[&'static str],
) -> Sent<'p> {
    let mut sent = Sent::default();
    if lane.upstream != Format::Anthropic {
        return sent;
    }
    let values = call.headers.get_all(&ANTHROPIC_BETA);
    let values: Vec<&HeaderValue> = values.iter().filter(|_| lane.is_pass()).collect();
    if provider.betas.takes_all() && own.is_empty() && values.len() < 2 {
        sent.header = values.first().map(|value| (*value).clone());
        return sent;
    }
    let words = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let mut words: Vec<&str> = words.map(str::trim).filter(|word| !word.is_empty()).collect();
    for own in own {
        if !words.contains(own) {
            words.push(own);
        }
    }
    if provider.betas.takes_all() {
        sent.header = joined(&words);
        return sent;
    }
    let governed = provider.betas.govern(&words);
    for word in &governed.dropped {
        sent.losses.note(format_args!("anthropic-beta:{word}"), "this provider does not take the beta");
    }
    sent.header = joined(&governed.kept);
    sent.edits = without(request, &governed.refused, &mut sent.losses);
    sent
}

fn joined(words: &[&str]) -> Option<HeaderValue> {
    // They have come in a header, so they fit into one.
    if words.is_empty() { None } else { HeaderValue::from_str(&words.join(",")).ok() }
}
