//! May this call be made? From here on every way out settles a charge.

use http::StatusCode;

use super::{Call, Gateway};
use crate::{
    accounting::{Charge, Settlement, who},
    error::Error,
    providers::Operation,
    quotas::{Account, Subject},
    routing::Resolved,
    store::ledger::Who,
    telemetry::Outcome,
};

/// Resolves the model, checks that the key may use it, and opens the charge.
///
/// # Errors
/// 404 for a model that does not exist, 403 for one that the key may not use, 503 when the gateway is full.
pub(super) fn admit(gateway: &Gateway, call: &Call) -> Result<(Resolved, Charge), Error> {
    let route = resolve(call)?;
    let mut record = Settlement {
        id: call.id,
        at: gateway.clock.unix_millis(),
        operation: call.operation,
        model: call.model.as_str().into(),
        served: None,
        star: None,
        who: asking(call),
        client: call.client,
        stream: call.stream,
        asked: call.asked.clone(),
        attempts: Vec::with_capacity(1),
        outcome: Outcome::Lost,
        status: 0,
        error_code: None,
        finish_reason: None,
        lossy: None,
        first_output: None,
        duration: Default::default(),
        overhead: Default::default(),
        bytes_in: call.envelope.bytes().len() as u64,
        bytes_out: 0,
        pending: None,
        account: None,
    };
    record.account = account(gateway, call, &record.who)?;
    let mut charge = gateway.till.open(record, call.arrived, gateway.clock.now())?;
    let metrics = call.snapshot.model_metrics(call.operation, &route.model.name);
    charge.served_by(&route.model.name, route.star.as_deref(), metrics);
    gateway.retries.deposit();
    Ok((route, charge))
}

/// The account of the call's quotas. Counting tokens consumes none, so nothing holds it.
fn account(gateway: &Gateway, call: &Call, who: &Who) -> Result<Option<Box<Account>>, Error> {
    if call.operation == Operation::CountTokens {
        return Ok(None);
    }
    gateway.quotas.open(&subject(who))
}

/// On whose behalf the call is made, in the words of quotas.
pub(super) fn subject(who: &Who) -> Subject<'_> {
    Subject {
        project: &who.project,
        key: &who.key_id,
        key_name: &who.key_name,
        end_user: who.end_user.as_deref(),
        session: who.session.as_deref(),
        tags: &who.tags,
    }
}

/// On whose behalf the call is made: what its key says, and what it says itself.
fn asking(call: &Call) -> Who {
    let key = Who {
        project: call.principal.project.clone(),
        key_id: call.principal.id.clone(),
        key_name: call.principal.name.clone(),
        tags: call.principal.tags.to_vec(),
        ..Who::default()
    };
    who::asking(key, &call.headers, &call.envelope)
}

/// The one resolver decides what the name means; the key and its project must each list it as
/// written or as resolved.
fn resolve(call: &Call) -> Result<Resolved, Error> {
    let routes = &call.snapshot.routes;
    let Some(route) = routes.resolve(&call.model) else { return Err(unknown(call)) };
    if route.permitted(&call.model, |names| call.principal.may_use(names)) {
        return Ok(route);
    }
    let message = format!(
        "This key may not use the model `{}`. Ask whoever runs this gateway to add it to the models of the key and its \
         project.",
        call.model
    );
    let mut error = Error::client(StatusCode::FORBIDDEN, "model_not_allowed", message);
    error.param = Some("model".into());
    Err(error)
}

/// A model that does not exist. The suggestion names only what the key may use: others are not its business.
fn unknown(call: &Call) -> Error {
    let nearest = call.snapshot.routes.nearest(&call.model, &|names| call.principal.may_use(names));
    let hint =
        nearest.map_or_else(|| "GET /v1/models lists the models.".to_owned(), |name| format!("Did you mean `{name}`?"));
    let message = format!("The model `{}` does not exist here. {hint}", call.model);
    let mut error = Error::client(StatusCode::NOT_FOUND, "model_not_found", message);
    error.param = Some("model".into());
    error
}
