//! The prices of a target's models, found once and not for every call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::catalog::{Catalog, Price};

/// What is charged where a target leads. A target with a `*` leads to models that are met as they are asked for: their
/// names come from clients, so those that are remembered are bounded in number and length, and others are looked up.
#[derive(Debug)]
pub struct Prices {
    catalog: Catalog,
    provider: Arc<str>,
    kind: &'static str,
    /// The model that it always leads to.
    fixed: Option<(Arc<str>, Price)>,
    met: Mutex<HashMap<Arc<str>, Price>>,
}

const MOST: usize = 256;
const LONGEST: usize = 256;

impl Prices {
    /// Of `provider`, which is of this `kind`; `fixed` is the one upstream model, if there is just one.
    pub fn new(catalog: Catalog, provider: Arc<str>, kind: &'static str, fixed: Option<Arc<str>>) -> Self {
        let fixed = fixed.map(|model| (model.clone(), catalog.price_of(&provider, kind, &model)));
        Self { catalog, provider, kind, fixed, met: Mutex::default() }
    }

    /// The price of `upstream_model`.
    pub fn of(&self, upstream_model: &Arc<str>) -> Price {
        if let Some((_, price)) = self.fixed.as_ref().filter(|(model, _)| model == upstream_model) {
            return price.clone();
        }
        // Each change to the map is one call, so that a panic leaves it whole.
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(price) = met.get(upstream_model) {
            return price.clone();
        }
        let price = self.catalog.price_of(&self.provider, self.kind, upstream_model);
        if met.len() < MOST && upstream_model.len() <= LONGEST {
            met.insert(upstream_model.clone(), price.clone());
        }
        price
    }

    /// The price of the one model that it leads to; `None` where there is a `*`.
    pub fn fixed(&self) -> Option<&Price> {
        self.fixed.as_ref().map(|(_, price)| price)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_names_are_priced_and_not_all_remembered() {
        let prices = Prices::new(Catalog::embedded(), "demo".into(), "mock", None);
        for index in 0..2 * MOST {
            assert_eq!(prices.of(&format!("m{index}").into()), Price::Free);
        }
        assert_eq!(prices.met.lock().unwrap().len(), MOST);
        let fixed = Prices::new(Catalog::embedded(), "demo".into(), "mock", Some("m".into()));
        assert_eq!((fixed.of(&"m".into()), fixed.fixed()), (Price::Free, Some(&Price::Free)));
        assert!(fixed.met.lock().unwrap().is_empty());
    }
}
