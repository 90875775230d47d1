//! What the demo shows while it works.

use std::io::{self, IsTerminal, Write};

const WIDTH: usize = 40;

/// A bar that fills on a terminal; on anything else, a line at the beginning.
pub struct Progress {
    what: &'static str,
    total: usize,
    terminal: bool,
}

impl Progress {
    pub fn start(what: &'static str, total: usize) -> Self {
        let progress = Self { what, total, terminal: io::stderr().is_terminal() };
        if progress.terminal {
            progress.advance(0);
        } else {
            eprintln!("{what}: {}", grouped(total as u64));
        }
        progress
    }

    /// Shows that `done` of the total are done.
    pub fn advance(&self, done: usize) {
        if self.terminal {
            let full = done * WIDTH / self.total;
            let bar = "#".repeat(full) + &".".repeat(WIDTH - full);
            eprint!("\r{} [{bar}] {}", self.what, grouped(done as u64));
            flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            eprintln!();
        }
    }
}

/// A line that replaces the one before it on a terminal.
pub struct Status {
    terminal: bool,
}

impl Status {
    pub fn new() -> Self {
        Self { terminal: io::stderr().is_terminal() }
    }

    /// Whether lines replace each other, so that there can be many.
    pub fn is_live(&self) -> bool {
        self.terminal
    }

    pub fn show(&self, line: &str) {
        if self.terminal {
            eprint!("\r{line:<79}");
            flush();
        } else {
            eprintln!("{line}");
        }
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        if self.terminal {
            eprintln!();
        }
    }
}

fn flush() {
    // A terminal that has gone away is not this line's concern.
    let _ = io::stderr().flush();
}

/// `number` with a comma between groups of three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
