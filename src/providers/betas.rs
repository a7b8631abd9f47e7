//! Which of Anthropic's betas a provider takes.

use crate::{
    providers::{BadProvider, settings::BetaSettings},
    wire::anthropic::betas::{Feature, Place, built_in, undated},
};

/// Which betas a provider takes, and what each of them gates.
#[derive(Clone, Debug, Default)]
pub struct Betas {
    /// `None`: whatever is not denied.
    allow: Option<Vec<String>>,
    deny: Vec<String>,
    features: Vec<Feature>,
}

/// The words of a client's header, and what of its request must not be sent.
#[derive(Debug, Default)]
pub struct Governed<'p, 't> {
    pub kept: Vec<&'t str>,
    pub dropped: Vec<&'t str>,
    /// What the betas gate that are not taken.
    pub refused: Vec<&'p Place>,
}

impl Betas {
    /// As the operator says; what is left open, as the vendor does. `vendor`: `None` takes everything.
    ///
    /// # Errors
    /// When a place cannot be read.
    pub(super) fn build(settings: &BetaSettings, vendor: Option<&[&str]>) -> Result<Self, BadProvider> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut features = built_in();
        for (name, places) in &settings.gates {
            let read = |text: &String| {
                Place::read(text).ok_or_else(|| BadProvider {
                    member: "betas",
                    message: format!(
                        "`{text}` is not a place in a request; docs/messages.md shows how they are written"
                    ),
                })
            };
            let places = places.iter().map(read).collect::<Result<_, _>>()?;
            features.retain(|feature| !feature.names.contains(name));
            features.push(Feature { names: vec![name.clone()], places });
        }
        Ok(Self { allow: settings.allow.clone().or_else(|| vendor.map(owned)), deny: settings.deny.clone(), features })
    }

    /// Whether there is nothing to be looked at.
    pub fn takes_all(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }

    /// Divides the words of a client's header, and says what of its request goes with those that are dropped. What a
    /// beta gates is taken where one of its words is kept, and, without any, where a word of it would be.
    pub fn govern<'p, 't>(&'p self, tokens: &[&'t str]) -> Governed<'p, 't> {
        let (kept, dropped) = tokens.iter().partition(|token| self.takes(token));
        let mut governed = Governed { kept, dropped, refused: Vec::new() };
        for feature in &self.features {
            let named =
                |tokens: &[&str]| tokens.iter().any(|token| feature.names.iter().any(|name| name == undated(token)));
            let taken = match (named(&governed.kept), named(&governed.dropped)) {
                (true, _) => true,
                (false, true) => false,
                (false, false) => feature.names.iter().any(|name| self.takes_feature(name)),
            };
            if !taken {
                governed.refused.extend(&feature.places);
            }
        }
        governed
    }

    /// Whether it takes this word.
    pub fn takes(&self, token: &str) -> bool {
        let among = |list: &[String]| list.iter().any(|pattern| matches(pattern, token));
        self.allow.as_deref().is_none_or(among) && !among(&self.deny)
    }

    fn takes_feature(&self, name: &str) -> bool {
        let allows = |pattern: &String| matches(pattern, name) || undated(pattern) == name;
        let denies = |pattern: &String| matches(pattern, name);
        self.allow.as_ref().is_none_or(|allow| allow.iter().any(allows)) && !self.deny.iter().any(denies)
    }
}

/// Whether a pattern means a word: all of it, all but its date, or, with a `*` at its end, how it begins.
fn matches(pattern: &str, token: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => token.starts_with(beginning),
        None => pattern == token || pattern == undated(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn betas(allow: Option<&[&str]>, deny: &[&str]) -> Betas {
        let own = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let settings = BetaSettings { allow: allow.map(own), deny: own(deny), ..BetaSettings::default() };
        Betas::build(&settings, None).unwrap()
    }

    #[test]
    fn a_word_and_what_it_gates_are_taken_or_refused_together() {
        const CONTEXT: &str = "context-management-2025-06-27";
        const OTHER: &str = "context-management-2099-01-01";
        // What is allowed, what is denied, the client's words; those kept, and whether the member is taken.
        type Case<'c> = (Option<&'c [&'c str]>, &'c [&'c str], &'c [&'c str], &'c [&'c str], bool);
        let cases: &[Case<'_>] = &[
            (None, &[], &[CONTEXT, "new-thing-2027-01-01"], &[CONTEXT, "new-thing-2027-01-01"], true),
            (None, &["context-management"], &[CONTEXT, "x"], &["x"], false),
            (None, &["context-management"], &[], &[], false),
            (None, &[CONTEXT], &[OTHER], &[OTHER], true),
            (None, &[CONTEXT], &[CONTEXT], &[], false),
            (None, &[CONTEXT], &[], &[], true),
            (Some(&[]), &[], &[CONTEXT], &[], false),
            (Some(&["context-management"]), &[], &[CONTEXT, OTHER, "y-2025-01-01"], &[CONTEXT, OTHER], true),
            (Some(&[CONTEXT]), &[], &[OTHER], &[], false),
            (Some(&[CONTEXT]), &[], &[], &[], true),
            (Some(&["context-*"]), &[], &[CONTEXT, "context-1m-2025-08-07"], &[CONTEXT, "context-1m-2025-08-07"], true),
            (Some(&["*"]), &["context-management"], &[CONTEXT, "z"], &["z"], false),
        ];
        for (allow, deny, tokens, kept, taken) in cases {
            let betas = betas(*allow, deny);
            let governed = betas.govern(tokens);
            let refused = governed.refused.contains(&&Place::Member("context_management".to_owned()));
            assert_eq!((governed.kept.as_slice(), !refused), (*kept, *taken), "{allow:?} {deny:?} {tokens:?}");
            assert_eq!(governed.kept.len() + governed.dropped.len(), tokens.len());
        }
    }

    #[test]
    fn a_beta_that_is_not_known_yet_is_a_matter_of_configuration() {
        let gates = [("brand-new".to_owned(), vec!["brand_new".to_owned(), "tools[].fresh".to_owned()])];
        let settings = BetaSettings { gates: gates.into(), deny: vec!["brand-new".into()], allow: None };
        let betas = Betas::build(&settings, None).unwrap();
        let governed = betas.govern(&["brand-new-2027-02-03"]);
        assert_eq!(governed.dropped, ["brand-new-2027-02-03"]);
        assert_eq!(governed.refused, [&Place::Member("brand_new".into()), &Place::OfTools("fresh".into())]);
        let wrong =
            BetaSettings { gates: [("x".to_owned(), vec!["a..b".to_owned()])].into(), ..BetaSettings::default() };
        assert_eq!(Betas::build(&wrong, None).unwrap_err().member, "betas");
    }
}
