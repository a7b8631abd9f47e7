//! Makes a call fit to be stored. What a client or a provider says ends up in these rows, and a database refuses some of
//! it: Postgres a NUL in a text, or a text too long for an index. A refused row is money lost, so such a value is
//! repaired before it gets there. Nearly every row is fit as it is, and is borrowed.

use std::{borrow::Cow, sync::Arc};

use super::{CallRow, LimitNote, LimitRow, Notes};
use crate::types::{Nanos, Usage};

/// The longest text that is kept, in bytes. Six of them fit into an index entry of Postgres (2,704 bytes).
const MAX_TEXT: usize = 256;

/// The most tags that are kept of a call; each is a row in a roll-up.
const MAX_TAGS: usize = 32;

/// The most words of a quota's scope.
const MAX_SUBJECT: usize = 8;

/// The longest list of what was lost in translation.
const MAX_LOSSY: usize = 1024;

/// The most that an attempt can have consumed of one thing. No answer holds a trillion tokens; sums of millions of such
/// attempts still fit.
const MAX_COUNT: u64 = 1_000_000_000_000;

/// The most that an attempt can have cost, in nano-dollars: a million dollars.
const MAX_COST: i64 = 1_000_000_000_000_000;

/// The latest time of a row: the last millisecond of the year 2999, so that there is a month after it.
pub(super) const MAX_TIME: i64 = 32_503_679_999_999;

/// The call as it is stored. Differs from `call` only where that could not be: a NUL becomes U+FFFD, what names nobody with
/// an empty text names nobody, texts are cut at 256 bytes (what was lost in translation at 1,024), tags after the 32nd and limits after the 16th, times lie between 1970 and 2999, counts and amounts are at most absurd, and the
/// numbers of attempts ascend.
pub(super) fn clean(call: &CallRow) -> Cow<'_, CallRow> {
    if is_clean(call) {
        return Cow::Borrowed(call);
    }
    let mut call = call.clone();
    for text in [&mut call.instance, &mut call.operation, &mut call.model] {
        repair(text);
    }
    for text in [&mut call.who.project, &mut call.who.key_id, &mut call.who.key_name] {
        repair(text);
    }
    call.id = fit(&call.id).into();
    call.requested = fit(&call.requested).into();
    let who = &mut call.who;
    let optional = [&mut who.end_user, &mut who.workflow, &mut who.session, &mut who.step];
    let optional = optional.map(|text| {
        text.take_if(|text| text.is_empty());
        text
    });
    for text in optional.into_iter().chain([&mut call.client, &mut call.error_code, &mut call.finish_reason]) {
        *text = text.as_deref().map(|text| fit(text).into());
    }
    who.tags.truncate(MAX_TAGS);
    who.tags.iter_mut().for_each(repair);
    // Tags that were cut may have become the same.
    let mut seen = std::collections::HashSet::new();
    who.tags.retain(|tag| seen.insert(Arc::clone(tag)));
    call.at = call.at.clamp(0, MAX_TIME);
    clean_attempts(&mut call);
    if let Some(notes) = &mut call.notes {
        notes.lossy = notes.lossy.as_deref().map(|text| within(text, MAX_LOSSY).into());
        notes.limits.truncate(Notes::MAX_LIMITS);
        for LimitRow { quota, measure, .. } in &mut notes.limits {
            repair(quota);
            *measure = fit(measure).into_owned().into();
        }
        notes.about.truncate(Notes::MAX_LIMITS);
        for LimitNote { subject, .. } in &mut notes.about {
            subject.truncate(MAX_SUBJECT);
            for (word, value) in subject {
                *word = fit(word).into_owned().into();
                *value = fit(value).into();
            }
        }
    }
    Cow::Owned(call)
}

fn clean_attempts(call: &mut CallRow) {
    let ascending = ascends(call);
    for (attempt, number) in call.attempts.iter_mut().zip(1..) {
        for text in [&mut attempt.target, &mut attempt.provider, &mut attempt.upstream_model, &mut attempt.price] {
            repair(text);
        }
        for text in [&mut attempt.provider_id, &mut attempt.service_tier] {
            *text = text.as_deref().map(|text| fit(text).into());
        }
        if !ascending {
            attempt.number = number;
        }
        attempt.at = attempt.at.clamp(0, MAX_TIME);
        attempt.cost = attempt.cost.map(at_most_absurd);
        attempt.reported_cost = attempt.reported_cost.map(at_most_absurd);
        attempt.usage = capped(attempt.usage);
    }
}

fn is_clean(call: &CallRow) -> bool {
    let who = &call.who;
    let fits = |text: &str| text.len() <= MAX_TEXT && memchr::memchr(0, text.as_bytes()).is_none();
    let absent_or_fits = |text: &Option<Box<str>>| text.as_deref().is_none_or(fits);
    let time_fits = |at: i64| (0..=MAX_TIME).contains(&at);
    let amount_fits = |cost: Option<Nanos>| cost.is_none_or(|cost| cost == at_most_absurd(cost));
    [&*call.id, &call.requested, &call.instance, &call.operation, &call.model].into_iter().all(fits)
        && [&who.project, &who.key_id, &who.key_name].into_iter().all(|text| fits(text))
        && [&who.end_user, &who.workflow, &who.session, &who.step]
            .into_iter()
            .all(|text| absent_or_fits(text) && text.as_deref() != Some(""))
        && [&call.client, &call.error_code, &call.finish_reason].into_iter().all(absent_or_fits)
        && who.tags.len() <= MAX_TAGS
        && who.tags.iter().all(|tag| fits(tag))
        && no_twins(&who.tags)
        && time_fits(call.at)
        && ascends(call)
        && call.notes.as_deref().is_none_or(are_clean)
        && call.attempts.iter().all(|attempt| {
            [&attempt.target, &attempt.provider, &attempt.upstream_model, &attempt.price].into_iter().all(|t| fits(t))
                && absent_or_fits(&attempt.provider_id)
                && absent_or_fits(&attempt.service_tier)
                && time_fits(attempt.at)
                && amount_fits(attempt.cost)
                && amount_fits(attempt.reported_cost)
                && attempt.usage.buckets().iter().all(|(_, count)| *count <= MAX_COUNT)
        })
}

fn are_clean(notes: &Notes) -> bool {
    let fits = |text: &str, most: usize| text.len() <= most && memchr::memchr(0, text.as_bytes()).is_none();
    notes.lossy.as_deref().is_none_or(|text| fits(text, MAX_LOSSY))
        && notes.limits.len() <= Notes::MAX_LIMITS
        && notes.limits.iter().all(|limit| fits(&limit.quota, MAX_TEXT) && fits(&limit.measure, MAX_TEXT))
        && notes.about.len() <= Notes::MAX_LIMITS
        && notes.about.iter().all(|LimitNote { subject, .. }| {
            subject.len() <= MAX_SUBJECT
                && subject.iter().all(|(word, value)| fits(word, MAX_TEXT) && fits(value, MAX_TEXT))
        })
}

/// A tag that stood there twice would be counted twice. At most [`MAX_TAGS`] are compared.
fn no_twins(tags: &[Arc<str>]) -> bool {
    tags.iter().enumerate().all(|(index, tag)| !tags[..index].contains(tag))
}

fn ascends(call: &CallRow) -> bool {
    call.attempts.is_sorted_by(|one, two| one.number < two.number)
}

fn repair(text: &mut Arc<str>) {
    if let Cow::Owned(repaired) = fit(text) {
        *text = repaired.into();
    }
}

fn fit(text: &str) -> Cow<'_, str> {
    within(text, MAX_TEXT)
}

fn within(text: &str, most: usize) -> Cow<'_, str> {
    if text.contains('\0') {
        let replaced = text.replace('\0', "\u{fffd}");
        return Cow::Owned(replaced[..replaced.floor_char_boundary(most)].to_owned());
    }
    match text.floor_char_boundary(most) {
        whole if whole == text.len() => Cow::Borrowed(text),
        cut => Cow::Owned(text[..cut].to_owned()),
    }
}

fn at_most_absurd(amount: Nanos) -> Nanos {
    Nanos(amount.0.clamp(-MAX_COST, MAX_COST))
}

fn capped(usage: Usage) -> Usage {
    Usage {
        input: usage.input.min(MAX_COUNT),
        cache_read: usage.cache_read.min(MAX_COUNT),
        cache_write: usage.cache_write.min(MAX_COUNT),
        cache_write_1h: usage.cache_write_1h.min(MAX_COUNT),
        audio_input: usage.audio_input.min(MAX_COUNT),
        image_input: usage.image_input.min(MAX_COUNT),
        output: usage.output.min(MAX_COUNT),
        reasoning: usage.reasoning.min(MAX_COUNT),
        audio_output: usage.audio_output.min(MAX_COUNT),
        image_output: usage.image_output.min(MAX_COUNT),
        searches: usage.searches.min(MAX_COUNT),
        tool_calls: usage.tool_calls.min(MAX_COUNT),
        images: usage.images.min(MAX_COUNT),
        millis: usage.millis.min(MAX_COUNT),
        characters: usage.characters.min(MAX_COUNT),
    }
}
