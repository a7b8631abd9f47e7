//! Which addresses a URL of a client's may lead to. What is not known to be public is not: an address that a client
//! can have the gateway connect to is an address that the client can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Out into the internet.
    Public,
    /// Into this machine or the operator's network: for hosts that the operator names.
    Inside,
    /// To the services of a cloud that hand out its credentials, to several hosts at once, or to none: for nobody.
    Never,
}

/// IPv4 blocks that are not public (IANA's special-purpose registry), by their first address and prefix length.
const INSIDE_4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Carriers' own, behind their translators.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
];

const NEVER_4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    // Alibaba's metadata, among the carriers' addresses.
    (Ipv4Addr::new(100, 100, 100, 200), 32),
    // Azure's, in the midst of public ones.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    // Link-local; the metadata of most clouds.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast, reserved, and broadcast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// IPv6: what is not listed and lies in 2000::/3 is public.
const INSIDE_6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::LOCALHOST, 128),
    // Unique local addresses.
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
];

const NEVER_6: &[(Ipv6Addr, u32)] = &[
    // Amazon's and Google's metadata, among the unique local ones.
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0), 32),
    // Assigned to protocols: Teredo, which has an IPv4 address inside, benchmarks, ORCHIDs.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4: an IPv4 address is inside.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

const GLOBAL_6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Where `address` leads. Addresses with another one inside (mapped, translated by NAT64, 6to4) lead nowhere: a
/// translator on the way would make them into what was not looked at.
pub(super) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_4(address),
        IpAddr::V6(address) => reach_6(address),
    }
}

fn reach_4(address: Ipv4Addr) -> Reach {
    let within = |(first, length): &(Ipv4Addr, u32)| {
        let shift = 32 - length;
        address.to_bits() >> shift == first.to_bits() >> shift
    };
    if NEVER_4.iter().any(within) {
        Reach::Never
    } else if INSIDE_4.iter().any(within) {
        Reach::Inside
    } else {
        Reach::Public
    }
}

fn reach_6(address: Ipv6Addr) -> Reach {
    let within = |(first, length): &(Ipv6Addr, u32)| {
        let shift = 128 - length;
        address.to_bits() >> shift == first.to_bits() >> shift
    };
    if NEVER_6.iter().any(within) {
        Reach::Never
    } else if INSIDE_6.iter().any(within) {
        Reach::Inside
    } else if within(&GLOBAL_6) {
        Reach::Public
    } else {
        // Unspecified, mapped (::ffff:0:0/96), NAT64 (64:ff9b::/96 and 64:ff9b:1::/48), link-local, multicast, and all
        // that nobody has been given yet.
        Reach::Never
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_public_is_public() {
        let cases = [
            (
                Reach::Public,
                "1.1.1.1 8.8.8.8 93.184.216.34 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.167.1.1",
            ),
            (Reach::Public, "168.63.129.15 223.255.255.255 2606:4700::1111 2a00:1450:4001::1 2001:200::1"),
            (Reach::Inside, "10.0.0.1 10.255.255.255 127.0.0.1 127.9.9.9 172.16.0.1 172.31.255.255 192.168.0.1"),
            (Reach::Inside, "100.64.0.1 100.127.255.255 198.18.0.1 198.19.255.255 ::1 fc00::1 fd12::1"),
            (Reach::Never, "0.0.0.0 0.1.2.3 169.254.169.254 169.254.0.1 100.100.100.200 168.63.129.16 192.0.0.192"),
            (Reach::Never, "224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 192.0.2.1 198.51.100.1 203.0.113.1"),
            (
                Reach::Never,
                ":: ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 64:ff9b::a00:1 64:ff9b::808:808 64:ff9b:1::1",
            ),
            (Reach::Never, "fe80::1 ff02::1 fec0::1 fd00:ec2::254 fd20:ce::254 2001::1 2001:db8::1 2002:7f00:1::1"),
            (Reach::Never, "100::1 3fff::1 4000::1 5f00::1"),
        ];
        for (expected, addresses) in cases {
            for address in addresses.split(' ') {
                assert_eq!(reach(address.parse().unwrap()), expected, "{address}");
            }
        }
    }
}
