//! Questions to the ledger as people and programs write them.

use std::{borrow::Cow, fmt::Write, str::FromStr};

use jiff::{Timestamp, Zoned};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    store::{
        Db, StoreError, keys,
        ledger::{Bucket, Dimension, RequestFilter, UsageQuery},
    },
    types::{Moment, Outcome, Zone, nearest},
};

/// A question for sums.
#[derive(Clone, Debug)]
pub struct UsageQuestion {
    /// Unset: the beginning of the month.
    pub from: Option<Moment>,
    /// Until before this. Unset: now.
    pub to: Option<Moment>,
    pub zone: Zone,
    pub bucket: Option<Every>,
    pub by: By,
    pub filters: Filters,
    pub limit: u32,
    pub cursor: Option<String>,
    pub now: Timestamp,
}

/// A question for single calls.
#[derive(Clone, Debug)]
pub struct RequestQuestion {
    pub from: Option<Moment>,
    /// Until before this.
    pub to: Option<Moment>,
    pub zone: Zone,
    pub filters: Filters,
    pub limit: u32,
    pub cursor: Option<String>,
}

/// What sums are grouped by: one or two names, with a comma.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct By(pub Vec<Dimension>);

/// What time is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Every(pub Bucket);

/// Only calls of which all of this is so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Filters {
    /// Only this project, by its id.
    pub project: Option<String>,
    /// Only this key, by its id, its name or its last four characters.
    pub key: Option<String>,
    /// Only this model, by its configured name.
    pub model: Option<String>,
    /// Only this provider.
    pub provider: Option<String>,
    /// Only this target, as `provider/model`.
    pub target: Option<String>,
    /// Only calls with this tag.
    pub tag: Option<String>,
    /// Only this end user.
    pub end_user: Option<String>,
    /// Only this workflow.
    pub workflow: Option<String>,
    /// Only this session.
    pub session: Option<String>,
    /// Only this step.
    pub step: Option<String>,
    /// Only this operation: `chat`, `text_completion`, `embeddings`.
    pub operation: Option<String>,
    /// Only calls that ended like this: `ok`, `client_cancel`, `rate_limited`, …
    pub outcome: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The question is wrong; `param` is the part of it that is.
    #[error("{message}")]
    Question { param: &'static str, message: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What tells a question from others, so that its cursors are of no use elsewhere.
pub(super) type Print = String;

impl UsageQuestion {
    /// The question as the store takes it.
    pub(super) async fn query(&self, db: &Db) -> Result<(UsageQuery, Print), ReportError> {
        let wrong = |param| move |message| ReportError::Question { param, message };
        let from = match self.from {
            Some(from) => from.at(&self.zone).map_err(wrong("from"))?,
            None => self.month().map_err(wrong("from"))?,
        };
        let to = self.to.map_or(Ok(self.now), |to| to.at(&self.zone)).map_err(wrong("to"))?;
        if from >= to {
            let message = format!("`from` ({from}) must be before `to` ({to}), which is not included.");
            return Err(ReportError::Question { param: "from", message });
        }
        let filters = self.filters.for_store(db).await?;
        // Without `to` the range grows between two pages; all else must be the same.
        let print = print(&format!("{from} {:?} {} {:?} {:?} {filters:?}", self.to, self.zone, self.bucket, self.by));
        let query = UsageQuery {
            from: from.as_millisecond(),
            to: to.as_millisecond(),
            bucket: self.bucket.map(|every| every.0),
            zone: self.zone.0.clone(),
            by: self.by.0.clone(),
            filters,
            limit: self.limit,
            after: after(self.cursor.as_deref(), &print)?,
        };
        Ok((query, print))
    }

    /// The beginning of the month that it is now.
    fn month(&self) -> Result<Timestamp, String> {
        let now: Zoned = self.now.to_zoned(self.zone.0.clone());
        let first = now.date().first_of_month();
        Moment::Date(first).at(&self.zone)
    }
}

impl RequestQuestion {
    /// The question as the store takes it.
    pub(super) async fn filter(&self, db: &Db) -> Result<(RequestFilter, Print), ReportError> {
        let at = |moment: Option<Moment>, param| {
            let at = moment.map(|moment| moment.at(&self.zone)).transpose();
            at.map(|at| at.map(Timestamp::as_millisecond)).map_err(|message| ReportError::Question { param, message })
        };
        let (from, to) = (at(self.from, "from")?, at(self.to, "to")?);
        let filters = self.filters.for_store(db).await?;
        let print = print(&format!("requests {from:?} {to:?} {filters:?}"));
        let after = after(self.cursor.as_deref(), &print)?;
        Ok((RequestFilter { from, to, filters, limit: self.limit, after }, print))
    }
}

impl Filters {
    /// Sets one of them, by its name.
    ///
    /// # Errors
    /// When there is none of this name, with a sentence.
    pub fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        let dimension = dimension(name)?;
        *self.place(dimension) = Some(value);
        Ok(())
    }

    fn place(&mut self, dimension: Dimension) -> &mut Option<String> {
        match dimension {
            Dimension::Project => &mut self.project,
            Dimension::Key => &mut self.key,
            Dimension::Model => &mut self.model,
            Dimension::Provider => &mut self.provider,
            Dimension::Target => &mut self.target,
            Dimension::Tag => &mut self.tag,
            Dimension::EndUser => &mut self.end_user,
            Dimension::Workflow => &mut self.workflow,
            Dimension::Session => &mut self.session,
            Dimension::Step => &mut self.step,
            Dimension::Operation => &mut self.operation,
            Dimension::Outcome => &mut self.outcome,
        }
    }

    async fn for_store(&self, db: &Db) -> Result<Vec<(Dimension, String)>, ReportError> {
        let mut own = self.clone();
        let mut filters: Vec<(Dimension, String)> =
            Dimension::ALL.into_iter().filter_map(|each| own.place(each).take().map(|value| (each, value))).collect();
        if let Some(outcome) = &self.outcome {
            let words = Outcome::ALL.map(Outcome::as_str);
            if !words.contains(&outcome.as_str()) {
                let message = not_one_of("outcome", outcome, &words);
                return Err(ReportError::Question { param: "outcome", message });
            }
        }
        if let Some(key) = &self.key {
            // People know keys by their names; the ledger knows them by their ids.
            filters.push((Dimension::Key, format!("declared:{key}")));
            filters.extend(keys::find(db, key).await?.into_iter().map(|row| (Dimension::Key, row.id)));
        }
        Ok(filters)
    }
}

/// A cursor that belongs to another question would skip what it should not.
fn after(cursor: Option<&str>, print: &str) -> Result<Option<String>, ReportError> {
    let Some(cursor) = cursor else { return Ok(None) };
    match cursor.strip_prefix(print).and_then(|rest| rest.strip_prefix('-')) {
        Some(after) => Ok(Some(after.to_owned())),
        None => Err(ReportError::Question {
            param: "cursor",
            message: "This cursor is not of this question: take `next_cursor` of the page before, and leave the other \
                      parameters as they were."
                .to_owned(),
        }),
    }
}

/// Where the next page of the question with this print begins.
pub(super) fn cursor(print: &str, after: &str) -> String {
    format!("{print}-{after}")
}

fn print(question: &str) -> Print {
    Sha256::digest(question).iter().take(6).fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn dimension(word: &str) -> Result<Dimension, String> {
    Dimension::from_word(word).ok_or_else(|| not_one_of("name", word, &Dimension::ALL.map(Dimension::as_str)))
}

fn not_one_of(what: &str, word: &str, names: &[&str]) -> String {
    let shown: String = word.chars().take(40).flat_map(char::escape_debug).collect();
    match nearest(word, names.iter().copied()) {
        Some(near) => format!("there is no {what} `{shown}`; did you mean `{near}`?"),
        None => format!("there is no {what} `{shown}`; there are: {}", names.join(", ")),
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let by: Vec<Dimension> = text.split(',').map(|word| dimension(word.trim())).collect::<Result<_, _>>()?;
        match by[..] {
            [_] => Ok(Self(by)),
            [one, other] if one != other => Ok(Self(by)),
            [_, _] => Err("the same name twice".to_owned()),
            _ => Err("at most two names".to_owned()),
        }
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = Bucket::ALL.map(Bucket::as_str);
        Bucket::from_word(text).map(Self).ok_or_else(|| not_one_of("bucket", text, &words))
    }
}

impl TryFrom<String> for By {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for Every {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl JsonSchema for By {
    fn schema_name() -> Cow<'static, str> {
        "Dimensions".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words = Dimension::ALL.map(Dimension::as_str);
        json_schema!({ "type": "array", "items": { "enum": words }, "minItems": 1, "maxItems": 2, "uniqueItems": true })
    }
}

impl JsonSchema for Every {
    fn schema_name() -> Cow<'static, str> {
        "Bucket".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": Bucket::ALL.map(Bucket::as_str) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_are_one_or_two_known_names() {
        assert_eq!("model".parse(), Ok(By(vec![Dimension::Model])));
        assert_eq!("project, end_user".parse(), Ok(By(vec![Dimension::Project, Dimension::EndUser])));
        let cases = [
            ("modle", "did you mean `model`?"),
            ("", "there are: project, key"),
            ("model,model", "twice"),
            ("model,key,tag", "at most two"),
            ("model,", "there is no name ``"),
        ];
        for (text, words) in cases {
            let error = text.parse::<By>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!("weeks".parse::<Every>().unwrap_err().contains("there are: hour, day, month"));
        assert!("days".parse::<Every>().unwrap_err().contains("did you mean `day`?"));
    }

    #[test]
    fn every_dimension_can_be_filtered_by() {
        for dimension in Dimension::ALL {
            let mut filters = Filters::default();
            filters.set(dimension.as_str(), "x".into()).unwrap();
            assert_ne!(filters, Filters::default());
        }
        assert!(Filters::default().set("kay", "x".into()).unwrap_err().contains("did you mean `key`?"));
    }

    #[test]
    fn a_cursor_belongs_to_its_question() {
        let (one, other) = (print("a"), print("b"));
        assert_eq!(after(Some(&cursor(&one, "7.x")), &one).unwrap().as_deref(), Some("7.x"));
        for wrong in [cursor(&other, "7.x"), String::new(), "7.x".to_owned(), one.clone()] {
            let error = after(Some(&wrong), &one).unwrap_err();
            assert!(matches!(error, ReportError::Question { param: "cursor", .. }), "{wrong}");
        }
    }
}
