"""Few clips: how well a taught head tells clips, when it was taught k clips of each label.

Groups of clips are split at random: one half teaches, k clips of each label, and the other is told.
Figures are means over labels of whole clips that are told right, by several such draws.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from teach.clips import gathered
from teach.examples import Example
from teach.fit import Head
from teach.lesson import Lesson
from teach.run import Order, prepared
from teach.trial import Looks, Trial
from testbed.program import scratch_folder

BASE = Path("models/base")


class FewShotResult(TypedDict):
    """Clips told right (mean over labels) with k taught of each: quartiles over the draws."""

    looks: str
    k: int
    draws: int
    median: float
    quarter: float
    three_quarters: float


def measure(
    clips: Annotated[Path, typer.Option(help="list or folder of clips, with groups")],
    base: Annotated[Path, typer.Option(help="folder of the base")] = BASE,
    looks: Annotated[str, typer.Option(help="networks to try, as of teach; empty: all")] = "",
    shots: Annotated[str, typer.Option(help="k: clips of each label")] = "3,5,10,20",
    draws: Annotated[int, typer.Option(min=1)] = 10,
    cache: Annotated[
        Path | None, typer.Option(help="folder for what the networks saw; default: for this run")
    ] = None,
) -> list[FewShotResult]:
    """Run all draws for each pair of networks and each k."""
    wanted = tuple(part for part in looks.split(",") if part)
    with scratch_folder() as scratch:
        order = Order(gathered(clips), scratch / "pack", base, cache or scratch / "cache", wanted)
        lesson, tried, _ = prepared(order)
        return [_result(lesson, one, int(k), draws) for one in tried for k in shots.split(",")]


def _result(lesson: Lesson, looks: Looks, k: int, draws: int) -> FewShotResult:
    shares = list(_shares(lesson, looks, k, draws))
    quarter, median, three = np.percentile(shares, (25, 50, 75)).round(4).tolist()
    return FewShotResult(
        looks=looks.name, k=k, draws=len(shares), median=median, quarter=quarter,
        three_quarters=three,
    )  # fmt: skip


def _shares(lesson: Lesson, looks: Looks, k: int, draws: int) -> Iterator[float]:
    rows, labels = lesson.rows, lesson.labels
    for draw in range(draws):
        taught, told = split(lesson.examples, k, np.random.default_rng(draw))
        head = _head(lesson, looks, taught)
        test = rows.only(np.isin(rows.clips, told))
        logits = head.logits([test.pooled[looks.appearance], test.pooled[looks.motion]])
        yield Trial(looks, logits, {}).top1(test, labels.rest)


def _head(lesson: Lesson, looks: Looks, taught: Sequence[int]) -> Head:
    """A head of a lesson of the taught clips alone, as strong as tells best those of them that are
    left out."""
    examples = [lesson.examples[place] for place in taught]
    streams = (looks.appearance, looks.motion)
    own = Lesson(lesson.base, examples, lesson.labels, streams, lesson.length)
    return own.head(own.trial(looks))


def split(
    examples: Sequence[Example], k: int, random: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Places of k clips of each label out of half of the groups, and of all clips of the others."""
    groups = sorted({one.group for one in examples})
    random.shuffle(groups)
    half = set(groups[: len(groups) // 2])
    taught: list[int] = []
    for label in sorted({one.label for one in examples}):
        own = [
            place for place, one in enumerate(examples) if one.label == label and one.group in half
        ]
        random.shuffle(own)
        taught += own[:k]
    told = [place for place, one in enumerate(examples) if one.group not in half]
    return taught, told


def show(results: Sequence[FewShotResult]) -> None:
    table = Table()
    for column in ("it looks at", "k", "told right", "quartiles", "draws"):
        table.add_column(column)
    for one in results:
        quartiles = f"{one['quarter']:.3f} to {one['three_quarters']:.3f}"
        table.add_row(
            one["looks"], str(one["k"]), f"{one['median']:.3f}", quartiles, str(one["draws"])
        )
    Console().print(table)
