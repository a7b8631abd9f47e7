//! Amounts of money as reports write them: decimals of any length, numbers or texts, sometimes in cents.

use std::{fmt, iter::Sum, ops::Add};

use serde::{Deserialize, Deserializer, de};

use crate::types::Nanos;

/// An amount, and how far off its writing may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub cost: Nanos,
    /// For a text, half a unit of the last place that was written, and no more than half a cent. For a number a
    /// nano-dollar: it is written as the sender's machine had it.
    pub slack: Nanos,
}

/// A decimal number, by its digits: no binary fraction comes between a report and its sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    digits: i128,
    /// How many of the digits are after the point.
    places: u32,
    /// The sender chose the number of digits.
    is_text: bool,
}

/// Half a cent: nobody rounds to less than cents.
const MAX_SLACK: i128 = 5_000_000;

/// More digits than this are noise of somebody's floating point.
const MAX_DIGITS: usize = 30;

impl Decimal {
    /// Reads digits with an optional sign, fraction and exponent.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok().filter(|e| e.abs() <= 60)?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !plain(whole) || !plain(fraction) || whole.len() > 15 {
            return None;
        }
        let fraction = &fraction[..fraction.len().min(MAX_DIGITS - whole.len())];
        let mut digits: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            digits = digits * 10 + i128::from(digit - b'0');
        }
        let mut places = i32::try_from(fraction.len()).ok()? - exponent;
        while places < 0 {
            digits = digits.checked_mul(10)?;
            places += 1;
        }
        Some(Self { digits: if negative { -digits } else { digits }, places: places.unsigned_abs(), is_text: true })
    }

    /// The amount, where one unit is ten to the power of `scale` nano-dollars: 9 for dollars, 7 for cents. `None`: more
    /// than nine billion dollars.
    pub fn amount(self, scale: u32) -> Option<Amount> {
        let (cost, slack) = match scale.checked_sub(self.places) {
            Some(up) => {
                let factor = 10_i128.checked_pow(up)?;
                (self.digits.checked_mul(factor)?, factor / 2)
            }
            None => {
                let factor = 10_i128.checked_pow(self.places - scale)?;
                // To the nearest, halves away from zero.
                ((self.digits + self.digits.signum() * factor / 2) / factor, 0)
            }
        };
        // A figure without a fraction is a whole number by chance, not by rounding.
        let slack = if self.places == 0 || !self.is_text { 1 } else { slack.clamp(1, MAX_SLACK) };
        Some(Amount { cost: Nanos(i64::try_from(cost).ok()?), slack: Nanos(i64::try_from(slack).ok()?) })
    }
}

impl Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { cost: self.cost + other.cost, slack: self.slack + other.slack }
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}

/// A JSON number or a text that holds one. The number's own digits are read, not its nearest binary fraction.
impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount: a decimal number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Decimal, E> {
                Decimal::parse(text.trim()).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Decimal, E> {
                Ok(Decimal { digits: number.into(), places: 0, is_text: false })
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Decimal, E> {
                Ok(Decimal { digits: number.into(), places: 0, is_text: false })
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Decimal, E> {
                // The shortest text that stands for this fraction is the one that was written, up to 15 digits.
                Decimal::parse(&number.to_string())
                    .map(|decimal| Decimal { is_text: false, ..decimal })
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_by_their_digits() {
        let cases = [
            ("0.06", 9, 60_000_000, 5_000_000),
            ("0.8958740000000000", 9, 895_874_000, 1),
            ("0.56177125000000004", 9, 561_771_250, 1),
            ("12", 9, 12_000_000_000, 1),
            ("123.45", 7, 1_234_500_000, 50_000),
            ("0.5", 9, 500_000_000, 5_000_000),
            ("-1.5e-3", 9, -1_500_000, 50_000),
            ("1e3", 9, 1_000_000_000_000, 1),
            ("0.00000000049", 9, 0, 1),
            ("0.0000000005", 9, 1, 1),
            ("-0.0000000005", 9, -1, 1),
        ];
        for (text, scale, cost, slack) in cases {
            let amount = Decimal::parse(text).unwrap().amount(scale).unwrap();
            assert_eq!((amount.cost.0, amount.slack.0), (cost, slack), "{text}");
        }
        for text in ["", "-", ".", "1,5", "$1", "NaN", "1e99", "0x10", "1.2.3", "9999999999999999"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        assert_eq!(Decimal::parse("99999999999").unwrap().amount(9), None);
    }

    #[test]
    fn json_gives_numbers_and_texts() {
        let read = |text: &str| serde_json::from_str::<Decimal>(text).map(|decimal| decimal.amount(9).unwrap().cost.0);
        assert_eq!(read("0.06").unwrap(), 60_000_000);
        let slack = |text: &str| serde_json::from_str::<Decimal>(text).unwrap().amount(9).unwrap().slack.0;
        assert_eq!((slack("0.06"), slack("\"0.060\"")), (1, 500_000));
        assert_eq!(read("7").unwrap(), 7_000_000_000);
        assert_eq!(read("\"0.5455665000000000\"").unwrap(), 545_566_500);
        assert_eq!(read("1e-7").unwrap(), 100);
        assert!(read("\"a lot\"").unwrap_err().to_string().contains("an amount"));
        assert!(read("true").is_err());
    }
}
