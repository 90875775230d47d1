//! What is served at the metrics path, read by implementations that are not ours.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use flate2::read::GzDecoder;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rsolv_exporter::exposition::{Format, SeriesTotals};
use serde_json::json;

use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation};
use crate::support::exporter::Exporter;
use crate::support::http::Response;
use crate::support::metrics::{Metrics, Sample};
use crate::support::process::PATIENCE;
use crate::support::prometheus::Prometheus;
use crate::support::python;

/// What Prometheus 2 sends; Prometheus 3 sends more of the same.
pub const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// Label values that hurt whoever does not quote.
pub const HOSTILE: [&str; 6] = [
    "evil/\"},{x=\"",
    "evil/back\\slash\\n",
    "evil/line\nbreak",
    "evil/<script>alert(1)</script>",
    "evil/é\r\t\u{1F980}",
    "evil/# EOF",
];

async fn hostile_database() -> Database<'static> {
    let db = Database::new().await;
    insert_hostile(&db).await;
    db
}

pub async fn insert_hostile(db: &Database<'_>) {
    for name in HOSTILE {
        let repo = db.repository(name).await;
        db.insert(Validation::completed(repo, json!({"language": name, "tests_generated": 3}))).await;
        db.insert(Mitigation::completed(repo, json!({"framework": name, "trust_score": 90}))).await;
        db.insert(Validation::open(repo, "running", "{}")).await;
    }
}

/// An exporter that has read the database.
pub async fn exporter(db: &Database<'_>, flags: &[&str]) -> Exporter {
    let exporter = Exporter::start(&db.url(), &[&["--series.birth-hold=0s"], flags].concat()).await;
    exporter.wait_for("a first poll", Metrics::is_up).await;
    exporter
}

/// A parser of OpenMetrics and one of the text format, which must find the same samples.
const PARSE: &str = r#"
import json, math, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as classic
from prometheus_client.utils import floatToGoString

def samples(families):
    return sorted((s.name, sorted(s.labels.items()), repr(float(s.value))) for f in families for s in f.samples)

for case in json.load(sys.stdin):
    parse = openmetrics if case["format"] == "openmetrics" else classic
    families = list(parse(case["text"]))
    found = samples(families)
    bounds = [s.labels["le"] for f in families for s in f.samples if "le" in s.labels]
    if case["format"] == "openmetrics":
        assert bounds == [floatToGoString(float(le)) for le in bounds], f"not canonical: {bounds}"
    if "samples" in case:
        expected = sorted((n, sorted(l.items()), repr(float(v))) for n, l, v in case["samples"])
        assert found == expected, f"{case['text']!r}\nread as {found}\nand not  {expected}"
    print(len(found))
"#;

#[tokio::test]
async fn other_parsers_read_what_we_serve() {
    // What is there before the exporter has no start.
    let db = Database::new().await;
    let exporter = exporter(&db, &["--web.openmetrics-created", "--poll.interval=100ms"]).await;
    insert_hostile(&db).await;
    let trusted = [("repo", HOSTILE[5]), ("framework", HOSTILE[5])];
    let is_last = |m: &Metrics| m.value("rsolv_mitigation_trust_score_value_sum", &trusted) == Some(90.0);
    exporter.wait_for("all rows", is_last).await;
    let text = exporter.get("/metrics").await;
    assert_eq!(text.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let open = exporter.request("GET", "/metrics", &[("accept", OPENMETRICS)]).await;
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.text().ends_with("\n# EOF\n") && !text.text().contains("# EOF\n# "));

    let cases = json!([{"format": "openmetrics", "text": open.text()}, {"format": "text", "text": text.text()}]);
    let counts = python::run(PARSE, cases.to_string().as_bytes());
    let ours = Metrics::parse(&text.text());
    let created = open.text().lines().filter(|line| line.contains("_created{")).count();
    assert_eq!(created, HOSTILE.len() * (3 + 1 + 5 + 3 + 2 + 1), "one for each counter and histogram");
    assert_eq!(counts, format!("{}\n{}\n", ours.samples.len() + created, ours.samples.len()));
    for name in HOSTILE {
        let labels = [("repo", name), ("language", name), ("status", "completed")];
        assert_eq!(ours.value("rsolv_validation_executions_total", &labels), Some(1.0), "{name}");
    }
    assert!(text.text().contains("le=\"90\"} ") && open.text().contains("le=\"90.0\"} "));
    assert!(open.text().contains("# UNIT rsolv_mitigation_duration_milliseconds milliseconds\n"));
    promtool(&text.body);
}

/// `promtool check metrics`: it must parse; of its advice only that on units is expected, as the names are given.
fn promtool(text: &[u8]) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool, which tests/setup.sh prometheus installs");
    child.stdin.take().expect("a pipe").write_all(text).expect("it reads all");
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let other: Vec<&str> = said.lines().filter(|line| !line.contains("use base unit \"seconds\"")).collect();
    assert!(matches!(output.status.code(), Some(0 | 3)) && other.is_empty(), "{}: {other:#?}", output.status);
}

#[tokio::test]
async fn gzip_is_one_member_that_every_client_reads() {
    let db = hostile_database().await;
    let exporter = exporter(&db, &["--poll.interval=1h", "--poll.stale-after=2h"]).await;
    const UNPACK: &str = r#"
import gzip, sys, zlib
packed = sys.stdin.buffer.read()
decoder = zlib.decompressobj(31)
plain = decoder.decompress(packed) + decoder.flush()
assert decoder.eof and decoder.unused_data == b"", "more than one member"
assert gzip.decompress(packed) == plain
sys.stdout.buffer.write(plain)
"#;
    // Process metrics differ from scrape to scrape.
    let steady = |text: String| text.lines().filter(|l| !l.starts_with("process_")).collect::<Vec<_>>().join("\n");
    for accept in ["text/plain", OPENMETRICS] {
        let get = async |encoding| {
            exporter.request("GET", "/metrics", &[("accept", accept), ("accept-encoding", encoding)]).await
        };
        let plain = get("gzip;q=0, identity").await;
        assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "Accept, Accept-Encoding"));
        for _ in 0..2 {
            let packed = get("deflate, gzip;q=0.8").await;
            assert_eq!((packed.status, packed.header("content-encoding")), (200, "gzip"));
            assert!(packed.body.len() * 4 < plain.body.len(), "{} of {}", packed.body.len(), plain.body.len());
            assert_eq!(steady(python::run(UNPACK, &packed.body)), steady(plain.text()));
        }
    }
}

#[tokio::test]
async fn prometheus_stores_what_it_gets_compressed() {
    let db = hostile_database().await;
    let exporter = exporter(&db, &[]).await;
    let prometheus = Prometheus::scraping(&exporter.address).await;
    prometheus.wait_up("rsolv-exporter").await;
    for name in HOSTILE {
        let stored = prometheus.query("rsolv_mitigation_trust_score_value_sum").await;
        let one = stored.iter().find(|(labels, _)| labels["repo"] == name && labels["framework"] == name);
        assert_eq!(one.map(|(_, value)| *value), Some(90.0), "{name}");
    }
    let created = prometheus.query("{__name__=~\".+_created\"}").await;
    assert!(created.is_empty(), "not without web.openmetrics_created: {created:?}");
}

#[tokio::test]
async fn head_and_length() {
    let db = hostile_database().await;
    let exporter = exporter(&db, &["--poll.interval=1h", "--poll.stale-after=2h"]).await;
    for path in ["/metrics", "/", "/-/healthy", "/-/ready"] {
        for encoding in ["identity", "gzip"] {
            let ask = async |method| exporter.request(method, path, &[("accept-encoding", encoding)]).await;
            let (get, head): (Response, Response) = (ask("GET").await, ask("HEAD").await);
            assert_eq!(get.header("content-length"), get.body.len().to_string(), "{path}");
            assert!(head.body.is_empty());
            for name in ["content-type", "content-encoding", "vary"] {
                assert_eq!(get.header(name), head.header(name), "{path} {name}");
            }
            // A few digits of process metrics, and so their number, can differ.
            let length = |r: &Response| r.header("content-length").parse::<usize>().expect("a number");
            assert!(length(&get).abs_diff(length(&head)) < 100, "{path}");
        }
    }
    assert_eq!(exporter.request("POST", "/metrics", &[]).await.header("allow"), "GET, HEAD");
    assert_eq!(exporter.get("/nothing").await.status, 404);
}

/// A series that appears later is held at 0 until a response has shown it: a GET is one, a HEAD is not.
#[tokio::test]
async fn only_a_get_shows_a_new_series() {
    let db = Database::new().await;
    let exporter = exporter(&db, &["--poll.interval=100ms"]).await;
    let mut length = 0;
    // The second one says that a poll went by since the first one was in a HEAD.
    for name in ["", "a/first", "a/second"] {
        if !name.is_empty() {
            let repo = db.repository(name).await;
            db.insert(Validation::completed(repo, "{}")).await;
        }
        let before = length + if length > 0 { 1000 } else { 0 };
        let deadline = Instant::now() + PATIENCE;
        while length <= before {
            assert!(Instant::now() < deadline, "no poll found {name}");
            let head = exporter.request("HEAD", "/metrics", &[]).await;
            length = head.header("content-length").parse::<usize>().expect("a number");
        }
    }
    let first = |m: &Metrics| m.value("rsolv_validation_duration_milliseconds_count", &[("repo", "a/first")]);
    assert_eq!(first(&exporter.metrics().await), Some(0.0), "no GET has shown it before");
    exporter.wait_for("its value, now that it was shown", |m| first(m) == Some(1.0)).await;

    let repo = db.repository("a/third").await;
    db.insert(Validation::completed(repo, "{}")).await;
    let (mut values, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while values.last() != Some(&1.0) {
        assert!(Instant::now() < deadline, "compressed GETs showed {values:?}");
        let packed = exporter.request("GET", "/metrics", &[("accept-encoding", "gzip")]).await;
        let mut text = String::new();
        GzDecoder::new(&packed.body[..]).read_to_string(&mut text).expect("gzip");
        let labels = [("repo", "a/third")];
        values.extend(Metrics::parse(&text).value("rsolv_validation_duration_milliseconds_count", &labels));
    }
    assert_eq!(values[0], 0.0);
}

/// A family to encode, and the samples that it stands for.
fn family() -> impl Strategy<Value = (Vec<(String, f64)>, String)> {
    let number =
        prop_oneof![any::<f64>(), (-20_i32..25).prop_map(|e| 10_f64.powi(e)), (0_u32..2_000_000).prop_map(f64::from)];
    let value = prop_oneof!["\\PC*", "[\"\\\\\n\r {}=,#a]{0,8}", any::<String>()];
    (prop::collection::vec((value, number), 1..4), "\\PC{0,20}")
}

fn encode(format: Format, cases: &[(Vec<(String, f64)>, String)]) -> (String, Vec<Sample>) {
    let mut encoder = format.encoder(false, 0);
    let mut samples = Vec::new();
    for (i, (rows, help)) in cases.iter().enumerate() {
        let name = format!("x{i}");
        encoder.family(&name, "gauge", None, help);
        for (j, (value, number)) in rows.iter().enumerate() {
            let n = j.to_string();
            let pairs = [("value", value.as_str()), ("n", n.as_str())];
            encoder.gauge(&pairs, *number);
            let owned: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            samples.push(Sample { name: name.clone(), labels: owned, value: *number });
        }
        let bounds: std::collections::BTreeSet<u64> = rows.iter().map(|(_, n)| n.abs().to_bits()).collect();
        let bounds: Vec<f64> = bounds.into_iter().map(f64::from_bits).filter(|b| b.is_finite()).collect();
        let counts: Vec<u64> = (0..=bounds.len() as u64).collect();
        let name = format!("h{i}");
        encoder.family(&name, "histogram", None, help);
        encoder.histogram(&[], &bounds, &SeriesTotals { counts: &counts, sum: 1.5, ..SeriesTotals::default() });
    }
    let text = String::from_utf8(encoder.finish()).expect("text");
    (text + format.end(), samples)
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(case in family()) {
        for format in [Format::Text, Format::OpenMetrics] {
            let (text, expected) = encode(format, std::slice::from_ref(&case));
            let read = Metrics::parse(&text).samples;
            let gauges: Vec<&Sample> = read.iter().filter(|sample| sample.name == "x0").collect();
            prop_assert_eq!(gauges.len(), expected.len());
            for (read, written) in gauges.into_iter().zip(&expected) {
                prop_assert_eq!(&read.labels, &written.labels);
                let same = read.value == written.value || read.value.is_nan() && written.value.is_nan();
                prop_assert!(same, "{} became {}", written.value, read.value);
            }
        }
    }
}

#[test]
fn python_reads_what_is_written() {
    let mut runner = TestRunner::deterministic();
    let mut case = || family().new_tree(&mut runner).expect("a value").current();
    let mut cases = Vec::new();
    for _ in 0..100 {
        let families: Vec<_> = (0..5).map(|_| case()).collect();
        for (format, name) in [(Format::OpenMetrics, "openmetrics"), (Format::Text, "text")] {
            cases.push(json!({"format": name, "text": encode(format, &families).0}));
        }
    }
    let counts = python::run(PARSE, json!(cases).to_string().as_bytes());
    assert_eq!(counts.lines().count(), cases.len());
}
