//! The ledgers on disk: written before their numbers are published, so that no published counter is above the saved one.
//!
//! One file: a head line with version, checksum and length, then JSON. It is replaced atomically (temporary file, fsync,
//! rename, fsync of the folder). A lock file beside it keeps a second process away.

mod file;
mod fingerprint;
mod saved;
mod saver;
mod upgrade_v1;

use std::io;
use std::path::Path;

pub use file::StateFile;
pub use fingerprint::Fingerprint;
pub use saved::{Resumed, Saved, State};
pub use saver::Saver;

/// Raised when an older program could not read what a newer one wrote.
const VERSION: u32 = 2;

/// Why there is no state to go on with.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no file: a first start.
    #[error("does not exist yet")]
    Absent,
    /// It could not be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is not what was written.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// Another version of this program wrote it.
    #[error("was written by another version of rsolv-exporter (state version {0}, not {VERSION})")]
    Version(u32),
}

/// Reads the state at `path`; needs no lock, since the file is only ever replaced as a whole.
///
/// # Errors
/// Fails if there is none, if it cannot be read, or if it was damaged or written by a newer version.
pub fn load(path: &Path) -> Result<State, LoadError> {
    match file::read(path) {
        Ok(bytes) => decode(&bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(LoadError::Absent),
        Err(e) => Err(LoadError::Unreadable(e)),
    }
}

fn encode(state: &State) -> io::Result<(String, Vec<u8>)> {
    let json = serde_json::to_vec(state)?;
    let head = format!("rsolv-exporter state {VERSION} crc32 {:08x} bytes {}\n", crc32fast::hash(&json), json.len());
    Ok((head, json))
}

fn decode(bytes: &[u8]) -> Result<State, LoadError> {
    let damaged = |what: &str| LoadError::Damaged(what.to_owned());
    let end = bytes.iter().position(|&b| b == b'\n').ok_or_else(|| damaged("it has no head line"))?;
    let head = str::from_utf8(&bytes[..end]).map_err(|_| damaged("its head line is no text"))?;
    let words: Vec<&str> = head.split(' ').collect();
    let ["rsolv-exporter", "state", version, rest @ ..] = words.as_slice() else {
        return Err(damaged("its head line is none of ours"));
    };
    let version: u32 = version.parse().map_err(|_| damaged("its version is no number"))?;
    if !(1..=VERSION).contains(&version) {
        return Err(LoadError::Version(version));
    }
    let json = &bytes[end + 1..];
    let expected = format!("crc32 {:08x} bytes {}", crc32fast::hash(json), json.len());
    if rest.join(" ") != expected {
        return Err(damaged("its length or checksum is wrong"));
    }
    let state = match version {
        1 => serde_json::from_slice::<upgrade_v1::State>(json).map(State::from),
        _ => serde_json::from_slice::<State>(json),
    };
    let state = state.map_err(|e| LoadError::Damaged(e.to_string()))?;
    match state.sources.iter().find(|(_, saved)| !saved.is_whole()) {
        Some((name, _)) => Err(LoadError::Damaged(format!("{name} has too few or too many numbers"))),
        None => Ok(state),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::fingerprint::EARLIER;
    use super::*;
    use crate::ledger::Group;
    use crate::ledger::Ledger;
    use crate::ledger::decimal::Decimal;
    use crate::ledger::missing::Moment;
    use crate::source::Source;

    fn state() -> State {
        let source = &Source::shipped().unwrap()[0];
        let saved = Saved {
            fingerprint: Arc::new(Fingerprint::of(source)),
            ledger: Arc::new(Ledger::new(source.shape(10))),
            read_at: 1.5,
        };
        State { sources: [(source.name.clone(), saved)].into(), read_at: 1.5, ..State::default() }
    }

    #[test]
    fn numbers_that_do_not_fit_their_definition_are_damage() {
        let mut short = state();
        for saved in short.sources.values_mut() {
            let mut fingerprint = (*saved.fingerprint).clone();
            fingerprint.values.push("one more".to_owned());
            saved.fingerprint = Arc::new(fingerprint);
        }
        let (head, json) = encode(&short).unwrap();
        let error = decode(&[head.as_bytes(), &json].concat()).unwrap_err().to_string();
        assert_eq!(error, "is damaged: validation_executions has too few or too many numbers");
    }

    #[test]
    fn every_single_damaged_byte_and_every_truncation_is_noticed() {
        let (head, json) = encode(&state()).unwrap();
        let bytes = [head.as_bytes(), &json].concat();
        assert!(decode(&bytes).is_ok());
        for i in 0..bytes.len() {
            assert!(decode(&bytes[..i]).is_err(), "cut at {i}");
            let mut damaged = bytes.clone();
            damaged[i] ^= 1;
            assert!(decode(&damaged).is_err(), "damaged at {i}");
        }
    }

    #[test]
    fn a_state_of_a_select_that_was_shipped_before_goes_on() {
        for source in &Source::shipped().unwrap() {
            let (_, rows) = EARLIER.into_iter().find(|(name, _)| *name == source.name).expect("one of each");
            assert_ne!(rows, Fingerprint::of(source).rows, "the SELECT has changed since");
            let saved = |rows: u32| Saved {
                fingerprint: Arc::new(Fingerprint { rows, ..Fingerprint::of(source) }),
                ledger: Arc::new(Ledger::new(source.shape(10))),
                read_at: 0.0,
            };
            assert!(matches!(saved(rows).resume(source, source.shape(10)), Resumed::Whole(_)), "{}", source.name);
            assert!(matches!(saved(rows + 1).resume(source, source.shape(10)), Resumed::Nothing(_)));
        }
    }

    #[test]
    fn native_histograms_begin_anew_only_when_their_own_settings_change() {
        let (sql, toml) = (
            "SELECT 1".to_owned(),
            "labels = [\"repo\"]\n[[histogram]]\nname = \"x_ms\"\nhelp = \"X.\"\nvalue = \"ms\"\nbuckets = [10]\nnative = true\n",
        );
        let parse = |toml: String| Source::parse(vec![("x".into(), sql.clone(), toml)], "q").unwrap().remove(0);
        let source = parse(toml.to_owned());
        let group = |source: &Source| Group {
            set: vec!["a".into()],
            done: true,
            ids: vec![1, 2],
            counts: vec![2; source.counts.len()],
            sums: vec![Decimal::parse("8").unwrap()],
            rejected: vec![0],
            values: vec![vec![1.0, 7.0]; source.natives.len()],
            ..Group::default()
        };
        let mut ledger = Ledger::new(source.shape(10));
        ledger.apply(&ledger.plan(&[], 10), None, vec![group(&source)], Moment::default()).unwrap();
        let saved = Saved { fingerprint: Arc::new(Fingerprint::of(&source)), ledger: Arc::new(ledger), read_at: 0.0 };
        let state = State { sources: [("x".to_owned(), saved)].into(), ..State::default() };
        let (head, json) = encode(&state).unwrap();
        let saved = decode(&[head.as_bytes(), &json].concat()).unwrap().sources.remove("x").unwrap();
        let Resumed::Whole(ledger) = saved.clone().resume(&source, source.shape(10)) else { panic!("it is the same") };
        assert_eq!(&ledger, &*state.sources["x"].ledger, "it is the same when it was read again");

        let cell = |ledger: &Ledger| ledger.sets().values().next().unwrap().cells.values().next().unwrap().clone();
        let was = cell(&saved.ledger);
        assert_eq!((was.natives[0].count(), was.natives[0].sum), (2, was.sums[0]));
        // Both with the first of the two rows gone.
        let resumed = |toml: String| {
            let source = parse(toml);
            let Resumed::Partly(mut ledger) = saved.clone().resume(&source, source.shape(10)) else {
                panic!("rows are the same")
            };
            let begun = cell(&ledger);
            while let Some(plan) = ledger.plan_recount(10) {
                let one = Group { ids: vec![2], counts: vec![1; source.counts.len()], ..group(&source) };
                ledger.apply_recount(&plan, vec![Group { values: vec![vec![7.0]], ..one }]).unwrap();
            }
            (begun, cell(&ledger))
        };
        let (begun, bounds) = resumed(toml.replace("[10]", "[5, 10]"));
        assert_eq!((begun.counts, begun.natives), (vec![2, 0, 0, 0], was.natives.clone()));
        assert_eq!((bounds.counts, bounds.natives), (vec![2, 1, 1, 1], was.natives.clone()), "the native one goes on");
        for change in ["factor = 2", "max_buckets = 7", "zero_threshold = 0.5"] {
            let (begun, after) = resumed(format!("{toml}{change}\n"));
            assert_eq!((&begun.counts, begun.natives[0].count()), (&was.counts, 0), "{change}");
            assert_eq!(
                (&after.counts, after.natives[0].count()),
                (&was.counts, 1),
                "{change}: the classic one goes on"
            );
        }
        // As a version without native histograms wrote it.
        let mut old: serde_json::Value = serde_json::from_slice(&json).unwrap();
        old["sources"]["x"]["fingerprint"].as_object_mut().unwrap().remove("natives");
        let cell = &mut old["sources"]["x"]["ledger"]["sets"][0][1]["cells"][0][1];
        cell.as_object_mut().unwrap().remove("natives").unwrap();
        let old: State = serde_json::from_value(old).unwrap();
        assert!(old.sources["x"].is_whole());
        assert!(matches!(old.sources["x"].clone().resume(&source, source.shape(10)), Resumed::Partly(_)));
    }

    #[test]
    fn a_changed_definition_keeps_what_has_the_same_meaning() {
        let source = &Source::shipped().unwrap()[0];
        let shape = source.shape(10);
        let saved = state().sources.remove(&source.name).unwrap();
        assert!(matches!(saved.clone().resume(source, shape.clone()), Resumed::Whole(_)));

        let mut counted = saved.clone();
        let group = Group {
            set: vec!["a".into(), "b".into(), "c".into()],
            by: vec!["completed".into()],
            done: true,
            ids: vec![1],
            counts: (1..=source.counts.len() as u64).collect(),
            sums: vec![Decimal::parse("1").unwrap(); source.sums.len()],
            rejected: vec![0; source.values.len()],
            ..Group::default()
        };
        let mut ledger = Ledger::new(shape.clone());
        ledger.apply(&ledger.plan(&[], 10), None, vec![group], Moment::default()).unwrap();
        counted.ledger = Arc::new(ledger);

        let buckets = |source: &Source, value: &str| {
            let named = |m: &&crate::source::Metric| m.name.contains(value);
            let metric = source.metrics.iter().filter(|m| !m.kind.bounds().is_empty()).find(named);
            let slots = metric.unwrap_or_else(|| panic!("{value}")).kind.slots();
            (slots.counts, slots.sum.unwrap())
        };
        let toml = include_str!("../../queries/validation_executions.toml");
        let toml = toml.replace("buckets = [1000, 5000,", "buckets = [1000, 2000, 5000,");
        let files = (source.name.clone(), source.sql.clone(), toml);
        let wider = &Source::parse(vec![files], "queries").unwrap()[0];
        let Resumed::Partly(mut ledger) = counted.resume(wider, wider.shape(10)) else { panic!("rows are the same") };
        // The table is empty by now: what cannot be recounted stays what it was, but for the changed histogram.
        while let Some(plan) = ledger.plan_recount(10) {
            ledger.apply_recount(&plan, Vec::new()).unwrap();
        }
        let cell = ledger.sets().values().flat_map(|set| set.cells.values()).max_by_key(|cell| cell.counts[0]).unwrap();
        assert_eq!(cell.counts[0], 1, "rows");
        let (changed, sum) = buckets(wider, "duration");
        assert!(cell.counts[changed.clone()].iter().all(|&n| n == 0), "{:?}", cell.counts);
        let zero: Vec<usize> = (0..cell.sums.len()).filter(|&i| cell.sums[i] == Decimal::default()).collect();
        assert_eq!(zero, [sum]);
        let all = 1..=source.counts.len() as u64;
        let kept = all.filter(|n| !buckets(source, "duration").0.contains(&(*n as usize - 1)));
        let others = (0..cell.counts.len()).filter(|i| !changed.contains(i)).map(|i| cell.counts[i]);
        assert_eq!(others.collect::<Vec<_>>(), kept.collect::<Vec<_>>());
        let other = Source { sql: format!("{} WHERE true", source.sql), ..source.clone() };
        assert!(matches!(saved.resume(&other, shape), Resumed::Nothing(_)));
    }
}
