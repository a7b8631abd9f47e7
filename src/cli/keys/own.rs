//! Quotas that a key or a project is made with, in a word: `usd=50/month`, `requests=600/1m`, `concurrent=4`.

use std::str::FromStr;

use serde_json::{Map, Value};

use crate::{auth::manage::OwnQuota, cli::quotas};

/// A measure, a limit and a window; all else is as in a default, and changed with `switchboard quotas edit`.
#[derive(Clone, Debug, PartialEq)]
pub struct Own(OwnQuota);

impl FromStr for Own {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write a measure, a limit and a window: usd=50/month, requests=600/1m, concurrent=4";
        let (measure, rest) = text.split_once('=').ok_or(FORM)?;
        let (limit, window) = match rest.split_once('/') {
            Some((limit, window)) => (limit, Some(window)),
            None => (rest, None),
        };
        let mut said = Map::from_iter([("measure".to_owned(), measure.into()), ("limit".to_owned(), limit.into())]);
        said.extend(window.map(|window| ("window".to_owned(), quotas::window(window))));
        serde_json::from_value(Value::Object(said)).map(Self).map_err(|error| format!("{error}; {FORM}"))
    }
}

/// The quotas that are meant.
pub(in crate::cli) fn own(quotas: Vec<Own>) -> Vec<OwnQuota> {
    quotas.into_iter().map(|Own(quota)| quota).collect()
}
