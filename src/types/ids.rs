//! Identifiers the gateway makes itself. A provider's ids are data, never keys (they repeat, or are missing).

use std::fmt;

use ulid::Ulid;

/// One client call. A ULID: sorts by time of arrival, and is what `x-request-id` carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(Ulid);

/// One dispatch to an upstream, the unit in which money is spent: a request id and the attempt's number from 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId {
    pub request: RequestId,
    pub number: u16,
}

impl RequestId {
    /// `millis` is the wall clock in Unix milliseconds; the rest is random, from the thread's own generator.
    pub fn new(millis: u64) -> Self {
        Self(Ulid::from_parts(millis, fastrand::u128(..)))
    }

    /// The 26 characters of the id in a stack buffer: the hot path puts it into a header without allocating.
    pub fn text<'a>(&self, buffer: &'a mut [u8; ulid::ULID_LEN]) -> &'a str {
        self.0.array_to_str(buffer)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.request, self.number)
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
