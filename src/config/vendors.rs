//! What configuration needs to know about vendors: a view of the table in `providers`.

use crate::providers::{
    vendor::{Retired, Vendor},
    vendors,
};

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

/// The built-in provider, which is no vendor.
pub(super) const MOCK: &str = crate::providers::MOCK;
const MOCK_FACTS: VendorFacts = VendorFacts { name: MOCK, key_env: &[], local: true, needs_base_url: false };

/// Every vendor in the table.
pub(super) fn all() -> impl Iterator<Item = VendorFacts> {
    vendors::all().map(VendorFacts::of)
}

/// The vendors that can be called with a key and nothing else.
pub(super) fn hosted() -> impl Iterator<Item = VendorFacts> {
    all().filter(|vendor| !vendor.local && !vendor.needs_base_url)
}

/// What is known of a `kind`.
pub(super) fn find(kind: &str) -> Option<VendorFacts> {
    vendors::find(kind).map(VendorFacts::of).or((kind == MOCK).then_some(MOCK_FACTS))
}

/// A vendor whose API is no more.
pub(super) fn retired(kind: &str) -> Option<&'static Retired> {
    vendors::retired(kind)
}

/// Everything that `kind` may be.
pub(super) fn kinds() -> impl Iterator<Item = VendorFacts> {
    all().chain([MOCK_FACTS])
}

impl VendorFacts {
    fn of(vendor: &'static Vendor) -> Self {
        let needs_base_url = vendor.base_url.is_empty() || vendor.base_url.contains('{');
        Self { name: vendor.name, key_env: vendor.key_env, local: vendor.local, needs_base_url }
    }
}
