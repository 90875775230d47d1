//! What to do about a failure.

use crate::postgres::{Failure, Reason};
use crate::sql;

/// What helps against a failure of a connection as `user`; none if the failure says that itself.
pub fn remedy(user: &str, failure: &Failure) -> Option<String> {
    let user = sql::ident(user);
    let known = |remedy: &str| Some(remedy.to_owned());
    match failure.reason {
        Reason::Connect | Reason::Timeout => known("is the server running, and is the address in database.url right?"),
        Reason::Auth if failure.message.contains("wants a password") => {
            known("put it into a file and name that in database.password_file")
        }
        Reason::Auth => known(
            "check the user and the password in database.url, database.password_file or database.password_command",
        ),
        Reason::Tls => known("check sslmode and the certificates named in database.url"),
        Reason::Privilege if failure.hides_rows => {
            Some(format!("the table shows only some rows to {user}: give it a policy for all of them, or BYPASSRLS"))
        }
        Reason::Privilege => {
            Some(format!("give it (GRANT … TO {user}); deploy/postgres/ has all that the shipped queries need"))
        }
        Reason::Missing if failure.message.contains("3D000") => known("check the database's name in database.url"),
        Reason::Missing if failure.code().is_some() => {
            known("is it the right database? Else change the SELECT, in a directory named by queries.dir")
        }
        Reason::Missing => None,
        Reason::Lock => known("another session holds a lock on the table, such as a migration's: try again"),
        Reason::Duplicate => known("change the SELECT so that each execution is one row"),
        Reason::Query if failure.code().is_some_and(|code| code.starts_with("22")) => known(
            "a row makes the SELECT fail: psql gives the same error, with more to it; guard the expression, as with \
             nullif(…, 0) or CASE",
        ),
        Reason::Query if failure.message.contains(".sql") => {
            known("correct the SELECT; psql gives the same error, with more to it")
        }
        _ => known("run again with --log.level debug to see the server's own words"),
    }
}
