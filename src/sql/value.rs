//! From the value of a column to a number, to whether it is valid, and to why it is not.

use super::{ColumnType, Columns, SPACE, column, named, own, valid};
use crate::source::Value;

/// A number as JSON writes it (RFC 8259, section 6); exponents are bounded, so that every match fits `numeric`.
const NUMBER: &str = r"'^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?0*[0-9]{1,4})?$'";
/// A longer string is not taken for a number.
const MAX_DIGITS: usize = 400;
/// An escape in a JSON string that is no ASCII character: no number has one, and `json` can hold ones that PostgreSQL
/// refuses to decode (NUL, half a surrogate pair).
const NOT_ASCII: &str = r"'\\u(0000|(?!00[0-7]))'";
/// The kind of a value column.
fn kind(value: &Value, columns: &Columns) -> ColumnType {
    columns.get(&value.column).map_or(ColumnType::Text, |column| column.kind)
}

/// Trimmed text that is a number or not, and whether it is one.
fn trimmed(text: &str) -> (String, String) {
    let trimmed = format!("btrim({text}, {SPACE})");
    let is_number = format!("length({trimmed}) <= {MAX_DIGITS} AND {trimmed} ~ {NUMBER}");
    (trimmed, is_number)
}

/// The function that tells what a JSON column holds, and the text of its number and of its string.
fn json(value: &Value, columns: &Columns) -> (String, String, String) {
    let column = own(&value.column);
    let string = format!("{column} #>> '{{}}'");
    match kind(value, columns) {
        // Decoded only where that cannot fail.
        ColumnType::Json => (
            format!("json_typeof({column})"),
            format!("{column}::text"),
            format!("CASE WHEN {column}::text !~* {NOT_ASCII} THEN {string} ELSE 'not ASCII' END"),
        ),
        _ => (format!("jsonb_typeof({column})"), format!("{column}::text"), format!("({string})")),
    }
}

/// The number that a done row has, valid or not, or NULL; nothing for a column that is a number as it stands.
pub fn parsed(value: &Value, columns: &Columns) -> Option<String> {
    let column = own(&value.column);
    let number = |text: &str| {
        let (trimmed, is_number) = trimmed(text);
        format!("CASE WHEN {is_number} THEN {trimmed}::numeric END")
    };
    let parsed = match kind(value, columns) {
        ColumnType::Number => return None,
        ColumnType::Boolean => format!("{column}::int4"),
        ColumnType::Interval => format!("extract(epoch FROM {column})"),
        kind @ (ColumnType::Json | ColumnType::Jsonb) => {
            let (kind_of, digits, string) = json(value, columns);
            let digits = if kind == ColumnType::Jsonb { format!("({column})::numeric") } else { number(&digits) };
            format!(
                "CASE {kind_of}\n        WHEN 'number' THEN {digits}\n        WHEN 'string' THEN {}\n      END",
                number(&string),
            )
        }
        _ => number(&format!("{column}::text")),
    };
    Some(format!("CASE WHEN execution.done THEN\n      {parsed}\n    END"))
}

/// The name under which [`parsed`] stands, or the column itself.
pub fn number(value: &Value, columns: &Columns) -> String {
    match kind(value, columns) {
        ColumnType::Number => column(value),
        _ => named(&value.column, "number"),
    }
}

/// A number of a done row, or NULL when it is out of bounds.
pub fn bounded(value: &Value, number: &str, done: &str) -> String {
    let (whole, shown) = if value.integer {
        let kind = if is_int4(value) { "int4" } else { "int8" };
        (format!(" AND {number} = trunc({number})"), format!("{number}::{kind}"))
    } else {
        // `float8` has nothing nearer to 0 than about 1e-307, and refuses to round what is.
        (String::new(), format!("(CASE WHEN {number} < 1e-300 THEN 0 ELSE {number} END)::float8"))
    };
    format!("CASE WHEN {done} AND {number} BETWEEN {} AND {}{whole} THEN {shown} END", value.min, value.max)
}

/// True if valid values are whole and fit into `int4`, whose sums are `int8`. Those of `int8` are `numeric`, which takes
/// longer to add up and to send.
pub fn is_int4(value: &Value) -> bool {
    value.integer && value.min >= f64::from(i32::MIN) && value.max <= f64::from(i32::MAX)
}

/// The valid number of a done row in one expression, or NULL when there is none.
pub fn valid_number(value: &Value, columns: &Columns) -> String {
    let number = parsed(value, columns).map_or_else(|| own(&value.column), |parsed| format!("({parsed})"));
    bounded(value, &number, "execution.done")
}

/// How many values there are that are no valid number: not NULL, JSON null or the empty string, and yet without one.
pub fn rejection(value: &Value, columns: &Columns) -> String {
    format!("count(*) FILTER (WHERE done AND {} IS NULL AND {})", valid(value), present(value, columns, &column(value)))
}

/// That a value is there: not NULL, JSON null or the empty string.
fn present(value: &Value, columns: &Columns, column: &str) -> String {
    let missing = match kind(value, columns) {
        ColumnType::Number | ColumnType::Boolean | ColumnType::Interval => String::new(),
        ColumnType::Json => format!(" AND btrim({column}::text, {SPACE}) NOT IN ('null', '\"\"')"),
        ColumnType::Jsonb => format!(" AND {column} NOT IN ('null', '\"\"')"),
        _ => format!(" AND {column}::text <> ''"),
    };
    format!("{column} IS NOT NULL{missing}")
}

/// In words why the value of a done row is rejected; NULL when it is not.
pub fn why(value: &Value, columns: &Columns) -> String {
    let column = own(&value.column);
    let (min, max) = (value.min, value.max);
    let bounds = |x: &str| {
        format!(
            "CASE WHEN {x} < {min} THEN 'is below {min}' WHEN {x} > {max} THEN 'is above {max}' ELSE 'is not whole' END"
        )
    };
    let text = |text: &str| {
        let (trimmed, _) = trimmed(text);
        format!(
            "CASE WHEN length({trimmed}) > {MAX_DIGITS} THEN 'is too long for a number' WHEN {trimmed} !~ {NUMBER} \
             THEN 'is text that is no number' ELSE {} END",
            bounds(&format!("{trimmed}::numeric"))
        )
    };
    let reason = match kind(value, columns) {
        ColumnType::Number => bounds(&column),
        ColumnType::Boolean => bounds(&format!("{column}::int4")),
        ColumnType::Interval => bounds(&format!("extract(epoch FROM {column})")),
        kind @ (ColumnType::Json | ColumnType::Jsonb) => {
            let (kind_of, digits, string) = json(value, columns);
            let digits =
                if kind == ColumnType::Jsonb { bounds(&format!("({column})::numeric")) } else { text(&digits) };
            format!(
                "CASE {kind_of} WHEN 'number' THEN {digits} WHEN 'string' THEN {} \
                 WHEN 'boolean' THEN 'is true or false' ELSE 'is an ' || {kind_of} END",
                text(&string),
            )
        }
        _ => text(&format!("{column}::text")),
    };
    let valid = valid_number(value, columns);
    let present = present(value, columns, &column);
    format!("CASE WHEN execution.done AND {present} AND ({valid}) IS NULL THEN {reason} END")
}
