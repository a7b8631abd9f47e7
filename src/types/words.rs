//! Names that were probably meant.

/// The one of `names` that `word` was probably meant to be.
pub fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // Longer words are not names of ours, and the measure's cost grows with the product of the lengths.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let plain = |name: &str| name.to_ascii_lowercase().replace('-', "_");
    let measured = names.into_iter().map(|name| (strsim::damerau_levenshtein(&word, &plain(name)), name));
    let (distance, name) = measured.min_by_key(|(distance, _)| *distance)?;
    // One slip in a short word, one in three letters of a long one.
    (distance <= (name.len().min(word.len()) / 3).max(1)).then_some(name)
}
