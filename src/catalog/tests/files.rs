//! The files of the catalogue.

use crate::{
    catalog::{Capability, Catalog, Price, PriceFile, book::Book, embedded, price::Origin},
    types::Clock,
};

#[test]
fn every_file_can_be_read_and_its_entries_make_sense() {
    let mut models = 0;
    for (vendor, text) in embedded::texts() {
        let file: PriceFile = serde_json::from_str(text).unwrap_or_else(|error| panic!("{vendor}: {error}"));
        assert_eq!(file.keys().collect::<Vec<_>>(), [vendor], "a file holds its vendor alone");
        let book = Book::new(&file, Origin::Catalogue).unwrap_or_else(|wrong| panic!("{vendor}: {wrong:?}"));
        models += book.len();
        for (model, entry) in &file[vendor] {
            for name in std::iter::once(model).chain(&entry.also) {
                let found = Catalog::embedded().find(vendor, name);
                assert_eq!(Some(&found), book.find(vendor, name).as_ref(), "{vendor}/{name}");
                assert_ne!(found, Price::Unknown, "{vendor}/{name} has no price: leave it out");
            }
        }
    }
    let vendors = embedded::vendors().count();
    assert!(models >= 1_500 && vendors >= 30, "{models} models of {vendors} vendors");
    assert!(embedded::vendors().is_sorted());
}

#[test]
fn well_known_models_are_there_with_what_is_known_of_them() {
    for (kind, model, context) in [
        ("openai", "gpt-5.5", 1_050_000),
        ("anthropic", "claude-opus-4-7", 1_000_000),
        ("anthropic_openai", "claude-opus-4-7", 1_000_000),
        ("gemini_openai", "gemini-2.5-pro", 1_048_576),
        ("deepseek", "deepseek-v4-pro", 1_000_000),
    ] {
        let Price::Known(price) = Catalog::embedded().find(kind, model) else { panic!("{kind}/{model} is not there") };
        assert_eq!(price.facts.context, Some(context), "{kind}/{model}");
        assert!(price.facts.can.has(Capability::Tools), "{kind}/{model}");
        assert!(price.source.as_ref().is_some_and(|page| page.starts_with("https://")), "{kind}/{model}");
    }
}

/// The first question about a vendor indexes its file. In a debug build this stays far below what a start may take, and
/// a gateway asks about a handful of vendors.
#[test]
fn the_largest_file_is_indexed_in_milliseconds() {
    let largest = embedded::texts().max_by_key(|(_, text)| text.len()).unwrap().0;
    let began = Clock::Real.now();
    assert_eq!(Catalog::embedded().find(largest, "no-such-model"), Price::Unknown);
    let first = began.elapsed();
    assert!(first.as_millis() < 500, "{largest}: {first:?}");
}
