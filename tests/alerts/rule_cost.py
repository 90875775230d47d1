#!/usr/bin/env python3
"""What the rules cost a real Prometheus: two days of samples at 15 s, and how long each group then takes to evaluate.

`rule_cost.py [SETS…]` (200 and 2000 by default) prints the table of alerts/README.md and fails when a group takes more
than a tenth of its interval. 2,000 sets are 370 million samples: minutes, 3 GB of memory and 6 GB of disk. Not in run.sh.
"""

import http.client
import json
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

import yaml

ALERTS = pathlib.Path(__file__).resolve().parents[2] / "alerts"
SCRAPE = 15_000
SLICE = 120
DAYS = 2
# Samples may be so far ahead of the clock of Prometheus, so that they last while rules are evaluated.
AHEAD = 9 * 60_000
STATUS = [[("status", status)] for status in ("completed", "failed", "timeout")]


def histogram(name, bounds):
    buckets = [(f"{name}_bucket", [("le", bound)]) for bound in [*bounds, "+Inf"]]
    return [*buckets, (f"{name}_sum", []), (f"{name}_count", [])]


# Of each set, the series that rules select.
SERIES = [
    *(("rsolv_validation_executions_total", status) for status in STATUS),
    *(("rsolv_mitigation_executions_total", status) for status in STATUS),
    *histogram("rsolv_validation_duration_milliseconds", ["60000.0", "120000.0", "300000.0"]),
    *histogram("rsolv_mitigation_trust_score_value", ["60.0"]),
    ("rsolv_validation_test_generated_total", []),
    ("rsolv_validation_tests_reported_total", []),
]
OTHER = ["rsolv_validation_last_execution_timestamp_seconds", "rsolv_mitigation_last_execution_timestamp_seconds"]
TARGET = [("environment", "production"), ("instance", "exporter:10060"), ("job", "rsolv-exporter")]


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def labels(name, more):
    pairs = sorted([("__name__", name), *TARGET, *more])
    return b"".join(field(1, field(1, n.encode()) + field(2, v.encode())) for n, v in pairs)


def samples(times, kind):
    """A counter that rises about once an hour; those of one kind are alike."""
    out = bytearray()
    for at in times:
        value = float(1000 + kind + (at + kind * 411_000) // 3_600_000)
        out += field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(at))
    return bytes(out)


class Prometheus:
    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (folder / "prometheus.yml").write_text("global: {evaluation_interval: 15s}\n")
        command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=error",
                   f"--web.listen-address=127.0.0.1:{self.port}", "--web.enable-remote-write-receiver",
                   "--web.enable-lifecycle", "--storage.tsdb.retention.time=10d"]
        self.process = subprocess.Popen(command, cwd=folder)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        while True:
            try:
                self.ask("GET", "/-/ready")
                return
            except (OSError, RuntimeError):
                if self.process.poll() is not None:
                    raise SystemExit("prometheus has ended") from None
                self.connection.close()
                time.sleep(0.2)

    def ask(self, method, path, body=None, headers=None):
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        text = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{path}: {response.status} {text[:300]}")
        return text

    def write(self, series):
        """Remote write, in snappy's format without compressing anything: one literal."""
        plain = b"".join(series)
        packed = varint(len(plain)) + bytes([252]) + struct.pack("<I", len(plain) - 1) + plain
        self.ask("POST", "/api/v1/write", packed, {"Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"})

    def groups(self):
        return json.loads(self.ask("GET", "/api/v1/rules"))["data"]["groups"]


def fill(prometheus, sets):
    heads = []
    for number in range(sets):
        of_set = [("repo", f"acme/service-{number:05}"), ("language", ["go", "ruby", "javascript"][number % 3]), ("framework", "none")]
        for kind, (name, more) in enumerate(SERIES):
            heads.append((labels(name, [*of_set, *more]), kind * 4 + number % 4))
    for name in OTHER:
        heads.append((labels(name, []), 0))
    end = int(time.time() * 1000) + AHEAD
    start = end - DAYS * 86_400_000 - AHEAD
    count = 0
    for first in range(start, end, SLICE * SCRAPE):
        # What is ahead moves on while this runs.
        times = range(first, min(first + SLICE * SCRAPE, end), SCRAPE)
        blobs = {kind: samples(times, kind) for kind in {kind for _, kind in heads}}
        for i in range(0, len(heads), 2000):
            prometheus.write([field(1, head + blobs[kind]) for head, kind in heads[i:i + 2000]])
        count += len(heads) * len(times)
    return len(heads), count


def measure(sets):
    # Not in memory, where /tmp may be.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        prometheus = Prometheus(pathlib.Path(folder))
        try:
            series, count = fill(prometheus, sets)
            files = sorted(ALERTS.glob("*.rules.yml"))
            for file in files:
                shutil.copy(file, folder)
            config = {"global": {"evaluation_interval": "15s"}, "rule_files": ["*.rules.yml"]}
            (prometheus.folder / "prometheus.yml").write_text(yaml.safe_dump(config))
            prometheus.ask("POST", "/-/reload")
            took, evaluated = {}, {}
            wanted = {group["name"] for file in files for group in yaml.safe_load(file.read_text())["groups"]}
            while len(took) < len(wanted) or min(map(len, took.values())) < 2:
                time.sleep(1)
                for group in prometheus.groups():
                    broken = [rule for rule in group["rules"] if rule["health"] == "err"]
                    assert not broken, broken
                    if not group["lastEvaluation"].startswith("0001") and evaluated.get(group["name"]) != group["lastEvaluation"]:
                        evaluated[group["name"]] = group["lastEvaluation"]
                        took.setdefault(group["name"], []).append((group["evaluationTime"], group["interval"]))
            return series, count, {name: (min(t for t, _ in all), all[0][1]) for name, all in took.items()}
        finally:
            prometheus.process.terminate()
            prometheus.process.wait()


def main():
    failed = False
    print("| label sets | series | samples | group | interval | takes | share |\n| --- | --- | --- | --- | --- | --- | --- |")
    for sets in map(int, sys.argv[1:] or ["200", "2000"]):
        series, count, groups = measure(sets)
        for name, (took, interval) in sorted(groups.items()):
            failed = failed or took > interval / 10
            print(f"| {sets:,} | {series:,} | {count / 1e6:.0f} million | {name} | {interval:.0f} s | {took:.2f} s | {took / interval:.1%} |", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
