#!/usr/bin/env python3
"""Breaks the rules on purpose, one way at a time, and sees that the tests notice. Takes minutes, so run.sh leaves it out."""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXECUTIONS, EXPORTER = "rsolv-executions", "rsolv-exporter"

# (what, rule file, alert or record whose text is changed or None for the whole file, pattern, replacement, test file)
MUTATIONS = [
    ("no minimum of failures", EXECUTIONS, "ValidationSuccessRateLow", r">= (5|10)", ">= 0", "success-rate-low-volume"),
    ("a minimum of four", EXECUTIONS, "ValidationSuccessRateLow", r">= 5", ">= 4", "success-rate-low-volume"),
    ("a minimum of six", EXECUTIONS, "ValidationSuccessRateLow", r">= 5", ">= 6", "success-rate-low-volume"),
    ("half is too few", EXECUTIONS, "ValidationSuccessRateLow", r"< 0\.5", "<= 0.5", "success-rate-low-volume"),
    ("timeouts are no failures", EXECUTIONS, "rsolv:validations_failed:increase", r"failed\|timeout", "failed", "success-rate-low-volume"),
    ("every status counts", EXECUTIONS, "rsolv:validations_by_status:increase", r'\{status=~"[^"]*"\}', "", "success-rate-low-volume"),
    ("cancelled is a failure", EXECUTIONS, "rsolv:validations_failed:increase", r'status=~"failed\|timeout"', 'status!="completed"', "success-rate-low-volume"),
    ("replicas are added up", EXECUTIONS, None, r"max without \(instance, pod\)", "sum without (instance, pod)", "success-rate-low-volume"),
    ("increase over a max", EXECUTIONS, "rsolv:validations_by_status:increase",
     r"max without \(instance, pod\) \(\s*increase\((.*?)\[(\w+)\]\)\s*unless[^\n]*\n\s*\)\)", r"increase((max without (instance, pod) (\1))[\2:5m]))", "success-rate-low-volume"),
    ("environments are mixed", EXECUTIONS, None, r"by \(environment, job\)", "by (job)", "success-rate-low-volume"),
    ("jobs are mixed", EXECUTIONS, None, r"by \(environment, job\)", "by (environment)", "success-rate-low-volume"),
    ("no guard against resets", EXECUTIONS, None, r"\n *unless on \(environment, job, instance, pod\) rsolv:replica:resets\{[^\n]*", "", "success-rate-low-volume"),
    ("the guard looks at each series alone", EXECUTIONS, None, r"unless on \(environment, job, instance, pod\) rsolv:replica:resets\{window=\"1d\"\}",
     "unless resets(rsolv_validation_executions_total[1d]) > 0", "success-rate-low-volume"),
    ("no guard against missing data", EXECUTIONS, "ValidationSuccessRateLow", r"\n *and on \(environment, job\) rsolv:validations:present", "", "success-rate-low-volume"),
    ("no short windows", EXECUTIONS, "ValidationSuccessRateLow", r"\n *or rsolv:validations_failed:increase >= 10", "", "success-rate-low"),
    ("no `for`", EXECUTIONS, "ValidationSuccessRateLow", r"for: 10m", "for: 0m", "success-rate-low"),
    ("a longer `for`", EXECUTIONS, "ValidationSuccessRateLow", r"for: 10m", "for: 15m", "success-rate-low"),
    ("slow ones need not be many", EXECUTIONS, "ValidationDurationHigh", r">= (5|10)", ">= 0", "duration-high"),
    ("milliseconds for seconds", EXECUTIONS, "ValidationDurationHigh", r" / 1000", "", "duration-high"),
    ("le by its text", EXECUTIONS, "rsolv:validations_slow:increase", r'=~"300000\(\\\\\.0\)\?"', '="300000"', "duration-high"),
    ("no way out without the bucket", EXECUTIONS, "rsolv:trust_scores_low:increase", r"\n *or on \(environment, job\)\n[^\n]*", "", "trust-score-low"),
    ("low scores need not be many", EXECUTIONS, "MitigationTrustScoreLow", r">= (5|10)", ">= 0", "trust-score-low"),
    ("no guard against resets, scores", EXECUTIONS, None, r"\n *unless on \(environment, job, instance, pod\) rsolv:replica:resets\{[^\n]*", "", "trust-score-low"),
    ("only validations show a reset", EXECUTIONS, "rsolv:replica:resets", r"\n *or\n[^\n]*mitigation[^\n]*", "", "trust-score-low"),
    ("chance is a trend", EXECUTIONS, "ValidationSuccessRateDecreasing", r"\n *and rsolv:validation_failure:rise > 3[^\n]*", "", "trends"),
    ("no least drop", EXECUTIONS, "ValidationSuccessRateDecreasing", r"> 10\n", "> 0\n", "trends"),
    ("half a day of history is enough", EXECUTIONS, "ValidationSuccessRateDecreasing", r"\n *and on \(environment, job\) rsolv:validations:present2d", "", "trends"),
    ("no guard against resets, trends", EXECUTIONS, None, r"\n *unless on \(environment, job, instance, pod\) rsolv:replica:resets\{[^\n]*", "", "trends"),
    ("trends without fresh data", EXECUTIONS, "ValidationSuccessRateDecreasing", r"\n *and on \(environment, job\) rsolv:validations:present\b(?!2)", "", "trends"),
    ("today against today", EXECUTIONS, None, r" offset 1d", "", "trends"),
    ("one stuck worker is a trend", EXECUTIONS, "ValidationDurationIncreasing", r"\n *unless [^\n]*", "", "trends"),
    ("chance is a trend, durations", EXECUTIONS, "ValidationDurationIncreasing", r"\n *and ln[^\n]*", "", "trends"),
    ("a growth of seconds is one", EXECUTIONS, "ValidationDurationIncreasing", r"\n *and [^\n]*> 10000", "", "trends"),
    ("no least growth", EXECUTIONS, "ValidationDurationIncreasing", r"> 1\.5", "> 1", "trends"),
    ("chance is a trend, scores", EXECUTIONS, "MitigationTrustScoreDecreasing", r"\n *and rsolv:trust_score:drop > 3[^\n]*", "", "trends"),
    ("half a day of history is enough, durations", EXECUTIONS, "ValidationDurationIncreasing", r"\n *and on \(environment, job\) rsolv:validations:present2d", "", "trends"),
    ("half a day of history is enough, scores", EXECUTIONS, "MitigationTrustScoreDecreasing", r"\n *and on \(environment, job\) rsolv:mitigations:present2d", "", "trends"),
    ("only the time counts as activity", EXECUTIONS, "NoValidationActivity", r"\n *unless on \(environment, job\)\n[^\n]*> 0\n", "\n", "no-activity"),
    ("no activity without the time is missed", EXECUTIONS, "NoValidationActivity", r"\n *or on \(environment, job\)\n.*?\n {10}\)\n", "\n", "no-activity"),
    ("just started is inactive", EXECUTIONS, "NoMitigationActivity", r"\n *and on [^\n]*offset 12h\)\)", "", "no-activity"),
    ("only counters, not the time", EXECUTIONS, "NoValidationActivity", r"> 6 \* 3600", "> 600 * 3600", "no-activity"),
    ("validations that reported nothing count", EXECUTIONS, "rsolv:tests_reported:increase_day", r"rsolv_validation_tests_reported_total", 'rsolv_validation_executions_total{status="completed"}', "low-test-generation"),
    ("one validation is enough", EXECUTIONS, "LowTestGenerationRate", r">= 5", ">= 1", "low-test-generation"),
    ("any replica down", EXPORTER, "RsolvExporterDown", r"max by \(environment, job\) \(up\{[^}]*\}\) == 0", 'min by (environment, job) (up{job="rsolv-exporter"}) == 0', "exporter"),
    ("gone targets are missed", EXPORTER, "RsolvExporterDown", r"== 0\n *or\n.*?\n {10}\)\n", "== 0\n", "exporter"),
    ("every job", EXPORTER, "RsolvExporterDown", r'\{job="rsolv-exporter"\}', "", "exporter"),
    ("any failed poll is the network", EXPORTER, "RsolvExporterDatabaseUnreachable", r',reason=~"[^"]*"', "", "exporter"),
    ("old failures are failures", EXPORTER, "RsolvExporterDatabaseUnreachable", r"\n *and on [^\n]*== 0", "", "exporter"),
    ("a hung poll is missed", EXPORTER, "RsolvExporterDataStale", r"time\(\) - max by \(environment, job, source\) \(\n[^\n]*\n *\) > 600\n *or\n", "", "exporter"),
    ("a source never read is missed", EXPORTER, "RsolvExporterDataStale", r"\) > 600\n *or\n.*?\) > 600\n", ") > 600\n", "exporter"),
    ("one slow poll", EXPORTER, "RsolvExporterPollsSlow", r"quantile_over_time\(0\.5, ", "max_over_time(", "exporter"),
    ("rejections of replicas are added up", EXPORTER, "RsolvExporterValuesRejected", r"max without \(instance, pod\)", "sum without (instance, pod)", "exporter"),
    ("rejections counted again", EXPORTER, "RsolvExporterValuesRejected", r"\n *unless on [^\n]*\n[^\n]*", "", "exporter"),
    ("one rejection", EXPORTER, "RsolvExporterValuesRejected", r">= 5", ">= 1", "exporter"),
    ("drift of replicas is added up", EXPORTER, "RsolvExporterDrift", r"max without \(instance, pod\)", "sum without (instance, pod)", "exporter"),
    ("dropped gaps are missed", EXPORTER, "RsolvExporterDrift", r"\n *\+ on [^\n]*\n.*?\)\)\n", "\n", "exporter"),
    ("a histogram that is there is not seen", EXPORTER, "RsolvExporterHistogramsMissing", r"\n *unless on \(environment, job\) \(\n *rsolv_validation_duration.*?\n {10}\)", "", "exporter"),
    ("trust scores are not missed", EXPORTER, "RsolvExporterHistogramsMissing", r"rsolv_mitigation_trust_score_value_count", "rsolv_mitigation_executions_total", "exporter"),
    ("only all replicas fail to save", EXPORTER, "RsolvExporterStateNotSaved", r"count by \(environment, job\) \((.*?) == 0\)", r"max by (environment, job) (\1) == 0", "exporter"),
]


def mutate(text, name, pattern, replacement):
    """The rule file with the pattern replaced, within the rules of that name."""
    count = 0

    def change(part):
        nonlocal count
        part, changed = re.subn(pattern, replacement, part, flags=re.S)
        count += changed
        return part

    if name is None:
        text = change(text)
    else:
        rules = re.split(r"(?m)^(?=      - (?:alert|record): )", text)
        text = "".join(change(rule) if re.match(rf"      - (?:alert|record): {re.escape(name)}\n", rule) else rule for rule in rules)
    return text, count


def main():
    survivors = 0
    wanted = sys.argv[1:]
    for what, file, name, pattern, replacement, test in MUTATIONS:
        if wanted and not any(word in what for word in wanted):
            continue
        with tempfile.TemporaryDirectory() as work:
            work = pathlib.Path(work)
            shutil.copytree(ROOT / "alerts", work / "alerts")
            shutil.copytree(ROOT / "tests" / "alerts" / "rules", work / "tests" / "alerts" / "rules")
            rules = work / "alerts" / f"{file}.rules.yml"
            text, count = mutate(rules.read_text(), name, pattern, replacement)
            if not count:
                print(f"LOST      {what}: the pattern is not in the rules")
                survivors += 1
                continue
            rules.write_text(text)
            run = subprocess.run(["promtool", "test", "rules", f"{test}.test.yml"], cwd=work / "tests" / "alerts" / "rules", capture_output=True, text=True)
            output = run.stdout + run.stderr
            broken = "could not parse expression" in output or "parse error" in output
            verdict = "INVALID " if broken else "survived" if run.returncode == 0 else "killed  "
            survivors += broken or run.returncode == 0
            print(f"{verdict}  {what} ({test})", flush=True)
    print(f"{survivors} not noticed")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
