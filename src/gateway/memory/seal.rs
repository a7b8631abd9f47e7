//! How memos lie where others could read them: sealed with a key made of the API key of the client they are for, under a
//! name made of the same. Who has what is stored, and the ledger beside it, can read neither; a gateway can, while the
//! client calls.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf, hmac,
};
use bytes::Bytes;

use crate::wire::conversation::memory::Memo;

/// The first byte of a memo in the clear: its form, and whether nothing but thinking came before the call.
const FIRST: u8 = 0x11;
const LATER: u8 = 0x10;

/// Names and seals the memos of one client's key.
pub(super) struct Seal {
    names: hmac::Key,
    key: RandomizedNonceKey,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// `principal` is the id of the key, `secret` the key as the client sent it.
    pub(super) fn of(principal: &str, secret: &str) -> Option<Self> {
        let own = hkdf::Salt::new(hkdf::HKDF_SHA256, b"switchboard: what is remembered of reasoning");
        let own = own.extract(secret.as_bytes());
        let derived = |label: &[u8]| {
            let mut key = [0; 32];
            let info = [label, principal.as_bytes()];
            own.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut key)).ok().map(|()| key)
        };
        let names = hmac::Key::new(hmac::HMAC_SHA256, &derived(b"name:")?);
        let key = RandomizedNonceKey::new(&AES_256_GCM, &derived(b"seal:")?).ok()?;
        Some(Self { names, key })
    }

    /// Under which name the memo of a call is kept.
    pub(super) fn name(&self, call: &str) -> String {
        use std::fmt::Write;

        let tag = hmac::sign(&self.names, call.as_bytes());
        // Half of it is more than enough to be nobody else's.
        tag.as_ref().iter().take(16).fold(String::with_capacity(33), |mut name, byte| {
            _ = write!(name, "{byte:02x}");
            name
        })
    }

    /// The memo for whoever has the client's key.
    pub(super) fn close(&self, name: &str, memo: &Memo) -> Option<Bytes> {
        let mut sealed = Vec::with_capacity(1 + memo.blocks.len() + AES_256_GCM.tag_len() + NONCE_LEN);
        sealed.push(if memo.first { FIRST } else { LATER });
        sealed.extend_from_slice(&memo.blocks);
        let nonce = self.key.seal_in_place_append_tag(Aad::from(name), &mut sealed).ok()?;
        sealed.extend_from_slice(nonce.as_ref());
        Some(sealed.into())
    }

    /// The memo of `call`; `None` for anything that was not sealed with the same key under this name.
    pub(super) fn open(&self, name: &str, call: &str, sealed: &[u8]) -> Option<Memo> {
        let (text, nonce) = sealed.split_at_checked(sealed.len().checked_sub(NONCE_LEN)?)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let length = self.key.open_in_place(nonce, Aad::from(name), &mut text).ok()?.len();
        text.truncate(length);
        let first = match text.first() {
            Some(&FIRST) => true,
            Some(&LATER) => false,
            _ => return None,
        };
        text.remove(0);
        Some(Memo { call_id: call.to_owned(), first, blocks: text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_is_read_by_its_own_key_alone_and_under_its_own_name() {
        let seal = |principal, secret| Seal::of(principal, secret).unwrap();
        let own = seal("k1", "sk-one");
        let memo = Memo { call_id: "toolu_1".into(), first: true, blocks: b"[{\"type\":\"thinking\"}]".to_vec() };
        let name = own.name("toolu_1");
        let sealed = own.close(&name, &memo).unwrap();
        assert!(memchr::memmem::find(&sealed, b"thinking").is_none());
        assert_ne!(sealed, own.close(&name, &memo).unwrap(), "two seals of the same are alike");
        assert_eq!(own.open(&name, "toolu_1", &sealed), Some(memo.clone()));
        let later = Memo { first: false, ..memo.clone() };
        assert_eq!(own.open(&name, "toolu_1", &own.close(&name, &later).unwrap()), Some(later));
        // Another gateway, the same client.
        assert_eq!(seal("k1", "sk-one").name("toolu_1"), name);
        assert_eq!(seal("k1", "sk-one").open(&name, "toolu_1", &sealed), Some(memo));
        for other in [seal("k2", "sk-one"), seal("k1", "sk-two")] {
            assert_ne!(other.name("toolu_1"), name);
            assert_eq!(other.open(&name, "toolu_1", &sealed), None);
        }
        assert_eq!(own.open(&own.name("toolu_2"), "toolu_2", &sealed), None);
        for length in 0..sealed.len() {
            assert_eq!(own.open(&name, "toolu_1", &sealed[..length]), None, "{length}");
        }
    }
}
