//! Exact sums: whole numbers of billionths, so that adding never rounds and saving loses nothing.

use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Billionths in 1.
const SCALE: i128 = 1_000_000_000;
/// Digits behind the point.
const DIGITS: usize = 9;

/// A decimal number with nine digits behind the point.
///
/// The largest value that a definition allows is 10^18, so 10^11 of them fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Decimal(i128);

impl Decimal {
    /// What PostgreSQL prints of a `numeric` that is rounded to nine digits; `None` if it is no such number.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if fraction.len() > DIGITS || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let whole: i128 = whole.parse().ok()?;
        let fraction: i128 = format!("{fraction:0<DIGITS$}").parse().ok()?;
        Some(Self(sign * whole.checked_mul(SCALE)?.checked_add(fraction)?))
    }

    /// The smallest decimal that is shown as no less than `value`: what was published as `value` does not fall.
    pub fn not_below(value: f64) -> Self {
        // Display of f64 is exact and never in scientific notation; what is behind nine digits is cut off.
        let text = format!("{value}");
        let end = text.find('.').map_or(text.len(), |point| text.len().min(point + 1 + DIGITS));
        let mut decimal = Self::parse(&text[..end]).unwrap_or_default();
        if decimal.to_f64() < value {
            decimal.0 = decimal.0.saturating_add(1);
        }
        decimal
    }

    /// The nearest double. A larger decimal is never shown as a smaller double, since each is rounded once.
    pub fn to_f64(self) -> f64 {
        const EXACT: i128 = 1 << f64::MANTISSA_DIGITS;
        let (whole, fraction) = (self.0 / SCALE, self.0 % SCALE);
        if fraction == 0 && whole.abs() < EXACT {
            return whole as f64;
        }
        if self.0.abs() < EXACT {
            return self.0 as f64 / SCALE as f64;
        }
        // Digits with one point between them are a number to every parser.
        self.to_string().parse().unwrap_or(f64::MAX)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / SCALE, (self.0 % SCALE).unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}", whole.unsigned_abs())?;
        let digits = format!("{fraction:0DIGITS$}");
        match digits.trim_end_matches('0') {
            "" => Ok(()),
            digits => write!(f, ".{digits}"),
        }
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
        Self::parse(&text).ok_or_else(|| format!("{text:?} is no decimal number"))
    }
}

impl AddAssign for Decimal {
    fn add_assign(&mut self, more: Self) {
        self.0 = self.0.saturating_add(more.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ten_million_tenths_are_a_million() {
        let tenth = Decimal::parse("0.1").unwrap();
        let mut sum = Decimal::default();
        (0..10_000_000).for_each(|_| sum += tenth);
        assert_eq!(sum.to_f64(), 1_000_000.0);
    }

    #[test]
    fn what_is_no_decimal_is_refused() {
        for text in ["", "x", "1.0000000001", "1e3", "NaN", "1.-5"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        assert_eq!(Decimal::parse("-1.5"), Some(Decimal(-1_500_000_000)));
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
            prop_assert!(Decimal(a).to_f64() <= Decimal(a + more).to_f64());
        }

        #[test]
        fn saved_and_read_again_it_is_the_same(a in -i128::MAX..i128::MAX) {
            let saved = serde_json::to_string(&vec![Decimal(a)]).unwrap();
            prop_assert_eq!(serde_json::from_str::<Vec<Decimal>>(&saved).unwrap(), [Decimal(a)]);
        }
    }
}
