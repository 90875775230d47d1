//! A bar on the terminal that says how far the work has come.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Cells of the bar.
const CELLS: usize = 30;
/// The bar is not drawn more often than this.
const EVERY: Duration = Duration::from_millis(100);

/// A bar on standard error, if that is a terminal; else nothing.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    last: Option<Instant>,
}

impl Progress {
    /// A bar that is drawn when there is something to say.
    pub fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal(), last: None }
    }

    /// Draws the bar, `part` of the whole being done (0 to 1).
    pub fn show(&mut self, part: f64, what: &str) {
        if self.shown && self.last.is_none_or(|last| last.elapsed() >= EVERY) {
            self.last = Some(Instant::now());
            // Nothing to do about a terminal that has gone.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", bar(part, what));
        }
    }
}

impl Progress {
    /// Takes the bar away, to write something in its place.
    pub fn clear(&mut self) {
        if self.last.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn bar(part: f64, what: &str) -> String {
    let part = part.clamp(0.0, 1.0);
    let full = (part * CELLS as f64) as usize;
    format!("[{}{}] {:3.0} %  {what}", "#".repeat(full), " ".repeat(CELLS - full), part * 100.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_bar_fills() {
        let bars = [0.0, 0.5, 1.0, 2.0].map(|part| super::bar(part, "x"));
        assert!(bars[0].starts_with("[    ") && bars[0].ends_with("]   0 %  x"));
        assert!(bars[1].contains("###] ") || bars[1].contains("# "));
        assert!(bars[2].contains("##] 100 %") && bars[3] == bars[2]);
    }
}
