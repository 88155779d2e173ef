"""Event rules: when the scores of a label start, continue and end an action. Pure.

A label starts when its score has been at or above its start threshold for its minimum duration. It
ends when its score has been below its end threshold for as long (hysteresis: Canny's two
thresholds, in time). After its end a label rests for its cool-down. Background labels never make
events. Each camera has its own :class:`EventRules`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

from pipeline.clock import NS_PER_S
from pipeline.model.pack import Threshold
from pipeline.transport.messages import Box, Change


@dataclass(frozen=True, slots=True)
class StepTime:
    """When a step's frame was grabbed, and its media time; nanoseconds."""

    captured_ns: int
    pts_ns: int | None
    media_ns: int
    """The time that durations are measured in: ``pts_ns`` for files, so they are repeatable."""
    box: Box | None = None
    """Where the subject is; None where that is the whole picture."""


@dataclass(slots=True)
class _Label:
    name: str
    threshold: Threshold
    above: StepTime | None = None
    """First step of the present run at or above the start threshold."""
    held: StepTime | None = None
    """Last step at or above the end threshold while active."""
    started: StepTime | None = None
    updated_ns: int = 0
    ended_ns: int | None = None
    number: int = 0
    top: float = 0.0
    topped: StepTime | None = None
    """The step of the highest score."""


class EventRules:
    """Turns the scores of one subject's steps into changes of events.

    ``numbers`` gives each event its number; subjects of one pack at a camera share it.
    """

    def __init__(
        self,
        labels: Sequence[str],
        background: Sequence[str],
        thresholds: Mapping[str, Threshold],
        update_every_s: float,
        step_hz: float,
        numbers: Iterator[int] | None = None,
    ) -> None:
        self._labels = [
            None if name in background else _Label(name, thresholds[name]) for name in labels
        ]
        self._update_every_ns = int(update_every_s * NS_PER_S)
        # A step's score holds until the next step: one step lasts a period, not zero.
        self._period_ns = int(NS_PER_S / step_hz)
        self._numbers = count(1) if numbers is None else numbers

    def push(self, at: StepTime, scores: Sequence[float]) -> list[Change]:
        """Changes at a step whose scores are given in the order of the labels."""
        changes = []
        for label, score in zip(self._labels, scores, strict=True):
            if label is None:
                continue
            change = (
                self._waiting(label, at, float(score))
                if label.started is None
                else self._active(label, at, float(score))
            )
            if change is not None:
                changes.append(change)
        return changes

    def interrupt(self, reason: str) -> list[Change]:
        """End all active labels: the camera has a gap, has ended, or stops."""
        changes = []
        for label in self._labels:
            if label is None:
                continue
            label.above = None
            if label.started is not None and label.held is not None:
                changes.append(self._end(label, label.held, 0.0, reason))
        return changes

    @property
    def active(self) -> bool:
        return any(label is not None and label.started is not None for label in self._labels)

    def _waiting(self, label: _Label, at: StepTime, score: float) -> Change | None:
        threshold = label.threshold
        resting = (
            label.ended_ns is not None
            and at.media_ns - label.ended_ns < threshold.cooldown_s * NS_PER_S
        )
        if score < threshold.start or resting:
            label.above = None
            return None
        if label.above is None:
            label.above, label.top, label.topped = at, 0.0, None
        _note_top(label, at, score)
        lasted_ns = at.media_ns - label.above.media_ns + self._period_ns
        if lasted_ns < threshold.min_duration_s * NS_PER_S:
            return None
        label.number, label.started, label.held = next(self._numbers), label.above, at
        label.updated_ns = at.media_ns
        return _change("start", label, score)

    def _active(self, label: _Label, at: StepTime, score: float) -> Change | None:
        _note_top(label, at, score)
        held = label.held or at
        if score >= label.threshold.end:
            label.held = at
            if at.media_ns - label.updated_ns < self._update_every_ns:
                return None
            label.updated_ns = at.media_ns
            return _change("update", label, score)
        if at.media_ns - held.media_ns < label.threshold.min_duration_s * NS_PER_S:
            return None
        return self._end(label, held, score, None)

    def _end(self, label: _Label, held: StepTime, score: float, reason: str | None) -> Change:
        change = _change("end", label, score, held, reason)
        label.ended_ns = held.media_ns
        label.started = label.above = label.held = None
        return change


def _note_top(label: _Label, at: StepTime, score: float) -> None:
    if score > label.top:
        label.top, label.topped = score, at


def _change(
    kind: Literal["start", "update", "end"],
    label: _Label,
    score: float,
    end: StepTime | None = None,
    reason: str | None = None,
) -> Change:
    start, newest, topped = label.started, label.held, label.topped
    assert start is not None
    return Change(
        type=kind,
        label=label.name,
        number=label.number,
        score=score,
        top_score=label.top,
        start_ns=start.captured_ns,
        start_pts_ns=start.pts_ns,
        end_ns=end.captured_ns if end else None,
        end_pts_ns=end.pts_ns if end else None,
        reason=reason,
        box=None if newest is None else newest.box,
        top_box=None if topped is None else topped.box,
        top_ns=None if topped is None else topped.captured_ns,
        top_pts_ns=None if topped is None else topped.pts_ns,
    )
