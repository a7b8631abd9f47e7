//! What is set aside for an attempt, before anything is sent: what it may consume at most, as far as anybody can say.
//!
//! Input is estimated from its length, rather too high. Output is at most the cap that the provider will be told: the
//! client's, or the operator's ceiling where that is lower or the client names none. Without any cap it is what answers
//! of the model usually come to at most, and a stream that turns out longer has more set aside as it goes.

use std::sync::Arc;

use super::{Call, Gateway, admit::subject};
use crate::{
    accounting::Charge,
    catalog::Terms,
    providers::Operation,
    quotas::{Consumed, Demand, Place, Refused},
    routing::{Candidate, OUTPUT_CAP, Resolved},
    types::Usage,
};

/// Sets aside what an attempt at `candidate` may consume. The rules in `exempt` only count.
///
/// # Errors
/// [`Refused`]: a quota has no room for it, and nothing was set aside that was not before.
pub(super) async fn set_aside(
    gateway: &Gateway,
    call: &Call,
    route: &Resolved,
    candidate: &Candidate,
    charge: &mut Charge,
    exempt: &[Arc<str>],
) -> Result<(), Refused> {
    if charge.account().is_none() {
        return Ok(());
    }
    let (estimate, spent) = (estimate(gateway, call, candidate, charge), charge.consumed());
    let Some((account, who)) = charge.account() else { return Ok(()) };
    let (subject, target) = (subject(who), candidate.name());
    let model = match candidate.model.name == route.model.name {
        true => route.name(),
        false => (&*candidate.model.name).into(),
    };
    let place = Place { model: &model, provider: &candidate.target.provider.name, target: &target };
    let now = gateway.clock.unix_millis();
    let entered = account.enter(&subject, &place, Demand { estimate, spent: &spent }, exempt, now).await;
    match &entered {
        Ok(()) => gateway.quotas.watch(account, &subject, &place).await,
        Err(refused) => gateway.quotas.note_refused(refused, &subject, &place).await,
    }
    entered
}

/// What an attempt may consume.
fn estimate(gateway: &Gateway, call: &Call, candidate: &Candidate, charge: &Charge) -> Consumed {
    let input = charge.input_at_most();
    let output = match call.operation {
        Operation::Embedding | Operation::CountTokens => 0,
        _ => output_cap(call, candidate)
            .unwrap_or_else(|| gateway.quotas.usual_output(&candidate.model.name))
            .saturating_mul(u64::from(call.choices)),
    };
    Consumed { input, output, cost: cost(gateway, call, candidate, input, output) }
}

/// What so many tokens cost there. The tier that was asked for may cost more; one without a price of its own is taken for
/// the usual one, as the answer will say which it was.
pub(super) fn cost(
    gateway: &Gateway,
    call: &Call,
    candidate: &Candidate,
    input: u64,
    output: u64,
) -> Option<crate::types::Nanos> {
    let price = call.snapshot.outlet(&candidate.target).prices.of(&candidate.upstream_model);
    let usage = Usage { input, output, ..Usage::default() };
    let tier = call.envelope.get("service_tier").and_then(|tier| tier.as_str());
    let terms = Terms {
        region: candidate.target.provider.region.as_deref(),
        at_ms: i64::try_from(gateway.clock.unix_millis()).unwrap_or(i64::MAX),
        ..Terms::default()
    };
    let of_tier = tier.and_then(|tier| price.cost(&usage, &Terms { service_tier: Some(&tier), ..terms }));
    of_tier.or_else(|| price.cost(&usage, &terms))
}

/// The most tokens that the provider will be told to answer with; `None` when nobody says.
pub(super) fn output_cap(call: &Call, candidate: &Candidate) -> Option<u64> {
    let asked = OUTPUT_CAP
        .iter()
        .filter_map(|name| call.envelope.get(name)?.as_f64())
        .filter(|cap| *cap >= 0.0)
        .map(|cap| cap as u64)
        .max();
    let params = &candidate.target.params;
    let cap = params.output_cap(asked);
    let Some(of_key) = call.principal.max_tokens.map(u64::from) else { return cap };
    match cap {
        Some(cap @ 1..) => Some(cap.min(of_key)),
        _ if params.takes_no_cap() => None,
        // Less than 1 is no cap to some servers; the key's is sent in its place.
        _ => Some(of_key),
    }
}
