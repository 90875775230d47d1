"""The made-up executions as native histograms, written into a Prometheus by remote write, which alone takes old ones."""

import math
import struct
import urllib.request
from collections import Counter

import synthetic
from synthetic import START

FORMS = ("exponential", "custom")
SCHEMA = 3  # what the exporter makes of a factor of 1.1
CUSTOM = -53
HOURS = 4 * 3600
BOUNDS = {
    "rsolv_validation_duration_milliseconds": synthetic.VALIDATION_BOUNDS,
    "rsolv_mitigation_duration_milliseconds": synthetic.MITIGATION_BOUNDS,
    "rsolv_mitigation_trust_score_value": synthetic.TRUST_BOUNDS,
}


def index(value):
    """The exponential bucket of a value: the upper bound belongs to it."""
    return math.ceil(math.log2(value) * 2**SCHEMA - 1e-9)


# Protocol buffers: prompb.WriteRequest.
def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def zigzag(number):
    return varint(2 * number if number >= 0 else -2 * number - 1)


def field(number, content):
    """A field of bytes, of a float or of a number."""
    if isinstance(content, float):
        return varint(number << 3 | 1) + struct.pack("<d", content)
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def message(form, name, buckets, total):
    """A histogram without its time. `buckets` counts its values, by bucket, or None for zero."""
    out = field(1, sum(buckets.values())) + field(3, float(total))
    if form == "custom":
        out += field(4, 2 * -CUSTOM - 1) + field(16, b"".join(struct.pack("<d", bound) for bound in BOUNDS[name]))
    else:
        out += field(4, 2 * SCHEMA) + field(5, 2.0**-128) + field(6, buckets[None])
    last, before, deltas = None, 0, b""
    for at_index in sorted(i for i in buckets if i is not None):
        offset = at_index if last is None else at_index - last - 1
        out += field(11, field(1, 2 * offset if offset >= 0 else -2 * offset - 1) + field(2, 1))
        deltas += zigzag(buckets[at_index] - before)
        last, before = at_index, buckets[at_index]
    return out + (field(12, deltas) if deltas else b"")


def snappy(data):
    """Snappy's block format, with nothing compressed."""
    out = varint(len(data))
    for start in range(0, len(data), 1 << 16):
        part = data[start : start + (1 << 16)]
        out += b"\xf4" + struct.pack("<H", len(part) - 1) + part
    return out


class Totals:
    """The histograms of an environment as time goes on: of each series its birth, buckets, sum, and message."""

    def __init__(self, form, environment):
        self.form = form
        everything = synthetic.Totals(environment)
        names = {(name.removesuffix("_count"), labels): born for (name, labels), born in everything.born.items() if name.endswith("_count")}
        self.series = {key: [born, Counter(), 0, message(form, key[0], Counter(), 0)] for key, born in names.items()}
        self.events = iter(synthetic.history(environment) + synthetic.truth(environment))
        self.next = next(self.events, None)

    def advance(self, now):
        while self.next and self.next[3] <= now:
            for name, labels, value in synthetic.increments(self.next):
                key = name.removesuffix("_sum"), labels
                if key in self.series and name.endswith("_sum"):
                    self.count(key, value)
            self.next = next(self.events, None)

    def count(self, key, value):
        series = self.series[key]
        if self.form == "custom":
            bucket = sum(value > bound for bound in BOUNDS[key[0]])
        else:
            bucket = index(value) if value else None
        series[1][bucket] += 1
        series[2] += value
        series[3] = message(self.form, key[0], *series[1:3])


def requests(form):
    """Requests of remote write, in the order of time."""
    targets = [(target, Totals(form, target[0])) for target in synthetic.TARGETS]
    for begin in range(START, synthetic.END, HOURS):
        body = b""
        for (environment, instance, pod, phase, appears, _), totals in targets:
            common = {"job": "rsolv-exporter", "environment": environment, "instance": instance, "pod": pod}
            samples = {key: b"" for key in totals.series}
            for now in range(begin + phase, begin + HOURS, synthetic.SCRAPE):
                totals.advance(now)
                for key, (born, _, _, histogram) in totals.series.items():
                    if now >= max(appears, born):
                        samples[key] += field(4, histogram + field(15, now * 1000))
            for (name, labels), written in samples.items():
                pairs = sorted({**common, **dict(labels), "__name__": name}.items())
                body += field(1, b"".join(field(1, field(1, k.encode()) + field(2, v.encode())) for k, v in pairs) + written) if written else b""
        yield snappy(body)


def write(url, form):
    for body in requests(form):
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
        urllib.request.urlopen(urllib.request.Request(f"{url}/api/v1/write", body, headers))

