//! Cursors: where the next page of a list begins. Made of the sort key of the last row, so that a page stays right
//! whatever is written meanwhile; opaque to clients, and safe in a URL.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::store::StoreError;

/// The cursor of a sort key.
pub(super) fn encode(number: i64, texts: &[&str]) -> String {
    let texts = texts.iter().map(|text| format!(".{}", utf8_percent_encode(text, NON_ALPHANUMERIC)));
    number.to_string() + &texts.collect::<String>()
}

/// The sort key of a cursor, which has `texts` texts.
///
/// # Errors
/// When it is not a cursor of such a list.
pub(super) fn decode(cursor: &str, texts: usize) -> Result<(i64, Vec<String>), StoreError> {
    let read = || {
        let mut parts = cursor.split('.');
        let number = parts.next()?.parse().ok()?;
        let found: Option<Vec<String>> =
            parts.map(|part| Some(percent_decode_str(part).decode_utf8().ok()?.into_owned())).collect();
        found.filter(|found| found.len() == texts).map(|found| (number, found))
    };
    read()
        .ok_or_else(|| StoreError::BadQuery("the cursor is not one of this list: take it from the page before".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_whatever_is_in_it() {
        for texts in [vec![], vec![""], vec!["a.b", "ä%2e/?&=#"]] {
            let cursor = encode(-7, &texts);
            assert_eq!(decode(&cursor, texts.len()).unwrap(), (-7, texts.iter().map(|&t| t.to_owned()).collect()));
            assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.%".contains(&byte)), "{cursor}");
            decode(&cursor, texts.len() + 1).unwrap_err();
        }
        for bad in ["", "x", ".", "1.%ff", "99999999999999999999.a", "1'; drop table requests; --"] {
            decode(bad, 1).unwrap_err();
        }
    }
}
