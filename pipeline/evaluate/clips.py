"""The clip protocol: one prediction per clip, and how often it is right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.clock import NS_PER_S
from pipeline.evaluate.clip_list import Entry
from pipeline.evaluation_protocol import clip_scores
from pipeline.model_pack import Contract
from pipeline.offline import OfflineRecogniser, StepResult, file_frames
from pipeline.sources import SourceError

STREAMS = ("fused", "spatial", "temporal")
NONE = -1
"""The prediction of a stream that had nothing to say in a clip; never right."""


@dataclass
class ClipOutcome:
    """True and predicted label of each clip as (N,) and (N, 3) indices: fused and each stream."""

    entries: list[Entry] = field(default_factory=list)
    truth: list[int] = field(default_factory=list)
    predicted: list[tuple[int, ...]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    """A line for each clip that was skipped: which, and why."""
    steps: int = 0
    media_s: float = 0.0


def run_clips(
    recogniser: OfflineRecogniser, entries: Sequence[Entry], advance: Callable[[], None]
) -> ClipOutcome:
    """Run each clip by itself; what can't be read is skipped and named."""
    contract = recogniser.contract
    outcome = ClipOutcome()
    for entry in entries:
        try:
            results = list(recogniser.steps(file_frames(entry.path)))
        except SourceError as error:
            outcome.unreadable.append(str(error))
            continue
        finally:
            advance()
        if not results:
            outcome.unreadable.append(f"{entry.path}: no step has scores")
            continue
        outcome.entries.append(entry)
        outcome.truth.append(contract.labels.index(entry.label))
        outcome.predicted.append(predictions(results, contract))
        outcome.steps += len(results)
        outcome.media_s += (results[-1].pts_ns - results[0].pts_ns) / NS_PER_S
        outcome.media_s += 1 / contract.step_hz
    return outcome


def predictions(results: Sequence[StepResult], contract: Contract) -> tuple[int, int, int]:
    """A clip's predicted label: fused, of the spatial stream alone, of the temporal alone."""
    nothing = np.array([label in contract.background for label in contract.labels])

    def best(steps: list[npt.NDArray[np.float32]]) -> int:
        return int(clip_scores(np.stack(steps), nothing).argmax()) if steps else NONE

    return (
        best([result.scores for result in results]),
        best([result.spatial for result in results if result.spatial is not None]),
        best([result.temporal for result in results if result.temporal is not None]),
    )


def confusion(truth: Sequence[int], predicted: Sequence[int], labels: int) -> npt.NDArray[np.int64]:
    """(C, C) counts, row = true label, column = predicted; ``NONE`` is in no column."""
    matrix = np.zeros((labels, labels), np.int64)
    for row, column in zip(truth, predicted, strict=True):
        if column != NONE:
            matrix[row, column] += 1
    return matrix


def report(outcome: ClipOutcome, contract: Contract) -> dict[str, Any]:
    """The figures of the clip protocol as plain data; None where there is nothing to divide by."""
    labels = contract.labels
    truth = np.array(outcome.truth, np.int64)
    predicted = np.array(outcome.predicted, np.int64).reshape(-1, len(STREAMS))
    matrix = confusion(truth.tolist(), predicted[:, 0].tolist(), len(labels))
    right = predicted == truth[:, None]
    per_label = {
        label: {
            "clips": int((truth == i).sum()),
            "recall": ratio(int(matrix[i, i]), int((truth == i).sum())),
            "precision": ratio(int(matrix[i, i]), int(matrix[:, i].sum())),
        }
        for i, label in enumerate(labels)
    }
    recalls = [row["recall"] for row in per_label.values() if row["recall"] is not None]
    return {
        "clips": len(truth),
        "steps": outcome.steps,
        "media_s": round(outcome.media_s, 1),
        "top1": {name: ratio(int(right[:, i].sum()), len(truth)) for i, name in enumerate(STREAMS)},
        "mean_recall": round(sum(recalls) / len(recalls), 4) if recalls else None,
        "labels": per_label,
        "labels_without_clips": [name for name, row in per_label.items() if not row["clips"]],
        "confusion": matrix.tolist(),
        "mistakes": [
            {"path": str(entry.path), "label": entry.label, "predicted": labels[row[0]]}
            for entry, row, ok in zip(outcome.entries, predicted, right[:, 0], strict=True)
            if not ok
        ],
        "unreadable": outcome.unreadable,
    }


def ratio(part: int, whole: int) -> float | None:
    """``part / whole`` to four places; None for nothing of nothing."""
    return round(part / whole, 4) if whole else None
