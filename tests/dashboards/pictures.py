"""Paints the data of each panel roughly as Grafana would, to be looked at."""

import datetime
import textwrap

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

UNITS = {"percentunit": lambda v: f"{100 * v:.1f}%", "ms": lambda v: f"{v / 1000:.0f} s", "s": lambda v: f"{v:.3g} s",
         "bytes": lambda v: f"{v / 2**20:.1f} MiB"}
NAMED = {"text": "#333333", "transparent": "none", "super-light-purple": "#d8b4fe", "light-blue": "#7dd3fc", "dark-blue": "#1d4ed8"}


def colour(panel, legend):
    import re
    for override in panel["fieldConfig"]["overrides"]:
        options = override["matcher"]["options"]
        named = override["matcher"]["id"] == "byName" and options == legend
        if named or override["matcher"]["id"] == "byRegexp" and re.search(options.strip("/"), legend):
            for change in override["properties"]:
                if change["id"] == "color":
                    return NAMED.get(change["value"]["fixedColor"], change["value"]["fixedColor"])
    fixed = panel["fieldConfig"]["defaults"]["color"].get("fixedColor")
    return NAMED.get(fixed, fixed)


def style(panel, legend):
    custom = dict(panel["fieldConfig"]["defaults"].get("custom", {}))
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == legend:
            custom |= {c["id"].removeprefix("custom."): c["value"] for c in override["properties"] if c["id"].startswith("custom.")}
    return custom


def steps(panel):
    return panel["fieldConfig"]["defaults"]["thresholds"]["steps"]


def level(panel, value):
    return [s["color"] for s in steps(panel) if s["value"] is None or value >= s["value"]][-1]


def paint(axes, panel, series):
    show = UNITS.get(panel["fieldConfig"]["defaults"].get("unit"), lambda v: f"{v:g}" if v == int(v) else f"{v:.1f}")
    kind = panel["type"]
    if kind in ("gauge", "stat"):
        axes.axis("off")
        for number, (legend, points) in enumerate(series):
            value = points[-1][1]
            shade = level(panel, value) if panel["fieldConfig"]["defaults"]["color"]["mode"] == "thresholds" else colour(panel, legend)
            mapped = {m: o["text"] for mapping in panel["fieldConfig"]["defaults"]["mappings"] for m, o in mapping["options"].items()}
            axes.text(0.5, 1 - (number + 0.6) / len(series), mapped.get(f"{value:g}", show(value)), ha="center", fontsize=20, color=shade)
            axes.text(0.5, 1 - (number + 0.95) / len(series), legend, ha="center", fontsize=8)
    elif kind == "bargauge":
        values = [points[-1][1] for _, points in series][::-1]
        axes.barh([legend for legend, _ in series][::-1], values, color=[colour(panel, legend) for legend, _ in series][::-1])
        for row, value in enumerate(values):
            axes.text(value, row, f" {show(value)}", va="center", fontsize=8)
    elif kind == "piechart":
        axes.pie([points[-1][1] for _, points in series], labels=[f"{legend}: {show(points[-1][1])}" for legend, points in series], autopct="%.0f%%")
    else:
        base = {}
        for legend, points in series:
            if not points:
                continue
            custom = style(panel, legend)
            times = [datetime.datetime.fromtimestamp(at, datetime.timezone.utc) for at, _ in points]
            values = [v for _, v in points]
            if custom["drawStyle"] == "bars":
                width = min((b - a for (a, _), (b, _) in zip(points, points[1:])), default=600) / 86400
                below = [base.get(at, 0) if custom["stacking"]["mode"] == "normal" else 0 for at, _ in points]
                axes.bar(times, values, -0.9 * width, below, align="edge", label=legend, color=colour(panel, legend),
                         alpha=custom["fillOpacity"] / 100)
                for at, v in points:
                    base[at] = base.get(at, 0) + v
            else:
                # A gap where there is no point, as spanNulls is off.
                gap = 1.5 * min((b - a for (a, _), (b, _) in zip(points, points[1:])), default=0)
                for number in range(len(points) - 1, 0, -1):
                    if points[number][0] - points[number - 1][0] > gap:
                        times.insert(number, times[number])
                        values.insert(number, float("nan"))
                axes.plot(times, values, "." if custom["drawStyle"] == "points" else "-", label=legend, color=colour(panel, legend))
        if panel["fieldConfig"]["defaults"].get("custom", {}).get("thresholdsStyle", {}).get("mode") == "line":
            for step in steps(panel)[1:]:
                axes.axhline(step["value"], color=step["color"], linestyle="--", linewidth=1)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda v, _: show(v))
        axes.tick_params(axis="x", labelsize=6)
        axes.legend(fontsize=7)


def draw(dashboards, results, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, dashboard in dashboards.items():
        rows = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in dashboard["panels"])
        figure = plt.figure(figsize=(18, rows * 0.42))
        for panel in dashboard["panels"]:
            grid = panel["gridPos"]
            axes = figure.add_axes([(grid["x"] + 0.9) / 24, 1 - (grid["y"] + grid["h"] - 0.9) / rows, (grid["w"] - 1.3) / 24, (grid["h"] - 2) / rows])
            paint(axes, panel, results[name][panel["title"]])
            axes.set_title(panel["title"], fontsize=10, loc="left")
        figure.savefig(folder / f"{name}.png", dpi=80)
        plt.close(figure)
        print(textwrap.dedent(f"drawn: {folder / name}.png"))
