//! The points in time at which history has samples.

use std::time::{Duration, UNIX_EPOCH};

/// Points from `from` on, a step apart, and at last `to`. All in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// The first point.
    pub from: i64,
    /// The last point.
    pub to: i64,
    /// From one point to the next; the last may follow sooner.
    pub step: i64,
}

impl Timeline {
    /// The points between two texts as [`parse`] reads them.
    pub fn new(from: &str, to: &str, step: Duration, now: i64) -> Result<Self, String> {
        let (from, to) =
            (parse(from, now).map_err(|e| format!("--from {e}"))?, parse(to, now).map_err(|e| format!("--to {e}"))?);
        let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        match () {
            () if from >= to => Err("--from must be before --to".to_owned()),
            () if to > now => Err("--to is in the future: there is no history of that".to_owned()),
            () if step < 1000 => Err("--step must be a second or more".to_owned()),
            () => Ok(Self { from, to, step }),
        }
    }

    /// The number of the last point; the first is number 0.
    pub fn last(&self) -> i64 {
        let length = self.to - self.from;
        length / self.step + i64::from(length % self.step != 0)
    }

    /// When a point is.
    pub fn time(&self, point: i64) -> i64 {
        self.from.saturating_add(point.saturating_mul(self.step)).min(self.to)
    }
}

/// Milliseconds since the epoch from `now`, a duration before now, seconds since the epoch, RFC 3339, or a date (UTC).
pub fn parse(text: &str, now: i64) -> Result<i64, String> {
    let whole = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    if text == "now" {
        return Ok(now);
    }
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(i64::from(seconds) * 1000);
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now.saturating_sub(whole(ago)));
    }
    let midnight = format!("{text}T00:00:00Z");
    let time = humantime::parse_rfc3339_weak(text).or_else(|_| humantime::parse_rfc3339(&midnight));
    let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map(whole).ok_or_else(|| {
        format!("\"{text}\" is no time such as 2026-01-31, 2026-01-31T12:00:00Z, 30d (ago), 1700000000 or now")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_spelling() {
        let now = 1_800_000_000_000;
        let day = 86_400_000;
        for (text, expected) in [
            ("now", now),
            ("30d", now - 30 * day),
            ("1700000000", 1_700_000_000_000),
            ("1970-01-02", day),
            ("1970-01-02T00:00:01Z", day + 1000),
            ("1970-01-02T00:00:00.5Z", day + 500),
            ("1970-01-02 00:00:00", day),
        ] {
            assert_eq!(parse(text, now), Ok(expected), "{text}");
        }
        assert!(parse("yesterday", now).is_err() && parse("1969-01-01", now).is_err());
    }

    #[test]
    fn the_last_point_is_the_end() {
        let line = |from, to, step| Timeline::new(from, to, Duration::from_secs(step), 1_000_000).unwrap();
        let even = line("100", "220", 60);
        assert_eq!((even.last(), even.time(0), even.time(1), even.time(2)), (2, 100_000, 160_000, 220_000));
        let odd = line("100", "221", 60);
        assert_eq!((odd.last(), odd.time(2), odd.time(3)), (3, 220_000, 221_000));
        let error = |from, to, step| Timeline::new(from, to, Duration::from_millis(step), 1_000_000).unwrap_err();
        assert!(error("220", "100", 1000).contains("before"));
        assert!(error("1", "1001", 1000).contains("future"));
        assert!(error("1", "2", 999).contains("second"));
    }
}
