//! Which tables and columns a SELECT mentions, as far as its text tells without the server.
//!
//! A role without privileges cannot ask the server; reading the text is enough for the grants that it lacks. What looks
//! like a reference and is none does no harm: only tables and columns that exist are looked at.

use std::collections::BTreeSet;

use crate::source::lexer::{self, Token};

/// A table in a FROM or JOIN.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    /// The schema, when it is given.
    pub schema: Option<String>,
    /// The name.
    pub name: String,
    /// What the columns are qualified with.
    pub alias: String,
}

/// The tables and columns that a SELECT mentions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// The tables.
    pub tables: BTreeSet<Table>,
    /// `alias.column`; the column `*` is every one.
    pub qualified: BTreeSet<(String, String)>,
    /// Words that can be columns of any table.
    pub bare: BTreeSet<String>,
    /// Names that are called, with the schema when it is given.
    pub functions: BTreeSet<(Option<String>, String)>,
}

impl References {
    /// True if a column of a table is read.
    pub fn reads(&self, table: &Table, column: &str) -> bool {
        let of = |column: &str| self.qualified.contains(&(table.alias.clone(), column.to_owned()));
        of(column) || of("*") || self.bare.contains(column)
    }
}

/// Words that follow a table without being its alias.
const NO_ALIAS: [&str; 18] = [
    "on",
    "where",
    "left",
    "right",
    "full",
    "inner",
    "cross",
    "join",
    "natural",
    "using",
    "group",
    "order",
    "limit",
    "offset",
    "union",
    "having",
    "window",
    "tablesample",
];

/// Reads the text of a SELECT.
pub fn references(sql: &str) -> References {
    // A source exists only if its text can be read.
    let tokens: Vec<Token> = lexer::tokens(sql).unwrap_or_default().into_iter().map(|(_, token)| token).collect();
    let mut found = References::default();
    let mut i = 0;
    while i < tokens.len() {
        let after = |n: usize| tokens.get(i + n);
        let dot = after(1) == Some(&Token::Other('.'));
        if let (Some(name), Some(Token::Other('('))) = (tokens[i].name(), after(1)) {
            let schema = (i >= 2 && tokens[i - 1] == Token::Other('.')).then(|| tokens[i - 2].name()).flatten();
            found.functions.insert((schema.map(str::to_owned), name.to_owned()));
        }
        match &tokens[i] {
            token if token.is(&["from", "join"]) => {
                let mut at = i + 1;
                while let Some((table, next)) = table(&tokens, at) {
                    found.tables.insert(table);
                    if tokens.get(next) != Some(&Token::Other(',')) {
                        break;
                    }
                    at = next + 1;
                }
            }
            token if dot && token.name().is_some() => {
                let column = match after(2) {
                    Some(Token::Other('*')) => Some("*"),
                    other => other.and_then(Token::name),
                };
                let pair = token.name().zip(column).map(|(alias, column)| (alias.to_owned(), column.to_owned()));
                found.qualified.extend(pair);
                // What is called is looked at by itself.
                i += if after(3) == Some(&Token::Other('(')) { 1 } else { 2 };
            }
            // A name given to a column, or a type.
            token if token.is(&["as"]) && after(1).is_some_and(|t| t.name().is_some()) => i += 1,
            Token::Other(':') if after(1).is_some_and(|t| t.name().is_some()) => i += 1,
            token => found.bare.extend(token.name().map(str::to_owned)),
        }
        i += 1;
    }
    found
}

/// The table that a FROM names at a position, and the position behind it.
fn table(tokens: &[Token], mut at: usize) -> Option<(Table, usize)> {
    while tokens.get(at).is_some_and(|t| t.is(&["only", "lateral"])) {
        at += 1;
    }
    let first = tokens.get(at)?.name()?;
    let (schema, name, mut at) = match (tokens.get(at + 1), tokens.get(at + 2).and_then(Token::name)) {
        (Some(Token::Other('.')), Some(name)) => (Some(first.to_owned()), name, at + 3),
        (Some(Token::Other('(')), _) => return None,
        _ => (None, first, at + 1),
    };
    at += usize::from(tokens.get(at).is_some_and(|t| t.is(&["as"])));
    let alias = tokens.get(at).filter(|t| !t.is(&NO_ALIAS)).and_then(Token::name);
    let next = at + usize::from(alias.is_some());
    Some((Table { schema, name: name.to_owned(), alias: alias.unwrap_or(name).to_owned() }, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    #[test]
    fn the_shipped_queries_read_these_columns() {
        let columns: [&[&str]; 3] = [
            &["id", "namespace", "full_path", "updated_at", "name", "metadata"],
            &[
                "id",
                "repository_id",
                "status",
                "validated",
                "vulnerabilities_found",
                "data",
                "issue_number",
                "updated_at",
            ],
            &["id", "pr_url", "pr_number", "files_changed", "data", "error_message", "inserted_at", "api_key_id"],
        ];
        let mut text = String::new();
        for source in Source::shipped().unwrap() {
            let found = references(&source.sql);
            for table in &found.tables {
                let all = columns.iter().copied().flatten().collect::<BTreeSet<_>>();
                let read: Vec<_> = all.into_iter().filter(|c| found.reads(table, c)).copied().collect();
                text.push_str(&format!("{} AS {}: {}\n", table.name, table.alias, read.join(" ")));
            }
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn comments_and_strings_mention_nothing() {
        let sql = "SELECT a.x AS no, y::no, 'no.z', E'\\'no', $t$ no $t$, \"Q\".\"X\", 1e5 -- no\n/* no /* no */ no */ FROM s.t AS a, only u, \
                   f(1) JOIN \"Q\" USING (k) WHERE extract(epoch FROM a.w) > 0 AND u.* IS NULL";
        let found = references(sql);
        let tables: Vec<_> =
            found.tables.iter().map(|t| (t.schema.as_deref(), t.name.as_str(), t.alias.as_str())).collect();
        assert_eq!(tables, [(None, "Q", "Q"), (None, "u", "u"), (Some("a"), "w", "w"), (Some("s"), "t", "a")]);
        let table = |name: &str| found.tables.iter().find(|t| t.name == name).unwrap();
        assert!(found.reads(table("t"), "x") && found.reads(table("t"), "w") && found.reads(table("t"), "y"));
        assert!(!found.reads(table("t"), "X") && found.reads(table("Q"), "X") && found.reads(table("u"), "anything"));
        assert!(!found.bare.contains("no") && !found.bare.contains("z"));
    }
}
