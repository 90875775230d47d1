//! The points in time at which history has samples, and the pieces in which it is written.

use std::time::{Duration, UNIX_EPOCH};

/// A day, in milliseconds.
const DAY: i64 = 86_400_000;
/// A value that does not change is written this often: queries look back five minutes for it.
const HOLD: i64 = 240_000;

/// Points from `from` on, a step apart, and at last `to`. All in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// The first point.
    pub from: i64,
    /// The last point.
    pub to: i64,
    /// From one point to the next; the last may follow sooner.
    pub step: i64,
    /// True if each day (UTC) is a piece of its own, else there is one piece.
    pub days: bool,
}

/// Points that are written together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The number that [`Timeline::piece_of`] gives.
    pub number: i64,
    /// The first point.
    pub first: i64,
    /// The last point.
    pub last: i64,
    /// When the first point is, in milliseconds since the epoch.
    pub begin: i64,
}

impl Timeline {
    /// The points between two texts as [`parse`] reads them; by `days` they are multiples of the step, so that the days
    /// are the same whenever they are written.
    ///
    /// # Errors
    /// Fails if one of them is no time, or if there is nothing between them.
    pub fn new(from: &str, to: &str, step: Duration, days: bool, now: i64) -> Result<Self, String> {
        let (mut from, to) =
            (parse(from, now).map_err(|e| format!("--from {e}"))?, parse(to, now).map_err(|e| format!("--to {e}"))?);
        let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        if days && step >= 1000 {
            from = from.div_euclid(step) * step;
        }
        match () {
            () if from >= to => Err("--from must be before --to".to_owned()),
            () if to > now => Err("--to is in the future: there is no history of that".to_owned()),
            () if step < 1000 => Err("--step must be a second or more".to_owned()),
            () => Ok(Self { from, to, step, days }),
        }
    }

    /// The number of the last point; the first is number 0.
    pub fn last(&self) -> i64 {
        let length = self.to - self.from;
        length / self.step + i64::from(length % self.step != 0)
    }

    /// So many points after one, a value that has not changed is written again.
    pub fn stride(&self) -> i64 {
        (HOLD / self.step).max(1)
    }

    /// The number of the piece in which what shows at `point` is read: that of the point before, where a series that
    /// begins with it is 0. [`Timeline::piece_sql`] says the same in SQL.
    pub fn piece_of(&self, point: i64) -> i64 {
        if self.days { self.time((point - 1).max(0)).div_euclid(DAY) } else { 0 }
    }

    /// [`Timeline::piece_of`] of the point in an SQL column of type `int8`.
    pub fn piece_sql(&self, column: &str) -> String {
        let Self { from, step, days, .. } = self;
        // There are no points before 1970, so that the division rounds down.
        if *days { format!("({from} + greatest({column} - 1, 0) * {step}) / {DAY}") } else { "0::int8".to_owned() }
    }

    /// The pieces, in the order of time; none without points.
    pub fn pieces(&self) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut point = 0;
        while point <= self.last() {
            let number = if self.days { self.time(point).div_euclid(DAY) } else { 0 };
            let end = number.saturating_add(1).saturating_mul(DAY);
            let last = match self.days {
                // The last point before the end of the day.
                true => ((end - 1 - self.from).div_euclid(self.step)).min(self.last()),
                false => self.last(),
            };
            // The very last point may come sooner than a step after the one before.
            let last = if self.days && self.to < end { self.last() } else { last };
            pieces.push(Piece { number, first: point, last, begin: self.time(point) });
            point = last + 1;
        }
        pieces
    }

    /// When a point is.
    pub fn time(&self, point: i64) -> i64 {
        self.from.saturating_add(point.saturating_mul(self.step)).min(self.to)
    }
}

/// Milliseconds since the epoch from `now`, a duration before now, seconds since the epoch, RFC 3339, or a date (UTC).
///
/// # Errors
/// Says what can be written, if it is none of these.
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
        let line = |from, to, step| Timeline::new(from, to, Duration::from_secs(step), false, 1_000_000).unwrap();
        let even = line("100", "220", 60);
        assert_eq!((even.last(), even.time(0), even.time(1), even.time(2)), (2, 100_000, 160_000, 220_000));
        let odd = line("100", "221", 60);
        assert_eq!((odd.last(), odd.time(2), odd.time(3)), (3, 220_000, 221_000));
        let error =
            |from, to, step| Timeline::new(from, to, Duration::from_millis(step), false, 1_000_000).unwrap_err();
        assert!(error("220", "100", 1000).contains("before"));
        assert!(error("1", "1001", 1000).contains("future"));
        assert!(error("1", "2", 999).contains("second"));
    }

    #[test]
    fn days_are_pieces_that_hold_every_point_once() {
        for (from, to, step) in [(10_000, 300_000, 60), (0, 86_400, 60), (86_399, 86_401, 1), (50_000, 500_000, 7_000)]
        {
            let line = Timeline { from: from * 1000, to: to * 1000, step: step * 1000, days: true };
            let pieces = line.pieces();
            let points: Vec<i64> = pieces.iter().flat_map(|piece| piece.first..=piece.last).collect();
            assert_eq!(points, (0..=line.last()).collect::<Vec<_>>(), "{line:?}");
            for piece in &pieces {
                let days = (piece.first..=piece.last).map(|point| line.time(point) / DAY);
                assert!(days.clone().all(|day| day == piece.number), "{line:?} {piece:?}");
                assert!(piece.first == 0 || line.piece_of(piece.first) < piece.number, "{line:?} {piece:?}");
            }
            // What shows at a point is read in a piece that there is.
            assert!((0..=line.last()).all(|p| pieces.iter().any(|piece| piece.number == line.piece_of(p))), "{line:?}");
        }
    }
}
