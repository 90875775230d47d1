//! What to do about a failure.

use crate::db::{Failure, Reason};
use crate::sql;

/// What helps against a failure of a connection as `user`.
pub fn remedy(user: &str, failure: &Failure) -> String {
    let user = sql::ident(user);
    match failure.reason {
        Reason::Connect | Reason::Timeout => {
            "is the server running, and is the address in database.url right?".to_owned()
        }
        Reason::Auth if failure.message.contains("wants a password") => {
            "put it into a file and name that in database.password_file".to_owned()
        }
        Reason::Auth => "check the user and the password in database.url, database.password_file or \
                         database.password_command"
            .to_owned(),
        Reason::Tls => "check sslmode and the certificates named in database.url".to_owned(),
        Reason::Privilege if failure.hides_rows => {
            format!("the table shows only some rows to {user}: give it a policy for all of them, or BYPASSRLS")
        }
        Reason::Privilege => {
            format!("give it (GRANT … TO {user}); deploy/postgres/ has all that the shipped queries need")
        }
        Reason::Missing if failure.message.contains("3D000") => "check the database's name in database.url".to_owned(),
        Reason::Missing => {
            "is it the right database? Else change the SELECT, in a directory named by queries.dir".to_owned()
        }
        Reason::Lock => "another session holds a lock on the table, such as a migration's: try again".to_owned(),
        Reason::Duplicate => "change the SELECT so that each execution is one row".to_owned(),
        Reason::Query => "correct the SELECT; psql gives the same error, with more to it".to_owned(),
        _ => "run again with --log.level debug to see the server's own words".to_owned(),
    }
}
