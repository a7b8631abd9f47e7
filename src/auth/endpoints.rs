//! Which operations a key may use.

use crate::types::nearest;

/// An operation that a key must be let use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Chat,
    Completions,
    Embeddings,
    Messages,
    CountTokens,
    /// Listing what there is.
    Models,
}

/// Operations by their names. An empty one allows none; everything must be asked for, if only with `*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointAccess(u8);

impl Endpoint {
    pub const ALL: [Self; 6] =
        [Self::Chat, Self::Completions, Self::Embeddings, Self::Messages, Self::CountTokens, Self::Models];

    /// The word by which settings and the admin API know it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
            Self::Models => "models",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl EndpointAccess {
    /// # Errors
    /// The place of the first word that is no operation, and a sentence about it.
    pub fn new(words: &[String]) -> Result<Self, (usize, String)> {
        let mut bits = 0;
        for (place, word) in words.iter().enumerate() {
            bits |= match Endpoint::ALL.into_iter().find(|endpoint| endpoint.as_str() == word) {
                Some(endpoint) => endpoint.bit(),
                None if word == "*" => u8::MAX,
                None => return Err((place, unknown(word))),
            };
        }
        Ok(Self(bits))
    }

    pub fn allows(self, endpoint: Endpoint) -> bool {
        self.0 & endpoint.bit() != 0
    }
}

fn unknown(word: &str) -> String {
    let words = Endpoint::ALL.map(Endpoint::as_str);
    let hint = match nearest(word, words) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write {}, or `*` for all", words.join(", ")),
    };
    let word: String = word.chars().take(60).flat_map(char::escape_debug).collect();
    format!("there is no endpoint `{word}`; {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(words: &[&str]) -> Result<EndpointAccess, (usize, String)> {
        EndpointAccess::new(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn nothing_is_allowed_that_was_not_asked_for() {
        for asked in Endpoint::ALL {
            let only = access(&[asked.as_str()]).unwrap();
            for endpoint in Endpoint::ALL {
                assert_eq!(only.allows(endpoint), endpoint == asked, "{asked:?} {endpoint:?}");
                assert!(access(&["*"]).unwrap().allows(endpoint));
                assert!(!access(&[]).unwrap().allows(endpoint));
            }
        }
        assert!(access(&["chat", "models"]).unwrap().allows(Endpoint::Models));
    }

    #[test]
    fn a_slip_is_told_with_its_place_and_the_nearest_word() {
        let (place, why) = access(&["chat", "embedings"]).unwrap_err();
        assert!(place == 1 && why.contains("did you mean `embeddings`?"), "{why}");
        let (_, why) = access(&["zzzzzz\n"]).unwrap_err();
        assert!(why.contains("`zzzzzz\\n`") && why.contains("chat, completions"), "{why}");
        assert!(access(&[""]).is_err() && access(&["Chat"]).is_err());
    }
}
