//! Words that tables use, and names for metrics and labels.

/// Names of the column with the state of a row.
pub const STATES: [&str; 7] = ["status", "state", "phase", "stage", "outcome", "result", "job_state"];
/// What a state is called before the end.
const OPEN: [&str; 34] = [
    "pending",
    "queued",
    "queueing",
    "enqueued",
    "running",
    "processing",
    "in_progress",
    "in progress",
    "inprogress",
    "waiting",
    "scheduled",
    "available",
    "executing",
    "retryable",
    "retry",
    "retrying",
    "active",
    "new",
    "created",
    "started",
    "starting",
    "ready",
    "open",
    "draft",
    "submitted",
    "accepted",
    "paused",
    "blocked",
    "locked",
    "reserved",
    "claimed",
    "working",
    "requested",
    "init",
];
/// Those that are taken for possible even where no row has them.
pub const COMMON: [&str; 8] =
    ["pending", "queued", "running", "processing", "in_progress", "waiting", "scheduled", "retrying"];
/// Names of the column with the time of the end, the likeliest first.
pub const ENDS: [&str; 16] = [
    "finished_at",
    "completed_at",
    "ended_at",
    "processed_at",
    "done_at",
    "closed_at",
    "resolved_at",
    "executed_at",
    "delivered_at",
    "sent_at",
    "finished",
    "completed",
    "ended",
    "finish_time",
    "end_time",
    "finalized_at",
];
/// Names of the column with the time of the beginning.
pub const STARTS: [&str; 9] = [
    "started_at",
    "attempted_at",
    "began_at",
    "start_time",
    "started",
    "run_at",
    "created_at",
    "inserted_at",
    "enqueued_at",
];
/// Names of the column with the time at which a row appeared.
pub const BIRTHS: [&str; 9] = [
    "created_at",
    "inserted_at",
    "enqueued_at",
    "queued_at",
    "created",
    "occurred_at",
    "recorded_at",
    "logged_at",
    "timestamp",
];

/// True if a column, by its name, changes with every edit of its row.
pub fn is_edited(name: &str) -> bool {
    ["update", "modif", "touch"].iter().any(|word| name.contains(word))
}

/// Names of times at which something happened once.
pub const EVENTS: [&str; 11] = [
    "occurred_at",
    "happened_at",
    "event_time",
    "time",
    "timestamp",
    "ts",
    "logged_at",
    "recorded_at",
    "created_at",
    "inserted_at",
    "updated_at",
];
/// Names of the column that says that a row is finished.
pub const FLAGS: [&str; 6] = ["done", "finished", "completed", "processed", "is_done", "is_finished"];
/// True if a state is not the end, by its name.
#[allow(clippy::ptr_arg, reason = "it is a predicate on lists of strings")]
pub fn is_open(value: &String) -> bool {
    OPEN.contains(&value.to_lowercase().as_str())
}

/// The name of a column as a label, which none of the columns that every source has, nor of Prometheus' labels, has.
pub fn label(name: &str) -> String {
    let word = word(name);
    let taken = ["id", "done", "at", "since", "le", "job", "instance", "duration_seconds"];
    if taken.contains(&word.as_str()) || word.starts_with("__") { format!("of_{word}") } else { word }
}

/// The beginning of the names of metrics.
pub fn metric(name: &str) -> String {
    let taken = ["rsolv_exporter", "process", "scrape"].iter().any(|prefix| name.starts_with(prefix));
    if taken || name == "up" { format!("table_{name}") } else { name.to_owned() }
}

/// A name with nothing but small letters, digits and `_`.
pub fn word(name: &str) -> String {
    let small = name.to_lowercase();
    let word: String = small.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if word.starts_with(|c: char| c.is_ascii_digit()) { format!("_{word}") } else { word }
}
