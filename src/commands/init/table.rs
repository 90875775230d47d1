//! A table as the catalog has it, and what its newest rows hold, as far as the role may see them.

use super::InitError;
use super::words::{BIRTHS, is_edited};
use crate::commands::buckets::Distribution;
use crate::postgres::{Failure, Lossy, Session, Type};
use crate::sql::ident;

/// So many of the newest rows are looked at.
const SAMPLE: u32 = 10_000;
/// A column with more values than this is not taken for a label.
const FEW: usize = 20;

/// What kind of values a column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `smallint`, `integer` or `bigint`.
    Integer,
    /// Other numbers.
    Number,
    /// `timestamp with time zone`.
    Time,
    /// `timestamp without time zone`.
    LocalTime,
    /// `interval`.
    Interval,
    /// `boolean`.
    Boolean,
    /// Text and enums.
    Text,
    /// Anything else.
    Other,
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as PostgreSQL calls it.
    pub type_name: String,
    /// What kind of values it has.
    pub kind: Kind,
    /// True if it is NOT NULL.
    pub not_null: bool,
    /// True if its values are those of an enum, all of which are known.
    pub is_enum: bool,
    /// True if it refers to another table.
    pub is_reference: bool,
    /// The sequence that it owns, if any.
    pub sequence: Option<String>,
    /// True if a unique index has it alone, or with nothing but what says in which partition a row is.
    pub is_unique: bool,
    /// True if it is in the primary key.
    pub is_primary: bool,
    /// True if an index begins with it.
    pub is_indexed: bool,
    /// True if the role may see its values.
    pub is_readable: bool,
    /// Its values, the most frequent first, when they are known and few.
    pub values: Vec<String>,
    /// The numbers in it; empty when they are not known.
    pub numbers: Distribution,
    /// True if a number is below 0.
    pub is_negative: bool,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its schema, as an identifier of SQL.
    pub schema: String,
    /// Its name with the schema, as SQL has it.
    pub qualified: String,
    /// The role that looks, as SQL has it.
    pub role: String,
    /// Its columns in order.
    pub columns: Vec<Column>,
    /// Seconds from the beginning to the end of the newest rows, where they are known.
    pub durations: Distribution,
    /// The newest rows, for FROM, as `t`; empty when the role may not see them.
    newest: String,
}

impl Table {
    /// Looks a table up; inside a transaction.
    ///
    /// # Errors
    /// Fails if there is no such table.
    pub async fn read(session: &Session, name: &str) -> Result<Self, InitError> {
        let unknown = |more: &str| InitError::Unknown(format!("there is no table {name}{more}"));
        let statement = "SELECT c.oid::int8, c.relname::text, quote_ident(n.nspname), quote_ident(current_user), \
             quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM (SELECT parse_ident($1) AS parts) AS named \
             JOIN pg_catalog.pg_class AS c ON c.relname = parts[cardinality(parts)] \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
             AND n.nspname = coalesce(parts[cardinality(parts) - 1], 'public') WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')";
        let found = match session.rows(statement, &[(&name, Type::TEXT)]).await {
            Err(failure) if failure.code() == Some("22023") => return Err(unknown(": that is no name in SQL")),
            found => found?,
        };
        let Some(row) = found.first() else {
            return Err(unknown(" in this database; a schema other than public is named like schema.table"));
        };
        let oid: i64 = row.get(0)?;
        let (name, schema, role, qualified) = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        let mut table = Self { name, schema, qualified, role, ..Self::default() };
        for row in session.rows(COLUMNS, &[(&oid, Type::INT8)]).await? {
            let mut cells = row.cells();
            let (name, type_name, category): (String, String, String) = (cells.take()?, cells.take()?, cells.take()?);
            let (not_null, is_reference, sequence) = (cells.take()?, cells.take()?, cells.take()?);
            let (is_unique, is_primary) = (cells.take()?, cells.take()?);
            let values: Option<Vec<String>> = cells.take()?;
            table.columns.push(Column {
                name,
                kind: kind(&type_name, &category),
                type_name,
                not_null,
                is_enum: values.is_some(),
                is_reference,
                sequence,
                is_unique,
                is_primary,
                is_readable: cells.take()?,
                is_indexed: cells.take()?,
                values: values.unwrap_or_default(),
                numbers: Distribution::default(),
                is_negative: false,
            });
        }
        let order = table.key().filter(|key| key.is_unique).map(|key| format!(" ORDER BY {} DESC", ident(&key.name)));
        let seen: Vec<String> = table.columns.iter().filter(|c| c.is_readable).map(|c| ident(&c.name)).collect();
        if seen.is_empty() {
            return Ok(table);
        }
        let (seen, order) = (seen.join(", "), order.unwrap_or_default());
        table.newest = format!("(SELECT {seen} FROM {}{order} LIMIT {SAMPLE}) AS t", table.qualified);
        for column in table.columns.iter_mut().filter(|column| column.is_readable) {
            column.look(session, &table.newest).await?;
        }
        Ok(table)
    }

    /// Looks how long the newest rows took, by an expression for the seconds, whose columns the role may see; inside a
    /// transaction.
    ///
    /// # Errors
    /// Fails if the server does.
    pub async fn measure(&mut self, session: &Session, seconds: &str) -> Result<(), Failure> {
        self.durations = distribution(session, seconds, &self.newest).await?.0;
        Ok(())
    }

    /// The column that identifies a row: a number of its own, or else what the primary key begins with.
    pub fn key(&self) -> Option<&Column> {
        let numbers = || self.columns.iter().filter(|c| c.kind == Kind::Integer && c.is_unique);
        let primary = numbers().find(|c| c.is_primary);
        let own = primary.or_else(|| numbers().find(|c| c.sequence.is_some() && c.not_null));
        let own = own.or_else(|| numbers().find(|c| c.not_null));
        own.or_else(|| self.columns.iter().find(|c| c.is_primary)).or_else(|| self.named(&["id"]))
    }

    /// The columns of the primary key and the time at which rows appear, where no number identifies a row in the order of
    /// insertion.
    pub fn keyed(&self) -> Option<(Vec<&Column>, &Column)> {
        let is_number = |key: &Column| key.kind == Kind::Integer && key.is_unique && key.not_null;
        if self.key().is_some_and(is_number) {
            return None;
        }
        let columns: Vec<&Column> = self.columns.iter().filter(|c| c.is_primary).collect();
        let is_time = |c: &&Column| matches!(c.kind, Kind::Time | Kind::LocalTime) && c.not_null && !is_edited(&c.name);
        let named = |name: &&str| self.named(&[name]).filter(is_time);
        let times = || BIRTHS.iter().filter_map(named);
        let order = times().find(|c| c.is_indexed).or_else(|| times().next());
        let order = order.or_else(|| self.columns.iter().find(|c| is_time(c) && c.is_indexed));
        order.filter(|_| !columns.is_empty()).map(|order| (columns, order))
    }

    /// The first of these columns that there is.
    pub fn named(&self, names: &[&str]) -> Option<&Column> {
        names.iter().find_map(|name| self.columns.iter().find(|c| c.name == *name))
    }
}

impl Column {
    /// Looks at the values in the newest rows.
    async fn look(&mut self, session: &Session, newest: &str) -> Result<(), Failure> {
        let own = format!("t.{}", ident(&self.name));
        match self.kind {
            Kind::Text | Kind::Boolean if self.values.is_empty() => {
                let statement = format!(
                    "SELECT {own}::text FROM {newest} WHERE {own} IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {}",
                    FEW + 1
                );
                let rows = session.rows(&statement, &[]).await?;
                let values = rows.iter().map(|row| row.get::<Lossy>(0).map(|text| text.0));
                let values: Vec<String> = values.collect::<Result<_, _>>()?;
                if values.len() <= FEW && values.iter().all(|value| value.len() <= 60) {
                    self.values = values;
                }
            }
            Kind::Integer | Kind::Number if !self.is_primary && !self.is_reference => {
                (self.numbers, self.is_negative) = distribution(session, &own, newest).await?;
            }
            Kind::Interval => {
                let seconds = format!("extract(epoch FROM {own})");
                (self.numbers, self.is_negative) = distribution(session, &seconds, newest).await?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// How an expression is distributed, and whether it is below 0 somewhere.
async fn distribution(session: &Session, number: &str, newest: &str) -> Result<(Distribution, bool), Failure> {
    let statement =
        format!("SELECT ({number})::float8, count(*) FROM {newest} WHERE ({number}) IS NOT NULL GROUP BY 1");
    let (mut numbers, mut is_negative) = (Distribution::default(), false);
    for row in session.rows(&statement, &[]).await? {
        let (value, times): (f64, i64) = (row.get(0)?, row.get(1)?);
        is_negative |= value < 0.0;
        if value >= 0.0 && value.is_finite() {
            numbers.add(value, times.unsigned_abs());
        }
    }
    Ok((numbers, is_negative))
}

/// The columns of the table `$1`: name, type, category, NOT NULL, whether it refers to another table, the sequence that it
/// owns, whether it is unique, whether it is in the primary key, the values of an enum, whether the role may read it, and whether an index begins with it.
const COLUMNS: &str = "
    SELECT a.attname::text, format_type(t.oid, NULL), t.typcategory::text, a.attnotnull,
      EXISTS (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.conrelid = a.attrelid AND k.contype = 'f' AND a.attnum = ANY (k.conkey)),
      (SELECT d.objid::regclass::text FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
       WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
         AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') LIMIT 1),
      EXISTS (
        SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indpred IS NULL
        AND i.indkey[0] = a.attnum AND NOT EXISTS (
          SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS also (attnum, n)
          LEFT JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid = a.attrelid
          WHERE n BETWEEN 2 AND i.indnkeyatts AND (also.attnum = ANY (p.partattrs::int2[])) IS NOT TRUE
        )
      ),
      EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey::int2[])),
      (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = t.oid),
      has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
      EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL)
    FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_type AS declared ON declared.oid = a.atttypid
    JOIN pg_catalog.pg_type AS t ON t.oid = coalesce(nullif(declared.typbasetype, 0), declared.oid)
    WHERE a.attrelid::int8 = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

fn kind(type_name: &str, category: &str) -> Kind {
    match type_name {
        "smallint" | "integer" | "bigint" => Kind::Integer,
        "real" | "double precision" | "numeric" => Kind::Number,
        "timestamp with time zone" => Kind::Time,
        "timestamp without time zone" => Kind::LocalTime,
        "interval" => Kind::Interval,
        "boolean" => Kind::Boolean,
        _ if ["S", "E"].contains(&category) => Kind::Text,
        _ => Kind::Other,
    }
}
