//! The tokens of a SELECT, as far as reading it without the server needs them.

/// A token. White space and comments are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A name or keyword in lower case.
    Word(String),
    /// A name in double quotes.
    Quoted(String),
    /// A parameter such as `$1`.
    Parameter(String),
    /// Any other character.
    Other(char),
    /// A string or a number.
    Constant,
}

impl Token {
    /// The name that it is, if it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) | Self::Quoted(name) => Some(name),
            _ => None,
        }
    }

    /// True if it is one of these keywords.
    pub fn is(&self, words: &[&str]) -> bool {
        matches!(self, Self::Word(word) if words.contains(&word.as_str()))
    }
}

/// The tokens of a text, each with where it begins.
///
/// # Errors
/// The name of what is opened and not closed.
pub fn tokens(sql: &str) -> Result<Vec<(usize, Token)>, &'static str> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    let letter = |c: char| c.is_alphabetic() || c == '_' || !c.is_ascii();
    while let Some(c) = rest.chars().next() {
        let until = |from: usize, end: &str| rest[from..].find(end).map(|at| from + at + end.len());
        let digits = |from: usize| {
            rest[from..].find(|c: char| !c.is_ascii_alphanumeric() && c != '.').map_or(rest.len(), |at| from + at)
        };
        let (length, token) = if c.is_whitespace() {
            (c.len_utf8(), None)
        } else if rest.starts_with("--") {
            (until(2, "\n").unwrap_or(rest.len()), None)
        } else if rest.starts_with("/*") {
            (comment(rest).ok_or("a comment (/*)")?, None)
        } else if c == '\'' || (matches!(c, 'e' | 'E') && rest[1..].starts_with('\'')) {
            (string(rest, c != '\'').ok_or("a string (')")?, Some(Token::Constant))
        } else if c == '"' {
            let end = until(1, "\"").ok_or("a name (\")")?;
            (end, Some(Token::Quoted(rest[1..end - 1].to_owned())))
        } else if let Some(tag) = dollar(rest) {
            (until(tag.len(), tag).ok_or("a string ($$)")?, Some(Token::Constant))
        } else if c == '$' && rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
            (digits(1), Some(Token::Parameter(rest[..digits(1)].to_owned())))
        } else if c.is_ascii_digit() {
            (digits(0), Some(Token::Constant))
        } else if letter(c) {
            let end = rest.find(|c: char| !letter(c) && !c.is_ascii_digit() && c != '$').unwrap_or(rest.len());
            (end, Some(Token::Word(rest[..end].to_lowercase())))
        } else {
            (c.len_utf8(), Some(Token::Other(c)))
        };
        tokens.extend(token.map(|token| (sql.len() - rest.len(), token)));
        rest = &rest[length..];
    }
    Ok(tokens)
}

/// The one SELECT of a file, as psql would send it: without a byte order mark, the semicolon and what follows it.
///
/// # Errors
/// Says what is wrong with the file.
pub fn statement(file: &str) -> Result<String, String> {
    let sql = file.strip_prefix('\u{feff}').unwrap_or(file);
    let tokens = tokens(sql).map_err(|what| format!("{what} is not closed"))?;
    let semicolon = |token: &Token| *token == Token::Other(';');
    let end = tokens.iter().position(|(_, token)| semicolon(token)).unwrap_or(tokens.len());
    let (own, after) = tokens.split_at(end);
    let Some((_, first)) = own.first() else { return Err("is empty".to_owned()) };
    if !after.iter().all(|(_, token)| semicolon(token)) {
        return Err("holds more than one statement: a source is one SELECT".to_owned());
    }
    if !(first.is(&["select", "with", "values", "table"]) || *first == Token::Other('(')) {
        return Err("does not begin with SELECT: a source is one SELECT".to_owned());
    }
    if let Some(name) = own.iter().find_map(|(_, t)| if let Token::Parameter(name) = t { Some(name) } else { None }) {
        return Err(format!("has the parameter {name}, for which there is no value: write the value itself"));
    }
    let mut depth = 0_i32;
    for (_, token) in own {
        depth += i32::from(*token == Token::Other('(')) - i32::from(*token == Token::Other(')'));
        // One too few is for the server to see.
        if depth < 0 {
            return Err("has a \")\" without its \"(\"".to_owned());
        }
    }
    let end = after.first().map_or(sql.len(), |(at, _)| *at);
    Ok(sql[..end].trim_end().to_owned())
}

/// The length of a comment, in which comments can stand.
fn comment(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let (step, change) = match text.as_bytes().get(at..at + 2) {
            Some(b"/*") => (2, 1),
            Some(b"*/") => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth = depth.saturating_add_signed(change);
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// The length of a string constant, with or without a leading `E`.
fn string(text: &str, escapes: bool) -> Option<usize> {
    let mut characters = text.char_indices().skip(1 + usize::from(escapes));
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' if escapes => _ = characters.next(),
            // A quote within is doubled: the next constant then follows without a gap, which is as good.
            '\'' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// `$tag$` at the beginning of a text.
fn dollar(text: &str) -> Option<&str> {
    let end = text.strip_prefix('$')?.find('$')? + 2;
    let tag = &text[1..end - 1];
    let word = tag.chars().all(|c| c.is_alphanumeric() || c == '_') && !tag.starts_with(|c: char| c.is_ascii_digit());
    word.then_some(&text[..end])
}

#[cfg(test)]
mod tests {
    use super::statement;

    #[test]
    fn a_file_is_read_as_psql_reads_it() {
        for file in [
            "SELECT 1",
            "\u{feff}SELECT 1;",
            "SELECT 1\r\n;\r\n",
            "SELECT 1; -- the end",
            "SELECT 1 ; /* the end; */\n;\n-- no more;\n;",
        ] {
            assert_eq!(statement(file).as_deref(), Ok("SELECT 1"), "{file:?}");
        }
        for file in [
            "SELECT ';' AS a, $$;$$ AS b, \";\" -- ;\nFROM t /* ; */",
            "-- what\nWITH a AS (TABLE t) SELECT E'\\';(' -- )",
        ] {
            assert_eq!(statement(file).as_deref(), Ok(file));
        }
    }

    #[test]
    fn what_is_no_select_is_refused() {
        for (file, problem) in [
            (" \n;;", "is empty"),
            ("-- SELECT 1", "is empty"),
            ("SELECT 1; SELECT 2", "holds more than one statement: a source is one SELECT"),
            ("DELETE FROM t", "does not begin with SELECT: a source is one SELECT"),
            (
                "SELECT 1 FROM t WHERE a = $1",
                "has the parameter $1, for which there is no value: write the value itself",
            ),
            ("SELECT 1 /* a /* b */", "a comment (/*) is not closed"),
            ("SELECT 'a''", "a string (') is not closed"),
            ("SELECT $a$ $$", "a string ($$) is not closed"),
            ("SELECT \"a", "a name (\") is not closed"),
            ("SELECT 1) AS a, (SELECT 2", "has a \")\" without its \"(\""),
        ] {
            assert_eq!(statement(file), Err(problem.to_owned()), "{file}");
        }
    }
}
