//! Exact sums: whole numbers of billionths, so that adding never rounds and saving loses nothing.

use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Billionths in 1.
const SCALE: i128 = 1_000_000_000;
/// Digits behind the point.
const DIGITS: usize = 9;

/// A decimal number, not negative: exact in its first nine digits behind the point.
///
/// The largest value that a definition allows is 10^18, so 10^11 of them fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Decimal {
    billionths: i128,
    /// What is behind nine digits, added up by itself: with a carry, what is shown could fall by its rounding.
    rest: f64,
}

impl Decimal {
    /// What PostgreSQL prints of a `numeric`; `None` if it is negative or no such number.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return None;
        }
        let (near, far) = fraction.split_at(fraction.len().min(DIGITS));
        let whole: i128 = whole.parse().ok()?;
        let near: i128 = format!("{near:0<DIGITS$}").parse().ok()?;
        let rest = if far.is_empty() { 0.0 } else { format!("0.{:0DIGITS$}{far}", 0).parse().ok()? };
        Some(Self { billionths: whole.checked_mul(SCALE)?.checked_add(near)?, rest })
    }

    /// The smallest decimal of nine digits that is shown as no less than `value`: what was published does not fall.
    pub fn not_below(value: f64) -> Self {
        // Display of f64 is exact and never in scientific notation; what is behind nine digits is cut off.
        let text = format!("{value}");
        let end = text.find('.').map_or(text.len(), |point| text.len().min(point + 1 + DIGITS));
        let mut decimal = Self::parse(&text[..end]).unwrap_or_default();
        if decimal.to_f64() < value {
            decimal.billionths = decimal.billionths.saturating_add(1);
        }
        decimal
    }

    /// The nearest double. A larger decimal is never shown as a smaller double, since each part is rounded once.
    pub fn to_f64(self) -> f64 {
        const EXACT: i128 = 1 << f64::MANTISSA_DIGITS;
        let (whole, fraction) = (self.billionths / SCALE, self.billionths % SCALE);
        let exact = if fraction == 0 && whole < EXACT {
            whole as f64
        } else if self.billionths < EXACT {
            self.billionths as f64 / SCALE as f64
        } else {
            // Digits with one point between them are a number to every parser.
            format!("{whole}.{fraction:0DIGITS$}").parse().unwrap_or(f64::MAX)
        };
        exact + self.rest
    }
}

impl AddAssign for Decimal {
    fn add_assign(&mut self, more: Self) {
        self.billionths = self.billionths.saturating_add(more.billionths);
        self.rest += more.rest;
    }
}

/// Billionths as a decimal number, then the rest, if there is one, after a plus.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.billionths / SCALE)?;
        let digits = format!("{:0DIGITS$}", self.billionths % SCALE);
        let digits = digits.trim_end_matches('0');
        if !digits.is_empty() {
            write!(f, ".{digits}")?;
        }
        if self.rest == 0.0 { Ok(()) } else { write!(f, "+{:e}", self.rest) }
    }
}

impl From<Decimal> for String {
    fn from(decimal: Decimal) -> Self {
        decimal.to_string()
    }
}

impl TryFrom<String> for Decimal {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no sum");
        let (exact, rest) = text.split_once('+').unwrap_or((&text, "0"));
        let rest: f64 = rest.parse().map_err(|_| wrong())?;
        let decimal = Self::parse(exact).filter(|_| rest.is_finite() && rest >= 0.0).ok_or_else(wrong)?;
        Ok(Self { rest, ..decimal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(billionths: i128) -> Decimal {
        Decimal { billionths, rest: 0.0 }
    }

    #[test]
    fn ten_million_tenths_are_a_million() {
        let tenth = Decimal::parse("0.1").unwrap();
        let mut sum = Decimal::default();
        (0..10_000_000).for_each(|_| sum += tenth);
        assert_eq!(sum.to_f64(), 1_000_000.0);
    }

    #[test]
    fn what_is_smaller_than_a_billionth_is_there() {
        assert_eq!(Decimal::parse("0.00000000000000000004").unwrap().to_f64(), 4e-20);
        assert_eq!(Decimal::parse("85.0000000001").unwrap().to_f64(), 85.0000000001);
    }

    #[test]
    fn what_is_no_decimal_is_refused() {
        for text in ["", "x", "-1", "1e3", "NaN", "1.-5", ".5"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        assert!(["1+x", "1+-1", "1+inf", "+1"].iter().all(|text| Decimal::try_from((*text).to_owned()).is_err()));
    }

    proptest! {
        #[test]
        fn taking_up_a_double_never_falls(value in 0.0..1e18_f64) {
            let decimal = Decimal::not_below(value);
            prop_assert!(decimal.to_f64() >= value);
            prop_assert!(decimal.to_f64() <= value + value * 1e-15 + 2e-9);
        }

        #[test]
        fn a_larger_decimal_is_never_shown_as_a_smaller_double(a in 0..i128::MAX / 2, more in 0..10_000_000_000_i128) {
            prop_assert!(of(a).to_f64() <= of(a + more).to_f64());
        }

        #[test]
        fn saved_and_read_again_it_is_the_same(billionths in 0..i128::MAX, rest in 0.0..1.0_f64) {
            let sums = vec![of(billionths), Decimal { billionths, rest }];
            let saved = serde_json::to_string(&sums).unwrap();
            prop_assert_eq!(serde_json::from_str::<Vec<Decimal>>(&saved).unwrap(), sums);
        }
    }
}
