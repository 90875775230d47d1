"""Runs every variable and every panel of the dashboards against a real Prometheus that holds three made-up days.

Each expression has to return data; the numbers of the executions dashboard have to be the truth about the made-up
executions, whatever the variables are set to. `--draw` paints what the panels would show into .tools/pictures.

All of it with classic histograms, with native ones beside them, and with native ones alone; with Prometheus 3 also with those
that it makes of classic ones.

    panels_check.py --live URL VARIABLE=VALUE…

runs them, with the variables set to everything and to these values, against a Prometheus that scrapes a live exporter
every second and stores exemplars, where times are a sixtieth of the usual ones. What the panels show goes to standard
output, as JSON.
"""

import json
import math
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import native
import synthetic
from synthetic import END, SCRAPE, START

ROOT = pathlib.Path(__file__).resolve().parents[2]
DASHBOARDS = {file.stem: json.loads(file.read_text()) for file in sorted((ROOT / "dashboards").glob("*.json"))}
DAY = 86400
LIVE_RANGE = 120
problems = []


def expect(condition, what):
    if not condition:
        problems.append(what)


class Prometheus:
    """A Prometheus at a URL, with the seconds between its scrapes and how often an hour of ours fits into one of its."""

    def __init__(self, url, scrape, pace):
        self.url, self.scrape, self.pace = url, scrape, pace

    def get(self, path, **parameters):
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters, doseq=True)}"
        try:
            return json.load(urllib.request.urlopen(url))["data"]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{parameters}: {error.read().decode()}") from error


class Server(Prometheus):
    """A Prometheus of our own that scrapes nothing, on the data in a folder."""

    def __init__(self, folder):
        folder.mkdir(exist_ok=True)
        (folder / "prometheus.yml").write_text("")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            super().__init__(f"http://127.0.0.1:{free.getsockname()[1]}", SCRAPE, 1)
        self.data = folder / "data"
        self.log = open(folder / "log", "w")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={self.data}",
             "--storage.tsdb.retention.time=100y", f"--web.listen-address={self.url[7:]}", "--web.enable-admin-api",
             "--web.enable-remote-write-receiver", "--enable-feature=native-histograms"], stdout=self.log, stderr=self.log)
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{self.url}/-/ready")
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit((folder / "log").read_text())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def ask(self, path, **parameters):
        """Something of the API that is changed by it."""
        url = f"{self.url}/api/v1/admin/tsdb/{path}?{urllib.parse.urlencode(parameters)}"
        return urllib.request.urlopen(urllib.request.Request(url, method="POST")).read()


def classic_blocks(data):
    for begin in range(START, END, DAY // 4):
        # promtool reads a file once for every two hours of samples: small files, or it takes minutes.
        text = data.parent / "samples"
        text.write_text("".join(synthetic.openmetrics(begin, min(begin + DAY // 4, END))))
        subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", "-q", text, data], check=True)


def native_blocks(folder, form, data):
    """Puts the histograms, as native ones, beside what is in `data`."""
    with Server(folder) as receiver:
        native.write(receiver.url, form)
        snapshot = json.loads(receiver.ask("snapshot"))["data"]["name"]
        for block in (receiver.data / "snapshots" / snapshot).iterdir():
            shutil.copytree(block, data / block.name, copy_function=os.link)


def modes(work):
    """(what histograms there are, a Prometheus that has them), one after the other."""
    classic = work / "classic" / "data"
    classic.mkdir(parents=True)
    classic_blocks(classic)
    newest = re.search(r"version (\d+)", subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=True).stdout)
    # The other form came with Prometheus 3.
    forms = native.FORMS if int(newest[1]) >= 3 else native.FORMS[:1]
    for form in forms:
        shutil.copytree(classic, work / form / "data", copy_function=os.link)
        native_blocks(work / f"{form}-receiver", form, work / form / "data")
    with Server(work / "classic") as prometheus:
        yield "classic", prometheus
    for form in forms:
        with Server(work / form) as prometheus:
            yield f"{form} beside classic", prometheus
            prometheus.ask("delete_series", **{"match[]": '{__name__=~"rsolv_.+_(milliseconds|value)_(bucket|sum|count)"}'})
            yield f"{form} alone", prometheus


def regex(values):
    """Several values of a variable, as Grafana writes them into an expression."""
    escaped = [re.sub(r"([\\^$.|?*+()\[\]{}])", r"\\\\\1", value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def fill(text, variables, seconds, interval, scrape):
    """What Grafana puts into an expression."""
    known = {
        "__range": f"{seconds}s",
        "__interval": f"{interval}s",
        "__rate_interval": f"{max(interval + scrape, 4 * scrape)}s",
        **variables,
    }

    def value(match):
        name = match[1] or match[2]
        expect(name in known, f"unknown variable ${name} in {text}")
        return known.get(name, "")

    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, text)


def step(prometheus, panel, seconds):
    """The interval of a range query: as many points as the panel wants, at least the smallest one it takes, a round number."""
    least = 600 // prometheus.pace if panel.get("interval") == "10m" else prometheus.scrape
    wanted = seconds / panel.get("maxDataPoints", 1000)
    return next(n for n in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400) if n >= max(wanted, least))


def run(prometheus, panel, target, variables, end, seconds):
    """[(legend, [(time, value)])] of one target."""
    interval = step(prometheus, panel, seconds)
    query = fill(target["expr"], variables, seconds, interval, prometheus.scrape)
    if target["instant"]:
        result = prometheus.get("query", query=query, time=end)["result"]
    else:
        result = prometheus.get("query_range", query=query, start=(end - seconds) // interval * interval,
                                end=end // interval * interval, step=interval)["result"]
    series = []
    for one in result:
        legend = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda m: one["metric"].get(m[1], ""), target["legendFormat"])
        points = [(at, float(value)) for at, value in one.get("values", [one.get("value")]) if not math.isnan(float(value))]
        series.append((legend, points))
    return series


def check_variables(prometheus, name, dashboard, variables, true, start=START, end=END):
    """Every variable has values to choose from, and where we know them those."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", fill(variable["query"]["query"], variables, 0, 0, 0))
        expect(match, f"{name}: variable {variable['name']} is no label_values()")
        values = prometheus.get(f"label/{match[2]}/values", **{"match[]": match[1], "start": start, "end": end})
        expect(values, f"{name}: variable {variable['name']} has no values")
        expect(values == true.get(variable["name"], values), f"{name}: {variable['name']} is one of {values}")


def check_data(prometheus, name, dashboard, variables, end=END, seconds=DAY * synthetic.DAYS):
    """Every target of every panel returns something."""
    results = {}
    for panel in dashboard["panels"]:
        results[panel["title"]] = []
        for target in panel["targets"]:
            series = run(prometheus, panel, target, variables, end, seconds)
            expect(any(points for _, points in series), f"{name}: {panel['title']}, {target['refId']} returns nothing")
            results[panel["title"]] += series
    return results


def check_exemplars(prometheus, variables, end, seconds):
    """Every target that asks for exemplars gets some, each of which names its row."""
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                if target.get("exemplar"):
                    query = fill(target["expr"], variables, seconds, prometheus.scrape, prometheus.scrape)
                    series = prometheus.get("query_exemplars", query=query, start=end - seconds, end=end)
                    found = [exemplar["labels"] for one in series for exemplar in one["exemplars"]]
                    expect(found and all(labels.keys() == {"id"} for labels in found),
                           f"{name}: {panel['title']}, {target['refId']} has the exemplars {found}")


def executions_are_true(prometheus, variables, select, what, end=END, seconds=DAY * synthetic.DAYS):
    """The numbers of the executions dashboard against the list of executions."""
    def of(kind, condition=lambda e: True):
        return [e for e in synthetic.truth(variables["environment"], select)
                if e[2] == kind and end - seconds < e[3] <= end and condition(e)]

    panels = {panel["title"]: panel for panel in DASHBOARDS["rsolv-executions"]["panels"]}

    def shown(title):
        panel = panels[title]
        return [series for target in panel["targets"] for series in run(prometheus, panel, target, variables, end, seconds)]

    def value(title, legend):
        return next((points[-1][1] for name, points in shown(title) if name == legend and points), None)

    def same(title, legend, number, tolerance=0.0):
        found = value(title, legend)
        expect(found is not None and abs(found - number) <= tolerance, f"{what}: {title}, {legend} is {found}, not {number}")

    validations, mitigations = of("validation"), of("mitigation")
    bad = [e for e in validations if e[4] != "completed"]
    scores = [e[8] for e in mitigations if e[8] is not None]
    same("Total Validation Executions", "in the selected time", len(validations))
    same("Total Mitigation Executions", "in the selected time", len(mitigations))
    same("Validation Success Rate", "success rate", 1 - len(bad) / len(validations), 0.005)
    same("Trust Score Gauge", "average trust score", sum(scores) / len(scores), 0.3)

    # The bounds of native histograms are not ours: values in the bucket that one of ours is in may be on either side.
    exponential = what.startswith("exponential alone")

    def unsure(numbers, bound):
        same = bound not in (0, math.inf) and native.index(bound)
        return sum(native.index(number) == same for number in numbers if number) if exponential and same else 0

    for title, bounds, numbers in (("Validation Duration Histogram", synthetic.VALIDATION_BOUNDS + [math.inf], [e[5] for e in validations]),
                                   ("Trust Score Distribution", synthetic.TRUST_BOUNDS, scores)):
        bars = [points[-1][1] for _, points in shown(title)]
        expect(len(bars) == len(bounds) and all(bar >= 0 for bar in bars), f"{what}: {title} is {bars}")
        for upto, bound in enumerate(bounds, 1):
            true = sum(number <= bound for number in numbers)
            expect(abs(sum(bars[:upto]) - true) <= unsure(numbers, bound), f"{what}: {title} is {bars}, not {true} up to {bound}")

    for title, column in (("Language Breakdown", 1), ("Framework Breakdown", 2)):
        slices = {legend: points[-1][1] for legend, points in shown(title)}
        true = {e[1][column]: sum(o[1][column] == e[1][column] for o in validations) for e in validations}
        expect(slices == true, f"{what}: {title} is {slices}, not {true}")

    # Bars cover the time once: their sum is the number of executions. The first bar lies before the start. Where two
    # replicas are scraped some seconds apart, an execution at the edge of two bars can show in both.
    edge = 0.05 if variables["environment"] == "production" and end > START + DAY else 0
    for title, true in (("Recent Activity Timeline", len(validations) + len(mitigations)),
                        ("Tests Generated vs Passed", sum(e[6] + e[7] for e in validations))):
        begin = end - seconds
        total = sum(v for _, points in shown(title) for at, v in points if at > begin)
        expect(true <= total <= true * (1 + edge), f"{what}: the bars of {title} make {total}, not {true}")
        expect(all(v == round(v) for _, points in shown(title) for _, v in points), f"{what}: {title} shows parts of events")

    points = dict(shown("Error Rate"))["validations, failed or timed out"]
    last_day = of("validation", lambda e: e[3] > end - DAY)
    if last_day:
        true = sum(e[4] != "completed" for e in last_day) / len(last_day)
        expect(abs(points[-1][1] - true) < 0.01, f"{what}: Error Rate ends at {points[-1]}, not {true}")
    durations = dict(shown("Average Validation Duration"))
    if last_day:
        true = sum(e[5] for e in last_day) / len(last_day)
        expect(abs(durations["over a day"][-1][1] - true) < 0.01 * true, f"{what}: the average of a day is {durations['over a day'][-1]}, not {true}")
        # It is in the bucket of the one that so many are within, or of one of its neighbours, as increase() counts parts.
        ranked = sorted(e[5] for e in last_day)
        rank = math.ceil(0.95 * len(ranked))
        near = ranked[max(rank - 2, 0)], ranked[min(rank, len(ranked) - 1)]
        if exponential:
            least, most = (2 ** ((native.index(duration) - lower) / 8) for duration, lower in zip(near, (1, 0)))
        else:
            bounds = [0, *synthetic.VALIDATION_BOUNDS]
            # There is no upper bound of the longest ones.
            least = max(bound for bound in bounds if bound < near[0])
            most = min([bound for bound in bounds if bound >= near[1]], default=bounds[-1])
        found = durations["95% are within, over a day"][-1][1]
        expect(least <= found <= most * 1.000001, f"{what}: 95% are within {found}, not within {least} to {most}")
    expect(len(durations["in one interval"]) <= len(validations), f"{what}: averages where nothing happened")


def live(url, chosen):
    prometheus = Prometheus(url, 1, 60)
    end = int(time.time())
    shown = {}
    for variables in ({**chosen, "repo": ".*", "language": ".*", "framework": ".*"}, {**chosen, "repo": regex([chosen["repo"]])}):
        variables["datasource"] = "prometheus"
        for name, dashboard in DASHBOARDS.items():
            check_variables(prometheus, name, dashboard, variables, {key: [value] for key, value in chosen.items()}, end - LIVE_RANGE, end)
            shown[name] = check_data(prometheus, name, dashboard, variables, end, LIVE_RANGE)
        check_exemplars(prometheus, variables, end, LIVE_RANGE)
    print("\n".join(problems) if problems else json.dumps(shown))
    return bool(problems)


def main(draw):
    sys.path.insert(0, str(ROOT / "tests" / "alerts"))
    import rules_check  # which needs PyYAML

    names = rules_check.exported()
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                for metric in rules_check.metrics_in(target["expr"]):
                    expect(metric in names, f"{name}: {panel['title']} asks for {metric}, which is not exported")

    everything = {"environment": "production", "datasource": "prometheus", "repo": ".*", "language": ".*", "framework": ".*"}
    known = {"environment": ["production", "staging"], "language": ["go", "javascript", "python", "ruby"]}
    nodegoat, railsgoat, billing, new = [which[0] for which in synthetic.SETS["production"]]
    with tempfile.TemporaryDirectory() as work:
        for mode, prometheus in modes(pathlib.Path(work)):
            results = {}
            for name, dashboard in DASHBOARDS.items():
                check_variables(prometheus, name, dashboard, everything, known)
                results[name] = check_data(prometheus, name, dashboard, everything)

            def are_true(what, variables=None, select=lambda e: True, **when):
                executions_are_true(prometheus, {**everything, **(variables or {})}, select, f"{mode}, {what}", **when)

            are_true("production")
            are_true("last day", seconds=DAY)
            if mode != "classic":
                # What the variables do to an expression is the same in all of them, and native histograms take long.
                continue
            are_true("first day", end=START + DAY, seconds=DAY)
            are_true("staging", {"environment": "staging"})
            are_true("one repository", {"repo": regex([billing])}, lambda e: e[1][0] == billing)
            are_true("two repositories", {"repo": regex([nodegoat, new])}, lambda e: e[1][0] in (nodegoat, new))
            are_true("one language", {"language": "ruby", "framework": "rails"}, lambda e: e[1][0] == railsgoat)
            if draw:
                import pictures
                pictures.draw(DASHBOARDS, results, ROOT / ".tools" / "pictures")
    print("\n".join(problems))
    return bool(problems)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--live"]:
        sys.exit(live(sys.argv[2], dict(argument.split("=", 1) for argument in sys.argv[3:])))
    sys.exit(main("--draw" in sys.argv))
