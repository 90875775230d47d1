//! Where history goes: one stream, or a directory with a file for each day.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{BackfillError, Options};
use crate::query::timeline::{Piece, Timeline};
use crate::source::Source;

/// The file that says how the others were written.
const MANIFEST: &str = "backfill.json";

/// A directory of days. A day that is there is not written again, so that a backfill that was interrupted goes on where
/// it ended; the day of `--to` is, as it may be longer now.
#[derive(Debug)]
pub struct Days {
    dir: PathBuf,
    /// Files and bytes written.
    pub written: (usize, u64),
}

/// A day that is being written, under a name that says so.
#[derive(Debug)]
pub struct Day {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Days {
    /// Makes the directory, or takes one up that the same options made.
    ///
    /// # Errors
    /// Fails if the directory cannot be written, or holds history that other options made.
    pub fn open(dir: &Path, options: &Options, sources: &[Source], timeline: &Timeline) -> Result<Self, BackfillError> {
        let failed = |what: &Path, e: io::Error| BackfillError::File(what.to_owned(), e);
        let metrics: Vec<&str> = sources.iter().flat_map(|s| s.metrics.iter().map(|m| m.name.as_str())).collect();
        let manifest = json!({"step_milliseconds": timeline.step, "labels": options.labels, "metrics": metrics});
        let path = dir.join(MANIFEST);
        fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
        match fs::read_to_string(&path) {
            Ok(text) if serde_json::from_str::<Value>(&text).ok().as_ref() == Some(&manifest) => {}
            Ok(_) => return Err(BackfillError::Other(dir.to_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if dir.read_dir().map_err(|e| failed(dir, e))?.next().is_some() {
                    return Err(BackfillError::Other(dir.to_owned()));
                }
                fs::write(&path, format!("{manifest:#}\n")).map_err(|e| failed(&path, e))?;
            }
            Err(e) => return Err(failed(&path, e)),
        }
        Ok(Self { dir: dir.to_owned(), written: (0, 0) })
    }

    /// A file for a day, unless it was written before.
    pub fn begin(&self, piece: &Piece, is_last: bool) -> Result<Option<Day>, BackfillError> {
        let begin = UNIX_EPOCH + Duration::from_millis(piece.begin.unsigned_abs());
        let date = humantime::format_rfc3339_seconds(begin).to_string();
        let path = self.dir.join(format!("{}.om", date.split('T').next().unwrap_or_default()));
        if path.exists() && !is_last {
            return Ok(None);
        }
        let part = path.with_extension("part");
        let file = File::create(&part).map_err(|e| BackfillError::File(part, e))?;
        Ok(Some(Day { path, file: BufWriter::new(file) }))
    }

    /// Gives a day that is complete its name.
    pub fn end(&mut self, day: Day) -> Result<(), BackfillError> {
        let Day { path, file } = day;
        let part = path.with_extension("part");
        let finish = || {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            Ok(file.metadata()?.len())
        };
        let bytes = finish().map_err(|e| BackfillError::File(part.clone(), e))?;
        self.written = (self.written.0 + 1, self.written.1 + bytes);
        Ok(())
    }
}

impl Write for Day {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
