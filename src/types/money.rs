//! Money, in whole nano-dollars. No floating point anywhere between a provider's token count and an invoice.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign},
};

use serde::{Deserialize, Serialize};

/// An amount in nano-dollars: 1 US dollar is 1,000,000,000. Sixty-three bits hold nine billion dollars; sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub i64);

/// Why a text is not an amount of money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAmount {
    #[error("not a number of dollars: write it as 12.50 or 1e-6")]
    NotANumber,
    #[error("finer than a nano-dollar (nine decimals)")]
    TooFine,
    #[error("more than nine billion dollars")]
    TooLarge,
}

impl Nanos {
    pub const ZERO: Self = Self(0);
    /// One US dollar.
    pub const DOLLAR: i64 = 1_000_000_000;

    /// Reads a decimal number of dollars, exactly: digits, an optional fraction, an optional exponent.
    ///
    /// # Errors
    /// [`BadAmount`]; nothing is rounded.
    pub fn from_dollars(text: &str) -> Result<Self, BadAmount> {
        scaled(text, 9).map(Self)
    }

    /// Reads a number of dollars that somebody else has calculated: as [`Nanos::from_dollars`], but rounded.
    ///
    /// # Errors
    /// [`BadAmount`], but never [`BadAmount::TooFine`].
    pub fn from_dollars_rounded(text: &str) -> Result<Self, BadAmount> {
        rounded(text, 9).map(Self)
    }

    /// Dollars for a chart or a JSON number, where the last digits do not matter.
    pub fn as_dollars(self) -> f64 {
        self.0 as f64 / Self::DOLLAR as f64
    }
}

/// The decimal number in `text` times ten to the power of `scale`, when that is a whole number.
///
/// # Errors
/// [`BadAmount`]; nothing is rounded.
pub fn scaled(text: &str, scale: i32) -> Result<i64, BadAmount> {
    shift(text, scale, |_| Err(BadAmount::TooFine))
}

/// As [`scaled`], but digits that are too fine are rounded half up, away from zero. For amounts that somebody else has
/// calculated in floating point and that nothing is added up from: what a provider says an answer cost.
///
/// # Errors
/// [`BadAmount`], but never [`BadAmount::TooFine`].
pub fn rounded(text: &str, scale: i32) -> Result<i64, BadAmount> {
    shift(text, scale, |up| Ok(i128::from(up)))
}

/// Reads the digits of `text` and moves their point. Where some that are not zero fall behind it, `behind` is told
/// whether they are a half or more, and says what they add.
fn shift(text: &str, scale: i32, behind: impl FnOnce(bool) -> Result<i128, BadAmount>) -> Result<i64, BadAmount> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| BadAmount::NotANumber)?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !plain(whole) || !plain(fraction) || mantissa.len() > 64 {
        return Err(BadAmount::NotANumber);
    }
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value =
            value.checked_mul(10).and_then(|v| v.checked_add(i128::from(digit - b'0'))).ok_or(BadAmount::TooLarge)?;
    }
    let places = i64::from(scale) + i64::from(exponent) - fraction.len() as i64;
    let power = u32::try_from(places.unsigned_abs()).ok().and_then(|places| 10_i128.checked_pow(places));
    let value = match (places, power) {
        _ if value == 0 => 0,
        (0.., power) => power.and_then(|power| value.checked_mul(power)).ok_or(BadAmount::TooLarge)?,
        (_, Some(power)) if value % power == 0 => value / power,
        (_, Some(power)) => value / power + behind(value % power >= power / 2)?,
        // The least power that does not fit is more than five times any value that does.
        (_, None) => behind(false)?,
    };
    i64::try_from(if negative { -value } else { value }).map_err(|_| BadAmount::TooLarge)
}

/// Dollars with as many of nine decimals as are needed, and at least two: `0.00`, `1.50`, `0.000000375`.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, mut rest) = (self.0.unsigned_abs() / 1_000_000_000, self.0.unsigned_abs() % 1_000_000_000);
        let mut width = 9;
        while width > 2 && rest.is_multiple_of(10) {
            rest /= 10;
            width -= 1;
        }
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{whole}.{rest:0width$}")
    }
}

impl Add for Nanos {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Nanos {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Nanos {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_exactly_or_not_at_all() {
        let cases = [
            ("0", Ok(0)),
            ("1", Ok(1_000_000_000)),
            ("12.5", Ok(12_500_000_000)),
            ("-0.000000001", Ok(-1)),
            ("1e-6", Ok(1_000)),
            ("2.5E-7", Ok(250)),
            (".5", Ok(500_000_000)),
            ("1e9", Ok(1_000_000_000_000_000_000)),
            ("0e99", Ok(0)),
            ("0.0000000001", Err(BadAmount::TooFine)),
            ("1e-999999", Err(BadAmount::TooFine)),
            ("10000000000", Err(BadAmount::TooLarge)),
            ("1e2147483647", Err(BadAmount::TooLarge)),
            ("", Err(BadAmount::NotANumber)),
            (".", Err(BadAmount::NotANumber)),
            ("1,5", Err(BadAmount::NotANumber)),
            ("$1", Err(BadAmount::NotANumber)),
            ("1e", Err(BadAmount::NotANumber)),
            ("--1", Err(BadAmount::NotANumber)),
            ("NaN", Err(BadAmount::NotANumber)),
        ];
        for (text, expected) in cases {
            assert_eq!(Nanos::from_dollars(text).map(|nanos| nanos.0), expected, "{text}");
        }
    }

    #[test]
    fn an_amount_is_shown_with_the_decimals_it_needs() {
        let cases =
            [(0, "0.00"), (1, "0.000000001"), (1_500_000_000, "1.50"), (-375, "-0.000000375"), (20_000_000, "0.02")];
        for (nanos, text) in cases {
            assert_eq!(Nanos(nanos).to_string(), text);
            assert_eq!(Nanos::from_dollars(text), Ok(Nanos(nanos)));
        }
    }

    #[test]
    fn what_others_calculated_is_rounded_half_up() {
        let cases = [
            ("0.00012345", 9, Ok(123_450)),
            ("0.0000000004", 9, Ok(0)),
            ("0.0000000005", 9, Ok(1)),
            ("0.00000000149999999999", 9, Ok(1)),
            ("-0.0000000005", 9, Ok(-1)),
            ("1.5e-9", 9, Ok(2)),
            ("7.499999999999999e-05", 9, Ok(75_000)),
            ("1e-40", 9, Ok(0)),
            ("99999999999999999999999999999999999999e-60", 9, Ok(0)),
            ("1e-2147483648", 9, Ok(0)),
            ("158500", -1, Ok(15_850)),
            ("15", -1, Ok(2)),
            ("1e10", 9, Err(BadAmount::TooLarge)),
            ("free", 9, Err(BadAmount::NotANumber)),
        ];
        for (text, scale, expected) in cases {
            assert_eq!(rounded(text, scale), expected, "{text}");
        }
    }

    #[test]
    fn sums_do_not_wrap() {
        assert_eq!(Nanos(i64::MAX) + Nanos(1), Nanos(i64::MAX));
    }
}
