//! What a plan tells about the way from a table's key to the `id` of a SELECT.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Findings;
use crate::source::Source;
use crate::source::lexer::{Token, tokens};
use crate::sql::key::MARK;

/// The parts of a plan that are conditions on rows.
const CONDITIONS: [&str; 7] =
    ["Index Cond", "Filter", "Join Filter", "Hash Cond", "Merge Cond", "Recheck Cond", "One-Time Filter"];

/// A scan to which the condition on `id` came down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// The schema of the table.
    pub schema: String,
    /// The table.
    pub table: String,
    /// What the plan calls the table.
    pub alias: String,
    /// True if an index is led by the key.
    by_index: bool,
    /// The condition on the key.
    condition: String,
    /// The other conditions on rows of the table.
    filter: String,
}

/// What stands between the key and the `id`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The scans with the key: of one table, of its partitions, or of the tables of a UNION.
    pub keys: Vec<Key>,
    /// Functions that decide which rows there are.
    pub functions: BTreeSet<String>,
    /// Kinds of nodes above the scans.
    above: BTreeSet<String>,
    /// Semi- and antijoins above the scans: WHERE … IN, EXISTS.
    joins: bool,
    /// The condition on `id` stops above a subquery.
    fenced: bool,
    /// The expression of `done`.
    done: String,
}

impl Shape {
    /// Reads the plan of [`crate::sql::key::plan`].
    pub fn of(plan: &Value) -> Self {
        let mut shape = Self { done: plan["Output"][1].as_str().unwrap_or_default().to_owned(), ..Self::default() };
        shape.walk(plan, &mut Vec::new());
        shape
    }

    fn walk<'a>(&mut self, node: &'a Value, path: &mut Vec<&'a Value>) {
        for condition in CONDITIONS.iter().filter_map(|key| node[*key].as_str()) {
            self.functions.extend(functions(condition));
        }
        path.push(node);
        let condition = CONDITIONS.iter().find(|key| node[**key].as_str().is_some_and(|text| text.contains(MARK)));
        if let Some(condition) = condition {
            self.key(node, condition, path);
        }
        children(node).for_each(|child| self.walk(child, path));
        path.pop();
    }

    fn key(&mut self, node: &Value, condition: &str, path: &[&Value]) {
        let text = |node: &Value, key: &str| node[key].as_str().unwrap_or_default().to_owned();
        self.above.extend(path.iter().map(|node| text(node, "Node Type")));
        self.joins |=
            path.iter().any(|node| ["Semi", "Anti"].contains(&node["Join Type"].as_str().unwrap_or_default()));
        // Where the condition could not go further down, the reason is below, and the table too.
        let mut scan = node;
        self.fenced |= text(node, "Node Type") == "Subquery Scan";
        while let (Value::Null, Some(below)) = (&scan["Relation Name"], children(scan).next()) {
            scan = below;
            self.above.insert(text(scan, "Node Type"));
        }
        let by_index = condition == "Index Cond";
        self.keys.push(Key {
            schema: text(scan, "Schema"),
            table: text(scan, "Relation Name"),
            alias: text(scan, "Alias"),
            by_index,
            condition: text(node, condition),
            filter: if by_index { text(node, "Filter") } else { String::new() },
        });
    }

    /// The same, in which conditions on these columns are none that leave out rows.
    pub fn without(mut self, columns: &BTreeSet<String>) -> Self {
        for key in &mut self.keys {
            let is_own = |name: &str| columns.contains(name);
            if self::columns(&key.filter).iter().all(|name| is_own(name)) {
                key.filter.clear();
            }
        }
        self
    }

    /// What is wrong with the SELECT as a whole. `volatile` are those of [`Shape::functions`] that are.
    pub fn findings(&self, source: &Source, volatile: &[String]) -> Findings {
        let file = format!("{}.sql", source.name);
        let mut findings = Findings::default();
        let reasons: [(&[&str], &str); 5] = [
            (
                &["Limit"],
                "LIMIT or OFFSET leaves out rows, which are then never counted: take it out; a poll reads only what is new",
            ),
            (
                &["Aggregate", "Group", "Unique", "SetOp"],
                "GROUP BY, DISTINCT, UNION or an aggregate makes one row of several, some of which a poll may not see yet: \
                 each event must be one row; what belongs to it can come from a subquery in the SELECT list or LEFT JOIN LATERAL",
            ),
            (
                &["WindowAgg"],
                "a window function (OVER) looks at other rows, of which a poll reads only the new ones: use a subquery \
                 with a condition of its own, or leave it out",
            ),
            (
                &["ProjectSet"],
                "a function in the SELECT list returns several rows: each event must be one row with an id of its own",
            ),
            (
                &["CTE Scan", "WorkTable Scan", "Recursive Union"],
                "the key comes out of WITH, which is read as a whole at every poll: use a subquery in FROM",
            ),
        ];
        for (nodes, reason) in reasons {
            if nodes.iter().any(|node| self.above.contains(*node)) {
                findings.problems.push(format!("{file}: {reason}"));
            }
        }
        if self.fenced && findings.problems.is_empty() {
            findings.problems.push(format!(
                "{file}: a subquery (OFFSET 0?) is in the way between \"id\" and its table, so that every poll would read the \
                 whole table: take it apart"
            ));
        }
        for name in volatile {
            findings.problems.push(format!(
                "{file}: {name}() decides which rows there are and is VOLATILE, so that a row can be there at one poll and not \
                 at the next: leave it out, or declare the function STABLE if it is"
            ));
        }
        let hidden: BTreeSet<String> = self.keys.iter().flat_map(|key| columns(&key.filter)).collect();
        let done: BTreeSet<String> = columns(&self.done).into_iter().collect();
        if !hidden.is_empty() || self.joins {
            let shared: Vec<String> = hidden.intersection(&done).cloned().collect();
            let what = match shared.as_slice() {
                [] => "WHERE leaves out rows".to_owned(),
                shared => {
                    format!("WHERE and \"done\" both depend on {}: it hides rows until they finish", shared.join(", "))
                }
            };
            findings.warnings.push(format!(
                "{file}: {what}. Their ids are looked for among the skipped ones, so they are counted some minutes late, or an \
                 hour after poll.gap_watch, and no gauge of open rows has them: select all rows, and say in \"done\" which have \
                 finished, and in a column named by count_if which are counted"
            ));
        }
        findings
    }
}

impl Key {
    /// The expression of the key, as the condition on it has it.
    pub fn expression(&self) -> String {
        let left = self.condition.split(" >= ").next().unwrap_or_default();
        // Other conditions can stand before it.
        let mut depth = 0_i32;
        let begins = left.char_indices().rev().find(|(_, c)| {
            depth += i32::from(*c == ')') - i32::from(*c == '(');
            depth < 0
        });
        let own = begins.map_or(left, |(at, _)| &left[at + 1..]);
        own.replace(&format!("{}.", self.alias), "")
    }

    /// The expression without spaces and parentheses, and another spelling of it: an index on a domain serves its base type.
    pub fn spellings(&self) -> [String; 2] {
        let bare: String = self.expression().chars().filter(|c| !matches!(c, '(' | ')' | ' ')).collect();
        let integer = ["::bigint", "::integer", "::smallint"].into_iter().find_map(|cast| bare.strip_suffix(cast));
        let other = integer.filter(|_| self.by_index).unwrap_or(&bare).to_owned();
        [bare, other]
    }
}

/// True if the table of a key can be missing in the rows of a plan without conditions: an outer join supplies NULL then.
pub fn is_optional(node: &Value, key: &Key) -> bool {
    let is_key = |node: &Value| node["Relation Name"] == key.table.as_str() && node["Alias"] == key.alias.as_str();
    fn holds(node: &Value, is_key: &dyn Fn(&Value) -> bool) -> bool {
        is_key(node) || children(node).any(|child| holds(child, is_key))
    }
    let missing = match node["Join Type"].as_str() {
        Some("Left") => &["Inner"][..],
        Some("Right") => &["Outer"],
        Some("Full") => &["Inner", "Outer"],
        _ => &[],
    };
    children(node).any(|child| {
        let side = child["Parent Relationship"].as_str().unwrap_or_default();
        (missing.contains(&side) && holds(child, &is_key)) || is_optional(child, key)
    })
}

/// The scans of tables in a plan.
pub fn scans(node: &Value) -> Vec<Key> {
    let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
    let own = Key { schema: text("Schema"), table: text("Relation Name"), alias: text("Alias"), ..Key::default() };
    let own = (!own.table.is_empty()).then_some(own);
    own.into_iter().chain(children(node).flat_map(scans)).collect()
}

/// The columns of what a plan returns; where partitions are joined, those of the first one.
pub fn outputs(node: &Value) -> &Value {
    match (&node["Output"], children(node).next()) {
        (Value::Null, Some(child)) => outputs(child),
        (outputs, _) => outputs,
    }
}

/// True if an expression is about columns of the table with this alias, and about nothing else.
pub fn is_of(expression: &str, alias: &str) -> bool {
    let tokens: Vec<Token> = tokens(expression).unwrap_or_default().into_iter().map(|(_, token)| token).collect();
    let tables: Vec<&str> =
        tokens.windows(2).filter(|pair| pair[1] == Token::Other('.')).filter_map(|pair| pair[0].name()).collect();
    !tables.is_empty() && tables.iter().all(|table| *table == alias)
}

/// The nodes below, without those of subqueries that only give values.
fn children(node: &Value) -> impl Iterator<Item = &Value> {
    let nodes = node["Plans"].as_array().into_iter().flatten();
    nodes.filter(|child| !["InitPlan", "SubPlan"].contains(&child["Parent Relationship"].as_str().unwrap_or_default()))
}

/// The columns in an expression of a plan, which qualifies all of them.
fn columns(expression: &str) -> Vec<String> {
    let tokens = tokens(expression).unwrap_or_default();
    let dotted = tokens.windows(4).chain(tokens.len().checked_sub(3).map(|at| &tokens[at..]));
    let column = |window: &[(usize, Token)]| {
        let [(_, table), (_, dot), (_, column), rest @ ..] = window else { return None };
        let is_call = rest.first().is_some_and(|(_, token)| *token == Token::Other('('));
        (table.name().is_some() && *dot == Token::Other('.') && !is_call).then(|| column.name().map(str::to_owned))?
    };
    dotted.filter_map(column).collect()
}

/// The functions that are called in an expression, with their schema where the plan gives one.
fn functions(expression: &str) -> BTreeSet<String> {
    let tokens: Vec<Token> = tokens(expression).unwrap_or_default().into_iter().map(|(_, token)| token).collect();
    let mut found = BTreeSet::new();
    for i in 1..tokens.len() {
        let (Token::Other('('), Some(name)) = (&tokens[i], tokens[i - 1].name()) else { continue };
        let schema = (i >= 3 && tokens[i - 2] == Token::Other('.')).then(|| tokens[i - 3].name()).flatten();
        found.insert(schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_plans_are_taken_apart() {
        let expression = "((e.\"State\" = ANY ('{a,b}'::text[])) AND (public.f(e.x) > lower(j.y)))";
        assert_eq!(columns(expression), ["State", "x", "y"]);
        assert_eq!(functions(expression).into_iter().collect::<Vec<_>>(), ["and", "any", "lower", "public.f"]);
        assert_eq!(columns("e.state"), ["state"]);
    }

    #[test]
    fn the_key_is_taken_out_of_its_condition() {
        let spellings = |by_index: bool, condition: &str| {
            let (alias, condition) = ("e".into(), condition.into());
            Key { alias, by_index, condition, ..Key::default() }.spellings()
        };
        let plain = "((e.id >= (- (pg_backend_pid())::bigint)) AND (e.id <= (pg_backend_pid())::bigint))";
        assert_eq!(spellings(true, plain), ["id", "id"]);
        let reversed = "((e.id <= (pg_backend_pid())::bigint) AND (e.id >= (- (pg_backend_pid())::bigint)))";
        assert_eq!(spellings(true, reversed), ["id", "id"]);
        let domain = "(((e.id)::bigint >= (- (pg_backend_pid())::bigint)) AND true)";
        assert_eq!(spellings(true, domain), ["id::bigint", "id"]);
        assert_eq!(spellings(false, domain), ["id::bigint", "id::bigint"]);
        let expression = "((((e.data ->> 'n'::text))::bigint >= (- (pg_backend_pid())::bigint)) AND true)";
        assert_eq!(spellings(false, expression)[0], "data->>'n'::text::bigint");
    }
}
