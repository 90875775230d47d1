//! Every row is counted exactly once, whatever is done to its table, its ids, its server and its clocks.

mod burnt_ids;
mod clocks;
mod failing_rows;
mod failover;
mod first_read;
mod hostile;
mod keys;
mod migrations;
mod open_rows;
mod resets;
mod restores;
mod smoke;
mod soak;
mod state;
mod state_folder;
mod totals;
mod values;
