//! The exporter watched: what it says of itself, and what follows when it or its database is gone.

use std::collections::BTreeSet;
use std::fs;

use super::stack::{self, Stack};
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation};
use crate::support::metrics::Metrics;
use crate::support::state::State;

/// Name, summary, start of the description.
const OWN: [[&str; 3]; 4] = [
    [
        "RsolvExporterStateNotSaved",
        "The exporter in production cannot save its state",
        "Exporters in production that failed to write their state file: 1. Numbers are right until a restart",
    ],
    [
        "RsolvExporterSeriesLimitReached",
        "validation_executions of production have more series than allowed",
        "The limit on series was met 1 times by validation_executions of production in the last day.",
    ],
    [
        "RsolvExporterDrift",
        "validation_executions of production appeared later than expected",
        "1 ids of validation_executions in production were found late, given up, or handed out twice in the last day.",
    ],
    [
        "RsolvExporterValuesRejected",
        "Values of trust_score in production are left out",
        "5 values of trust_score in mitigation_executions of production were not usable in the last day (threshold 5).",
    ],
];

#[tokio::test]
async fn it_tells_of_its_own_troubles_and_when_it_is_down_of_nothing_else() {
    let (database, state) = (Database::new().await, State::new());
    let repo = database.repository("org/first").await;
    database.insert(Validation::completed(repo, "{}")).await;
    // A folder where the temporary file belongs.
    let obstacle = format!("{}.new", state.path.display());
    fs::create_dir(&obstacle).unwrap();
    let flags = ["--state.file", state.path.to_str().unwrap(), "--series.limit", "1", "--poll.gap-watch", "1s"];
    let mut exporter = stack::exporter(&database, &flags).await;
    let stack = Stack::watching(&exporter.address).await;
    stack.prometheus.wait_for("rsolv_exporter_drift_total", |series| series.len() == 2).await;

    // An id that is drawn ahead and used after it was given up, and meanwhile one more repository than there may be.
    let id = database.value("SELECT nextval('validation_executions_id_seq')").await;
    let second = database.repository("org/second").await;
    database.insert(Validation::completed(second, "{}")).await;
    let of = |name: &'static str| move |m: &Metrics| m.sum(name, &[]);
    let (rows, gaps) = (of("rsolv_exporter_rows_counted_total"), of("rsolv_exporter_gaps"));
    exporter.wait_for("the row above the gap", |metrics| rows(metrics) == 2.0).await;
    exporter.wait_polls(1).await;
    exporter.wait_for("the gap to be given up", |metrics| gaps(metrics) == 0.0).await;
    database.batch(&Validation::completed(repo, "{}").with_id(&id)).await;
    exporter.wait_for("the late row", |metrics| of("rsolv_exporter_drift_total")(metrics) == 1.0).await;
    let rows = (0..5).map(|_| String::from(Mitigation::completed(repo, r#"{"trust_score": "high"}"#)));
    database.batch(&rows.collect::<Vec<_>>().join(";")).await;
    for [name, summary, description] in OWN {
        stack.fires(name, ("warning", "exporter"), summary, description).await;
    }
    fs::remove_dir(&obstacle).unwrap();
    stack.notified("resolved", "RsolvExporterStateNotSaved").await;
    assert_eq!((stack.count("/pagerduty"), stack.count("/slack")), (0, 0), "by e-mail, to those who run it");

    let address = exporter.address.clone();
    exporter.terminate().await;
    let summary = "No exporter is up in production";
    let description = "0 exporters answer Prometheus in production. Nothing is counted that could be alerted on";
    stack.fires("RsolvExporterDown", ("critical", "exporter"), summary, description).await;
    stack.pagerduty("trigger", summary).await;
    stack.slack("FIRING 1: critical exporter in production", &[summary, description]).await;
    // The others look back for a day. They go on, but are not told.
    let rest = ["RsolvExporterSeriesLimitReached", "RsolvExporterDrift", "RsolvExporterValuesRejected"];
    let held = rest.map(|name| (name.to_owned(), true)).into_iter().chain([("RsolvExporterDown".to_owned(), false)]);
    let held = held.collect();
    stack.alertmanager.wait_for("the rest to be held back", |alerts| *alerts == held).await;

    let _exporter = stack::exporter_at(&address, &database, &flags).await;
    stack.notified("resolved", "RsolvExporterDown").await;
    stack.slack("RESOLVED: critical exporter in production", &[summary]).await;
    let names = OWN.iter().map(|own| own[0]).chain(["RsolvExporterDown"]).map(str::to_owned);
    assert_eq!(stack.names(), names.collect::<BTreeSet<_>>());
}

#[tokio::test]
async fn a_database_that_is_stopped_pages_until_it_is_back() {
    let cluster = Cluster::start(&[]).unwrap();
    let database = Database::on(&cluster).await;
    let repo = database.repository("org/app").await;
    database.insert(Validation::completed(repo, "{}")).await;
    let exporter = stack::exporter(&database, &[]).await;
    let stack = Stack::watching(&exporter.address).await;
    stack.prometheus.wait_for("rsolv_exporter_up == 1", |up| up.len() == 1).await;

    cluster.stop_fast().unwrap();
    let summary = "The exporter in production cannot reach its database";
    stack.fires("RsolvExporterDatabaseUnreachable", ("critical", "exporter"), summary, "").await;
    let alert = stack.notified("firing", "RsolvExporterDatabaseUnreachable").await;
    let description = alert["annotations"]["description"].as_str().unwrap();
    let (polls, text) = description.split_once(' ').unwrap();
    assert!(polls.parse::<u32>().unwrap() >= 1, "{description}");
    let rest = "polls in the last 15 minutes could not connect, log in or keep the connection to the database of \
                production.";
    assert_eq!(text, rest);
    stack.pagerduty("trigger", summary).await;

    cluster.start_again().unwrap();
    stack.notified("resolved", "RsolvExporterDatabaseUnreachable").await;
    stack.slack("RESOLVED: critical exporter in production", &[summary]).await;
    assert_eq!(stack.names().len(), 1, "{:?}", stack.names());
}
