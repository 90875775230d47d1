//! The values of a column along which new rows appear, as numbers in the same order: *ticks*.

use std::time::Duration;

use super::{Columns, ident};
use crate::source::key::{Key, Late, Way};

/// The digits of a ULID.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Of the 64 bits that begin a UUID of version 7, so many are behind its milliseconds.
const BEHIND: u32 = 16;
/// 4714 BC, where PostgreSQL's times begin, in microseconds since the epoch, and a little.
const FIRST: i64 = -210_000_000_000_000_000;

/// What kind of values an order has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A time: a tick is a microsecond since the epoch.
    Time(Time),
    /// A whole number, which is its own tick.
    Integer,
    /// A UUID of version 7: its first 64 bits are its tick.
    Uuid,
    /// A ULID as text: a tick is a millisecond since the epoch.
    Ulid,
}

/// Types of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// `timestamp with time zone`.
    Zoned,
    /// `timestamp without time zone`, taken for UTC.
    Local,
    /// `date`.
    Date,
}

impl Order {
    /// The kind of a type, as PostgreSQL calls it.
    pub fn of(type_name: &str) -> Option<Self> {
        match type_name {
            "timestamp with time zone" => Some(Self::Time(Time::Zoned)),
            "timestamp without time zone" => Some(Self::Time(Time::Local)),
            "date" => Some(Self::Time(Time::Date)),
            "smallint" | "integer" | "bigint" => Some(Self::Integer),
            "uuid" => Some(Self::Uuid),
            "text" | "character varying" | "character" => Some(Self::Ulid),
            _ => None,
        }
    }

    /// That of a source along whose order new rows appear.
    pub fn of_key(key: &Key, columns: &Columns) -> Option<Self> {
        matches!(key.way, Way::Order { .. }).then(|| Self::of(&columns.get(key.order())?.type_name))?
    }

    /// SQL that gives what [`Order::tick`] reads.
    pub(super) fn sql(self, column: &str) -> String {
        match self {
            Self::Time(_) => format!("(date_part('epoch', execution.{0}) * 1000000)::text", ident(column)),
            _ => format!("execution.{}::text", ident(column)),
        }
    }

    /// The tick of a value as `Order::sql` gives it; nothing if it is none of its kind.
    pub fn tick(self, text: &str) -> Option<i64> {
        match self {
            // What is infinite becomes the first or the last tick.
            Self::Time(_) => text.parse::<f64>().ok().map(|microseconds| microseconds.round() as i64),
            Self::Integer => text.parse().ok(),
            Self::Uuid => {
                let digits: String = text.chars().filter(|&c| c != '-').collect();
                let is_seventh = digits.len() == 32 && digits.as_bytes()[12] == b'7';
                u64::from_str_radix(digits.get(..16)?, 16)
                    .ok()
                    .filter(|_| is_seventh)
                    .map(|bits| i64::try_from(bits).unwrap_or(i64::MAX))
            }
            Self::Ulid => {
                let digit = |c: &u8| CROCKFORD.iter().position(|digit| *digit == c.to_ascii_uppercase());
                let digits: Option<Vec<usize>> = text.as_bytes().iter().map(digit).collect();
                let digits = digits.filter(|digits| digits.len() == 26 && digits[0] < 8)?;
                Some(digits[..10].iter().fold(0, |all, digit| all * 32 + *digit as i64))
            }
        }
    }

    /// The smallest value with at least this tick, as the parameter of `Order::bound`; nothing where all are above.
    /// Letters are small if those of the column are.
    pub fn value(self, tick: i64, is_small: bool) -> Option<String> {
        match self {
            Self::Time(_) => (tick > FIRST).then(|| tick.to_string()),
            Self::Integer => Some(tick.to_string()),
            Self::Uuid => {
                let digits = format!("{:016x}{:016x}", tick.max(0), 0);
                (tick > 0).then_some(digits)
            }
            Self::Ulid => {
                let digit = |i: u32| char::from(CROCKFORD[(tick >> (5 * i) & 31) as usize]);
                let digits: String = (0..10).rev().map(digit).chain(['0'; 16]).collect();
                (tick > 0).then(|| if is_small { digits.to_lowercase() } else { digits })
            }
        }
    }

    /// SQL for the value whose text, as [`Order::value`] has it, is the parameter `$1`.
    pub(super) fn bound(self, type_name: &str) -> String {
        let time = "to_timestamp($1::float8 / 1000000)";
        match self {
            Self::Time(Time::Zoned) => time.to_owned(),
            Self::Time(Time::Local) => format!("({time} AT TIME ZONE 'UTC')"),
            Self::Time(Time::Date) => format!("({time} AT TIME ZONE 'UTC')::date"),
            _ => format!("$1::{type_name}"),
        }
    }

    /// So many ticks are in what a definition says; nothing if it is of another kind.
    pub fn ticks(self, late: Late) -> Option<i64> {
        let of = |late: Duration| i64::try_from(late.as_micros()).unwrap_or(i64::MAX);
        match (self, late) {
            (Self::Time(_), Late::Time(late)) => Some(of(late)),
            (Self::Integer, Late::Width(width)) => Some(width),
            (Self::Uuid, Late::Time(late)) => Some((of(late) / 1000 + 1) << BEHIND),
            (Self::Ulid, Late::Time(late)) => Some(of(late) / 1000 + 1),
            _ => None,
        }
    }

    /// The last tick of this moment, in seconds since the epoch, where ticks are times.
    pub fn now(self, clock: f64) -> Option<i64> {
        match self {
            Self::Time(_) => Some((clock * 1e6) as i64),
            Self::Integer => None,
            Self::Uuid => Some((((clock * 1e3) as i64 + 1) << BEHIND) - 1),
            Self::Ulid => Some((clock * 1e3) as i64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_in_the_order_of_values_and_lead_back_to_them() {
        let uuid = "018bcfe5-687b-7abc-8def-0123456789ab";
        let tick = Order::Uuid.tick(uuid).unwrap();
        assert_eq!(tick >> BEHIND, 1_700_000_000_123);
        assert_eq!(Order::Uuid.value(tick, false).unwrap(), "018bcfe5687b7abc0000000000000000");
        assert_eq!(Order::Uuid.tick("018bcfe5-687b-4abc-8def-0123456789ab"), None, "of version 4");
        let ulid = "01HF7YAT3VTFQ8ZRM9Y3F0A1B2";
        let tick = Order::Ulid.tick(ulid).unwrap();
        assert_eq!(tick, 1_700_000_000_123);
        assert_eq!(Order::Ulid.value(tick, false).unwrap(), "01HF7YAT3V0000000000000000");
        assert_eq!(Order::Ulid.tick(&ulid.to_lowercase()), Some(tick));
        assert_eq!(Order::Ulid.value(tick, true).unwrap(), "01hf7yat3v0000000000000000");
        assert_eq!((Order::Ulid.tick("job-1"), Order::Ulid.tick(&ulid[1..])), (None, None));
        let time = Order::Time(Time::Zoned);
        assert_eq!(time.tick("1.700000000123456e+15"), Some(1_700_000_000_123_456));
        assert_eq!((time.tick("Infinity"), time.tick("-Infinity")), (Some(i64::MAX), Some(i64::MIN)));
        assert_eq!((time.value(i64::MIN, false), time.value(5, false).as_deref()), (None, Some("5")));
    }

    #[test]
    fn what_is_late_is_measured_as_the_order_is() {
        let minute = Late::Time(Duration::from_secs(60));
        assert_eq!(Order::Time(Time::Date).ticks(minute), Some(60_000_000));
        assert_eq!(Order::Ulid.ticks(minute), Some(60_001));
        assert_eq!(Order::Uuid.ticks(minute), Some(60_001 << 16));
        assert_eq!((Order::Integer.ticks(Late::Width(7)), Order::Integer.ticks(minute)), (Some(7), None));
        assert_eq!(Order::Uuid.ticks(Late::Width(7)), None);
        let tick = Order::Uuid.tick("018bcfe5-687b-7fff-8def-0123456789ab").unwrap();
        assert!(Order::Uuid.now(1_700_000_000.123).unwrap() >= tick);
    }
}
