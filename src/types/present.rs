//! Members that may be left out, where `null` means something of its own or nothing at all.

use serde::{Deserialize, Deserializer};

/// Reads a member that may be left out, but if it is there must be what it is to be: `null` only where that means
/// something. With `default`, one that is left out is `None`.
///
/// # Errors
/// When it is not what it is to be.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
