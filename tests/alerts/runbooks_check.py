"""Checks the runbooks: sections, PromQL, commands, metrics. tests/deploy/test_scripts.py follows the links."""

import pathlib
import re
import subprocess
import sys
import tempfile

import rules_check

ROOT = rules_check.ROOT
RUNBOOKS = ROOT / "alerts" / "runbooks"
SECTIONS = ["Meaning", "How to see it", "Likely causes", "What to do", "When to wake whom"]
COMMANDS = {"rows", "sql", "check", "healthcheck", "buckets", "backfill", "once"}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.S | re.M)


def check_promql(queries):
    """promtool parses every query, as the expression of a rule of its own."""
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        file.write("groups:\n- name: runbooks\n  rules:\n")
        for number, (_, query) in enumerate(queries):
            file.write(f"  - record: runbook:{number}\n    expr: |\n")
            file.write("".join(f"      {line}\n" for line in query.strip().splitlines()))
        file.flush()
        run = subprocess.run(["promtool", "check", "rules", "--lint=none", file.name], capture_output=True, text=True)
    if run.returncode:
        rules_check.problem("PromQL", run.stdout + run.stderr)


def check_metrics(page, query, known):
    for metric in rules_check.metrics_in(query):
        if metric not in known:
            rules_check.problem(page.name, f"{metric} is not exported")


def main():
    names = rules_check.exported()
    recorded = set(re.findall(r"record: (\S+)", "".join(f.read_text() for f in (ROOT / "alerts").glob("*.rules.yml"))))
    # The exporter's commands know a histogram by its own name as well: there `le` picks one bucket.
    families = {name.removesuffix("_bucket") for name in names if name.endswith("_bucket")}
    queries, selectors = [], []
    for page in sorted(RUNBOOKS.glob("*.md")):
        text = page.read_text()
        if re.findall(r"^## (.*)$", text, re.M) != SECTIONS:
            rules_check.problem(page.name, f"sections are not {SECTIONS}")
        if not text.startswith(f"# {page.stem}\n"):
            rules_check.problem(page.name, "the title is not the alert's name")
        if not blocks(page, "promql") or not blocks(page, "sql") or not blocks(page, "sh"):
            rules_check.problem(page.name, "a query, an SQL statement or a command is missing")
        queries += [(page, query) for query in blocks(page, "promql")]
        for command in blocks(page, "sh"):
            found = re.match(r"rsolv-exporter (\S+)(?: '([^']*)')?", command)
            if found and found[1] not in COMMANDS:
                rules_check.problem(page.name, f"no such command: {command}")
            if found and found[2]:
                check_metrics(page, found[2], names | families)
                selectors.append((page, found[2]))
    for page, query in queries:
        check_metrics(page, query, names | recorded)
    check_promql(queries + selectors)
    print("\n".join(rules_check.problems))
    return bool(rules_check.problems)


if __name__ == "__main__":
    sys.exit(main())
