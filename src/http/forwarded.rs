//! Who is behind a proxy.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

use crate::types::AddressRange;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address: the other end of the connection or, if that is a trusted proxy, the one it names.
///
/// Each proxy adds whom it was asked by at the end of `X-Forwarded-For`, and what is before that was there already and may
/// be a lie. So the list is read from its end, as far as it was written by those who are trusted.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[AddressRange]) -> IpAddr {
    let mut client = peer.to_canonical();
    if trusted.is_empty() {
        return client;
    }
    let lines = headers.get_all(&FORWARDED_FOR).iter().rev();
    let mut named = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b',')).map(address);
    while trusted.iter().any(|range| range.holds(client)) {
        // What cannot be read ends the list: nobody knows who is before it.
        let Some(Some(before)) = named.next() else { break };
        client = before;
    }
    client
}

/// An address of the list. Some proxies write the port with it.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_client_is_who_the_last_trusted_proxy_names() {
        let proxies = ["10.0.0.0/8".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let cases: &[(&str, &[&str], &str)] = &[
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("2001:db8::1", &["2001:db8::7"], "2001:db8::7"),
            // Whoever is not trusted names nobody.
            ("203.0.113.9", &["192.0.2.1"], "203.0.113.9"),
            ("10.0.0.1", &["192.0.2.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["192.0.2.1, 203.0.113.9,10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["192.0.2.1", "203.0.113.9", "10.0.0.3 , 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, _hidden, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.9,"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.0.0.1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            ("10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
        ];
        for (peer, lines, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in *lines {
                headers.append(&FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
            }
            let peer: IpAddr = peer.parse().unwrap();
            assert_eq!(client(peer, &headers, &proxies), expected.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
            assert_eq!(client(peer, &headers, &[]), peer.to_canonical(), "nobody is trusted");
        }
    }
}
