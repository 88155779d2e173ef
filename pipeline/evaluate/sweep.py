"""Other thresholds on the same scores: what one gains and pays by asking for more or less."""

from collections.abc import Sequence

import msgspec
import numpy as np

from pipeline.evaluate.runs import Run, StreamRun
from pipeline.evaluate.streams import quiet_report, stream_report
from pipeline.model.pack import Contract

STARTS = tuple(round(float(start), 2) for start in np.arange(0.30, 0.96, 0.05))
"""Start thresholds that are tried."""


class Point(msgspec.Struct, frozen=True):
    """The stream with one start threshold for all labels; None: the pack's own."""

    start: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    false_alarms_per_hour: float | None
    negatives_false_alarms_per_hour: float | None


def sweep(stream: StreamRun, quiet: Sequence[Run], contract: Contract) -> list[Point]:
    """The pack's own thresholds first, then :data:`STARTS`; ``quiet`` is what --negatives gave."""
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
    asked = contract if start is None else with_start(contract, start)
    found = stream_report(stream, asked)
    return Point(
        start=start,
        precision=found.overall.precision,
        recall=found.overall.recall,
        f1=found.overall.f1,
        false_alarms_per_hour=found.false_alarms.per_hour,
        negatives_false_alarms_per_hour=(
            quiet_report(quiet, asked).false_alarms.per_hour if quiet else None
        ),
    )
