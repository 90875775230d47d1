//! Exact decimal comparison, for a model that must not round.

/// A JSON number: its digits without zeros at either end, and where the point stands before the first of them.
#[derive(Debug, PartialEq)]
struct Decimal {
    negative: bool,
    digits: String,
    point: i64,
}

impl Decimal {
    /// Reads a number as RFC 8259 writes it; anything else is none.
    fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        let digits_only = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || leading_zero || !digits_only(whole) || !digits_only(fraction) {
            return None;
        }
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if unsigned.is_empty() || !digits_only(unsigned) {
            return None;
        }
        let exponent: i64 = exponent.parse().ok()?;
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0');
        let point = whole.len() as i64 - (all.len() - significant.len()) as i64 + exponent;
        Some(Self { negative, digits: significant.trim_end_matches('0').to_owned(), point })
    }

    /// Whether it is at least 0 and at most `max`, which is a whole number above 0.
    fn is_within(&self, max: u64) -> bool {
        if self.digits.is_empty() {
            return true;
        }
        let max = Self::parse(&max.to_string()).expect("digits");
        let order = self.point.cmp(&max.point).then_with(|| self.digits.cmp(&max.digits));
        !self.negative && order.is_le()
    }

    fn is_whole(&self) -> bool {
        self.digits.len() as i64 <= self.point.max(0)
    }
}

/// The value of a JSON number from 0 to `max`, if it is one.
pub fn valid(text: &str, max: u64, whole: bool) -> Option<f64> {
    let decimal = Decimal::parse(text)?;
    let valid = decimal.is_within(max) && (!whole || decimal.is_whole());
    valid.then(|| text.parse::<f64>().expect("every JSON number is a Rust number").max(0.0))
}

#[test]
fn decimals_are_compared_exactly() {
    for (text, max, whole, expected) in [
        ("100", 100, false, Some(100.0)),
        ("1e2", 100, true, Some(100.0)),
        ("100.00000000000000000001", 100, false, None),
        ("99.99", 100, false, Some(99.99)),
        ("99.99", 100, true, None),
        ("0.5e1", 100, true, Some(5.0)),
        ("5.0", 100, true, Some(5.0)),
        ("-0.0", 100, true, Some(0.0)),
        ("-1e-500", 100, false, None),
        ("1e-500", 100, false, Some(0.0)),
        ("1e500", 100, false, None),
        ("9", 100, true, Some(9.0)),
        ("101", 100, true, None),
        ("01", 100, true, None),
        ("+1", 100, true, None),
        ("1.", 100, true, None),
        ("e1", 100, true, None),
        ("1 ", 100, true, None),
    ] {
        assert_eq!(valid(text, max, whole), expected, "{text}");
    }
}
