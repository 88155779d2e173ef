"""Draws the figures of a benchmark as a PNG.

Each function takes the result of the benchmark of its name and the path of the picture.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.live_cameras import LIMIT_MS, TOTAL

if TYPE_CHECKING:
    from benchmarks.profile import ProfileResult
    from benchmarks.soak import SoakResult

OURS, OTHERS, FAINT = "#1f6f8b", "#b8b8b8", "#dddddd"
WIDTH = 8.0


def _bars(
    axes: Axes, names: Sequence[str], values: Sequence[float], colours: Sequence[str], unit: str
) -> None:
    """Draw horizontal bars, the first on top, each with its number."""
    places = range(len(names))
    axes.barh(places, values, color=list(colours), height=0.65)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    for place, value in zip(places, values, strict=True):
        number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        axes.annotate(f" {number}", (value, place), va="center", fontsize=9)
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)


def _save(path: Path) -> None:
    pyplot.tight_layout()
    pyplot.savefig(path, dpi=110)
    pyplot.close()


def overhead(result: dict[str, Any], path: Path) -> None:
    """CPU milliseconds for a camera-second by stage: the bare work beside the pipeline."""
    stages = list(result["pipeline_ms"])
    _, axes = pyplot.subplots(figsize=(WIDTH, 3.6))
    for shift, kind, colour in ((-0.2, "floor_ms", OTHERS), (0.2, "pipeline_ms", OURS)):
        values = [result[kind].get(stage, 0.0) for stage in stages]
        places = [place + shift for place in range(len(stages))]
        label = "bare work" if kind == "floor_ms" else "pipeline"
        axes.barh(places, values, height=0.38, color=colour, label=label)
        for place, value in zip(places, values, strict=True):
            axes.annotate(f" {value:.1f}", (value, place), va="center", fontsize=8)
    axes.set_yticks(range(len(stages)), stages)
    axes.invert_yaxis()
    axes.set_xlabel("CPU ms for a camera-second")
    axes.set_title(f"{result['cameras']} cameras: {result['overhead']:.2f} of the bare work")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    _save(path)


def profile(result: "ProfileResult", path: Path) -> None:
    """CPU milliseconds for a camera-second by stage and by kind of code."""
    found = result.ms
    kinds = sorted({kind for of in found.values() for kind in of})
    kinds.sort(key=lambda kind: -sum(of.get(kind, 0.0) for of in found.values()))
    _, axes = pyplot.subplots(figsize=(WIDTH, 3.6))
    places, left = range(len(found)), [0.0] * len(found)
    for kind, colour in zip(kinds, pyplot.get_cmap("tab10").colors, strict=False):  # type: ignore[attr-defined]
        values = [of.get(kind, 0.0) for of in found.values()]
        axes.barh(places, values, left=left, height=0.65, color=colour, label=kind)
        left = [before + value for before, value in zip(left, values, strict=True)]
    axes.set_yticks(places, list(found))
    axes.invert_yaxis()
    axes.set_xlabel(f"CPU ms for a camera-second, {result.cameras} cameras")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", ncols=2)
    _save(path)


def latency(results: list[dict[str, Any]], path: Path) -> None:
    """Median and 99th percentile from grab to subscriber, by the number of cameras."""
    _, axes = pyplot.subplots(figsize=(WIDTH, 0.8 + 0.7 * len(results)))
    for place, result in enumerate(results):
        total = result["ms"][TOTAL]
        axes.barh(place, total["p99"], color=FAINT, height=0.65)
        axes.barh(place, total["p50"], color=OURS, height=0.65)
        words = f" {total['p50']:.0f}, p99 {total['p99']:.0f}"
        axes.annotate(words, (total["p99"], place), va="center", fontsize=9)
    names = [f"{r['cameras']} camera{'s' if r['cameras'] > 1 else ''}" for r in results]
    axes.set_yticks(range(len(results)), names)
    axes.invert_yaxis()
    axes.set_xlabel("ms from grab to received")
    axes.margins(x=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    _save(path)


def density(result: dict[str, Any], path: Path) -> None:
    """Latency and CPU against the number of cameras."""
    trials = sorted(result["trials"], key=lambda trial: trial["cameras"])
    counts = [trial["cameras"] for trial in trials]
    _, (late, cores) = pyplot.subplots(2, 1, figsize=(WIDTH, 5), sharex=True)
    late.plot(counts, [t["ms"][TOTAL]["p99"] for t in trials], "o-", color=OURS)
    late.axhline(LIMIT_MS, color=OTHERS, lw=1)
    late.set_ylabel("p99, ms")
    late.set_title(f"{result['held']} cameras held for {result['seconds']:g} s")
    cores.plot(counts, [t["cores"] for t in trials], "o-", color=OURS, label="pipeline")
    cores.plot(counts, [t["server_cores"] for t in trials], "o-", color=OTHERS, label="cameras")
    cores.set_ylabel("cores")
    cores.set_xlabel("cameras")
    cores.set_ylim(bottom=0)
    cores.legend(frameon=False)
    for axes in (late, cores):
        axes.spines[["top", "right"]].set_visible(False)
    _save(path)


def transport(rows: list[dict[str, Any]], path: Path) -> None:
    """Frames per second from one process to another, one chart for each frame size."""
    sizes = sorted({row["size"] for row in rows}, key=len)
    figure, each = pyplot.subplots(len(sizes), 1, figsize=(WIDTH, 2.4 * len(sizes)))
    for axes, size in zip(figure.axes if len(sizes) > 1 else [each], sizes, strict=True):
        of = [row for row in rows if row["size"] == size]
        colours = [OURS, *[OTHERS] * (len(of) - 1)]
        names = [row["transport"] for row in of]
        _bars(axes, names, [row["fps"] for row in of], colours, f"frames a second, {size}")
    _save(path)


def peers(found: dict[str, dict[str, Any]], path: Path) -> None:
    """The number of cameras that each loop carries."""
    _, axes = pyplot.subplots(figsize=(WIDTH, 0.8 + 0.45 * len(found)))
    colours = [OURS, *[OTHERS] * (len(found) - 1)]
    _bars(axes, list(found), [of["cameras"] for of in found.values()], colours, "cameras")
    _save(path)


def soak(result: "SoakResult", path: Path) -> None:
    """Unique memory and open files of each process over the minutes."""
    samples = result.samples
    figure, (memory, files) = pyplot.subplots(2, 1, figsize=(10, 7), sharex=True)
    for name in sorted({name for _, taken in samples for name in taken}):
        minutes = [at / 60 for at, taken in samples if name in taken]
        memory.plot(minutes, [t[name]["uss_mb"] for _, t in samples if name in t], label=name, lw=1)
        files.plot(minutes, [t[name]["files"] for _, t in samples if name in t], label=name, lw=1)
    memory.set_ylabel("unique memory, MB")
    files.set_ylabel("open files")
    files.set_xlabel("minutes")
    memory.legend(ncols=4, fontsize="small")
    memory.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close()
