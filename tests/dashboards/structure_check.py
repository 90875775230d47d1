"""Checks of the dashboards' JSON and of the provisioning files that need no Prometheus."""

import json
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DASHBOARDS = ROOT / "dashboards"
RUNBOOK = "https://github.com/RSOLV-dev/rsolv-exporter/blob/main/alerts/runbooks/"
PANELS = {
    "Validation Success Rate": "gauge",
    "Total Validation Executions": "stat",
    "Total Mitigation Executions": "stat",
    "Average Validation Duration": "timeseries",
    "Validation Duration Histogram": "bargauge",
    "Trust Score Gauge": "gauge",
    "Trust Score Distribution": "bargauge",
    "Tests Generated vs Passed": "timeseries",
    "Language Breakdown": "piechart",
    "Framework Breakdown": "piechart",
    "Recent Activity Timeline": "timeseries",
    "Error Rate": "timeseries",
    "Executions in progress": "timeseries",
}
SUFFIXES = ("_total", "_sum", "_count", "_bucket")
VARIABLES = {
    "rsolv-executions": ["datasource", "environment", "repo", "language", "framework", "execution_url"],
    "rsolv-exporter": ["datasource", "environment"],
}
# Targets whose exemplars are shown: over time, and on an axis on which the value of an exemplar means something.
EXEMPLARS = {
    ("Recent Activity Timeline", "A"),
    ("Recent Activity Timeline", "B"),
    ("Average Validation Duration", "C"),
    ("Tests Generated vs Passed", "A"),
    ("Tests Generated vs Passed", "B"),
}
problems = []


def expect(condition, what):
    if not condition:
        problems.append(what)


def check_dashboard(name, dashboard):
    expect("__inputs" not in dashboard and dashboard["id"] is None, f"{name}: import would ask questions")
    expect(dashboard["uid"] == name, f"{name}: uid is {dashboard['uid']}")
    expect([v["name"] for v in dashboard["templating"]["list"]] == VARIABLES[name], f"{name}: variables")
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            expect(variable["datasource"]["uid"] == "${datasource}", f"{name}: {variable['name']} has a data source of its own")
            # A value with a slash or a dot, and All, have to match whole values.
            expect(not variable["multi"] or variable["allValue"] == ".*", f"{name}: All of {variable['name']}")

    panels = dashboard["panels"]
    expect(len({p["id"] for p in panels}) == len(panels), f"{name}: ids are not unique")
    cells = set()
    for panel in panels:
        where = f"{name}: {panel['title']}"
        grid, defaults = panel["gridPos"], panel["fieldConfig"]["defaults"]
        own = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        expect(not own & cells and grid["x"] + grid["w"] <= 24, f"{where} overlaps another panel")
        cells |= own
        expect(panel["description"].strip(), f"{where} has no description")
        expect(defaults.get("unit"), f"{where} has no unit")
        expect(defaults.get("thresholds", {}).get("steps"), f"{where} has no thresholds")
        expect(panel["datasource"]["uid"] == "${datasource}", f"{where} has a data source of its own")
        for link in panel["links"]:
            page = ROOT / "alerts" / "runbooks" / link["url"].removeprefix(RUNBOOK)
            expect(link["url"].startswith(RUNBOOK) and page.is_file(), f"{where} links to {link['url']}")
        for target in panel["targets"]:
            check_target(where, panel, target)


def arguments(query, function):
    """Where the arguments of each call of a function stand."""
    for call in re.finditer(re.escape(f"{function}("), query):
        end, depth = call.end(), 1
        while depth:
            depth += {"(": 1, ")": -1}.get(query[end], 0)
            end += 1
        yield range(call.end(), end)


def check_target(where, panel, target):
    query = target["expr"]
    expect(target["datasource"]["uid"] == "${datasource}", f"{where} has a data source of its own")
    for selector in re.findall(r"\{([^{}]*)\}", query):
        expect('environment="$environment"' in selector, f"{where} mixes environments: {selector}")
    expect('le="' not in query, f"{where} selects one le by its text")
    # Sparse counters: whole events, from the replica that saw most. Only polls and CPU, which never stand still, have a rate.
    # Native histograms have no largest one; what is asked of their sum does not change with the number of replicas.
    largest = list(arguments(query, "max without (instance, pod) "))
    for increase in re.finditer(r"\bincrease\((\w+)", query):
        native = not increase[1].endswith(SUFFIXES) and query[:increase.start()].endswith("or on () sum (")
        expect(native or any(increase.start() in argument for argument in largest),
               f"{where}: increase() outside of max without (instance, pod)")
    # Whichever form of a histogram Prometheus has.
    for name, part in re.findall(r"(\w+_(?:milliseconds|value))_(sum|count|bucket)\{", query):
        expect(re.search(rf"\bor (ignoring \(le\) |on \(\) )?(histogram_{part}|histogram_fraction|sum )[^{{]*\b{name}\{{", query),
               f"{where}: nothing but classic series of {name}")
    expect(target.get("exemplar", False) == ((panel["title"], target["refId"]) in EXEMPLARS), f"{where}, {target['refId']}: exemplars")
    expect(not target.get("exemplar") or target["range"], f"{where}, {target['refId']}: exemplars at one instant")
    for metric in re.findall(r"\brate\((\w+)", query):
        expect(metric in ("rsolv_exporter_polls_total", "process_cpu_seconds_total"), f"{where}: rate() of {metric}")
    if panel["type"] == "timeseries" and panel["fieldConfig"]["defaults"]["custom"]["drawStyle"] == "bars":
        # Bars are as wide as the smallest distance of two points: points that are filtered out would make them wider.
        expect("> 0" not in query and "round(" in query and panel.get("interval"), f"{where}: bars of parts of events")


def check_provisioning():
    sources = yaml.safe_load((DASHBOARDS / "provisioning" / "datasources" / "prometheus.yml").read_text())
    providers = yaml.safe_load((DASHBOARDS / "provisioning" / "dashboards" / "rsolv.yml").read_text())
    prometheus = yaml.safe_load((ROOT / "alerts" / "prometheus.yml").read_text())
    expect(sources["apiVersion"] == providers["apiVersion"] == 1, "provisioning: apiVersion")
    source = sources["datasources"][0]
    expect(source["type"] == "prometheus", "provisioning: the data source is no Prometheus")
    # Grafana makes $__rate_interval from it: with another value the bars would overlap or leave gaps.
    expect(source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"], "provisioning: timeInterval is not the scrape interval")
    expect(providers["providers"][0]["options"]["path"].startswith("/"), "provisioning: path of the dashboards")
    # An exemplar is one execution: {id="123"}. In a provisioning file a dollar is written twice.
    link, = source["jsonData"]["exemplarTraceIdDestinations"]
    expect(link["name"] == "id" and link["url"] == "$${execution_url}$${__value.raw}", "provisioning: exemplars link to no execution")


def main():
    dashboards = {file.stem: json.loads(file.read_text()) for file in sorted(DASHBOARDS.glob("*.json"))}
    expect(set(dashboards) == set(VARIABLES), f"dashboards are {sorted(dashboards)}")
    for name, dashboard in dashboards.items():
        check_dashboard(name, dashboard)
    expect({p["title"]: p["type"] for p in dashboards["rsolv-executions"]["panels"]} == PANELS, "the thirteen panels, with these titles and types")
    check_provisioning()
    print("\n".join(problems))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
