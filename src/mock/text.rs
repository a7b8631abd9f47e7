//! The text of an answer and the pieces a stream delivers it in.

use std::borrow::Cow;

/// A text and how it is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// At the start of each word, roughly as a tokenizer would.
    Words(String),
    /// Into that many pieces of about equal length.
    Parts(String, u32),
    /// The text, that many times.
    Repeat(String, u32),
}

impl Text {
    /// All of it.
    pub(super) fn whole(&self) -> Cow<'_, str> {
        match self {
            Self::Words(text) | Self::Parts(text, _) => Cow::Borrowed(text),
            Self::Repeat(unit, count) => Cow::Owned(unit.repeat(*count as usize)),
        }
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Words(text) | Self::Parts(text, _) => text.len() as u64,
            Self::Repeat(unit, count) => unit.len() as u64 * u64::from(*count),
        }
    }

    /// The pieces, in order; together they are the whole.
    pub(super) fn pieces(&self) -> Pieces<'_> {
        Pieces { text: self, at: 0, number: 0 }
    }
}

/// Iterates over the pieces of a text.
pub(super) struct Pieces<'a> {
    text: &'a Text,
    at: usize,
    number: u32,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (text, end) = match self.text {
            Text::Repeat(unit, count) => {
                self.number += 1;
                return (self.number <= *count).then_some(unit);
            }
            Text::Words(text) if self.at < text.len() => (text, self.at + word(&text[self.at..])),
            Text::Parts(text, count) if self.number < *count => {
                self.number += 1;
                let end = text.len() as u64 * u64::from(self.number) / u64::from(*count);
                (text, boundary(text, end as usize))
            }
            Text::Words(_) | Text::Parts(..) => return None,
        };
        let piece = &text[self.at..end];
        self.at = end;
        Some(piece)
    }
}

/// The length of a word with the white space before it.
fn word(text: &str) -> usize {
    let start = text.find(|c: char| !c.is_whitespace()).unwrap_or(text.len());
    text[start..].find(char::is_whitespace).map_or(text.len(), |length| start + length)
}

/// The nearest place at or after `at` where a character ends.
fn boundary(text: &str, at: usize) -> usize {
    (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_are_the_whole_however_it_is_cut() {
        let cases = [
            (Text::Words("You said: grüß  Gott \n".into()), vec!["You", " said:", " grüß", "  Gott", " \n"]),
            (Text::Words(String::new()), vec![]),
            (Text::Parts("äöü€".into(), 3), vec!["äö", "ü", "€"]),
            (Text::Parts("ab".into(), 4), vec!["", "a", "", "b"]),
            (Text::Parts("ab".into(), 0), vec![]),
            (Text::Repeat("ha ".into(), 2), vec!["ha ", "ha "]),
        ];
        for (text, pieces) in cases {
            assert_eq!(text.pieces().collect::<Vec<_>>(), pieces);
            if text != Text::Parts("ab".into(), 0) {
                assert_eq!((pieces.concat(), pieces.concat().len() as u64), (text.whole().into_owned(), text.len()));
            }
        }
    }
}
