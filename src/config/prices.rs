//! Prices: those that stand in the configuration, and price files, which are held against the schema of their own in
//! the same way as the configuration is held against its.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use serde_json::Value;

use super::{
    complaint::{Complaints, Severity},
    document::{Document, Hidden},
    environment::Environment,
    load::{Loaded, complaints, read_text, step},
    settings::Settings,
    shape::conform,
    tree, vendors,
    watch::Watch,
};
use crate::{
    catalog::{Book, Catalog, Origin, Price, PriceFile},
    types::Size,
};

/// The largest price file that is read from disk. The whole catalogue takes one megabyte.
const MAX_FILE: Size = Size::mib(16);
/// Values in a price file: ten times the catalogue's.
const MAX_NODES: usize = 1_000_000;

/// A target of the configuration and what it costs.
#[derive(Clone, Debug, PartialEq)]
pub struct PricedTarget {
    /// The operator's name for the provider.
    pub provider: String,
    /// The vendor's row.
    pub kind: String,
    /// The model as the vendor names it; `*` when it is whatever the client names.
    pub model: String,
    /// What it costs. For `*`, what models that nothing is known of cost there.
    pub price: Price,
    /// Whether the catalogue knows the vendor.
    pub in_catalogue: bool,
}

/// Reads a price file. `file` is only named in complaints.
///
/// # Errors
/// Everything that is wrong with it; nothing of it is then used.
pub fn read_prices(text: &str, file: Option<&Path>, origin: Origin) -> Result<Book, Complaints> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let tree = tree::read_up_to(text, MAX_NODES);
    if tree.broken {
        return Err(complaints(&Document::new(file, text, None, Hidden::These(Vec::new())), tree.flaws));
    }
    // Prices hold no secrets and depend on no environment: a variable is an error.
    let conformed = conform(tree.root.as_ref(), schema(), &Environment::of::<&str, &str>([]), &mut Watch::default());
    let document = Document::new(file, text, tree.root, Hidden::These(conformed.hidden));
    let mut flaws = [tree.flaws, conformed.flaws].concat();
    if flaws.is_empty() {
        let typed: Result<PriceFile, _> = serde_path_to_error::deserialize(conformed.value);
        match typed.map(|prices| Book::new(&prices, origin)) {
            Ok(Ok(book)) => return Ok(book),
            Ok(Err(wrong)) => {
                let flaw = |bad: crate::catalog::BadEntry| {
                    document.complain(Severity::Error, &bad.path, bad.message.to_owned(), None)
                };
                flaws.extend(wrong.into_iter().map(flaw));
            }
            Err(error) => {
                let path: Vec<String> = error.path().iter().map(step).collect();
                flaws.push(document.complain(Severity::Error, &path, "this cannot be understood".to_owned(), None));
            }
        }
    }
    Err(complaints(&document, flaws))
}

/// The operator's price file, if there is one; it is watched from here on.
pub(super) fn own_file(settings: &Settings, watch: &mut Watch) -> Result<Option<Arc<Book>>, Complaints> {
    let Some(file) = &settings.prices.file else { return Ok(None) };
    watch.add(file);
    let text = read_text(file, MAX_FILE)?;
    read_prices(&text, Some(file), Origin::File).map(|book| Some(Arc::new(book)))
}

/// The catalogue with what the configuration says of prices. Its entries have been checked.
pub(super) fn catalog(settings: &Settings, file: Option<Arc<Book>>) -> Catalog {
    Catalog::embedded().with(settings.prices.overrides().unwrap_or_default()).with_file(file)
}

impl Loaded {
    /// What every target of the configuration costs, in the order of providers and models, each once.
    pub fn priced_targets(&self) -> Vec<PricedTarget> {
        let targets = self.settings.models.values().flat_map(|model| &model.targets);
        let mut names: Vec<(&str, &str)> = targets.filter_map(|target| target.model.split_once('/')).collect();
        names.sort_unstable();
        names.dedup();
        let priced = names.into_iter().map(|(provider, model)| {
            let kind = self.kind_of(provider);
            let price = self.catalog.price_of(provider, kind, model);
            let in_catalogue = Catalog::knows(kind);
            let [provider, kind, model] = [provider, kind, model].map(str::to_owned);
            PricedTarget { provider, kind, model, price, in_catalogue }
        });
        priced.collect()
    }

    /// The vendor's row behind a provider of the configuration.
    pub fn kind_of<'s>(&'s self, provider: &'s str) -> &'s str {
        let settings = self.settings.providers.get(provider);
        let kind = settings.and_then(|settings| settings.kind.as_deref()).unwrap_or(provider);
        vendors::find(kind).map_or(kind, |vendor| vendor.name)
    }
}

fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(PriceFile).to_value());
    &SCHEMA
}
