#!/usr/bin/env python3
"""The tests of the rules once more, with histograms in the other forms that Prometheus 3 stores.

Each histogram of tests/alerts/rules becomes one native histogram with custom bounds, as convert_classic_histograms_to_nhcb
makes it: alone, and beside the classic series. What promtool says must be what it says of the classic series alone, to the
letter, numbers and all. (Some cases end differently than expected there: a window of Prometheus 3 leaves out the sample at
its beginning, and those cases have samples at the very edges.) Needs promtool 3, so it belongs to tests/prometheus-3.sh.
"""

import difflib
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "tests" / "alerts" / "rules"
CLASSIC = re.compile(r"(rsolv_\w+_(?:milliseconds|value))_(sum|count|bucket)\{(.*)\}$")
LE = re.compile(r',?le="([^"]*)"')


def expanded(values):
    """Values in promtool's notation, one by one: numbers, None for none, and `stale`."""
    out = []
    for part in values.split():
        if match := re.fullmatch(r"_(?:x(\d+))?", part):
            out += [None] * int(match[1] or 1)
        elif part == "stale":
            out.append(part)
        else:
            number = r"-?[\d.]+(?:e\d+)?"
            match = re.fullmatch(rf"({number})(?:([+-]{number})x(\d+)|x(\d+))?", part)
            if not match:
                raise SystemExit(f"cannot read {part}")
            start, step, times = float(match[1]), float(match[2] or 0), int(match[3] or match[4] or 0)
            out += [start + step * i for i in range(times + 1)]
    return out


def native(parts):
    """The values of one native histogram from those of its classic series, by `sum`, `count` and bound."""
    parts.setdefault("sum", parts["count"])
    bounds = sorted((bound for bound in parts if bound not in ("sum", "count", "+Inf")), key=float)
    out = []
    for i in range(max(map(len, parts.values()))):
        now = {part: values[i] if i < len(values) else None for part, values in parts.items()}
        if now["count"] is None or now["count"] == "stale":
            out.append("_" if now["count"] is None else "stale")
            continue
        cumulative = [now[bound] for bound in bounds] + [now["count"]]
        each = [now - before for before, now in zip([0, *cumulative], cumulative)]
        assert min(each) >= 0, f"not cumulative: {now}"
        # Without any bucket there is only the infinite one.
        custom = f"custom_values:[{' '.join(f'{float(b):g}' for b in bounds)}] " if bounds else ""
        out.append(f"{{{{schema:-53 sum:{now['sum']:g} count:{now['count']:g} {custom}buckets:[{' '.join(f'{n:g}' for n in each)}]}}}}")
    assert len(parts["sum"]) == len(parts["count"]), "sum and count differ in length"
    return " ".join(out)


def converted(test, beside):
    histograms, series = {}, []
    for one in test["input_series"]:
        # A native histogram tells nothing of a bound that is missing: rules interpolate between those that it has.
        match = None if 'environment="other-buckets"' in one["series"] else CLASSIC.match(one["series"])
        if match:
            name, part, labels = match.groups()
            if bound := LE.search(labels):
                labels, part = LE.sub("", labels), bound[1]
            histograms.setdefault(f"{name}{{{labels}}}", {})[part] = expanded(str(one["values"]))
        if beside or not match:
            series.append(one)
    series += [{"series": name, "values": native(parts)} for name, parts in histograms.items()]
    return {**test, "input_series": series}, len(histograms)


def outcome(whole, tests):
    """What promtool says of these tests with the rules of a file."""
    rules = [str((RULES / rule).resolve()) for rule in whole["rule_files"]]
    with tempfile.NamedTemporaryFile("w", suffix=".test.yml") as file:
        yaml.safe_dump({**whole, "tests": tests, "rule_files": rules}, file, width=1_000_000)
        file.flush()
        run = subprocess.run(["promtool", "test", "rules", file.name], capture_output=True, text=True)
    said = run.stdout + run.stderr
    if "error" in said or "EvalDuration" in said:
        raise SystemExit(said)
    return said.replace(file.name, "FILE").splitlines()


def main():
    failed, total = 0, 0
    for file in sorted(RULES.glob(f"{sys.argv[1] if sys.argv[1:] else '*'}.test.yml")):
        whole = yaml.safe_load(file.read_text())
        expected = None
        for mode in ("converted", "beside"):
            tests = [converted(test, mode == "beside") for test in whole["tests"]]
            if not any(count for _, count in tests):
                continue
            total += 1
            expected = expected or outcome(whole, whole["tests"])
            found = outcome(whole, [test for test, _ in tests])
            failed += found != expected
            print(f"{'ok   ' if found == expected else 'FAIL '} {file.name}, {mode}: {sum(count for _, count in tests)} native histograms")
            print("\n".join(difflib.unified_diff(expected, found, "classic", mode, lineterm="", n=1)), end="")
    print(f"{total - failed} passed, {failed} failed")
    return failed > 0 or total == 0


if __name__ == "__main__":
    sys.exit(main())
