//! The one retry loop. Each turn picks where to go, goes there, and either has an answer to commit or knows more:
//!
//! 1. a target not yet tried, in the plan's order, or one whose connection was closed for having been idle;
//! 2. when none is left that is well, the fallbacks for the reason of the last failure;
//! 3. when none is left at all, a target already tried, after a backoff, if the retry budget allows.
//!
//! No call causes more upstream calls than `max_attempts`, no attempt begins after the total deadline, and a target
//! under a `Retry-After` is never called before its time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;

use super::{
    Call, Gateway,
    exchange::{Answer, Until, exchange},
    failure::{Failed, Failure, Next},
    lane::Lane,
    set_aside::set_aside,
};
use crate::{
    accounting::{Charge, Destination},
    error::Error,
    quotas::{Refused, Why, settings::Action},
    routing::{self, Acquire, Candidate, Outcome as Health, Permit, Reason, Resolved, Rest},
    telemetry::{ModelMetrics, Outcome},
};

/// An answer that is ready for the client, and what it rests on.
#[derive(Debug)]
pub(super) struct Committed {
    pub answer: Answer,
    pub candidate: Candidate,
    /// Held until the answer has passed: the target counts it as in flight, and hears of a broken stream.
    pub permit: Permit,
    pub until: Instant,
}

/// Tries until there is an answer to commit. A quota may lead the call to another model; it only counts from there on.
///
/// # Errors
/// [`Failed`] with the last failure, when there is nowhere left to go.
pub(super) async fn run(
    gateway: &Arc<Gateway>,
    call: &Arc<Call>,
    route: &Resolved,
    charge: &mut Charge,
) -> Result<Committed, Failed> {
    /// A downgrade may meet another quota that downgrades; a circle ends here.
    const MOST_DOWNGRADES: usize = 4;
    let mut exempt: Vec<Arc<str>> = Vec::new();
    let mut lower: Option<Resolved> = None;
    loop {
        match follow(gateway, call, lower.as_ref().unwrap_or(route), charge, &exempt).await {
            Err(Stop::Failed(failed)) => return Err(*failed),
            Err(Stop::Downgrade(refused, to)) if exempt.len() < MOST_DOWNGRADES => {
                charge.served_by(&to.model.name, to.star.as_deref(), metrics_of(call, &to.model.name));
                exempt.push(refused.rule.id.clone());
                lower = Some(to);
            }
            Err(Stop::Downgrade(refused, _)) => return Err(refused_by(&refused)),
            Ok(committed) => return Ok(committed),
        }
    }
}

/// Why a route is followed no further.
enum Stop {
    Failed(Box<Failed>),
    /// A quota leads the call here instead.
    Downgrade(Refused, Resolved),
}

impl From<Failed> for Stop {
    fn from(failed: Failed) -> Self {
        Self::Failed(Box::new(failed))
    }
}

/// Tries the places of one route and of its fallbacks. The quotas in `exempt` only count.
async fn follow(
    gateway: &Arc<Gateway>,
    call: &Arc<Call>,
    route: &Resolved,
    charge: &mut Charge,
    exempt: &[Arc<str>],
) -> Result<Committed, Stop> {
    let mut trail = Trail::new(gateway, call, route);
    loop {
        let (candidate, mut permit) = trail.next().await?;
        charge.slept(std::mem::take(&mut trail.slept));
        if let Err(refused) = set_aside(gateway, call, route, &candidate, charge, exempt).await {
            permit.report(Health::NoFault, gateway.clock.now());
            trail.refused(candidate, refused)?;
            continue;
        }
        trail.enter(&candidate, &permit, charge);
        let (until, anew) = (trail.until(&candidate), trail.is_again(&candidate));
        if anew {
            gateway.metrics.retry(Outcome::Cut);
        }
        match exchange(gateway, call, &candidate, &permit, until, anew).await {
            Ok(answer) => {
                permit.report(Health::Success, gateway.clock.now());
                charge.attempt_ended(Outcome::Ok, Some(200));
                return Ok(Committed { answer, candidate, permit, until: until.total });
            }
            Err(mut failure) => {
                permit.report(failure.health, gateway.clock.now());
                let status = failure.provider.as_ref().map(|answer| answer.said.as_u16());
                charge.attempt_ended(failure.outcome, status);
                if let Some(heard) = failure.heard.take() {
                    charge.heard(heard.stated, heard.said);
                }
                if matches!(failure.next, Next::Again(_)) {
                    charge.attempt_unsent();
                }
                trail.failed(candidate, failure)?;
            }
        }
    }
}

fn metrics_of<'c>(call: &'c Call, model: &str) -> &'c Arc<ModelMetrics> {
    call.snapshot.model_metrics(call.operation, model)
}

fn refused_by(refused: &Refused) -> Failed {
    Failed { failure: Failure::quota(refused), target: None }
}

/// Where a call has been and where it may still go.
struct Trail<'a> {
    gateway: &'a Gateway,
    call: &'a Call,
    route: &'a Resolved,
    /// Not tried yet, or with a key not tried yet; in order.
    fresh: Vec<Candidate>,
    /// Failed, but not for good.
    tried: Vec<Candidate>,
    /// Failed for good, or would: a fallback that leads there again is passed over.
    spent: Vec<Candidate>,
    followed_fallbacks: bool,
    attempts: u16,
    /// Tries of targets already tried, which the backoff grows with.
    retries: u32,
    /// Time spent in backoffs since the last attempt.
    slept: Duration,
    /// The last failure, and the place it came from by [`Candidate::name`].
    last: Option<(Failure, Arc<str>)>,
    /// The last quota that had no room for a place.
    refusal: Option<Refused>,
}

impl<'a> Trail<'a> {
    fn new(gateway: &'a Gateway, call: &'a Call, route: &'a Resolved) -> Self {
        let mut fresh = routing::plan(route, &mut fastrand::f64).candidates;
        fresh.retain(|candidate| serves(call, candidate));
        Self {
            gateway,
            call,
            route,
            fresh,
            tried: Vec::new(),
            spent: Vec::new(),
            followed_fallbacks: false,
            attempts: 0,
            retries: 0,
            slept: Duration::ZERO,
            last: None,
            refusal: None,
        }
    }

    /// Where to go now.
    async fn next(&mut self) -> Result<(Candidate, Permit), Failed> {
        let mut waited = false;
        loop {
            if self.last.is_some() && self.is_over(self.now()) {
                return Err(self.give_up());
            }
            if let Some(go) = self.fresh_and_well() {
                return Ok(go);
            }
            if self.follow_fallbacks() {
                continue;
            }
            if let Some(go) = self.again().await {
                return Ok(go);
            }
            if self.fresh.is_empty() && self.refusal.is_some() {
                return Err(self.give_up());
            }
            if self.last.is_some() {
                return match self.probe() {
                    Some(go) => Ok(go),
                    None => Err(self.give_up()),
                };
            }
            // Nothing has been tried: everything rests. Wait briefly, else probe, else say when to come back.
            if !waited && self.wait_for_first().await {
                waited = true;
                continue;
            }
            return self.probe().ok_or_else(|| self.all_resting());
        }
    }

    fn now(&self) -> Instant {
        self.gateway.clock.now()
    }

    /// The first candidate that is well and not tried yet.
    fn fresh_and_well(&mut self) -> Option<(Candidate, Permit)> {
        let now = self.now();
        let (place, permit) =
            self.fresh.iter().enumerate().find_map(|(place, candidate)| match candidate.target.acquire(now) {
                Acquire::Ready(permit) => Some((place, permit)),
                Acquire::Resting { .. } => None,
            })?;
        let candidate = self.fresh.remove(place);
        self.tried.retain(|tried| !Arc::ptr_eq(&tried.target, &candidate.target));
        Some((candidate, permit))
    }

    /// Adds the fallbacks, once. Says whether there is anything new to try.
    fn follow_fallbacks(&mut self) -> bool {
        let reason = match &self.last {
            Some((failure, _)) => failure.next.reason(),
            None if self.refusal.is_some() => Some(Reason::RateLimit),
            None => Some(self.why_resting()),
        };
        let Some(reason) = reason.filter(|_| !self.followed_fallbacks) else { return false };
        self.followed_fallbacks = true;
        let principal = &self.call.principal;
        let allowed = |names: &[&str]| principal.may_use(names);
        let routes = &self.call.snapshot.routes;
        let tried: Vec<Candidate> = [&self.spent, &self.tried, &self.fresh].into_iter().flatten().cloned().collect();
        let mut plan = routing::fallbacks(routes, self.route, reason, &tried, &allowed, &mut fastrand::f64);
        plan.candidates.retain(|candidate| serves(self.call, candidate));
        let found = !plan.candidates.is_empty();
        self.fresh.extend(plan.candidates);
        if found {
            metrics_of(self.call, &self.route.model.name).fell_back(reason.as_str());
        }
        found
    }

    /// A target already tried, after its backoff.
    async fn again(&mut self) -> Option<(Candidate, Permit)> {
        let retries = &self.call.snapshot.retries;
        let now = self.now();
        // The one that is ready first. A call under `Retry-After` waits for it; otherwise full jitter spreads retries.
        let (place, ready) = self
            .tried
            .iter()
            .enumerate()
            .map(|(place, candidate)| (place, candidate.target.ready_at(now).unwrap_or(now)))
            .min_by_key(|(_, ready)| *ready)?;
        let rest = ready.saturating_duration_since(now);
        // A provider's own word is waited for longer than a rest of ours.
        let patience = match self.tried[place].target.acquire(now) {
            Acquire::Resting { why: Rest::Failing | Rest::KeyRefused, .. } => self.call.snapshot.health.max_wait.0,
            _ => retries.max_retry_after.0,
        };
        if rest > patience {
            return None;
        }
        let backoff = routing::full_jitter(self.retries + 1, retries.base.0, retries.max.0, fastrand::f64());
        let wake = now + rest.max(backoff);
        if self.is_over(wake) || !self.gateway.retries.withdraw(now) {
            return None;
        }
        self.sleep(now, wake).await;
        self.retries += 1;
        match self.tried[place].target.acquire(self.now()) {
            Acquire::Ready(permit) => {
                if let Some((failure, _)) = &self.last {
                    self.gateway.metrics.retry(failure.outcome);
                }
                Some((self.tried.remove(place), permit))
            }
            Acquire::Resting { .. } => None,
        }
    }

    /// Waits until the first target ends its rest, if that is soon. Says whether it is worth looking again.
    async fn wait_for_first(&mut self) -> bool {
        let now = self.now();
        let Some(first) = self.earliest(now) else { return true };
        if first - now > self.call.snapshot.health.max_wait.0 || self.is_over(first) {
            return false;
        }
        self.sleep(now, first).await;
        true
    }

    async fn sleep(&mut self, now: Instant, until: Instant) {
        self.gateway.clock.sleep_until(until).await;
        self.slept += until - now;
    }

    /// One call before the rest is over, to see whether the target is back.
    fn probe(&mut self) -> Option<(Candidate, Permit)> {
        let now = self.now();
        let found = self
            .fresh
            .iter()
            .enumerate()
            .find_map(|(place, candidate)| candidate.target.acquire_forced(now).map(|permit| (place, permit)));
        found.map(|(place, permit)| (self.fresh.remove(place), permit))
    }

    /// When the first of the candidates left will be well; `None` if one is now.
    fn earliest(&self, now: Instant) -> Option<Instant> {
        let mut earliest = None;
        for candidate in &self.fresh {
            let ready = candidate.target.ready_at(now)?;
            earliest = Some(earliest.map_or(ready, |e: Instant| e.min(ready)));
        }
        earliest
    }

    fn why_resting(&self) -> Reason {
        let now = self.now();
        let limited = self
            .fresh
            .iter()
            .all(|candidate| matches!(candidate.target.acquire(now), Acquire::Resting { why: Rest::RateLimited, .. }));
        if limited { Reason::RateLimit } else { Reason::Default }
    }

    /// Notes the start of an attempt.
    fn enter(&mut self, candidate: &Candidate, permit: &Permit, charge: &mut Charge) {
        self.attempts += 1;
        let snapshot = &self.call.snapshot;
        if candidate.model.name != self.route.model.name {
            charge.served_by(&candidate.model.name, None, metrics_of(self.call, &candidate.model.name));
        }
        let outlet = snapshot.outlet(&candidate.target);
        charge.attempt_started(Destination {
            target: candidate.target.label.clone(),
            provider: candidate.target.provider.name.clone(),
            upstream_model: candidate.upstream_model.clone(),
            price: outlet.prices.of(&candidate.upstream_model),
            region: candidate.target.provider.region.clone(),
            key: permit.key().index,
            metrics: outlet.metrics.clone(),
        });
    }

    /// Whether the last attempt went to the same target and failed only because its connection was closed.
    fn is_again(&self, candidate: &Candidate) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|(failure, target)| matches!(failure.next, Next::Again(_)) && **target == *candidate.name())
    }

    /// The deadlines of an attempt: the first output counts from now, the total from the call's arrival.
    fn until(&self, candidate: &Candidate) -> Until {
        let deadlines = &candidate.target.deadlines;
        Until { first_output: self.now() + deadlines.first_output, total: self.call.arrived + deadlines.total }
    }

    /// Whether the call as a whole must be over by `at`: by the longest total deadline among the places it could still
    /// go. With no such place left nothing is said about time, because its fallbacks may bring deadlines of their own.
    fn is_over(&self, at: Instant) -> bool {
        let left = self.fresh.iter().chain(&self.tried).map(|candidate| candidate.target.deadlines.total).max();
        left.is_some_and(|total| at >= self.call.arrived + total)
    }

    /// Notes a failure. `Err` when it is final.
    fn failed(&mut self, candidate: Candidate, failure: Failure) -> Result<(), Failed> {
        let next = failure.next;
        self.last = Some((failure, candidate.name().into()));
        match next {
            Next::Nowhere => return Err(self.give_up()),
            Next::Fallback(_) => {
                // The rest of this model's targets would refuse it just the same.
                self.spent.append(&mut self.fresh);
                self.spent.append(&mut self.tried);
                self.spent.push(candidate);
            }
            // The key that failed rests now. Where another key of the target is well, it goes behind the others.
            Next::Elsewhere(_) if self.has_another_key(&candidate) => self.fresh.push(candidate),
            Next::Elsewhere(_) | Next::Past(_) => self.spent.push(candidate),
            Next::Anywhere(Reason::RateLimit) if self.has_another_key(&candidate) => {
                self.tried.push(candidate.clone());
                self.fresh.push(candidate);
            }
            Next::Anywhere(_) => self.tried.push(candidate),
            Next::Again(_) | Next::Reworded(_) => self.fresh.insert(0, candidate),
        }
        if self.attempts >= self.call.snapshot.retries.max_attempts {
            return Err(self.give_up());
        }
        Ok(())
    }

    /// Whether a target of which one key has just failed has another that is well.
    fn has_another_key(&self, candidate: &Candidate) -> bool {
        candidate.target.provider.keys.len() > 1 && candidate.target.ready_at(self.now()).is_none()
    }

    /// Notes that a quota has no room for a place. `Err` when none of the others could do better, or when the quota says
    /// where to go instead.
    fn refused(&mut self, candidate: Candidate, refused: Refused) -> Result<(), Stop> {
        if let Action::Downgrade(to) = &refused.rule.action
            && matches!(refused.why, Why::Short { .. })
            && let Some(to) = self.lower(to)
        {
            return Err(Stop::Downgrade(refused, to));
        }
        if !refused.depends_on_place() {
            return Err(refused_by(&refused).into());
        }
        self.spent.push(candidate);
        self.refusal = Some(refused);
        Ok(())
    }

    /// The model that a quota leads to, if the key may use it. It is checked as if the client had asked for it.
    fn lower(&self, name: &str) -> Option<Resolved> {
        let to = self.call.snapshot.routes.resolve(name)?;
        to.permitted(name, |names| self.call.principal.may_use(names)).then_some(to)
    }

    fn give_up(&mut self) -> Failed {
        match (self.last.take(), &self.refusal) {
            (Some((failure, target)), _) => Failed { failure, target: Some(target) },
            (None, Some(refused)) => refused_by(refused),
            (None, None) => self.all_resting(),
        }
    }

    /// There was nowhere to go from the beginning.
    fn none_serves(&self) -> Failed {
        let message = format!(
            "No target of the model `{}` serves {}.",
            self.call.model,
            self.call.operation.path().trim_start_matches('/')
        );
        let error = Error::client(StatusCode::BAD_REQUEST, "unsupported_operation", message);
        Failed { failure: Failure::request(error), target: None }
    }

    /// Every target rests and none may be probed.
    fn all_resting(&self) -> Failed {
        if self.fresh.is_empty() {
            return self.none_serves();
        }
        let now = self.now();
        let wait = self.earliest(now).map_or(Duration::from_secs(1), |at| at - now);
        let limited = self.why_resting() == Reason::RateLimit;
        let (status, code) = if limited {
            (StatusCode::TOO_MANY_REQUESTS, "all_targets_rate_limited")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "no_target_available")
        };
        let message = format!(
            "Every target of the model `{}` is resting after failures or rate limits. Try again in {} s.",
            self.call.model,
            wait.as_secs_f64().ceil().max(1.0)
        );
        let error = Error::upstream(status, code, message).with_retry_after(wait);
        let outcome = if limited { Outcome::RateLimited } else { Outcome::UpstreamError };
        let failure =
            Failure { outcome, health: Health::NoFault, next: Next::Nowhere, provider: None, heard: None, error };
        Failed { failure, target: None }
    }
}

/// Whether a candidate has the endpoint that is asked for, or one that the call can be translated for.
fn serves(call: &Call, candidate: &Candidate) -> bool {
    Lane::of(call.operation, &candidate.target.provider).is_some()
}

impl Next {
    fn reason(self) -> Option<Reason> {
        match self {
            Self::Nowhere => None,
            Self::Fallback(reason)
            | Self::Elsewhere(reason)
            | Self::Past(reason)
            | Self::Anywhere(reason)
            | Self::Again(reason)
            | Self::Reworded(reason) => Some(reason),
        }
    }
}
