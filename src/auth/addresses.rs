//! From which addresses a key may be used.

use std::net::IpAddr;

use crate::types::AddressRange;

/// Addresses and ranges. An empty one allows none; everything must be asked for, if only with `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressAccess {
    is_open: bool,
    ranges: Vec<AddressRange>,
}

impl AddressAccess {
    /// # Errors
    /// The place of the first text that is no address or range, and a sentence about it.
    pub fn new(texts: &[String]) -> Result<Self, (usize, String)> {
        let mut access = Self::default();
        for (place, text) in texts.iter().enumerate() {
            if text == "*" {
                access.is_open = true;
            } else {
                access.ranges.push(text.parse().map_err(|why| (place, format!("{why}; `*` is all addresses")))?);
            }
        }
        Ok(access)
    }

    /// Whether a key may be used from this address. An IPv4 address is the same however a socket writes it.
    pub fn allows(&self, address: IpAddr) -> bool {
        self.is_open || self.ranges.iter().any(|range| range.holds(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(texts: &[&str]) -> Result<AddressAccess, (usize, String)> {
        AddressAccess::new(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn an_address_is_in_a_range_by_its_first_bits() {
        let cases: &[(&[&str], &str, bool)] = &[
            (&[], "192.0.2.1", false),
            (&["*"], "192.0.2.1", true),
            (&["*"], "2001:db8::1", true),
            (&["192.0.2.1"], "192.0.2.1", true),
            (&["192.0.2.1"], "192.0.2.2", false),
            (&["192.0.2.1"], "::ffff:192.0.2.1", true),
            (&["::ffff:192.0.2.1"], "192.0.2.1", true),
            (&["::ffff:10.0.0.0/104"], "10.1.2.3", true),
            (&["::ffff:10.0.0.0/104"], "::ffff:11.1.2.3", false),
            (&["10.0.0.0/8"], "10.255.0.1", true),
            (&["10.0.0.0/8"], "11.0.0.0", false),
            (&["0.0.0.0/0"], "203.0.113.9", true),
            (&["0.0.0.0/0"], "2001:db8::1", false),
            (&["::/0"], "2001:db8::1", true),
            (&["::/0"], "192.0.2.1", false),
            (&["192.0.2.128/25"], "192.0.2.127", false),
            (&["192.0.2.128/25"], "192.0.2.128", true),
            (&["2001:db8::/32"], "2001:db8:ffff::1", true),
            (&["2001:db8::/32"], "2001:db9::1", false),
            (&["::1"], "127.0.0.1", false),
            (&["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", true),
        ];
        for (ranges, address, allowed) in cases {
            let access = access(ranges).unwrap();
            assert_eq!(access.allows(address.parse().unwrap()), *allowed, "{ranges:?} {address}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_its_place() {
        let bad = [
            "",
            "a",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "::/129",
            "10.0.0.0/8/8",
            " 10.0.0.1",
            "010.0.0.1",
            "fe80::1%eth0",
            "localhost",
            "10.0.0.0-10.0.0.9",
        ];
        for text in bad {
            let (place, why) = access(&["10.0.0.1", text]).unwrap_err();
            assert!(place == 1 && why.contains("write 192.0.2.7"), "{text}: {why}");
        }
        let (_, why) = access(&["10.1.2.3/8"]).unwrap_err();
        assert!(why.contains("the range is 10.0.0.0/8"), "{why}");
        let (_, why) = access(&["2001:db8::1/32"]).unwrap_err();
        assert!(why.contains("the range is 2001:db8::/32"), "{why}");
    }
}
