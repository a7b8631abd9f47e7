//! What a key may do, or all keys of a project together. What a key may do in the end is what both allow.

use super::{access::ModelAccess, addresses::AddressAccess, endpoints::EndpointAccess};

/// Each part allows nothing that it does not name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rights {
    pub models: ModelAccess,
    pub endpoints: EndpointAccess,
    pub addresses: AddressAccess,
}

/// An entry of a list that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRight {
    /// `models`, `endpoints` or `addresses`.
    pub member: &'static str,
    /// The entry at fault, from 0; `None`: the list as a whole.
    pub place: Option<usize>,
    /// What is wrong and what to write.
    pub message: String,
}

/// The most entries of each list.
pub const MAX_ENTRIES: usize = 500;

impl Rights {
    /// All that is wrong with the lists, or what they allow.
    ///
    /// # Errors
    /// The first entry of each list that cannot be used.
    pub fn new(models: &[String], endpoints: &[String], addresses: &[String]) -> Result<Self, Vec<BadRight>> {
        let mut bad = Vec::new();
        for (member, list) in [("models", models), ("endpoints", endpoints), ("addresses", addresses)] {
            if list.len() > MAX_ENTRIES {
                let message = format!("there are {} entries; write at most {MAX_ENTRIES}", list.len());
                bad.push(BadRight { member, place: None, message });
            }
        }
        let mut complain = |member, (place, message)| bad.push(BadRight { member, place: Some(place), message });
        let models = ModelAccess::new(models).map_err(|error| complain("models", (error.place, error.to_string())));
        let endpoints = EndpointAccess::new(endpoints).map_err(|why| complain("endpoints", why));
        let addresses = AddressAccess::new(addresses).map_err(|why| complain("addresses", why));
        match (models, endpoints, addresses) {
            (Ok(models), Ok(endpoints), Ok(addresses)) if bad.is_empty() => Ok(Self { models, endpoints, addresses }),
            _ => Err(bad),
        }
    }

    /// Rights as they are stored. A list that can mean nothing, because somebody edited the table by hand, grants
    /// nothing. `whose` names the row in the log.
    pub(super) fn of_row(whose: &str, models: &[String], endpoints: &[String], addresses: &[String]) -> Self {
        Self::new(models, endpoints, addresses).unwrap_or_else(|bad| {
            let why: Vec<_> = bad.iter().map(|bad| format!("{}: {}", bad.member, bad.message)).collect();
            tracing::warn!(whose, "stored rights cannot be used and grant nothing: {}", why.join("; "));
            Self::default()
        })
    }

    /// Everything.
    pub(super) fn all() -> Self {
        let all = ["*".to_owned()];
        Self::new(&all, &all, &all).unwrap_or_default()
    }
}

impl BadRight {
    /// `models[3]`.
    pub fn path(&self) -> String {
        self.place.map_or_else(|| self.member.to_owned(), |place| format!("{}[{place}]", self.member))
    }
}
