//! A server that speaks another language: what is decided and advised must not depend on its words.

use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::exporter::run;
use crate::support::source::Definitions;

#[tokio::test]
async fn reasons_and_remedies_are_the_same_in_every_language() {
    let english = said(&Cluster::start(&[]).unwrap()).await;
    // The harness asks servers for German; those without an environment of their own (lc_messages is C) speak English.
    let foreign = said(&Cluster::start(&[("lc_messages", "C.UTF-8")]).unwrap()).await;
    // Servers that come without translations speak English whatever they are asked for.
    if std::env::var_os("RSOLV_TEST_PG_BIN").is_none() {
        assert!(foreign.iter().any(|(text, _)| text.contains("existiert nicht")), "{foreign:#?}");
    }
    for ((english, decided), (foreign, as_well)) in english.into_iter().zip(foreign) {
        assert_eq!(decided, as_well, "{english}\n{foreign}");
        assert!(!decided.is_empty(), "{english}");
    }
}

/// What the commands say to various mistakes, and of that what was decided: reasons and remedies.
async fn said(cluster: &Cluster) -> Vec<(String, Vec<String>)> {
    let db = Database::on(cluster).await;
    db.batch(
        "CREATE ROLE locked_out LOGIN; CREATE ROLE half LOGIN; CREATE ROLE few LOGIN;
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO few, half;
         CREATE FUNCTION label(execution_status) RETURNS text LANGUAGE sql AS 'SELECT $1::text';
         REVOKE EXECUTE ON FUNCTION label FROM PUBLIC;
         ALTER TABLE validation_executions ENABLE ROW LEVEL SECURITY;
         CREATE POLICY half ON validation_executions TO half USING (status = 'completed');
         CREATE POLICY few ON validation_executions TO few USING (true)",
    )
    .await;
    let sql = "SELECT id, true AS done, completed_at AS at, label(status) AS s FROM mitigation_executions";
    let toml = "labels = [\"s\"]\n[[counter]]\nname = \"x_total\"\nhelp = \"X.\"\n";
    let own = Definitions::one("own", sql, toml);
    let own = own.flags();
    let mut all = Vec::new();
    for (role, database, more) in [
        ("postgres", "no_such_database", &[][..]),
        ("nobody_at_all", &db.name, &[]),
        ("locked_out", &db.name, &[]),
        ("half", &db.name, &[]),
        ("few", &db.name, &own),
        ("postgres", "postgres", &[]),
    ] {
        let url = format!("postgresql://{role}@127.0.0.1:{}/{database}", cluster.port());
        for command in ["check", "once"] {
            let output = run(&[&[command, "--database.url", &url], more].concat()).await;
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).replace(&db.name, "NAME");
            let text = text.replace(&cluster.port().to_string(), "PORT");
            let decided = text.lines().filter_map(|line| {
                let failures = line.starts_with("rsolv_exporter_poll_failures_total{") && !line.ends_with(" 0");
                let advice = line.trim_start().starts_with("->") || line.contains("(SQLSTATE ");
                let at = if line.contains("(SQLSTATE ") { line.rfind("(SQLSTATE ") } else { Some(0) };
                (failures || advice).then(|| line[at.unwrap_or(0)..].to_owned())
            });
            let decided = decided.collect();
            all.push((text, decided));
        }
    }
    all
}
