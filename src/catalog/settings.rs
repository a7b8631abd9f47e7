//! What the operator may say about prices.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Overrides, Price,
    entry::{BadEntry, CardEntry, Entry},
    facts::Facts,
    price::{ModelPrice, Origin, PriceList},
};
use crate::types::{Period, Size};

/// Prices that differ from the catalogue's, or are missing in it.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PriceSettings {
    /// What a target costs: by `provider/model`, or `provider/*` for all models of a provider.
    pub models: BTreeMap<String, Entry>,
    /// What is charged for targets whose price is unknown. Left out: their calls have no cost, and are marked.
    pub ceiling: Option<CardEntry>,
    /// A file of prices by vendor and model, which come before the catalogue's.
    pub file: Option<PathBuf>,
    /// Where such a file is fetched. Left out: nothing is fetched.
    pub url: Option<String>,
    /// How often it is fetched.
    pub refresh: Period,
    /// How long fetching may take.
    pub timeout: Period,
    /// How large it may be.
    pub max_size: Size,
}

impl Default for PriceSettings {
    fn default() -> Self {
        Self {
            models: BTreeMap::new(),
            ceiling: None,
            file: None,
            url: None,
            refresh: Period::from_secs(86_400),
            timeout: Period::from_secs(30),
            max_size: Size::mib(16),
        }
    }
}

impl PriceSettings {
    /// The prices that stand in the configuration itself.
    ///
    /// # Errors
    /// Every entry that contradicts itself, with its path below `prices`.
    pub fn overrides(&self) -> Result<Overrides, Vec<BadEntry>> {
        let (mut overrides, mut wrong) = (Overrides::default(), Vec::new());
        for (target, entry) in &self.models {
            let (provider, model) = target.split_once('/').unwrap_or((target, ""));
            match entry.price(provider, model, Origin::Configuration) {
                Ok(Price::Unknown) => {
                    let message =
                        "there is no price here: give `input` and `output`, or what else is charged, or `free: true`";
                    wrong.push(BadEntry { path: vec!["models".to_owned(), target.clone()], message });
                }
                Ok(price) => drop(overrides.models.insert(target.clone(), price)),
                Err(BadEntry { path, message }) => {
                    let path = [vec!["models".to_owned(), target.clone()], path].concat();
                    wrong.push(BadEntry { path, message });
                }
            }
        }
        if let Some(ceiling) = &self.ceiling {
            let list = PriceList { base: ceiling.card(), ..PriceList::default() };
            let checked = match list.check() {
                Ok(()) if list.base.rates.is_empty() => {
                    Err(BadEntry { path: vec![], message: "there is no rate here" })
                }
                checked => checked,
            };
            if let Err(BadEntry { path, message }) = checked {
                wrong.push(BadEntry { path: [vec!["ceiling".to_owned()], path].concat(), message });
            }
            overrides.ceiling = Some(Arc::new(ModelPrice {
                vendor: "".into(),
                model: "ceiling".into(),
                facts: Facts::default(),
                lists: vec![list],
                origin: Origin::Ceiling,
                source: None,
            }));
        }
        if wrong.is_empty() { Ok(overrides) } else { Err(wrong) }
    }
}
