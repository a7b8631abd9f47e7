//! How much of quotas is used now, as the admin API and the commands give it.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{ManageError, QuotaView};
use crate::{
    auth::{Keys, declared::DECLARED},
    quotas::{
        Current, Quotas, Rule, Spending,
        settings::{Dimension, Scope},
    },
    store::{KeyFilter, keys},
};

/// How much of a quota is used now.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "QuotaUse")]
pub struct UseView {
    /// `counters`: what calls are held to, with what is set aside for those under way; this gateway's, where gateways do not
    /// share them. `ledger`: what calls that have ended came to.
    pub source: &'static str,
    pub counters: Vec<CounterView>,
}

/// One counter of a quota. Amounts are decimal texts, of money in US dollars.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "QuotaCounter")]
pub struct CounterView {
    /// What it counts apart: a value for each word of the scope.
    pub subject: std::collections::BTreeMap<&'static str, String>,
    pub used: String,
    /// The most there may be now, a raise included.
    pub limit: String,
    /// When a period of the calendar ends, or all of a rolling window will be free again; `null` where that is not known, and for
    /// concurrent calls.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub resets_at: Option<Timestamp>,
}

/// The counters that are shown of a quota that has one for each subject.
const MOST: usize = 10;

impl Keys {
    /// Adds how full counters are to quotas that name what they count. Those that have a counter for each one that turns up,
    /// those that are not in force, and those that do not know yet what came before them stay without.
    ///
    /// # Errors
    /// When the store cannot be read, of which only names of keys are wanted.
    pub async fn add_use(&self, quotas: &Quotas, views: &mut [QuotaView]) -> Result<(), ManageError> {
        let rules: HashMap<Arc<str>, Arc<Rule>> =
            quotas.rules().into_iter().map(|rule| (rule.id.clone(), rule)).collect();
        let (mut places, mut asked) = (Vec::new(), Vec::new());
        for (place, view) in views.iter().enumerate() {
            let Some(rule) = rules.get(view.id.as_str()) else { continue };
            if let Some(subjects) = self.named(rule).await? {
                places.push(place);
                asked.push((rule.clone(), subjects));
            }
        }
        let found = quotas.current(&asked).await;
        for ((place, (rule, _)), current) in places.into_iter().zip(&asked).zip(found) {
            if let Some(view) = views.get_mut(place) {
                view.used = current.map(|current| self.shown("counters", rule, current));
            }
        }
        Ok(())
    }

    /// Adds how full the counters of one quota are: of `subject`, or of those that it names, or of those for which the ledger
    /// has most.
    ///
    /// # Errors
    /// For a subject that cannot be one of its scope, and when the store cannot be read.
    pub async fn add_use_of(
        &self,
        quotas: &Quotas,
        view: &mut QuotaView,
        subject: Option<&str>,
    ) -> Result<(), ManageError> {
        if let Some(subject) = subject {
            split(&view.quota.scope, subject)?;
        }
        let Some(rule) = quotas.rules().into_iter().find(|rule| *rule.id == *view.id) else { return Ok(()) };
        let subjects = match (subject, self.named(&rule).await?) {
            (Some(subject), _) => self.meant(&view.quota.scope, subject).await?,
            (None, Some(named)) => named,
            (None, None) => {
                let rules = std::slice::from_ref(&rule);
                let mut spending = Spending::of(self.db(), rules, self.clock().unix_millis()).await?;
                let spent = spending.spent(&rule).await?.unwrap_or_default();
                spent.into_iter().take(MOST).map(|one| one.values).collect()
            }
        };
        let found = quotas.current(&[(rule.clone(), subjects)]).await.into_iter().next().flatten();
        view.used = found.map(|mut current| {
            current.sort_by_key(|one| std::cmp::Reverse(one.used));
            self.shown("counters", &rule, current)
        });
        Ok(())
    }

    /// Adds what the ledger has of each quota: of those that have a counter for each one that turns up the `most` with most.
    /// What it has nothing of (concurrent calls), or cannot list, stays without.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn add_spent(&self, views: &mut [QuotaView], most: usize) -> Result<(), ManageError> {
        let rules: Vec<Option<Arc<Rule>>> =
            views.iter().map(|view| Rule::new(&view.id, &view.quota).ok().map(Arc::new)).collect();
        let all: Vec<Arc<Rule>> = rules.iter().flatten().cloned().collect();
        let mut spending = Spending::of(self.db(), &all, self.clock().unix_millis()).await?;
        for (view, rule) in views.iter_mut().zip(rules) {
            let Some(rule) = rule else { continue };
            match spending.spent(&rule).await {
                Ok(spent) => {
                    view.used = spent.map(|mut spent| {
                        spent.truncate(most);
                        self.shown("ledger", &rule, spent)
                    });
                }
                Err(error) => tracing::debug!(quota = view.id, %error, "what was spent of a quota cannot be read"),
            }
        }
        Ok(())
    }

    fn shown(&self, source: &'static str, rule: &Rule, current: Vec<Current>) -> UseView {
        let now = self.now();
        let counter = |one: Current| CounterView {
            subject: rule.subject(&one.values),
            used: rule.number(one.used),
            limit: rule.number(one.limit),
            resets_at: one.resets_in.and_then(|left| now.checked_add(left).ok()),
        };
        UseView { source, counters: current.into_iter().map(counter).collect() }
    }

    /// The values of a rule's scope that it names.
    async fn named(&self, rule: &Rule) -> Result<Option<Vec<Vec<String>>>, ManageError> {
        if rule.named(|_, name| vec![name.to_owned()]).is_none() {
            return Ok(None);
        }
        let mut ids: HashMap<String, Vec<String>> = HashMap::new();
        if rule.scope().contains(&Dimension::Key) {
            for name in rule.key_names() {
                ids.insert(name.to_owned(), self.key_ids(name).await?);
            }
        }
        Ok(rule.named(|dimension, name| match dimension {
            Dimension::Key => ids.get(name).cloned().unwrap_or_default(),
            _ => vec![name.to_owned()],
        }))
    }

    /// The values of a scope that somebody means with a text.
    async fn meant(&self, scope: &Scope, subject: &str) -> Result<Vec<Vec<String>>, ManageError> {
        let mut meant: Vec<Vec<String>> = vec![Vec::new()];
        for (dimension, value) in scope.0.iter().zip(split(scope, subject)?) {
            let values = match dimension {
                Dimension::Key => self.key_ids(value).await?,
                _ => vec![value.to_owned()],
            };
            let longer = meant.iter().flat_map(|begun| {
                values.iter().map(|value| begun.iter().cloned().chain([value.clone()]).collect::<Vec<String>>())
            });
            meant = longer.collect();
        }
        Ok(meant)
    }

    /// The ids of the keys that have this id or this name, a few of them.
    async fn key_ids(&self, text: &str) -> Result<Vec<String>, ManageError> {
        let declared = self.declared();
        let name = text.strip_prefix(DECLARED).unwrap_or(text);
        if declared.key_settings.iter().any(|key| key.name == name) {
            return Ok(vec![format!("{DECLARED}{name}")]);
        }
        if keys::get(self.db(), text).await?.is_some() {
            return Ok(vec![text.to_owned()]);
        }
        let filter = KeyFilter { name: Some(text.to_owned()), ..KeyFilter::default() };
        let rows = keys::list(self.db(), &filter, None, u32::try_from(MOST).unwrap_or(u32::MAX)).await?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }
}

/// A value for each word of the scope: the whole text for one, parts between commas for several.
fn split<'t>(scope: &Scope, subject: &'t str) -> Result<Vec<&'t str>, ManageError> {
    let values: Vec<&str> = match scope.0.len() {
        0 => Vec::new(),
        words => subject.splitn(words, ',').collect(),
    };
    if values.is_empty() || values.len() != scope.0.len() || values.iter().any(|value| value.is_empty()) {
        let words: Vec<&str> = scope.0.iter().map(|dimension| dimension.as_str()).collect();
        let message = match words.is_empty() {
            true => "a global quota has one counter: leave `subject` out".to_owned(),
            false => format!("`subject` must have a value for each of: {}, with commas", words.join(", ")),
        };
        return Err(ManageError::invalid("subject", message));
    }
    Ok(values)
}
