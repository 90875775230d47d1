//! A client that is not ours.

use std::process::Stdio;

/// What psql prints for `sql`, unaligned and without headings, with tags.
pub async fn psql(url: &str, sql: &str) -> String {
    // Not of the server's installation, which need not have it where its other programs are.
    let mut command = tokio::process::Command::new("psql");
    command.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("psql can be run");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    tokio::io::AsyncWriteExt::write_all(&mut stdin, sql.as_bytes()).await.expect("psql reads");
    drop(stdin);
    let output = child.wait_with_output().await.expect("psql ends");
    assert!(output.status.success(), "{}\n{sql}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("psql prints UTF-8")
}
