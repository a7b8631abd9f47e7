//! A choice that may be left to somebody else: `true`, `false` or `inherit`.

use std::str::FromStr;

/// `None` leaves it to the project, or to the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice(pub Option<bool>);

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(Self(Some(true))),
            "false" => Ok(Self(Some(false))),
            "inherit" => Ok(Self(None)),
            _ => Err("write true, false or inherit".to_owned()),
        }
    }
}

/// A choice in words, `None` where it is left to others.
pub(in crate::cli) fn chosen(choice: Option<bool>) -> Option<String> {
    choice.map(|choice| choice.to_string())
}
