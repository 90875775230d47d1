//! When the newest execution was, over time.

use std::io::Write;

use super::BackfillError;
use super::cursor::Cursor;
use crate::exposition::{Encoder as _, Format, text};
use crate::postgres::Session;
use crate::query::timeline::{Piece, Timeline};
use crate::source::Metric;

/// When the newest execution was, over time.
pub struct LastFinished<'a> {
    /// The gauge.
    pub metric: &'a Metric,
    /// What PostgreSQL found.
    pub cursor: Cursor,
    /// When the newest execution was that is gone, as the ledger knows.
    pub gone: Option<f64>,
    /// When the newest execution was before the current piece.
    pub at: Option<f64>,
}

impl LastFinished<'_> {
    /// Writes the gauge for a piece.
    pub async fn write(
        &mut self,
        session: &Session,
        (timeline, piece): (&Timeline, &Piece),
        extra: &[(String, String)],
        out: &mut dyn Write,
    ) -> Result<(), BackfillError> {
        let Self { metric, cursor, gone, at } = self;
        let mut encoder = text::Encoder::new(Format::OpenMetrics, false, 0);
        encoder.family(&metric.name, metric.kind.type_name(), metric.unit.as_deref(), &metric.help);
        let labels: Vec<_> = extra.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut next = piece.first;
        let mut until = |point: i64, newest: Option<f64>| -> std::io::Result<()> {
            while next < point.min(piece.last + 1) {
                let time = timeline.time(next);
                encoder.at(time);
                let gone = gone.filter(|&at| at * 1000.0 <= time as f64);
                newest.into_iter().chain(gone).reduce(f64::max).iter().for_each(|&at| encoder.gauge(&labels, at));
                let last = timeline.last();
                next += if next < last { timeline.stride().min(last - next) } else { 1 };
                if encoder.len() > 1 << 16 {
                    out.write_all(encoder.take().as_bytes())?;
                }
            }
            next = next.min(point.max(piece.first));
            Ok(())
        };
        let read = cursor
            .read(session, |row| {
                let (point, time, number): (i64, f64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                if number > piece.number {
                    return Ok(false);
                }
                until(point, *at)?;
                *at = at.iter().copied().chain([time]).reduce(f64::max);
                Ok::<_, BackfillError>(true)
            })
            .await?;
        until(piece.last + 1, *at)?;
        out.write_all(encoder.take().as_bytes())?;
        cursor.advance(read);
        Ok(())
    }
}
