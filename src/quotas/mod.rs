//! How much may be used: of what, by whom, in which time, and what happens beyond it.
//!
//! A *quota* is a scope × a measure × a window × an action; rate limits and budgets are the same thing. The rules are in
//! [`Quotas`], the same for every call until somebody changes them. A call that any of them concerns opens an
//! [`Account`]: before each attempt it sets aside what the attempt may consume, in one step for all quotas or not at all,
//! and at its end it says what was consumed. The counters are in [`Shared`], for one process or for all replicas; the
//! ledger is the truth, from which they are filled when they have been lost ([`history`]).

mod account;
mod current;
pub mod history;
mod learned;
mod limits;
mod refused;
mod rule;
mod rules;
pub mod settings;
mod stored;
mod subject;
#[cfg(test)]
mod tests;
mod touched;
mod warning;
mod window;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc};

pub use self::{
    account::{Account, Consumed, Demand},
    current::{Current, Spending},
    limits::{RateLimit, RateLimits},
    refused::{Refused, Why},
    rule::{BadQuota, Rule},
    stored::Stored,
    subject::{Place, Subject},
    warning::{Warning, Webhook},
};
use self::{
    learned::Learned,
    rules::{Concern, Rules},
    warning::{About, Told},
};
use crate::{
    error::Error,
    shared::{CounterId, Shared},
    telemetry::Metrics,
    types::Clock,
};

/// All quotas, and the counters they count in. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Quotas {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Shared,
    clock: Clock,
    metrics: Arc<Metrics>,
    rules: ArcSwap<Rules>,
    /// What the rules are made of: those of the file, and those of the store.
    sources: Mutex<Sources>,
    learned: Learned,
    told: Told,
    /// The ledger does not say what was consumed before: quotas that are open then do not wait for it.
    blind: AtomicBool,
    /// A rule has come in force whose counters do not know what came before it.
    renewed: Notify,
}

#[derive(Debug, Default)]
struct Sources {
    declared: Vec<Arc<Rule>>,
    stored: Vec<Arc<Rule>>,
}

/// How full a counter is, after what a call has set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Spent and set aside by all calls.
    pub used: u64,
    /// Of which this call has set aside.
    pub own: u64,
    pub resets_in: Duration,
    pub counter: CounterId,
}

impl Quotas {
    /// No rules yet. Warnings go to `webhook`, where there is one.
    pub fn new(shared: Shared, clock: Clock, metrics: Arc<Metrics>, webhook: Option<mpsc::Sender<Warning>>) -> Self {
        let told = Told::new(webhook);
        let (rules, sources, learned) = (ArcSwap::default(), Mutex::default(), Learned::default());
        let (renewed, blind) = (Notify::new(), AtomicBool::new(false));
        Self { inner: Arc::new(Inner { shared, clock, metrics, rules, sources, learned, told, blind, renewed }) }
    }

    /// Puts the file's quotas in place of those declared before.
    pub fn declare(&self, rules: Vec<Arc<Rule>>) {
        self.replace(|sources| sources.declared = rules);
    }

    /// Puts stored quotas in place of those that were in force.
    pub fn set_stored(&self, rules: Vec<Arc<Rule>>) {
        self.replace(|sources| sources.stored = rules);
    }

    fn replace(&self, change: impl FnOnce(&mut Sources)) {
        let mut sources = self.inner.sources.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut sources);
        let (now, before) = (self.inner.clock.unix_millis(), self.rules());
        for rule in sources.declared.iter().chain(&sources.stored) {
            let known = before.iter().find(|known| known.counts_as(rule));
            rule.comes_in_force(now, known.map(|known| &**known));
        }
        let all = sources.declared.iter().chain(&sources.stored).cloned();
        self.inner.rules.store(Arc::new(Rules::new(all)));
        if sources.declared.iter().chain(&sources.stored).any(|rule| !rule.is_filled()) {
            self.inner.renewed.notify_one();
        }
    }

    /// The rules that the file declares.
    ///
    /// # Errors
    /// What makes no sense, with the place of its quota. The file was checked before: nothing does, usually.
    pub fn compile(declared: &[settings::QuotaSettings]) -> Result<Vec<Arc<Rule>>, Vec<(usize, BadQuota)>> {
        let (mut rules, mut wrong) = (Vec::with_capacity(declared.len()), Vec::new());
        for (index, settings) in declared.iter().enumerate() {
            let name = settings.name.clone().unwrap_or_else(|| settings.derived_name());
            match Rule::new(&format!("{}{name}", warning::DECLARED), settings) {
                Ok(rule) => rules.push(Arc::new(rule)),
                Err(bad) => wrong.extend(bad.into_iter().map(|bad| (index, bad))),
            }
        }
        if wrong.is_empty() { Ok(rules) } else { Err(wrong) }
    }

    /// Every rule in force, by id.
    pub fn rules(&self) -> Vec<Arc<Rule>> {
        self.inner.rules.load().all()
    }

    /// Whether there is any rule at all.
    pub fn are_any(&self) -> bool {
        !self.inner.rules.load().is_empty()
    }

    /// The account of a call on behalf of `subject`. `None`: no quota concerns it.
    ///
    /// # Errors
    /// 503 when more calls hold quotas than there are places.
    pub fn open(&self, subject: &Subject<'_>) -> Result<Option<Box<Account>>, Error> {
        let concern: Concern = self.inner.rules.load().concerning(subject);
        if concern.is_empty() {
            return Ok(None);
        }
        let hold = self.inner.shared.hold().map_err(|_| Error::full())?;
        Ok(Some(Box::new(Account::new(concern, hold, self.inner.blind.load(Relaxed)))))
    }

    /// The counters.
    pub fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// What an answer of `model` may come to when nobody limits it, in tokens.
    pub fn usual_output(&self, model: &str) -> u64 {
        self.inner.learned.output_of(model)
    }

    /// Notes how long an answer of `model` was, in tokens.
    pub fn note_output(&self, model: &Arc<str>, tokens: u64) {
        self.inner.learned.note(model, tokens);
    }

    /// Counts a refusal, and tells the webhook of one that has a threshold there.
    pub async fn note_refused(&self, refused: &Refused, subject: &Subject<'_>, place: &Place<'_>) {
        let action = match refused.rule.action {
            settings::Action::Downgrade(_) => "downgrade",
            _ => "reject",
        };
        self.inner.metrics.quota_refusals.with_label_values(&[&*self.label(&refused.rule), action]).inc();
        // A call that is larger than the limit itself says nothing about how full the counter is.
        if let Why::Short { used, limit, resets_in, amount, .. } = refused.why {
            let reached = if amount > limit { used } else { used.max(limit) };
            let now = self.inner.clock.unix_millis();
            let about = About { counter: refused.counter, subject, place, used, reached, limit, resets_in, now };
            self.inner.told.look(&self.inner.shared, &refused.rule, about).await;
        }
    }

    /// Looks at what a call has just set aside: counts what a shadow would have refused, and tells the webhook of
    /// thresholds that were passed.
    pub async fn watch(&self, account: &Account, subject: &Subject<'_>, place: &Place<'_>) {
        let now = self.inner.clock.unix_millis();
        for (rule, level) in account.levels().filter(|(rule, _)| rule.is_watched()) {
            let limit = rule.limit_at(now);
            if level.used > limit && !rule.enforces() {
                let action = if rule.action == settings::Action::Shadow { "shadow" } else { "warn" };
                self.inner.metrics.quota_refusals.with_label_values(&[&*self.label(rule), action]).inc();
            }
            // What is only set aside for this call may never be spent.
            let used = level.used.saturating_sub(level.own);
            let (counter, resets_in) = (level.counter, level.resets_in);
            let about = About { counter, subject, place, used, reached: used, limit, resets_in, now };
            self.inner.told.look(&self.inner.shared, rule, about).await;
        }
    }

    /// The label of a rule in metrics: those of the store are as many as somebody makes, and share one.
    fn label(&self, rule: &Rule) -> Arc<str> {
        if rule.is_declared() { rule.name.clone() } else { "stored".into() }
    }
}
