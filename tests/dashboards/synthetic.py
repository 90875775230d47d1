"""Three days of made-up executions, as samples of the exporter's metrics, and the truth about them.

Sparse on purpose: some ten executions a day, a day without any, a repository that is seen for the first time on the
second day, failures and timeouts. Production runs two replicas that export the same totals; the second one starts a
day later with the totals it then finds in the tables, and is restarted once. Staging is small, and must never be added
to production.
"""

import random
from collections import Counter, defaultdict

START = 1_700_006_400  # 00:00 UTC
DAYS = 3
SCRAPE = 60
END = START + DAYS * 86400

SETS = {
    "production": [("RSOLV-dev/nodegoat-vulnerability-demo", "javascript", "express"), ("RSOLV-dev/railsgoat", "ruby", "rails"),
                   ("acme/billing", "python", "django"), ("acme/new", "go", "none")],
    "staging": [("RSOLV-dev/nodegoat-vulnerability-demo", "javascript", "express")],
}
BORN = {"acme/new": START + 86400 + 5 * 3600}
VALIDATION_BOUNDS = [1000, 5000, 10000, 30000, 60000, 120000, 300000]
MITIGATION_BOUNDS = VALIDATION_BOUNDS + [600000]
TRUST_BOUNDS = [0, 25, 50, 60, 70, 80, 90, 95, 100]
SOURCES = ["validation_executions", "mitigation_executions"]
HISTORY = 40  # finished validations and mitigations of every set but the new one, from before


def executions():
    """(environment, set, kind, time, status, duration in ms, tests generated, passed, trust score)"""
    rng = random.Random(7)
    for environment, sets in SETS.items():
        for number in range(60 if environment == "production" else 12):
            day = rng.choice([0, 0, 2, 2, 2, 1])
            if day == 1 and rng.random() < 0.7:
                day = 2
            at = START + day * 86400 + rng.randrange(6 * 3600, 22 * 3600)
            which = rng.choice(sets)
            if at < BORN.get(which[0], 0) + 600:
                which = sets[0]
            status = rng.choices(["completed", "failed", "timeout"], [8, 2, 1])[0]
            duration = 400_000 if status == "timeout" else round(rng.lognormvariate(10.6, 1.1))
            tests = rng.randrange(2, 7)
            yield environment, which, "validation", at, status, duration, tests, rng.randrange(tests + 1), None
            if status == "completed" and rng.random() < 0.7:
                score = rng.choice([0, 42, 60, 71, 85, 85, 90, 92, 97, 100, None])
                yield environment, which, "mitigation", at + 900, rng.choices(["completed", "failed"], [9, 1])[0], 90_000, 0, 0, score


EVENTS = sorted(executions(), key=lambda event: event[3])


def cumulative(name, labels, bounds, value):
    for bound in bounds:
        if value <= bound:
            # As OpenMetrics writes it; Prometheus asks for that first.
            yield f"{name}_bucket", (*labels, ("le", f"{float(bound)}")), 1
    yield f"{name}_bucket", (*labels, ("le", "+Inf")), 1
    yield f"{name}_count", labels, 1
    yield f"{name}_sum", labels, value


def increments(event):
    """(series, labels, by how much) for one execution."""
    _, (repo, language, framework), kind, _, status, duration, tests, passed, score = event
    labels = (("repo", repo), ("language", language), ("framework", framework))
    yield f"rsolv_{kind}_executions_total", (*labels, ("status", status)), 1
    bounds = VALIDATION_BOUNDS if kind == "validation" else MITIGATION_BOUNDS
    yield from cumulative(f"rsolv_{kind}_duration_milliseconds", labels, bounds, duration)
    if kind == "validation":
        yield "rsolv_validation_test_generated_total", labels, tests
        yield "rsolv_validation_tests_reported_total", labels, 1
        yield "rsolv_validation_test_passed_total", labels, passed
        yield "rsolv_validation_test_failed_total", labels, tests - passed
        yield "rsolv_validation_vulnerabilities_found_total", labels, 1
    else:
        yield "rsolv_mitigation_pr_created_total", labels, int(status == "completed")
        if score is not None:
            yield from cumulative("rsolv_mitigation_trust_score_value", labels, TRUST_BOUNDS, score)


def all_series(environment):
    """Every series of an environment, at 0, with the time it is born."""
    for which in SETS[environment]:
        for kind in ("validation", "mitigation"):
            for status in ("completed", "failed", "timeout"):
                event = (environment, which, kind, 0, status, 0, 0, 0, 0)
                for name, labels, _ in increments(event):
                    yield (name, labels), BORN.get(which[0], START)


def truth(environment, select=lambda event: True):
    return [event for event in EVENTS if event[0] == environment and select(event)]


def history(environment):
    """What every set but the new one had before."""
    return [(environment, which, kind, 0, "completed", 20_000 + number, 3, 3, 80)
            for which in SETS[environment] if which[0] not in BORN for number in range(HISTORY) for kind in ("validation", "mitigation")]


class Totals:
    """Every counter of an environment as time goes on."""

    def __init__(self, environment):
        self.born = dict(all_series(environment))
        self.values = defaultdict(int)
        for event in history(environment):
            for name, labels, by in increments(event):
                self.values[name, labels] += by
        self.events = iter(truth(environment))
        self.next = next(self.events, None)
        self.counted = Counter()
        self.last = {"validation": START - 3600, "mitigation": START - 7200}

    def advance(self, now):
        while self.next and self.next[3] <= now:
            for name, labels, by in increments(self.next):
                self.values[name, labels] += by
            self.counted[f"{self.next[2]}_executions"] += 1
            self.last[self.next[2]] = self.next[3]
            self.next = next(self.events, None)


def exporter(now, totals, started):
    """The exporter's own metrics: (name, labels, value). A database that is away for ten minutes, and what else happens."""
    minute = (now - START) // 60
    away = 1500 <= minute < 1510
    yield "rsolv_exporter_build_info", (("version", "0.1.0"),), 1
    yield "rsolv_exporter_up", (), int(not away)
    yield "rsolv_exporter_polls_total", (), (now - started) // 15
    for reason in ("connect", "timeout", "query"):
        yield "rsolv_exporter_poll_failures_total", (("reason", reason),), min(max(minute - 1500, 0), 10) if reason == "connect" else 0
    yield "rsolv_exporter_last_poll_duration_seconds", (), 0.004 + 0.001 * (minute % 7)
    yield "rsolv_exporter_last_success_timestamp_seconds", (), START + 1500 * 60 if away else now - 5
    for number, source in enumerate(SOURCES):
        labels = (("source", source),)
        yield "rsolv_exporter_source_up", labels, int(not away)
        yield "rsolv_exporter_source_last_success_timestamp_seconds", labels, START + 1500 * 60 if away else now - 5
        yield "rsolv_exporter_rows_counted_total", labels, 120 + totals.counted[source]
        yield "rsolv_exporter_series", labels, 3 + (now >= BORN["acme/new"])
        yield "rsolv_exporter_series_overflowed_total", labels, int(number == 0 and minute > 4000)
        yield "rsolv_exporter_rejected_values_total", (*labels, ("column", ("tests_generated", "trust_score")[number])), minute // 1300
        yield "rsolv_exporter_drift_total", labels, int(number == 0 and minute > 4100)
        yield "rsolv_exporter_gaps", labels, minute // 600 % 5
        yield "rsolv_exporter_gaps_dropped_total", labels, 2 * int(number == 1 and minute > 4150)
        yield "rsolv_exporter_rewinds_total", labels, int(number == 0 and minute > 4200)
    yield "rsolv_exporter_state_up", (), int(minute % 2000 != 0)
    yield "rsolv_exporter_state_save_failures_total", (), minute // 2000
    yield "rsolv_exporter_web_config_last_reload_successful", (), 1
    for kind in ("validation", "mitigation"):
        for status in ("pending", "running"):
            yield f"rsolv_{kind}_executions_open", (("status", status),), minute // 90 % 3
        # One execution after the other, each there for 70 minutes.
        yield f"rsolv_{kind}_oldest_open_timestamp_seconds", (), now - minute % 70 * 60
        yield f"rsolv_{kind}_last_execution_timestamp_seconds", (), totals.last[kind]
    yield "process_cpu_seconds_total", (), (now - started) * 0.002
    yield "process_resident_memory_bytes", (), 9_000_000 + minute * 100
    yield "process_start_time_seconds", (), started
    yield "process_open_fds", (), 14
    yield "process_max_fds", (), 1024
    yield "process_threads", (), 4
    yield "process_virtual_memory_bytes", (), 300_000_000
    yield "up", (), 1
    yield "scrape_duration_seconds", (), 0.002
    yield "scrape_samples_scraped", (), 600


# Scrapes never fall on the second at which a query is evaluated; here as little as in life.
TARGETS = [  # environment, instance, pod, phase of its scrapes, time it appears, times it is started
    ("production", "10.0.0.1:10060", "platform-a", 7, START, [START - 9000]),
    ("production", "10.0.0.2:10060", "platform-b", 23, START + 86400, [START + 86390, START + 2 * 86400]),
    ("staging", "10.0.1.1:10060", "platform-s", 41, START, [START - 9000]),
]


def openmetrics(begin, end):
    """The samples of a stretch of time, as the text `promtool tsdb create-blocks-from openmetrics` reads."""
    families = defaultdict(list)
    for environment, instance, pod, phase, appears, starts in TARGETS:
        totals = Totals(environment)
        common = f'job="rsolv-exporter",environment="{environment}",instance="{instance}",pod="{pod}"'
        rendered = {}
        for now in range(START + phase, END, SCRAPE):
            if now >= end:
                break
            totals.advance(now)
            if now < begin or now < appears:
                continue
            samples = [(name, labels, totals.values[name, labels]) for (name, labels), born in totals.born.items() if now >= born]
            samples += exporter(now, totals, max(at for at in starts if at <= now))
            for name, labels, value in samples:
                key = rendered.get((name, labels))
                if key is None:
                    text = "".join(f',{label}="{content}"' for label, content in labels)
                    key = rendered[name, labels] = f"{name}{{{common}{text}}}"
                families[name].append(f"{key} {value} {now}\n")
    for name, lines in families.items():
        # The type does not reach the blocks; unknown takes any name.
        yield f"# TYPE {name} unknown\n"
        yield from lines
    yield "# EOF\n"
