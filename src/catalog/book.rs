//! A book of prices: vendors and their models, as a price file has them.

use std::{
    collections::{BTreeMap, btree_map::Entry as Slot},
    sync::Arc,
};

use super::{
    Price,
    entry::{BadEntry, Entry},
    names::matches,
    price::Origin,
};

/// The contents of a price file: entries by vendor and model.
pub type PriceFile = BTreeMap<String, BTreeMap<String, Entry>>;

/// Prices by vendor and the model's name or other names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    vendors: BTreeMap<Box<str>, BTreeMap<Arc<str>, Price>>,
    /// How many models there are, other names not counted.
    len: usize,
}

impl Book {
    /// The prices of `file`.
    ///
    /// # Errors
    /// Every entry that contradicts itself or another, with its path in the file.
    pub fn new(file: &PriceFile, origin: Origin) -> Result<Self, Vec<BadEntry>> {
        let (mut book, mut wrong) = (Self::default(), Vec::new());
        for (vendor, models) in file {
            let prices = book.vendors.entry(vendor.as_str().into()).or_default();
            for (model, entry) in models {
                let within = |error: BadEntry| BadEntry {
                    path: [vec![vendor.clone(), model.clone()], error.path].concat(),
                    ..error
                };
                match entry.price(vendor, model, origin) {
                    Ok(price) => {
                        book.len += 1;
                        for name in std::iter::once(model).chain(&entry.also) {
                            match prices.entry(name.as_str().into()) {
                                Slot::Vacant(slot) => drop(slot.insert(price.clone())),
                                Slot::Occupied(_) => {
                                    let path = vec!["also".to_owned()];
                                    let message = "another entry has one of these names, too";
                                    wrong.push(within(BadEntry { path, message }));
                                }
                            }
                        }
                    }
                    Err(error) => wrong.push(within(error)),
                }
            }
        }
        if wrong.is_empty() { Ok(book) } else { Err(wrong) }
    }

    /// The price of `model` at `vendor`, by one of its names or as [`names`](super::names) explains.
    pub fn find(&self, vendor: &str, model: &str) -> Option<Price> {
        let prices = self.vendors.get(vendor)?;
        matches(vendor, model, |name| prices.get(name).cloned())
    }

    /// Every vendor, name and price.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &Price)> {
        let all = self.vendors.iter();
        all.flat_map(|(vendor, prices)| prices.iter().map(|(name, price)| (&**vendor, &**name, price)))
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
