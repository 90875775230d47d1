"""Reads each dashboard with Grafana's own types and writes it again: keys that are lost, Grafana does not know."""

import json
import pathlib
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard

ROOT = pathlib.Path(__file__).resolve().parents[2]


def lost(before, after, path=""):
    """Paths of what is in `before` and missing or different in `after`."""
    if isinstance(before, dict):
        if not isinstance(after, dict):
            yield path
            return
        for key, value in before.items():
            # Writing leaves out what is null: that is no loss.
            if key in after:
                yield from lost(value, after[key], f"{path}.{key}")
            elif value is not None:
                yield f"{path}.{key}"
    elif isinstance(before, list):
        if not isinstance(after, list) or len(before) != len(after):
            yield path
            return
        for number, (one, other) in enumerate(zip(before, after)):
            yield from lost(one, other, f"{path}[{number}]")
    elif before != after:
        yield f"{path}: {before!r} became {after!r}"


def main():
    register_default_plugins()
    failed = False
    for file in sorted((ROOT / "dashboards").glob("*.json")):
        before = json.loads(file.read_text())
        after = json.loads(JSONEncoder(sort_keys=True).encode(dashboard.Dashboard.from_json(before)))
        for path in lost(before, after):
            failed = True
            print(f"{file.name}{path}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
