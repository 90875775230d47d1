//! The selector that commands take: its argument, its help, and whether PostgreSQL takes its regular expressions.

use clap::Arg;

use super::CommandError;
use crate::postgres::Session;
use crate::query::selector::Matcher;
use crate::sql;

/// What PostgreSQL calls `invalid_regular_expression`.
const INVALID_REGULAR_EXPRESSION: &str = "2201B";

/// What a selector is, for a long help.
pub const HELP: &str = "\
A selector is what Prometheus takes: NAME{label=\"value\",…} with = != =~ !~.
Labels that are added there (job, instance, environment, …) are ignored, so that
a series can be pasted as it stands. Regular expressions are PostgreSQL's: they
differ from Prometheus' in rare things, such as \\b and \\pL, which are refused.

";

/// The argument.
pub fn argument(help: &'static str) -> Arg {
    Arg::new("selector").value_name("SELECTOR").help(help)
}

/// Has PostgreSQL compile the regular expressions of a selector, before it searches any rows with them; inside a
/// transaction, which an invalid one ends.
///
/// # Errors
/// Fails if one of them is none to PostgreSQL, or if the database does not answer.
pub async fn compile(session: &Session, expressions: impl Iterator<Item = &Matcher>) -> Result<(), CommandError> {
    for matcher in expressions {
        // Also as it was given: the anchors must not complete what is none by itself, such as `a)|(b`.
        let alone = sql::literal(&matcher.value);
        match session.query_one(&format!("SELECT '' ~ {alone}, {}", sql::series::condition("''", matcher))).await {
            Err(failure) if failure.code() == Some(INVALID_REGULAR_EXPRESSION) => {
                // The server speaks of nothing but the expression that was given here.
                let why = failure.detail.unwrap_or(failure.message);
                let problem = format!("{matcher}: this is no regular expression to PostgreSQL: {why}");
                return Err(CommandError::invalid_question(problem));
            }
            answer => _ = answer?,
        }
    }
    Ok(())
}
