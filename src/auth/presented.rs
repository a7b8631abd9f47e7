//! The key a client presents, out of the headers in which clients of various makes put it.

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

/// Why there is no key to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// None was sent.
    Missing,
    /// What was sent cannot be a key, whatever keys exist.
    Malformed,
}

/// The longest value looked at. Hashing costs by length, and nobody needs a longer key.
pub(super) const MAX_LENGTH: usize = 512;

/// The key in `Authorization: Bearer`, else in `x-api-key`, else in `api-key`. The first that is not empty counts, and
/// what the others say is not looked at. An `Authorization` of another scheme is not a key of ours.
pub(super) fn presented_key(headers: &HeaderMap) -> Result<&str, NoKey> {
    let bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| bearer_token(value.as_bytes()));
    let plain = ["x-api-key", "api-key"].into_iter().flat_map(|name| headers.get_all(name)).map(HeaderValue::as_bytes);
    let key = bearer.chain(plain).map(<[u8]>::trim_ascii).find(|key| !key.is_empty()).ok_or(NoKey::Missing)?;
    if !is_well_formed(key) {
        return Err(NoKey::Malformed);
    }
    std::str::from_utf8(key).map_err(|_| NoKey::Malformed)
}

/// The key that a call has been let in with.
pub fn presented(headers: &HeaderMap) -> Option<&str> {
    presented_key(headers).ok()
}

/// Whether a key could be presented in a header at all: visible ASCII, not too long.
pub(super) fn is_well_formed(key: &[u8]) -> bool {
    key.len() <= MAX_LENGTH && key.iter().all(u8::is_ascii_graphic)
}

fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let end = value.iter().position(u8::is_ascii_whitespace)?;
    let (scheme, token) = value.split_at(end);
    scheme.eq_ignore_ascii_case(b"bearer").then_some(token)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn presented(headers: &[(&'static str, &[u8])]) -> Result<String, NoKey> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap()))
            .collect();
        presented_key(&headers).map(str::to_owned)
    }

    #[test]
    fn a_key_is_found_in_any_of_its_headers() {
        type Case<'a> = (&'a [(&'static str, &'a [u8])], &'a str);
        let cases: &[Case] = &[
            (&[("authorization", b"Bearer k1")], "k1"),
            (&[("authorization", b"bearer k1")], "k1"),
            (&[("authorization", b"BEARER   k1  ")], "k1"),
            (&[("authorization", b"Bearer\tk1")], "k1"),
            (&[("x-api-key", b"k2")], "k2"),
            (&[("api-key", b" k3 ")], "k3"),
            (&[("api-key", b"k3"), ("x-api-key", b"k2"), ("authorization", b"Bearer k1")], "k1"),
            (&[("api-key", b"k3"), ("x-api-key", b"k2")], "k2"),
            (&[("authorization", b"Bearer "), ("x-api-key", b""), ("api-key", b"k3")], "k3"),
            (&[("authorization", b"Basic dXNlcg=="), ("x-api-key", b"k2")], "k2"),
        ];
        for (headers, key) in cases {
            assert_eq!(presented(headers).as_deref(), Ok(*key), "{headers:?}");
        }
    }

    #[test]
    fn no_key_is_not_the_same_as_a_key_that_cannot_be_one() {
        let cases: &[&[(&'static str, &[u8])]] = &[
            &[],
            &[("authorization", b"")],
            &[("authorization", b"Bearer")],
            &[("authorization", b"Bearer    ")],
            &[("authorization", b"Basic dXNlcg==")],
            &[("authorization", b"sk-sb-without-a-scheme")],
            &[("x-api-key", b""), ("api-key", b" ")],
        ];
        for headers in cases {
            assert_eq!(presented(headers), Err(NoKey::Missing), "{headers:?}");
        }
        let long = [b'x'; MAX_LENGTH + 1];
        let malformed: &[&[u8]] = &[b"a b", "schlüssel".as_bytes(), b"\xff\xfe", b"a\tb", &long];
        for key in malformed {
            assert_eq!(presented(&[("x-api-key", key)]), Err(NoKey::Malformed), "{key:?}");
        }
        assert!(presented(&[("x-api-key", &[b'x'; MAX_LENGTH])]).is_ok());
    }
}
