//! The protobuf format, read by Google's decoder and by Prometheus, beside the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::formats::{self, HOSTILE, OPENMETRICS};
use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::http::Response;
use crate::support::metrics::{Metrics, Sample};
use crate::support::prometheus::Prometheus;
use crate::support::{process, python};

/// What Prometheus 2.42 sends with native histograms switched on.
const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                        application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;\
                        q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// Reads a page and prints it as a classic text page, with a comment for each unit and each start.
const DECODE: &str = r##"
import sys
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.decoder import _DecodeVarint32 as length

# Message: field, number, type ("*" for a list), in proto2, so that what is missing is seen.
SCHEMA = """
Timestamp: seconds 1 int64, nanos 2 int32
LabelPair: name 1 string, value 2 string
Gauge: value 1 double
Counter: value 1 double, exemplar 2 bytes, created_timestamp 3 Timestamp
Bucket: cumulative_count 1 uint64, upper_bound 2 double
Histogram: sample_count 1 uint64, sample_sum 2 double, bucket 3 *Bucket, created_timestamp 15 Timestamp
Metric: label 1 *LabelPair, gauge 2 Gauge, counter 3 Counter, histogram 7 Histogram, timestamp_ms 6 int64
MetricFamily: name 1 string, help 2 string, type 3 int32, metric 4 *Metric, unit 5 string
"""
file = descriptor_pb2.FileDescriptorProto(name="m.proto", package="m", syntax="proto2")
for line in SCHEMA.strip().splitlines():
    name, fields = line.split(": ")
    message = file.message_type.add(name=name)
    for field in fields.split(", "):
        name, number, kind = field.split()
        field = message.field.add(name=name, number=int(number), label=3 if kind.startswith("*") else 1)
        scalar = {"double": 1, "int64": 3, "uint64": 4, "int32": 5, "string": 9, "bytes": 12}.get(kind)
        if scalar:
            field.type = scalar
        else:
            field.type, field.type_name = 11, ".m." + kind.lstrip("*")
pool = descriptor_pool.DescriptorPool()
pool.Add(file)
Family = message_factory.GetMessageClass(pool.FindMessageTypeByName("m.MetricFamily"))

def has(message, *names):
    for name in names:
        assert message.HasField(name), f"{name} is missing in {message}"

def start(message):
    if message.HasField("created_timestamp"):
        at = message.created_timestamp
        print(f"# START {name}{{{labels}}} {at.seconds}.{at.nanos:09}")

escaped = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
data, at = sys.stdin.buffer.read(), 0
while at < len(data):
    size, at = length(data, at)
    assert at + size <= len(data), "cut"
    family = Family.FromString(data[at:at + size])
    at += size
    has(family, "name", "help", "type")
    name, kind = family.name, {0: "counter", 1: "gauge", 4: "histogram"}[family.type]
    print(f"# HELP {name} {family.help}\n# TYPE {name} {kind}")
    if family.unit:
        print(f"# UNIT {name} {family.unit}")
    for metric in family.metric:
        has(metric, kind)
        assert sum(map(metric.HasField, ("gauge", "counter", "histogram", "timestamp_ms"))) == 1, metric
        labels = ",".join(f'{l.name}="{l.value.translate(escaped)}"' for l in metric.label)
        if kind != "histogram":
            value = getattr(metric, kind)
            has(value, "value")
            print(f"{name}{{{labels}}} {value.value!r}")
            if kind == "counter":
                start(value)
            continue
        histogram = metric.histogram
        has(histogram, "sample_count", "sample_sum")
        comma = "," if labels else ""
        for bucket in histogram.bucket:
            has(bucket, "cumulative_count", "upper_bound")
            print(f'{name}_bucket{{{labels}{comma}le="{bucket.upper_bound!r}"}} {bucket.cumulative_count}')
        print(f'{name}_bucket{{{labels}{comma}le="+Inf"}} {histogram.sample_count}')
        print(f"{name}_sum{{{labels}}} {histogram.sample_sum!r}\n{name}_count{{{labels}}} {histogram.sample_count}")
        start(histogram)
"##;

const HISTOGRAMS: [&str; 3] = [
    "rsolv_validation_duration_milliseconds",
    "rsolv_mitigation_trust_score_value",
    "rsolv_mitigation_duration_milliseconds",
];

async fn page(exporter: &Exporter, accept: &str) -> Response {
    exporter.request("GET", "/metrics", &[("accept", accept)]).await
}

/// The series with their values; bounds as numbers, and without what differs from scrape to scrape.
fn series(text: &str) -> BTreeMap<String, f64> {
    let of = |mut sample: Sample| {
        if let Some(le) = sample.labels.get_mut("le") {
            *le = le.parse::<f64>().expect("a number").to_string();
        }
        let value = if sample.name.starts_with("process_") { 0.0 } else { sample.value };
        (sample.series(), value)
    };
    let samples = Metrics::parse(text).samples;
    let count = samples.len();
    let series: BTreeMap<String, f64> = samples.into_iter().map(of).collect();
    assert_eq!(series.len(), count, "each series once");
    series
}

#[tokio::test]
async fn the_series_of_a_scrape_are_the_same_in_every_format() {
    let db = Database::new().await;
    let exporter = formats::exporter(&db, &["--web.openmetrics-created", "--poll.interval=100ms"]).await;
    formats::insert_hostile(&db).await;
    let trusted = [("repo", HOSTILE[5]), ("framework", HOSTILE[5])];
    let is_last = |m: &Metrics| m.value("rsolv_mitigation_trust_score_value_sum", &trusted) == Some(90.0);
    exporter.wait_for("all rows", is_last).await;

    // What polls change; the same as long as there is none between the pages.
    let (text, open, packed) = loop {
        let pages = async || {
            let text = page(&exporter, "text/plain").await;
            (text, page(&exporter, OPENMETRICS).await, page(&exporter, PROTOBUF).await)
        };
        let (text, open, packed) = pages().await;
        let polls = |response: &Response| Metrics::parse(&response.text()).sum("rsolv_exporter_polls_total", &[]);
        if polls(&text) == polls(&page(&exporter, "text/plain").await) {
            break (text, open, packed);
        }
    };
    let content = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    assert_eq!((packed.header("content-type"), packed.header("vary")), (content, "Accept, Accept-Encoding"));
    assert!(packed.body.len() * 2 < text.body.len(), "{} of {}", packed.body.len(), text.body.len());

    let decoded = python::run(DECODE, &packed.body);
    let (text, open) = (text.text(), open.text());
    let expected = series(&text);
    assert!(expected.len() > 300, "{}", expected.len());
    assert_eq!(series(&decoded), expected);
    let sample = |line: &&str| !line.starts_with('#') && !line.contains("_created{");
    let without_created: String = open.lines().filter(sample).map(|line| format!("{line}\n")).collect();
    assert_eq!(series(&without_created), expected);

    let comments = |text: &str, kind: &str| -> BTreeSet<String> {
        text.lines().filter(|line| line.starts_with(kind)).map(str::to_owned).collect()
    };
    // The help of the exporter's own metrics has nothing to escape either.
    for kind in ["# HELP ", "# TYPE "] {
        assert_eq!(comments(&decoded, kind), comments(&text, kind));
    }
    let units: BTreeSet<String> = comments(&decoded, "# UNIT ").iter().map(|l| l.replace("_total ", " ")).collect();
    assert_eq!(units, comments(&open, "# UNIT "));

    let number = |text: &str| format!("{:.3}", text.parse::<f64>().expect("a number"));
    let starts = |line: &str| {
        let (series, start) = line.strip_prefix("# START ")?.rsplit_once(' ')?;
        Some((series.replacen("_total{", "{", 1), number(start)))
    };
    let created = |line: &str| {
        let (series, start) =
            line.split_once("_created{").filter(|(name, _)| !name.contains('{'))?.1.rsplit_once(' ')?;
        Some((format!("{}{{{series}", line.split_once("_created{")?.0), number(start)))
    };
    let starts: BTreeMap<_, _> = decoded.lines().filter_map(starts).collect();
    assert_eq!(starts, open.lines().filter_map(created).collect());
    assert_eq!(starts.len(), HOSTILE.len() * (3 + 1 + 5 + 3 + 2 + 1), "one for each counter and histogram");
}

#[tokio::test]
async fn prometheus_stores_the_same_from_protobuf_and_from_openmetrics() {
    let db = Database::new().await;
    formats::insert_hostile(&db).await;
    let exporter = formats::exporter(&db, &[]).await;
    let [open, packed] = [
        Prometheus::scraping(&exporter.address).await,
        Prometheus::with_feature("native-histograms", &exporter.address, "").await,
    ];
    let mut stored = Vec::new();
    for prometheus in [&open, &packed] {
        prometheus.wait_up("rsolv-exporter").await;
        let plain = "{__name__=~\"rsolv_(validation|mitigation)_.+\", \
                     __name__!~\"rsolv_(validation|mitigation)_(duration|trust)_.+\"}";
        let all = prometheus.query(plain).await;
        stored.push(all.into_iter().map(|(labels, value)| (labels, value.to_string())).collect::<BTreeMap<_, _>>());
    }
    assert!(stored[0].len() > 70, "{}", stored[0].len());
    assert_eq!(stored[0], stored[1]);
    // Of histograms it stores the native ones alone.
    assert!(packed.query(&format!("{}_bucket", HISTOGRAMS[0])).await.is_empty());
    for name in HISTOGRAMS {
        for part in ["count", "sum"] {
            let values = async |prometheus: &Prometheus, expression: String| {
                let mut found = prometheus.query(&expression).await;
                found.iter_mut().for_each(|(labels, _)| _ = labels.remove("__name__"));
                found.sort_by(|a, b| a.0.cmp(&b.0));
                found
            };
            let classic = values(&open, format!("{name}_{part}")).await;
            assert_eq!(values(&packed, format!("histogram_{part}({name})")).await, classic, "{name}_{part}");
            assert_eq!(classic.len(), HOSTILE.len());
        }
    }
    // Only OpenMetrics takes `_total` from the name of a family, so the other one was not scraped as such.
    let name = [("metric", "rsolv_validation_executions_total")];
    let metadata = async |prometheus: &Prometheus| prometheus.api("targets/metadata", &name).await;
    assert_eq!(metadata(&packed).await[0]["type"], "counter");
    assert_eq!(metadata(&open).await.as_array().map(Vec::len), Some(0));
}

/// Prometheus' own library for Go reads both formats that it knows, native histograms included.
#[tokio::test]
async fn the_library_for_go_reads_the_same() {
    let library = Path::new("/usr/share/gocode/src/github.com/prometheus/common/expfmt");
    if !library.exists() {
        eprintln!("skipped: there is no {}; make test-prometheus-3 installs it", library.display());
        return;
    }
    let db = Database::new().await;
    formats::insert_hostile(&db).await;
    let exporter = formats::exporter(&db, &["--poll.interval=1h", "--poll.stale-after=2h"]).await;
    exporter.wait_for("all rows", |m| m.sum("rsolv_mitigation_trust_score_value_count", &[]) > 0.0).await;
    let read = |page: &Response| {
        let mut go = std::process::Command::new("go");
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/decode.go");
        go.args(["run", program, page.header("content-type")]).env("GO111MODULE", "off");
        go.env("GOPATH", "/usr/share/gocode").env("GOCACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/go"));
        process::filter(go, &page.body)
    };
    let text = page(&exporter, "text/plain").await;
    let expected = series(&text.text());
    assert_eq!(series(&read(&text)), expected);
    let decoded = read(&page(&exporter, PROTOBUF).await);
    assert_eq!(series(&decoded), expected);
    let natives: Vec<&str> = decoded.lines().filter(|line| line.starts_with("# NATIVE ")).collect();
    assert_eq!(natives.len(), HISTOGRAMS.len() * HOSTILE.len());
    for line in natives {
        let [.., schema, buckets, count] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert_eq!((schema, buckets), ("3", count), "{line}");
    }
}
