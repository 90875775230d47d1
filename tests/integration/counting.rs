//! Every row is counted exactly once, whatever is done to its table, its ids, its server and its clocks.

mod burnt_ids;
mod clocks;
mod failover;
mod migrations;
mod open_rows;
mod resets;
mod restores;
mod totals;
