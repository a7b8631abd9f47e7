//! What configuration needs to know about vendors: a view of the table in `providers`.

/// What the checks and discovery ask of a vendor.
#[derive(Clone, Copy, Debug)]
pub(super) struct VendorFacts {
    pub name: &'static str,
    /// The environment variables that usually hold its key, the usual one first.
    pub key_env: &'static [&'static str],
    /// Whether it runs on the operator's own machines, where keys are not needed.
    pub local: bool,
    /// Whether the operator must say where its API is.
    pub needs_base_url: bool,
}

/// Kinds that are not vendors.
const OPENAI_COMPATIBLE: VendorFacts =
    VendorFacts { name: "openai_compatible", key_env: &[], local: true, needs_base_url: true };
pub(super) const MOCK: &str = "mock";
const MOCK_FACTS: VendorFacts = VendorFacts { name: MOCK, key_env: &[], local: true, needs_base_url: false };

/// Every vendor in the table.
pub(super) fn all() -> impl Iterator<Item = VendorFacts> {
    [
        ("openai", &["OPENAI_API_KEY"] as &'static [&'static str]),
        ("mistral", &["MISTRAL_API_KEY"]),
        ("groq", &["GROQ_API_KEY"]),
    ]
    .into_iter()
    .map(|(name, key_env)| VendorFacts { name, key_env, local: false, needs_base_url: false })
}

/// What is known of a `kind`.
pub(super) fn find(kind: &str) -> Option<VendorFacts> {
    kinds().find(|vendor| vendor.name == kind)
}

/// Everything that `kind` may be.
pub(super) fn kinds() -> impl Iterator<Item = VendorFacts> {
    all().chain([OPENAI_COMPATIBLE, MOCK_FACTS])
}
