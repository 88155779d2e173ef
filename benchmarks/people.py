"""The person detector on frames labelled by hand: recall, false boxes, and time on one core."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from export.people.labelled import Figures, figures_by_set, pictures, read_labels
from pipeline.arrays import Frame
from pipeline.errors import EvaluationError
from pipeline.people.decoding import People
from pipeline.people.detector import SHIPPED, PersonDetector

LABELS = Path(__file__).parents[1] / "tests" / "people" / "labels.json"

Folder = Annotated[Path, typer.Option(help="folder of the detector")]
Side = Annotated[
    list[int] | None, typer.Option(help="pixels of the longer side; repeat it to compare")
]
Score = Annotated[float | None, typer.Option(help="the least score; by default the contract's")]
Labels = Annotated[Path, typer.Option(help="the labelled frames")]


@dataclass(frozen=True)
class PeopleResult:
    """One detector at one size of input, with one least score."""

    precision: str
    side: int
    score: float
    ms: float
    """Median CPU milliseconds of a call, one thread: from the frame to the boxes."""
    sets: dict[str, Figures]

    def as_json(self) -> dict[str, Any]:
        return {
            "precision": self.precision, "side": self.side, "score": self.score,
            "ms": round(self.ms, 2),
            "sets": {
                name: {
                    "frames": one.frames, "people": one.people, "found": one.found,
                    "false": one.false, "recall": round(one.recall, 4),
                    "false_per_frame": round(one.false_per_frame, 4),
                }
                for name, one in self.sets.items()
            },
        }  # fmt: skip


def timed(detector: PersonDetector, times: list[float]) -> Callable[[Frame], People]:
    """The detector, with the CPU milliseconds of each call put into ``times``."""

    def detect(frame: Frame) -> People:
        began = time.thread_time_ns()
        found = detector(frame)
        times.append((time.thread_time_ns() - began) / 1e6)
        return found

    return detect


def measure(
    folder: Folder = SHIPPED, side: Side = None, score: Score = None, labels: Labels = LABELS
) -> Iterator[PeopleResult]:
    """Measure on the labelled frames of the clips in ``$TWO_STREAM_DATA``, and of vtest.avi."""
    data = os.environ.get("TWO_STREAM_DATA")
    if data is None:
        raise EvaluationError("TWO_STREAM_DATA is not set: it names the folder with the clips")
    frames = list(pictures(read_labels(labels), Path(data)))
    for one in side or [None]:
        detector = PersonDetector(folder, score, one, providers=["CPUExecutionProvider"])
        times: list[float] = []
        sets = figures_by_set(timed(detector, times), frames)
        contract = detector.contract
        yield PeopleResult(
            contract.precision, one or contract.side, score or contract.score, median(times), sets
        )


def show(result: PeopleResult) -> None:
    title = (
        f"{result.precision}, {result.side} pixels, least score {result.score}: "
        f"{result.ms:.1f} ms a call"
    )
    table = Table(title=title)
    for name in ("frames of", "frames", "people", "recall", "false boxes a frame"):
        table.add_column(name, justify="left" if name == "frames of" else "right")
    for name, one in result.sets.items():
        table.add_row(
            name, str(one.frames), str(one.people), f"{one.recall:.3f}",
            f"{one.false_per_frame:.2f}",
        )  # fmt: skip
    Console().print(table)
