"""Checks of the rule files that promtool does not make."""

import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALERTS = ROOT / "alerts"
TESTS = ROOT / "tests" / "alerts"
RUNBOOK = "https://github.com/RSOLV-dev/rsolv-exporter/blob/main/alerts/runbooks/{}.md"
DASHBOARD = "https://grafana.example.com/d/{}?var-environment={{{{ $labels.environment }}}}"

# Names and severities that others rely on.
FIXED = {
    "ValidationSuccessRateLow": "critical",
    "MitigationTrustScoreLow": "critical",
    "ValidationDurationHigh": "critical",
    "ValidationSuccessRateDecreasing": "warning",
    "MitigationTrustScoreDecreasing": "warning",
    "ValidationDurationIncreasing": "warning",
    "ValidationExecutionsHang": "warning",
    "MitigationExecutionsHang": "warning",
    "NoValidationActivity": "info",
    "NoMitigationActivity": "info",
    "LowTestGenerationRate": "info",
}
COMPONENTS = {"validation", "mitigation", "exporter"}

problems = []


def problem(where, what):
    problems.append(f"{where}: {what}")


def exported():
    """Names of the series the exporter exports; a histogram has three, or one when it is native."""
    names = set()
    for line in (TESTS / "exported-metrics.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, kind = line.split()
            names |= {name + suffix for suffix in ("", "_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return names


def metrics_in(expression):
    """Metric names in PromQL: identifiers before a `{`, `[`, `)` or the end, that no function and no label is."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"\{[^}]*\}", "{}", bare)
    return set(re.findall(r"\b((?:rsolv|process|scrape)_\w+|rsolv:[\w:]+|up)\b(?!\s*\()", bare))


def calls(expression, function):
    """The text around every call of a function: (what stands before it, its argument)."""
    for match in re.finditer(rf"\b{function}\s*\(", expression):
        yield expression[: match.start()], expression[match.end():]


def enclosing(before):
    """What stands before each parenthesis that is open at the end of a text, innermost first."""
    heads, depth = [], 0
    for place in range(len(before) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(before[place], 0)
        if depth < 0:
            depth = 0
            head = re.search(r"((max|sum) \w+ \([^()]*\)|\w*) *$", before[:place])
            heads.append("" if head[1] in ("or", "unless", "and") else head[1])
    return " ".join(head for head in heads if head)


def main():
    names = exported()
    recorded, alerts = set(), {}
    for file in sorted(ALERTS.glob("*.rules.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                name = rule.get("alert") or rule["record"]
                expression = re.sub(r"\s+", " ", rule["expr"])
                for metric in metrics_in(expression):
                    if metric.startswith("rsolv:"):
                        if metric not in recorded:
                            problem(name, f"{metric} is not recorded before it")
                    elif metric not in names:
                        problem(name, f"{metric} is not exported")
                for before, argument in calls(expression, "increase"):
                    if not re.match(r"(histogram_\w+ )?max without \(instance, pod\) sum by \([^)]*\)", enclosing(before)):
                        problem(name, "increase() outside of sum by (…) (max without (instance, pod) (…))")
                    if not re.match(r"rsolv_\w+(\{[^}]*\})?\[", argument):
                        problem(name, "increase() of something else than a counter")
                for labels in re.findall(r"\bby \(([^)]*)\)", expression):
                    if not {"environment", "job"} <= set(re.split(r",\s*", labels)):
                        problem(name, f"by ({labels}) mixes environments or jobs")
                if re.search(r'\ble="', expression):
                    problem(name, "selects one le by its text, which depends on the format of the scrape")
                if "record" in rule:
                    recorded.add(rule["record"])
                    continue
                alerts[name] = rule
                if file.name == "rsolv-exporter.rules.yml":
                    bare = re.findall(r"\b((?:rsolv_exporter|process)_\w+|up)\b(?!\{job=\"rsolv-exporter\")", expression)
                    if bare:
                        problem(name, f"{bare[0]} is selected without job=\"rsolv-exporter\"")

    for name, rule in alerts.items():
        labels, annotations = rule.get("labels", {}), rule.get("annotations", {})
        if "for" not in rule:
            problem(name, "no `for`")
        if set(labels) != {"severity", "component"} or labels["component"] not in COMPONENTS:
            problem(name, f"labels are {labels}")
        if set(annotations) != {"summary", "description", "runbook_url", "dashboard_url"}:
            problem(name, f"annotations are {sorted(annotations)}")
            continue
        if "$value" not in annotations["description"]:
            problem(name, "the description has no number")
        if annotations["runbook_url"] != RUNBOOK.format(name) or not (ALERTS / "runbooks" / f"{name}.md").is_file():
            problem(name, "runbook_url leads to no page")
        uid = "rsolv-exporter" if labels["component"] == "exporter" else "rsolv-executions"
        if annotations["dashboard_url"] != DASHBOARD.format(uid):
            problem(name, "dashboard_url is another one")
        if not (ROOT / "dashboards" / f"{uid}.json").is_file():
            problem(name, f"dashboards/{uid}.json does not exist")
        if f"[{name}](runbooks/{name}.md) | {labels['severity']} |" not in (ALERTS / "README.md").read_text():
            problem(name, "README.md does not list it with its severity")
        if f"| {rule['for']} |" not in next(
            (line for line in (ALERTS / "README.md").read_text().splitlines() if f"[{name}]" in line), ""
        ):
            problem(name, "README.md gives another `for`")

    for name, severity in FIXED.items():
        if alerts.get(name, {}).get("labels", {}).get("severity") != severity:
            problem(name, f"is not there with severity {severity}")
    for page in (ALERTS / "runbooks").glob("*.md"):
        if page.stem not in alerts:
            problem(page.name, "is the page of no alert")

    fires, silent = set(), set()
    for file in sorted((TESTS / "rules").glob("*.test.yml")):
        for test in yaml.safe_load(file.read_text())["tests"]:
            for case in test.get("alert_rule_test", []) + [
                {"alertname": match[1], "exp_alerts": case["exp_samples"]}
                for case in test.get("promql_expr_test", [])
                if (match := re.search(r'ALERTS\{alertname="(\w+)"', case["expr"]))
            ]:
                name = case["alertname"]
                if case["exp_alerts"]:
                    fires.add(name)
                else:
                    silent.add(name)
    for name in alerts:
        if name not in fires:
            problem(name, "no test sees it fire")
        if name not in silent:
            problem(name, "no test sees it silent")

    print("\n".join(problems))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
