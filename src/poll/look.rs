//! Looks which of the open and missing ids are there, in statements that each are quick.

use std::collections::VecDeque;

use super::failing::{self, Part};
use crate::ledger::Seen;
use crate::ledger::frontier::Range;
use crate::postgres::{Failure, Session};
use crate::source::Source;

/// A statement that looks for ids passes about this many at most.
const LOOK: usize = 100_000;
/// Nor does it look into more ranges than this.
pub const LOOK_RANGES: usize = 5_000;
/// Ranges of more ids than this are looked into for the first few rows at first.
const WIDE: usize = 1_000;
/// So many.
const FEW: usize = 20;

/// Looks which ids of a watch are there, in statements that each are quick.
///
/// Most wide ranges hold no row or few: many of them are looked into at once, and what is in there is left for later.
pub async fn look(session: &Session, source: &Source, ranges: Vec<(i64, i64)>) -> Result<Part<Seen>, Failure> {
    let look_into = async |ranges: &[(i64, i64)], limit| {
        let some = |ranges: Vec<Range>| async move {
            let ranges: Vec<_> = ranges.iter().map(|range| (range.0, range.1)).collect();
            session.seen(source, &ranges, limit).await
        };
        let ranges: Vec<Range> = ranges.iter().map(|&(lo, hi)| (lo, hi, None)).collect();
        failing::read(session, source, &ranges, limit, some).await
    };
    let (wide, narrow): (Vec<_>, Vec<_>) = ranges.iter().partition(|range| width(range) > WIDE);
    let (mut all, mut left) = (Part::default(), VecDeque::from(narrow));
    for ranges in wide.chunks(LOOK_RANGES) {
        let seen = look_into(ranges, FEW).await?;
        left.extend(unread(ranges, &seen.rows, FEW));
        all.append(seen);
    }
    while !left.is_empty() {
        let (mut ranges, mut all_widths) = (Vec::new(), 0);
        while ranges.len() < LOOK_RANGES
            && all_widths < LOOK
            && let Some(range) = left.pop_front()
        {
            all_widths += width(&range);
            ranges.push(range);
        }
        let seen = look_into(&ranges, LOOK).await?;
        unread(&ranges, &seen.rows, LOOK).into_iter().rev().for_each(|range| left.push_front(range));
        all.append(seen);
    }
    Ok(all)
}

/// How many ids a range has, as far as that matters.
fn width(&(lo, hi): &(i64, i64)) -> usize {
    usize::try_from(lo.abs_diff(hi)).unwrap_or(LOOK).min(LOOK)
}

/// What is left of ranges that came back with as many rows as were allowed: what is behind their last one.
fn unread(ranges: &[(i64, i64)], seen: &[Seen], limit: usize) -> Vec<(i64, i64)> {
    let mut ids: Vec<i64> = seen.iter().flat_map(|seen| seen.ids.iter().copied()).collect();
    ids.sort_unstable();
    let behind = |&(lo, hi): &(i64, i64)| {
        let inside = &ids[ids.partition_point(|&id| id < lo)..ids.partition_point(|&id| id <= hi)];
        let last = inside.last().filter(|_| inside.len() >= limit)?;
        last.checked_add(1).filter(|&next| next <= hi).map(|next| (next, hi))
    };
    ranges.iter().filter_map(behind).collect()
}

#[cfg(test)]
mod tests {
    use super::{Seen, unread};

    #[test]
    fn ranges_that_came_back_full_go_on_behind_their_last_row() {
        let seen = |ids: &[i64]| Seen { ids: ids.to_vec(), ..Seen::default() };
        let ranges = [(1, 9), (10, 12), (20, i64::MAX), (-5, -1)];
        let answer = [seen(&[30, 2, 12]), seen(&[11, 4, 25, -5])];
        assert_eq!(unread(&ranges, &answer, 2), [(5, 9), (31, i64::MAX)], "12 is the last one of its range");
    }
}
