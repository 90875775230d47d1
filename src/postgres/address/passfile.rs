//! libpq's password file, `~/.pgpass` (PostgreSQL documentation, 34.16).

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Why a password file is not used.
#[derive(Debug, thiserror::Error)]
pub enum UnusablePassfile {
    /// It is a directory, a pipe or the like.
    #[error("the password file {0} is no plain file")]
    Special(String),
    /// Others can read it.
    #[error("the password file {0} is open to others: chmod 0600 {0}")]
    Open(String),
    /// The exporter cannot read it.
    #[error("cannot read the password file {0}: {1}")]
    Unreadable(String, io::Error),
}

/// Reads the file. None if it does not exist; fails with the reason why it must not be used.
pub fn read(path: &Path) -> Result<Option<String>, UnusablePassfile> {
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(None) };
    let shown = path.display().to_string();
    if !metadata.is_file() {
        return Err(UnusablePassfile::Special(shown));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(UnusablePassfile::Open(shown));
    }
    let text = std::fs::read_to_string(path).map_err(|e| UnusablePassfile::Unreadable(shown, e))?;
    Ok(Some(text))
}

/// The password of the first line that fits: `host:port:database:user:password`, where `*` fits all.
pub fn find(text: &str, login: [&str; 4]) -> Option<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(fields).find_map(|fields| {
        let [wanted @ .., password] = <[String; 5]>::try_from(fields).ok()?;
        wanted.iter().zip(login).all(|(wanted, is)| wanted == "*" || wanted == is).then_some(password)
    })
}

/// The five fields of a line, in which `\` escapes the next character.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields.last_mut().map_or((), |field| field.extend(chars.next())),
            c => fields.last_mut().map_or((), |field| field.push(c)),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# h:5432:d:u:no\nh:5432:other:u:no\nh:*:d:u:a\\:b\\\\c:d\n*:*:*:*:last\n";
        assert_eq!(find(text, ["h", "5432", "d", "u"]).as_deref(), Some("a:b\\c:d"));
        assert_eq!(find(text, ["x", "5432", "d", "u"]).as_deref(), Some("last"));
        assert_eq!(find("h:5432:d:u", ["h", "5432", "d", "u"]), None);
    }
}
