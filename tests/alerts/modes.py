#!/usr/bin/env python3
"""The tests of the rules once more, with histograms in the other forms that Prometheus stores.

Each histogram of tests/alerts/rules becomes a native one: with the same bounds, as convert_classic_histograms_to_nhcb makes
it, and with exponential ones, as the exporter serves it; each alone, and beside the classic series. What promtool says must
be what it says of the classic series alone, to the letter, numbers and all: values of a classic bucket are taken to be in
its middle, so that they share no exponential bucket with a bound that a rule asks for. (Some cases end differently than expected there: a window of Prometheus 3 leaves out the sample at
its beginning, and those cases have samples at the very edges.) Needs promtool 3, so it belongs to tests/prometheus-3.sh.
"""

import difflib
import itertools
import math
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


def custom(bounds, each):
    """The buckets of a native histogram with these bounds, in promtool's notation."""
    # Without any bucket there is only the infinite one.
    values = f"custom_values:[{' '.join(f'{float(b):g}' for b in bounds)}] " if bounds else ""
    return f"schema:-53 {values}buckets:[{' '.join(f'{n:g}' for n in each)}]"


def exponential(bounds, each):
    """Those of one whose bounds are an eighth of a power of two apart."""
    upper = [*map(float, bounds), None]
    zero, counts = 0, {}
    for low, high, count in zip([0, *upper], upper, each):
        if high == 0:
            zero = count
        elif count:
            middle = 2 * low or 1 if high is None else high / 2 if low == 0 else math.sqrt(low * high)
            counts[math.ceil(math.log2(middle) * 8)] = count
    first = min(counts, default=0)
    dense = " ".join(f"{counts.get(index, 0):g}" for index in range(first, max(counts, default=first) + 1))
    return f"schema:3 z_bucket:{zero:g} z_bucket_w:1e-100 offset:{first} buckets:[{dense}]"


def native(form, parts):
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
        out.append(f"{{{{sum:{now['sum']:g} count:{now['count']:g} {form(bounds, each)}}}}}")
    assert len(parts["sum"]) == len(parts["count"]), "sum and count differ in length"
    return " ".join(value if times == 1 else f"{value}x{times - 1}" for value, times in
                    ((value, len(list(same))) for value, same in itertools.groupby(out)))


def converted(form, test, beside):
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
    series += [{"series": name, "values": native(form, parts)} for name, parts in histograms.items()]
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
        for form, beside in itertools.product((custom, exponential), (False, True)):
            mode = f"{form.__name__} {'beside classic' if beside else 'alone'}"
            tests = [converted(form, test, beside) for test in whole["tests"]]
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
