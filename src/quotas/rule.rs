//! A quota made ready for calls: what it says, checked once.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    settings::{Action, Amount, Dimension, Match, Measure, MidStream, QuotaSettings, WhenDown, WindowSettings},
    subject::{Place, Subject},
    window::Window,
};
use crate::{
    shared::{self, CounterId},
    types::{Nanos, money::BadAmount},
};

/// The shortest and the longest rolling window, in milliseconds. Counters remember a window in sixty parts.
const SHORTEST: u128 = 1_000;
const LONGEST: u128 = 366 * 86_400_000;
/// More than this cannot be meant, and sums of it would not fit.
const MOST: u64 = 1 << 53;
/// The most names that one dimension is matched against.
const MOST_NAMES: usize = 1_000;
/// The most dimensions of a scope, with those that names are given of: the ledger sums up by as many.
const MOST_DIMENSIONS: usize = 3;
/// The longest name of a quota.
const LONGEST_NAME: usize = 100;

/// One quota in force.
#[derive(Debug)]
pub struct Rule {
    /// `declared:NAME` for one in the file, else that of the stored one.
    pub id: Arc<str>,
    /// For people.
    pub name: Arc<str>,
    pub measure: Measure,
    pub action: Action,
    pub mid_stream: MidStream,
    pub when_down: WhenDown,
    /// What is counted apart.
    pub(super) scope: Vec<Dimension>,
    /// Which ones it is about.
    pub(super) filters: Vec<(Dimension, Filter)>,
    pub(super) warn_at: Vec<f64>,
    limit: u64,
    raise: Option<(u64, u64)>,
    window: Window,
    /// How the window is written, as a part of the names of counters.
    written_window: String,
    /// Since when it is in force, Unix milliseconds; 0: it is not.
    in_force: AtomicU64,
    /// Its counters know what was consumed before.
    filled: AtomicBool,
}

/// Names that a value is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter(Vec<Wanted>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Name(Box<str>),
    /// What stands before and behind the `*`.
    Pattern(Box<str>, Box<str>),
}

/// What is wrong with a quota, and with which of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadQuota {
    pub path: Vec<String>,
    pub message: String,
}

impl Rule {
    /// # Errors
    /// Everything that makes no sense.
    pub fn new(id: &str, settings: &QuotaSettings) -> Result<Self, Vec<BadQuota>> {
        let mut wrong = Wrong::default();
        let limit = amount(settings.measure, &settings.limit, "limit", &mut wrong);
        let raise = settings.raise.as_ref().map(|raise| {
            let to = amount(settings.measure, &raise.to, "raise.to", &mut wrong);
            (to, u64::try_from(raise.until.as_millisecond()).unwrap_or(0))
        });
        check_window(settings, &mut wrong);
        check_thresholds(&settings.warn_at, &mut wrong);
        check_action(settings, &mut wrong);
        let filters = filters(settings, &mut wrong);
        let mut dimensions: Vec<Dimension> = filters.iter().map(|(dimension, _)| *dimension).collect();
        dimensions.extend(&settings.scope.0);
        dimensions.sort_unstable();
        dimensions.dedup();
        if dimensions.len() > MOST_DIMENSIONS {
            wrong.add("scope", format!("a quota is about at most {MOST_DIMENSIONS} dimensions"));
        }
        if let Some(name) = &settings.name {
            let is_plain = name.chars().all(|c| !c.is_control()) && name.trim() == name;
            if name.is_empty() || name.len() > LONGEST_NAME || !is_plain {
                let message = format!("a name has 1 to {LONGEST_NAME} bytes, none of them a control character");
                wrong.add("name", message);
            }
        }
        if !wrong.0.is_empty() {
            return Err(wrong.0);
        }
        Ok(Self {
            id: id.into(),
            name: settings.name.clone().unwrap_or_else(|| settings.derived_name()).into(),
            measure: settings.measure,
            action: settings.action.clone(),
            mid_stream: settings.mid_stream,
            when_down: settings.when_down,
            scope: settings.scope.0.clone(),
            filters,
            warn_at: settings.warn_at.clone(),
            limit,
            raise,
            window: Window::new(settings.window.as_ref()),
            written_window: settings.window.as_ref().map(ToString::to_string).unwrap_or_default(),
            in_force: AtomicU64::new(0),
            filled: AtomicBool::new(false),
        })
    }

    /// The most there may be now.
    pub fn limit_at(&self, unix_millis: u64) -> u64 {
        match self.raise {
            Some((to, until)) if unix_millis < until => to,
            _ => self.limit,
        }
    }

    /// Whether a call that does not fit is kept from being made as it was asked for.
    pub fn enforces(&self) -> bool {
        matches!(self.action, Action::Reject | Action::Downgrade(_))
    }

    /// Whether where a call goes decides what it is counted as.
    pub fn is_of_place(&self) -> bool {
        let filtered = self.filters.iter().map(|(dimension, _)| dimension);
        self.scope.iter().chain(filtered).any(|dimension| dimension.is_of_place())
    }

    /// Whether counters of it need what the ledger knows of the time before.
    pub(super) fn needs_history(&self) -> bool {
        self.measure == Measure::Usd || self.window.is_long()
    }

    /// Whether `other` counts in the same counters.
    pub(super) fn counts_as(&self, other: &Self) -> bool {
        self.id == other.id
            && self.measure == other.measure
            && self.written_window == other.written_window
            && self.scope == other.scope
            && self.filters == other.filters
    }

    /// It is in force from now on. Where `before` has been, which counts in the same counters, it goes on from there.
    pub(super) fn comes_in_force(&self, now: u64, before: Option<&Self>) {
        let since = before.map_or(now, Self::in_force_since);
        self.in_force.store(since, Relaxed);
        self.filled.store(before.is_some_and(Self::is_filled) || self.since(now).is_none(), Relaxed);
    }

    pub(super) fn in_force_since(&self) -> u64 {
        self.in_force.load(Relaxed)
    }

    pub(super) fn filled(&self) {
        self.filled.store(true, Relaxed);
    }

    pub(super) fn is_filled(&self) -> bool {
        self.filled.load(Relaxed)
    }

    /// What one of all replicas says when it fills the counters.
    pub(super) fn fill_name(&self) -> String {
        let values: Vec<String> = self.filters.iter().map(|filter| format!("{filter:?}")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let period = self.window_at(self.in_force_since()).1;
        format!("filled:{:?}", self.counter_of(&values, period))
    }

    /// How long what was consumed now counts at most.
    pub(super) fn lifetime(&self, now: u64) -> Duration {
        let millis = match self.window_at(now).0 {
            shared::Window::Rolling { millis } => millis,
            shared::Window::Period { ends } => ends.saturating_sub(now),
            shared::Window::Slots => 0,
        };
        Duration::from_millis(millis).max(Duration::from_secs(60))
    }

    /// Since when what was consumed counts; `None` where only what is under way does.
    pub(super) fn since(&self, unix_millis: u64) -> Option<u64> {
        self.window.since(unix_millis)
    }

    /// The window of counters at this time, and what their names say of it.
    pub(super) fn window_at(&self, unix_millis: u64) -> (shared::Window, u64) {
        self.window.at(unix_millis)
    }

    /// Hands each counter that a call of `subject` at `place` counts in to `each`, with the values of its scope. Without a
    /// place, a rule that needs one has none.
    pub(super) fn counters(
        &self,
        subject: &Subject<'_>,
        place: Option<&Place<'_>>,
        period: u64,
        mut each: impl FnMut(CounterId, &[&str]),
    ) {
        let passes = |(dimension, filter): &(Dimension, Filter)| match dimension {
            Dimension::Tag => subject.tags.iter().any(|tag| filter.takes(tag)),
            Dimension::Key => filter.takes(subject.key) || filter.takes(subject.key_name),
            other => value(*other, subject, place).is_some_and(|value| filter.takes(value)),
        };
        if !self.filters.iter().all(passes) {
            return;
        }
        let tag_filter = self.filters.iter().find(|(dimension, _)| *dimension == Dimension::Tag);
        if self.scope.contains(&Dimension::Tag) {
            let wanted = |tag: &&Arc<str>| tag_filter.is_none_or(|(_, filter)| filter.takes(tag));
            for tag in subject.tags.iter().filter(wanted) {
                self.counter(subject, place, Some(tag), period, &mut each);
            }
        } else {
            self.counter(subject, place, None, period, &mut each);
        }
    }

    /// None where a value is missing: a call that names no end user is not counted among end users.
    fn counter(
        &self,
        subject: &Subject<'_>,
        place: Option<&Place<'_>>,
        tag: Option<&str>,
        period: u64,
        each: &mut impl FnMut(CounterId, &[&str]),
    ) {
        let mut values: [&str; Dimension::ALL.len()] = [""; _];
        for (slot, dimension) in values.iter_mut().zip(&self.scope) {
            let value = match dimension {
                Dimension::Tag => tag,
                other => value(*other, subject, place),
            };
            let Some(value) = value else { return };
            *slot = value;
        }
        let values = &values[..self.scope.len()];
        each(self.counter_of(values, period), values);
    }

    /// The values of its scope, each with its word.
    pub(super) fn worded(&self, values: &[&str]) -> Vec<(Cow<'static, str>, Box<str>)> {
        self.scope.iter().zip(values).map(|(dimension, value)| (dimension.as_str().into(), (*value).into())).collect()
    }

    /// The counter for these values of the scope, in the period that begins then.
    pub(super) fn counter_of(&self, values: &[&str], period: u64) -> CounterId {
        let period = period.to_le_bytes();
        let own = [self.id.as_bytes(), self.measure.as_str().as_bytes(), self.written_window.as_bytes(), &period];
        CounterId::of(own.into_iter().chain(values.iter().map(|value| value.as_bytes())))
    }

    /// What a counter is about, by dimension, where a call has one counter.
    pub(super) fn scope_of(&self, subject: &Subject<'_>, place: &Place<'_>) -> BTreeMap<&'static str, String> {
        let text = |dimension: &Dimension| match dimension {
            Dimension::Tag => subject.tags.join(","),
            other => value(*other, subject, Some(place)).unwrap_or_default().to_owned(),
        };
        self.scope.iter().map(|dimension| (dimension.as_str(), text(dimension))).collect()
    }

    /// An amount of what it counts, as a plain number; money in dollars.
    pub fn number(&self, amount: u64) -> String {
        match self.measure {
            Measure::Usd => Nanos(i64::try_from(amount).unwrap_or(i64::MAX)).to_string(),
            _ => amount.to_string(),
        }
    }

    /// An amount of what it counts, for people.
    pub fn shown(&self, amount: u64) -> String {
        match self.measure {
            Measure::Usd => format!("${}", Nanos(i64::try_from(amount).unwrap_or(i64::MAX))),
            Measure::Requests => format!("{amount} requests"),
            Measure::Concurrent => format!("{amount} calls at a time"),
            Measure::Tokens => format!("{amount} tokens"),
            Measure::InputTokens => format!("{amount} input tokens"),
            Measure::OutputTokens => format!("{amount} output tokens"),
        }
    }

    /// The time it counts in, for people: ` in 1m`.
    pub fn shown_window(&self) -> String {
        match self.written_window.as_str() {
            "" => String::new(),
            written if self.is_calendar() => format!(" in a {written}"),
            written => format!(" in {written}"),
        }
    }

    /// Whether it begins anew with a period of the calendar.
    pub fn is_calendar(&self) -> bool {
        matches!(self.window, Window::Calendar(_))
    }
}

fn value<'v>(dimension: Dimension, subject: &Subject<'v>, place: Option<&Place<'v>>) -> Option<&'v str> {
    match dimension {
        Dimension::Project => Some(subject.project),
        Dimension::Key => Some(subject.key),
        Dimension::EndUser => subject.end_user,
        Dimension::Session => subject.session,
        Dimension::Model => place.map(|place| place.model),
        Dimension::Provider => place.map(|place| place.provider),
        Dimension::Target => place.map(|place| place.target),
        Dimension::Tag => None,
    }
}

impl Filter {
    pub(super) fn takes(&self, value: &str) -> bool {
        self.0.iter().any(|wanted| match wanted {
            Wanted::Name(name) => **name == *value,
            Wanted::Pattern(before, after) => {
                value.strip_prefix(&**before).is_some_and(|rest| rest.ends_with(&**after))
            }
        })
    }

    /// The names, if there is no pattern among them.
    pub(super) fn names(&self) -> Option<Vec<&str>> {
        self.0
            .iter()
            .map(|wanted| match wanted {
                Wanted::Name(name) => Some(&**name),
                Wanted::Pattern(..) => None,
            })
            .collect()
    }
}

impl QuotaSettings {
    /// What a quota is called that nobody has named: `key.requests.1m`, `project(research).usd.month`.
    pub fn derived_name(&self) -> String {
        let names = |names: &[String]| match names {
            [] => String::new(),
            names => format!("({})", names.join(",")),
        };
        let scope: Vec<String> = self
            .scope
            .0
            .iter()
            .map(|dimension| match &self.matching {
                Match::ByDimension(by) => {
                    format!("{}{}", dimension.as_str(), by.get(dimension).map(|n| names(n)).unwrap_or_default())
                }
                Match::Names(of) => format!("{}{}", dimension.as_str(), names(of)),
                Match::Everything => dimension.as_str().to_owned(),
            })
            .collect();
        let scope = if scope.is_empty() { "global".to_owned() } else { scope.join("+") };
        let window = self.window.as_ref().map(|window| format!(".{window}")).unwrap_or_default();
        let name = format!("{scope}.{}{window}", self.measure.as_str()).replace(' ', "-");
        let end = name.floor_char_boundary(LONGEST_NAME);
        name[..end].to_owned()
    }
}

#[derive(Default)]
struct Wrong(Vec<BadQuota>);

impl Wrong {
    fn add(&mut self, path: &str, message: impl Into<String>) {
        let path = path.split('.').map(str::to_owned).collect();
        self.0.push(BadQuota { path, message: message.into() });
    }
}

/// The amount in the unit of the measure: nano-dollars, or pieces.
fn amount(measure: Measure, written: &Amount, path: &str, wrong: &mut Wrong) -> u64 {
    let text = written.as_str();
    let read = match measure {
        Measure::Usd => Nanos::from_dollars(text).map(|amount| amount.0).map_err(|error| error.to_string()),
        _ => crate::types::money::scaled(text, 0).map_err(|error| match error {
            BadAmount::NotANumber => "this is not a number".to_owned(),
            BadAmount::TooFine => format!("{} are counted in whole numbers", measure.as_str().replace('_', " ")),
            BadAmount::TooLarge => "this is more than can be counted".to_owned(),
        }),
    };
    match read.map(u64::try_from) {
        Ok(Ok(amount)) if measure == Measure::Usd || amount <= MOST => return amount,
        Ok(Ok(_)) => wrong.add(path, "this is more than can be counted"),
        Ok(Err(_)) => wrong.add(path, "a limit cannot be negative"),
        Err(message) => wrong.add(path, message),
    }
    0
}

fn check_window(settings: &QuotaSettings, wrong: &mut Wrong) {
    match (&settings.window, settings.measure) {
        (Some(_), Measure::Concurrent) => {
            wrong.add("window", "concurrent calls are counted while they are under way, in no window: remove this");
        }
        (None, Measure::Concurrent) => {}
        (None, _) => wrong.add(
            "window",
            "a window is missing: a span such as `1m`, or `hour`, `day`, `week` or `month`, for example \
             `{ month: Europe/Berlin }`",
        ),
        (Some(WindowSettings::Rolling(period, _)), _) if period.0.as_millis() < SHORTEST => {
            wrong.add("window", "a window is at least 1s long");
        }
        (Some(WindowSettings::Rolling(period, _)), _) if period.0.as_millis() > LONGEST => {
            wrong.add("window", "a rolling window is at most 366d long");
        }
        (Some(_), _) => {}
    }
}

fn check_thresholds(thresholds: &[f64], wrong: &mut Wrong) {
    const MOST: usize = 10;
    if thresholds.len() > MOST {
        wrong.add("warn_at", format!("there are {} thresholds; at most {MOST} are kept", thresholds.len()));
    }
    if let Some(bad) = thresholds.iter().find(|part| !(part.is_finite() && **part > 0.0 && **part <= 10.0)) {
        wrong.add("warn_at", format!("{bad} is no part of a limit: write 0.8 for 80 %, and at most 10"));
    }
}

fn check_action(settings: &QuotaSettings, wrong: &mut Wrong) {
    match &settings.action {
        Action::Downgrade(model) if model.is_empty() || model.contains('*') => {
            wrong.add("action.downgrade", "this must be the name of a model");
        }
        Action::Downgrade(_) if settings.measure == Measure::Concurrent => {
            wrong.add("action.downgrade", "concurrent calls are refused or counted, not led elsewhere");
        }
        _ => {}
    }
}

fn filters(settings: &QuotaSettings, wrong: &mut Wrong) -> Vec<(Dimension, Filter)> {
    let filter = |dimension: Dimension, names: &[String], wrong: &mut Wrong| {
        if names.is_empty() {
            wrong.add("match", "this list is empty: leave `match` out to mean everything");
        }
        if names.len() > MOST_NAMES {
            wrong.add("match", format!("there are {} names; at most {MOST_NAMES} are taken", names.len()));
        }
        if let Some(bad) = names.iter().find(|name| name.is_empty() || name.matches('*').count() > 1) {
            wrong.add("match", format!("`{}` is neither a name nor a pattern with one `*`", bad.escape_debug()));
        }
        (dimension, Filter(names.iter().map(|name| Wanted::of(name)).collect()))
    };
    match (&settings.matching, settings.scope.0.as_slice()) {
        (Match::Everything, _) => Vec::new(),
        (Match::Names(names), [dimension]) => vec![filter(*dimension, names, wrong)],
        (Match::Names(_), []) => {
            wrong.add("match", "a global quota is about everything; give names by dimension, such as `{ key: ci }`");
            Vec::new()
        }
        (Match::Names(_), _) => {
            let message = "the scope has several dimensions: give names by dimension, such as `{ key: ci }`";
            wrong.add("match", message);
            Vec::new()
        }
        (Match::ByDimension(by), _) => by.iter().map(|(dimension, names)| filter(*dimension, names, wrong)).collect(),
    }
}

impl Wanted {
    fn of(name: &str) -> Self {
        match name.split_once('*') {
            Some((before, after)) => Self::Pattern(before.into(), after.into()),
            None => Self::Name(name.into()),
        }
    }
}
