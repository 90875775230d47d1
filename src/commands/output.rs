//! Standard output, whose reader may go away.

use std::io::{self, BufWriter, StdoutLock, Write};

/// Standard output, for much text.
pub fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// Writes a whole answer.
///
/// # Errors
/// Fails if it cannot be written, also when the reader has gone.
pub fn write(text: &str) -> io::Result<()> {
    let mut out = stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Like `print!`, but a reader that has gone (`| head`) is no error.
pub fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}
