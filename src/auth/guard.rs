//! The guard against key guessing: it counts the wrong keys of each client address.
//!
//! Only wrong keys are counted, and only they are refused: whoever shares an address with a guesser (an office, a
//! cloud's way out) keeps working with a right key. What the guard takes from a guesser is the answer: past the limit
//! each wrong key is a 429 with a wait, which clients that mistakenly loop on an old key obey.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use governor::{Quota, RateLimiter, middleware::NoOpMiddleware, state::keyed::DashMapStateStore};

use crate::types::Clock;

/// Counts wrong keys by address.
pub(super) struct Guard {
    limiter: RateLimiter<IpAddr, DashMapStateStore<IpAddr>, Clock, NoOpMiddleware<Instant>>,
    clock: Clock,
}

/// How many addresses are counted each on its own. Beyond it new ones share one count; a right key passes all the same.
const MAX_ADDRESSES: usize = 65_536;

/// The count of all addresses for which there is no room.
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

impl Guard {
    /// Lets each address present `per_minute` wrong keys a minute, at least one.
    pub(super) fn new(per_minute: u32, clock: Clock) -> Self {
        let quota = Quota::per_minute(NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN));
        Self { limiter: RateLimiter::new(quota, DashMapStateStore::default(), clock.clone()), clock }
    }

    /// Counts one wrong key.
    ///
    /// # Errors
    /// When the address has presented too many: how long it should wait.
    pub(super) fn wrong_key(&self, address: IpAddr) -> Result<(), Duration> {
        let key = if self.limiter.len() < MAX_ADDRESSES { network(address) } else { OTHERS };
        self.limiter.check_key(&key).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Forgets the addresses whose count has run out.
    pub(super) fn prune(&self) {
        if !self.limiter.is_empty() {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
    }
}

/// What counts as one client: an IPv4 address, or an IPv6 /64, of which one machine commonly has all addresses.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

impl governor::clock::Clock for Clock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        Clock::now(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_network_is_counted_on_its_own_and_recovers_with_time() {
        let clock = Clock::held();
        let guard = Guard::new(3, clock.clone());
        for _ in 0..3 {
            assert_eq!(guard.wrong_key(address("192.0.2.1")), Ok(()));
        }
        let wait = guard.wrong_key(address("192.0.2.1")).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(20), "{wait:?}");
        assert_eq!(guard.wrong_key(address("192.0.2.2")), Ok(()));
        clock.advance(wait);
        assert_eq!(guard.wrong_key(address("192.0.2.1")), Ok(()));
    }

    #[test]
    fn an_ipv6_client_is_its_64_bit_network() {
        let cases = [
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
        ];
        for (a, b, same) in cases {
            assert_eq!(network(address(a)) == network(address(b)), same, "{a} {b}");
        }
    }

    #[test]
    fn addresses_are_bounded_and_forgotten() {
        let clock = Clock::held();
        let guard = Guard::new(1, clock.clone());
        for n in 0..u32::try_from(MAX_ADDRESSES).unwrap() {
            guard.wrong_key(IpAddr::V4(n.into())).unwrap();
        }
        assert_eq!(guard.wrong_key(address("203.0.113.1")), Ok(()));
        assert!(guard.wrong_key(address("203.0.113.2")).is_err(), "the rest share one count");
        assert_eq!(guard.limiter.len(), MAX_ADDRESSES + 1);
        guard.prune();
        assert_eq!(guard.limiter.len(), MAX_ADDRESSES + 1, "a count that still matters stays");
        clock.advance(Duration::from_secs(121));
        guard.prune();
        assert_eq!(guard.limiter.len(), 0);
    }
}
