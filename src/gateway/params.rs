//! The edits that turn a client's body into the provider's, all at the top level and by byte range: the model's name,
//! usage in streams, and the operator's defaults, ceilings and overrides. Everything else arrives as it was sent.

use bytes::Bytes;

use super::{Call, headers, lane::Lane};
use crate::{
    error::Error,
    providers::{Operation, settings::MaxTokensField},
    routing::{Candidate, OUTPUT_CAP, Params},
    wire::{
        Pieces,
        anthropic::SAMPLING,
        conversation::Format,
        envelope::{Edit, Envelope},
        json::quoted,
    },
};

const MAX_TOKENS: &str = OUTPUT_CAP[0];
const MAX_COMPLETION_TOKENS: &str = OUTPUT_CAP[1];

/// The body for one attempt in the pass lane, after the edits `before`.
///
/// # Errors
/// 400 when a member with a ceiling is not a number.
pub(super) fn body_for<'c>(
    call: &'c Call,
    candidate: &'c Candidate,
    lane: Lane,
    before: Vec<Edit<'c>>,
) -> Result<Pieces, Error> {
    let target = &candidate.target;
    let quirks = target.provider.quirks;
    let no_sampling = headers::refuses_sampling(call, lane);
    let mut edits = Edits { envelope: &call.envelope, list: before, no_sampling };
    if call.model != *candidate.upstream_model {
        edits.set("model", quoted(&candidate.upstream_model));
    }
    if lane.upstream == Format::Anthropic {
        // Usage comes unasked.
    } else if !quirks.takes_stream_options {
        edits.list.push(Edit::Remove { name: "stream_options" });
    } else if call.stream && quirks.ask_usage && !call.asked_usage {
        edits.set("stream_options", ask_usage(&call.envelope));
    }
    edits.apply_all(candidate, lane, call.principal.max_tokens)?;
    Ok(call.envelope.patch(&edits.list))
}

/// The body for one attempt in the translate lane, from what was written in the provider's format: the operator's
/// parameters are in the provider's terms, and come after the edits `before`. `cap` is the key's ceiling of output tokens.
///
/// # Errors
/// 400 when a member with a ceiling is not a number.
pub(super) fn adjusted<'c>(
    written: &'c Envelope,
    candidate: &'c Candidate,
    lane: Lane,
    before: Vec<Edit<'c>>,
    cap: Option<u32>,
) -> Result<Pieces, Error> {
    let mut edits = Edits { envelope: written, list: before, no_sampling: false };
    if lane.upstream == Format::OpenAiChat && !candidate.target.provider.quirks.ask_usage {
        edits.list.push(Edit::Remove { name: "stream_options" });
    }
    edits.apply_all(candidate, lane, cap)?;
    Ok(written.patch(&edits.list))
}

/// The edits so far. Later ones see the earlier through [`Edits::number`] and [`Edits::has`].
struct Edits<'a> {
    envelope: &'a Envelope,
    list: Vec<Edit<'a>>,
    /// Whether a sampling parameter would have the call refused: the operator's own are for the calls that have them.
    no_sampling: bool,
}

impl<'a> Edits<'a> {
    fn set(&mut self, name: &'a str, value: Bytes) {
        self.list.retain(|edit| !matches!(edit, Edit::Set { name: other, .. } if *other == name));
        self.list.push(Edit::Set { name, value });
    }

    /// The operator's parameters for the target and the key's ceiling, in the spelling of the endpoint that is called.
    fn apply_all(&mut self, candidate: &'a Candidate, lane: Lane, cap: Option<u32>) -> Result<(), Error> {
        let target = &candidate.target;
        match lane.endpoint {
            // What is counted is the input alone.
            Operation::CountTokens => return Ok(()),
            Operation::Chat => {
                self.apply(&target.params)?;
                self.cap_output(cap)?;
                self.spell_cap(target.provider.quirks.max_tokens);
            }
            Operation::Messages => {
                self.apply(&target.params)?;
                self.cap_output(cap)?;
                self.spell_cap(MaxTokensField::MaxTokens);
            }
            Operation::Completion => {
                self.apply(&target.params)?;
                self.cap_output(cap)?;
            }
            Operation::Embedding => self.apply(&target.params)?,
        }
        Ok(())
    }

    /// Defaults where the client said nothing, then ceilings, then overrides.
    fn apply(&mut self, params: &'a Params) -> Result<(), Error> {
        let no_sampling = self.no_sampling;
        let has_place = |name: &str| !(no_sampling && SAMPLING.contains(&name));
        for (name, value) in params.defaults.iter().filter(|(name, _)| has_place(name)) {
            if self.spelled(name).is_none() {
                self.set(name, value.clone());
            }
        }
        for (name, ceiling, value) in &params.ceilings {
            if !self.lower(name, value, |asked| asked > *ceiling)? && has_place(name) {
                self.set(name, value.clone());
            }
        }
        for (name, value) in &params.overrides {
            for spelling in [Some(&**name), other_spelling(name)].into_iter().flatten() {
                self.list.push(Edit::Remove { name: spelling });
            }
            if let Some(value) = value.as_ref().filter(|_| has_place(name)) {
                self.list.retain(|edit| !matches!(edit, Edit::Remove { name: other } if *other == &**name));
                self.set(name, value.clone());
            }
        }
        Ok(())
    }

    /// The key's ceiling of output tokens: it holds for what the operator's parameters say of the model, too. Where they
    /// take the member out, because the provider knows none, it stays out.
    fn cap_output(&mut self, cap: Option<u32>) -> Result<(), Error> {
        let Some(cap) = cap else { return Ok(()) };
        let value = Bytes::from(cap.to_string());
        // Some servers take less than 1 for "as many as you like".
        let is_found = self.lower(MAX_TOKENS, &value, |asked| asked > f64::from(cap) || asked < 1.0)?;
        if !is_found && !self.removes(MAX_TOKENS) {
            self.set(MAX_TOKENS, value);
        }
        Ok(())
    }

    /// Sets `name` to `value` where it is beyond a ceiling, in whatever spelling it is there, or in both: which of them
    /// the provider goes by is not ours to guess. Says whether it is there at all.
    fn lower(&mut self, name: &'a str, value: &Bytes, is_beyond: impl Fn(f64) -> bool) -> Result<bool, Error> {
        let mut is_found = false;
        for spelling in [Some(name), other_spelling(name)].into_iter().flatten() {
            if !self.has(spelling) {
                continue;
            }
            is_found = true;
            if self.number(spelling)?.is_none_or(&is_beyond) {
                self.set(spelling, value.clone());
            }
        }
        Ok(is_found)
    }

    /// Whether an edit takes the member out.
    fn removes(&self, name: &str) -> bool {
        self.list.iter().any(|edit| matches!(edit, Edit::Remove { name: removed } if *removed == name))
    }

    /// The name under which the client, or an edit, has set the parameter `name`. An explicit null sets nothing.
    fn spelled(&self, name: &'a str) -> Option<&'a str> {
        [Some(name), other_spelling(name)].into_iter().flatten().find(|name| self.has(name))
    }

    fn has(&self, name: &str) -> bool {
        let edited = self.list.iter().any(|edit| matches!(edit, Edit::Set { name: set, .. } if *set == name));
        edited || !self.removes(name) && self.envelope.get(name).is_some_and(|value| !value.is_null())
    }

    /// The number that `name` stands at after the edits so far.
    fn number(&self, name: &'a str) -> Result<Option<f64>, Error> {
        let edited = self.list.iter().rev().find_map(|edit| match edit {
            Edit::Set { name: set, value } if *set == name => Some(value),
            _ => None,
        });
        if let Some(value) = edited {
            return Ok(std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()));
        }
        let Some(value) = self.envelope.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
        value
            .as_f64()
            .map(Some)
            .ok_or_else(|| Error::bad_field("invalid_type", name.to_owned(), format!("`{name}` must be a number.")))
    }

    /// Renames the output cap to the spelling the provider understands.
    fn spell_cap(&mut self, field: MaxTokensField) {
        let (from, to) = match field {
            MaxTokensField::Both => return,
            MaxTokensField::MaxTokens => (MAX_COMPLETION_TOKENS, MAX_TOKENS),
            MaxTokensField::MaxCompletionTokens => (MAX_TOKENS, MAX_COMPLETION_TOKENS),
        };
        for edit in &mut self.list {
            match edit {
                Edit::Set { name, .. } if *name == from => *name = to,
                _ => {}
            }
        }
        if self.envelope.get(from).is_none() {
            return;
        }
        // A client that sent both spellings keeps the one the provider knows.
        let set = self.list.iter().any(|edit| matches!(edit, Edit::Set { name, .. } if *name == to));
        if set || self.envelope.get(to).is_some() {
            self.list.push(Edit::Remove { name: from });
        } else {
            self.list.push(Edit::Rename { from, to });
        }
    }
}

fn other_spelling(name: &str) -> Option<&'static str> {
    match name {
        MAX_TOKENS => Some(MAX_COMPLETION_TOKENS),
        MAX_COMPLETION_TOKENS => Some(MAX_TOKENS),
        _ => None,
    }
}

/// `stream_options` with `include_usage` switched on and its other members kept.
fn ask_usage(envelope: &Envelope) -> Bytes {
    const ASK: Bytes = Bytes::from_static(b"{\"include_usage\":true}");
    let Some(value) = envelope.get("stream_options").filter(|value| !value.is_null()) else { return ASK };
    let inner = envelope.bytes().slice_ref(value.raw);
    // Opening the call has parsed it already; it cannot fail here.
    let Ok(options) = Envelope::parse(inner) else { return ASK };
    let pieces = options.patch(&[Edit::Set { name: "include_usage", value: Bytes::from_static(b"true") }]);
    pieces.to_vec().into()
}
