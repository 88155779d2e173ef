"""Other start thresholds on the same scores: how recall and false alarms change with them."""

from collections.abc import Sequence

import msgspec
import numpy as np

from pipeline.evaluate.runs import Run, StreamRun
from pipeline.evaluate.streams import quiet_report, stream_report
from pipeline.model.pack import Contract

STARTS = tuple(round(float(start), 2) for start in np.arange(0.30, 0.96, 0.05))
"""The start thresholds to try."""


class Point(msgspec.Struct, frozen=True):
    """The figures with one start threshold for all labels; ``start`` None: the pack's own."""

    start: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    false_alarms_per_hour: float | None
    negatives_false_alarms_per_hour: float | None


def sweep(stream: StreamRun, quiet: Sequence[Run], contract: Contract) -> list[Point]:
    """The pack's own thresholds first, then :data:`STARTS`; ``quiet``: the runs of --negatives."""
    return [_point(stream, quiet, contract, start) for start in (None, *STARTS)]


def with_start(contract: Contract, start: float) -> Contract:
    """``contract`` with one start threshold; end thresholds are lowered where they exceed it."""
    thresholds = {}
    for label in contract.labels:
        own = contract.threshold(label)
        change = {"start": start, "end": min(own.end, start)}
        thresholds[label] = own.model_copy(update=change)
    return contract.model_copy(update={"thresholds": thresholds})


def _point(
    stream: StreamRun, quiet: Sequence[Run], contract: Contract, start: float | None
) -> Point:
    changed = contract if start is None else with_start(contract, start)
    found = stream_report(stream, changed)
    return Point(
        start=start,
        precision=found.overall.precision,
        recall=found.overall.recall,
        f1=found.overall.f1,
        false_alarms_per_hour=found.false_alarms.per_hour,
        negatives_false_alarms_per_hour=(
            quiet_report(quiet, changed).false_alarms.per_hour if quiet else None
        ),
    )
