//! The statements of the exporter, as `rsolv-exporter sql` prints them for a first read.

use crate::support::exporter;
use crate::support::failure::{Failure, Result};

/// Time for a statement that reads a history of millions of rows in one go.
const TIMEOUT: &str = "10m";

/// The transaction of a first read.
pub struct Composed(String);

impl Composed {
    /// Of the shipped sources, for the database at `url`.
    pub async fn of(url: &str) -> Result<Self> {
        let output = exporter::run(&["sql", "--database.url", url, "--database.statement-timeout", TIMEOUT]).await;
        if !output.status.success() {
            return Err(Failure::new(String::from_utf8_lossy(&output.stderr)));
        }
        Ok(Self(String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// All of it, without the limit that makes the exporter read in chunks.
    pub fn unlimited(&self) -> Result<String> {
        let limited = |line: &&str| line.trim_start().starts_with("LIMIT ");
        let limit = self.0.lines().find(limited).ok_or_else(|| changed("LIMIT"))?;
        Ok(self.0.replace(limit, &format!("LIMIT {}", i64::MAX)))
    }

    /// The opening of the transaction, and the statement on the validations.
    fn parts(&self) -> Result<(&str, &str)> {
        let (opening, rest) = self.0.split_once("\n-- validation_executions\n").ok_or_else(|| changed("the name"))?;
        let (statement, _) = rest.split_once(";\n").ok_or_else(|| changed("the end"))?;
        Ok((opening, statement))
    }

    /// What the transaction begins with.
    pub fn opening(&self) -> Result<&str> {
        Ok(self.parts()?.0)
    }

    /// The statement on the validations for ids from `next` on, as a poll after the first one has it.
    pub fn from(&self, next: i64) -> Result<String> {
        let statement = self.parts()?.1;
        let all = format!("unnest('{{{}}}'::int8[], '{{{}}}'::int8[], '{{NULL}}'::float8[])", i64::MIN, i64::MAX);
        if !statement.contains(&all) {
            return Err(changed("the range of all ids"));
        }
        // Nothing may come before the first id either.
        let tail = format!(
            "unnest('{{{},{next}}}'::int8[], '{{0,{}}}'::int8[], '{{NULL,NULL}}'::float8[])",
            i64::MIN,
            i64::MAX
        );
        Ok(statement.replacen(&all, &tail, 1))
    }
}

fn changed(what: &str) -> Failure {
    Failure::new(format!("what `rsolv-exporter sql` prints has changed: {what} is not found"))
}
