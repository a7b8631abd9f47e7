//! `switchboard keys`: make, list, change and revoke the keys in the store.
