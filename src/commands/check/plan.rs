//! How PostgreSQL runs the statement of a poll, and what that costs.

use serde::Serialize;
use serde_json::Value;

use crate::postgres::{Failure, Reason, Session};

/// A plan that was run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// How each table is read.
    pub scans: Vec<Scan>,
    /// The planner's estimate, in its own unit.
    pub cost: f64,
    /// How long it took.
    pub milliseconds: f64,
    /// Pages (of 8 kB, unless the server was built otherwise) that it touched, cached or not.
    pub pages: u64,
}

/// How one table is read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scan {
    /// The table.
    pub table: String,
    /// The kind of scan, in PostgreSQL's words.
    pub scan: String,
    /// The index, if one is used.
    pub index: Option<String>,
    /// Rows read, also those that were then left out.
    pub rows: u64,
}

impl Scan {
    /// True if the table is read from one end to the other.
    pub fn is_whole(&self) -> bool {
        self.scan.contains("Seq Scan")
    }
}

/// Runs a statement under EXPLAIN ANALYZE; inside a transaction.
pub async fn plan(session: &Session, statement: &str) -> Result<Plan, Failure> {
    let rows = session.text(&format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")).await?;
    let text = rows.first().and_then(|row| row.get(0)).unwrap_or_default();
    let wrong = |_| Failure::new(Reason::Decode, "EXPLAIN does not answer in JSON");
    let explained: Value = serde_json::from_str(text).map_err(wrong)?;
    Ok(parse(&explained[0]))
}

fn parse(explained: &Value) -> Plan {
    let top = &explained["Plan"];
    let number = |key: &str| top[key].as_u64().unwrap_or_default();
    let mut scans = Vec::new();
    walk(top, &mut scans);
    Plan {
        scans,
        cost: top["Total Cost"].as_f64().unwrap_or_default(),
        milliseconds: explained["Execution Time"].as_f64().unwrap_or_default(),
        pages: number("Shared Hit Blocks") + number("Shared Read Blocks"),
    }
}

fn walk(node: &Value, scans: &mut Vec<Scan>) {
    let text = |key: &str| node[key].as_str().map(str::to_owned);
    if let Some(table) = text("Relation Name") {
        let number = |key: &str| node[key].as_f64().unwrap_or_default();
        let each = number("Actual Rows") + number("Rows Removed by Filter");
        scans.push(Scan {
            table,
            scan: text("Node Type").unwrap_or_default(),
            // A bitmap scan has its index one node below.
            index: text("Index Name").or_else(|| node["Plans"][0]["Index Name"].as_str().map(str::to_owned)),
            rows: (each * number("Actual Loops")) as u64,
        });
    }
    node["Plans"].as_array().into_iter().flatten().for_each(|child| walk(child, scans));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_from_its_json() {
        let explained: Value = serde_json::from_str(
            r#"{"Execution Time": 1.5, "Plan": {"Node Type": "Nested Loop", "Total Cost": 9.5, "Shared Hit Blocks": 3,
            "Shared Read Blocks": 2, "Plans": [
              {"Node Type": "Index Scan", "Relation Name": "e", "Index Name": "e_pkey", "Actual Rows": 4, "Actual Loops": 2},
              {"Node Type": "Bitmap Heap Scan", "Relation Name": "b", "Actual Rows": 1.5, "Actual Loops": 2,
               "Plans": [{"Node Type": "Bitmap Index Scan", "Index Name": "b_i"}]},
              {"Node Type": "Seq Scan", "Relation Name": "r", "Actual Rows": 1, "Actual Loops": 1, "Rows Removed by Filter": 8}
            ]}}"#,
        )
        .unwrap();
        let plan = parse(&explained);
        let scans: Vec<_> = plan.scans.iter().map(|s| (s.table.as_str(), s.index.as_deref(), s.rows)).collect();
        assert_eq!(scans, [("e", Some("e_pkey"), 8), ("b", Some("b_i"), 3), ("r", None, 9)]);
        assert_eq!((plan.cost, plan.milliseconds, plan.pages), (9.5, 1.5, 5));
        assert!(plan.scans[2].is_whole() && !plan.scans[0].is_whole());
    }
}
