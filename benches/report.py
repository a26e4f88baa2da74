"""What a run came to: a table in the terminal, a page in Markdown and a chart in SVG."""

from __future__ import annotations

import datetime
import os
import platform
from dataclasses import dataclass
from html import escape
from pathlib import Path

from harness import PROGRAMS, Result, Verdict

VERDICTS = {True: "met", False: "NOT met", None: "not measured"}


@dataclass(frozen=True)
class Machine:
    """Where it was measured, and how busy that was before."""

    lines: tuple[str, ...]

    @staticmethod
    def now() -> Machine:
        cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(":")[1].strip() for line in cpuinfo if "model name" in line), "?"
        )
        load = " ".join(f"{load:.2f}" for load in os.getloadavg())
        tcp = Path("/proc/sys/net/ipv4")
        congestion = (tcp / "tcp_congestion_control").read_text().strip()
        return Machine(
            (
                f"{os.cpu_count()} cpus, {model}; {platform.system()} {platform.release()}",
                f"load before: {load}",
                f"TCP congestion control: {congestion}",
            )
        )


def table(result: Result) -> str:
    """For the terminal."""
    rows = [["", result.workload.unit, "min", "max", "of the limit"], *_rows(result)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"\n{result.workload.name}"]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:])]
        lines.append("  ".join(["  " + first.ljust(widths[0]), *cells]).rstrip())
    lines += [f"  bar: {_verdict(verdict)}" for verdict in result.verdicts()]
    lines += [f"  {line}" for line in _not_measured(result)]
    return "\n".join(lines)


def summary(results: list[Result]) -> str:
    verdicts = [verdict.met for result in results for verdict in result.verdicts()]
    counts = [f"{verdicts.count(met)} {word}" for met, word in VERDICTS.items()]
    return "\nbars: " + ", ".join(counts)


def write(results: list[Result], rounds: int, machine: Machine) -> list[Path]:
    """The page and the chart; returns where they are."""
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    page, picture = PROGRAMS / "report.md", PROGRAMS / "chart.svg"
    page.write_text(_markdown(results, rounds, machine))
    picture.write_text(chart([result for result in results if result.limit()]))
    return [page, picture]


def _rows(result: Result) -> list[list[str]]:
    limit = result.limit()
    rows = []
    for name in result.figures:
        median, (least, most) = result.median(name), result.spread(name)
        share = f"{result.ratio(name, limit):.3f}" if limit else ""
        rows.append([name, _number(median), _number(least), _number(most), share])
    return rows


def _markdown(results: list[Result], rounds: int, machine: Machine) -> str:
    when = datetime.datetime.now().astimezone().isoformat(" ", "minutes")
    lines = ["# framefd beside the limits and its peers", ""]
    lines += [f"- {when}", *(f"- {line}" for line in machine.lines)]
    lines += [
        f"- {rounds} rounds with the contenders in turn; medians, with the least and the most;",
        "  a ratio is the median of those within the rounds",
        "",
        "![chart](chart.svg)",
        "",
        "## Bars",
        "",
        "| workload | ours | bar | ratio | |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        for verdict in result.verdicts():
            ratio = "" if verdict.ratio is None else f"{verdict.ratio:.3f}"
            bar = verdict.bar
            cells = [result.workload.name, bar.ours, bar.text, ratio, VERDICTS[verdict.met]]
            lines.append(f"| {' | '.join(cells)} |")
    for result in results:
        direction = ", lower is better" if result.workload.lower_is_better else ""
        lines += ["", f"## {result.workload.name}", ""]
        lines += [f"| {result.workload.unit}{direction} | median | min | max | of the limit |"]
        lines += ["|---|--:|--:|--:|--:|"]
        lines += [f"| {' | '.join(row)} |" for row in _rows(result)]
        lines += ["", *(f"- {line}" for line in _not_measured(result))]
    return "\n".join(lines) + "\n"


def _verdict(verdict: Verdict) -> str:
    ratio = "" if verdict.ratio is None else f" ({verdict.ratio:.3f})"
    return f"{VERDICTS[verdict.met]}: {verdict.bar.ours}: {verdict.bar.text}{ratio}"


def _not_measured(result: Result) -> list[str]:
    missing = [c for c in result.workload.contenders if c.missing]
    lines = [f"{contender.name}: not installed: {contender.missing}" for contender in missing]
    return lines + [f"{name}: failed: {why}" for name, why in result.failures.items()]


def _number(value: float) -> str:
    """Three digits or more."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4f}"


COLOURS = {"limit": "#8a8f98", "ours": "#1f77b4", "peer": "#e69f00"}
ROLES = {"limit": "limit", "ours": "framefd", "peer": "peer"}

# Of the chart, in pixels.
PANEL = 620
NAMES = 235
BARS = 230
ROW = 17
HEAD = 44
GAP = 26


def chart(results: list[Result]) -> str:
    """A panel for each workload, whose bars are shares of the best limit."""
    columns: list[list[str]] = [[], []]
    heights = [60, 60]
    for result in results:
        column = heights.index(min(heights))
        columns[column].append(_panel(result, 20 + column * PANEL, heights[column]))
        heights[column] += HEAD + ROW * len(result.figures) + GAP
    width, height = 20 + 2 * PANEL, max(heights)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        "<style>.figure { stroke: white; stroke-width: 4; paint-order: stroke }</style>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<text x="20" y="28" font-size="18">Beside the best limit, the dotted line: '
        "longer is better</text>",
    ]
    for index, (role, colour) in enumerate(COLOURS.items()):
        x = 20 + 90 * index
        parts.append(f'<rect x="{x}" y="38" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17}" y="48">{ROLES[role]}</text>')
    return "\n".join([*parts, *columns[0], *columns[1], "</svg>\n"])


def _panel(result: Result, left: int, top: int) -> str:
    limit = result.limit()
    assert limit is not None
    lower = result.workload.lower_is_better
    roles = {contender.name: contender.role for contender in result.workload.contenders}
    shares = {
        name: result.ratio(limit, name) if lower else result.ratio(name, limit)
        for name in result.figures
    }
    longest = max(1.0, *shares.values())
    unit = BARS / longest
    start = left + NAMES
    parts = [
        f'<text x="{left}" y="{top + 26}" font-size="14" font-weight="bold">'
        f"{escape(result.workload.name)}, {escape(result.workload.unit)}</text>",
        f'<line x1="{start + unit:.1f}" y1="{top + HEAD - 8}" x2="{start + unit:.1f}" '
        f'y2="{top + HEAD - 8 + ROW * len(shares)}" stroke="#333" stroke-dasharray="2 2"/>',
    ]
    y = top + HEAD - 8
    for name in sorted(shares, key=lambda name: -shares[name]):
        share = shares[name]
        label = f"{_number(result.median(name))} ({share:.3f})"
        length = max(share * unit, 1)
        parts += [
            f'<text x="{start - 6}" y="{y + 12}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{start}" y="{y + 2}" width="{length:.1f}" height="{ROW - 4}" '
            f'fill="{COLOURS[roles[name]]}"/>',
            f'<text x="{start + length + 5:.1f}" y="{y + 12}" class="figure">{label}</text>',
        ]
        y += ROW
    return "\n".join(parts)
