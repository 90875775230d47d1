//! libpq's password file, `~/.pgpass` (PostgreSQL documentation, 34.16).

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Reads the file. None if it does not exist; fails with the reason why it must not be used.
pub fn read(path: &Path) -> Result<Option<String>, String> {
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(None) };
    let shown = path.display();
    if !metadata.is_file() {
        return Err(format!("the password file {shown} is no plain file"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(format!("the password file {shown} is open to others: chmod 0600 {shown}"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read the password file {shown}: {e}"))?;
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
