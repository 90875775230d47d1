//! How the rows of a source are told apart, and how new ones are found, where `id` is not a number in insertion order.

use std::time::Duration;

use toml::{Table, Value as Toml};

/// The key of a source, and the way to new rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The columns that identify a row together.
    pub columns: Vec<String>,
    /// How new rows are found.
    pub way: Way,
}

/// How new rows are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Along an indexed column.
    Order {
        /// The column.
        column: String,
        /// How far behind the newest value a row can still appear.
        late: Late,
    },
    /// By the transactions that inserted them.
    Xid {
        /// The column with their ids, of type `xid8`.
        column: String,
    },
}

/// How far behind the newest row another one can still appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// So long, along a time.
    Time(Duration),
    /// So many, along a number.
    Width(i64),
}

impl Key {
    /// The column along which new rows are found.
    pub fn order(&self) -> &str {
        match &self.way {
            Way::Order { column, .. } | Way::Xid { column } => column,
        }
    }

    /// The columns that say where a row is in the order: the one along which new rows are found, then the others.
    pub fn place(&self) -> impl Iterator<Item = &str> {
        let order = self.order();
        std::iter::once(order).chain(self.columns.iter().map(String::as_str).filter(move |column| *column != order))
    }

    /// Takes the keys of a definition out of it; what is wrong goes to `problem`, with its key.
    pub fn take(table: &mut Table, mut problem: impl FnMut(&str, &str)) -> Option<Self> {
        let key = table.remove("key").and_then(|value| columns(value, &mut problem));
        let mut text = |name: &str| match table.remove(name)? {
            Toml::String(text) if !text.is_empty() => Some(text),
            _ => {
                problem(name, "must be the name of a column of the SELECT");
                Some(String::new())
            }
        };
        let (order, xid) = (text("order"), text("xid"));
        let late = table.remove("late").map(|value| late(&value));
        if let Some(Err(message)) = &late {
            problem("late", message);
        }
        let is_id = key.as_ref().is_none_or(|key| *key == ["id"]);
        let columns = key.unwrap_or_else(|| vec!["id".to_owned()]);
        let way = match (order, late, xid) {
            (None, None, None) if is_id => return None,
            (None, None, None) => {
                problem(
                    "key",
                    "needs a way to new rows: order, an indexed column along which they appear, with late, how far behind \
                     the newest one can still appear; or xid, a column of type xid8",
                );
                return None;
            }
            (Some(_), _, Some(_)) => {
                problem("xid", "stands beside order: one of them is enough");
                return None;
            }
            (_, Some(_), Some(_)) => {
                problem("late", "stands beside xid, with which no row comes too late");
                return None;
            }
            (None, None, Some(column)) => Way::Xid { column },
            (Some(column), Some(late), None) => Way::Order { column, late: late.ok()? },
            (Some(_), None, None) => {
                problem(
                    "late",
                    "is missing: how far behind the newest row can another one still appear? At least as long as the \
                     longest transaction that inserts: \"10m\", or a number where order is one",
                );
                return None;
            }
            (None, Some(_), None) => {
                problem("order", "is missing: along which indexed column do new rows appear?");
                return None;
            }
        };
        if table.contains_key("sequence") {
            problem("sequence", "is for an id in insertion order: leave it out beside key, order and xid");
        }
        Some(Self { columns, way })
    }
}

fn columns(value: Toml, problem: &mut impl FnMut(&str, &str)) -> Option<Vec<String>> {
    let list = match value {
        Toml::Array(list) => list,
        one => vec![one],
    };
    let names: Vec<String> = list.iter().filter_map(Toml::as_str).map(str::to_owned).collect();
    let is_distinct = names.iter().enumerate().all(|(i, name)| !name.is_empty() && !names[..i].contains(name));
    if names.len() == list.len() && !names.is_empty() && is_distinct {
        return Some(names);
    }
    problem("key", "must be the name of a column of the SELECT, or a list of different ones");
    None
}

fn late(value: &Toml) -> Result<Late, &'static str> {
    match value {
        Toml::Integer(width) if *width > 0 => Ok(Late::Width(*width)),
        Toml::String(text) => match humantime::parse_duration(text) {
            Ok(late) if late >= Duration::from_millis(1) && late <= Duration::from_secs(10 * 366 * 86_400) => {
                Ok(Late::Time(late))
            }
            _ => Err("must be a time of a millisecond to ten years, such as \"10m\""),
        },
        _ => Err("must be a time such as \"10m\", or a number above 0 where order is one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(toml: &str) -> (Option<Key>, Vec<String>) {
        let mut problems = Vec::new();
        let mut table = toml.parse().unwrap();
        let key = Key::take(&mut table, |key, message| problems.push(format!("{key}: {message}")));
        (key, problems)
    }

    #[test]
    fn a_key_has_one_way_to_new_rows() {
        assert_eq!(parse(""), (None, vec![]));
        assert_eq!(parse("key = \"id\"\nsequence = \"s\""), (None, vec![]));
        let (key, problems) = parse("order = \"created_at\"\nlate = \"10m\"");
        assert_eq!(key.unwrap().columns, ["id"]);
        assert_eq!(problems, [""; 0]);
        let (key, _) = parse("key = [\"id\", \"attempt\"]\norder = \"id\"\nlate = 1000");
        assert_eq!(key.as_ref().unwrap().place().collect::<Vec<_>>(), ["id", "attempt"]);
        assert_eq!(key.unwrap().way, Way::Order { column: "id".into(), late: Late::Width(1000) });
        assert_eq!(parse("xid = \"txid\"").0.unwrap().order(), "txid");
        for (toml, about) in [
            ("key = \"uuid\"", "key: needs"),
            ("key = []", "key: must"),
            ("key = [\"a\", \"a\"]\nxid = \"b\"", "key: must"),
            ("order = \"a\"", "late: is missing"),
            ("late = \"1h\"", "order: is missing"),
            ("order = \"a\"\nlate = \"soon\"", "late: must"),
            ("order = \"a\"\nlate = 0", "late: must"),
            ("order = 1\nlate = 5", "order: must"),
            ("order = \"a\"\nlate = 5\nxid = \"b\"", "xid: stands"),
            ("xid = \"b\"\nlate = 5", "late: stands"),
            ("xid = \"b\"\nsequence = \"s\"", "sequence: is for"),
        ] {
            let (_, problems) = parse(toml);
            assert!(problems.len() == 1 && problems[0].starts_with(about), "{toml}: {problems:?}");
        }
    }
}
