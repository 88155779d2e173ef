"""From scores to what a pack says: events with their times, by the rules of a live run. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from pipeline.arrays import Vector
from pipeline.backtest.scoring import SubjectScores, subjects_at
from pipeline.clock import NS_PER_S
from pipeline.decision.places import NOWHERE, Around
from pipeline.decision.rule_filter import RuleFilter
from pipeline.decision.rules import EventRules, StepTime
from pipeline.memory.store import Stretch
from pipeline.model.pack import Threshold
from pipeline.model.watch import WHOLE_PICTURE, Watch
from pipeline.steps.join import DecidedStep
from pipeline.transport.messages import Change

LOST_NS = 3 * NS_PER_S
"""After so long without a step, what went on has ended: the program was not there."""


@dataclass(frozen=True, slots=True)
class Said:
    """An event. Times are nanoseconds of the time of day; ``end_ns`` is its last step."""

    camera: str
    label: str
    start_ns: int
    end_ns: int
    top_score: float
    subject: str = WHOLE_PICTURE


@dataclass(slots=True)
class _Subject:
    rules: EventRules
    segment: int
    quiet: bool = False
    """Whether its rules know that no score is high."""


@dataclass
class Judge:
    """One pack at one camera, with one choice of thresholds."""

    camera: str
    watch: Watch
    thresholds: Mapping[str, Threshold]
    filter: RuleFilter | None = None
    said: list[Said] = field(default_factory=list)
    """The events so far, in the order of their ends."""

    def __post_init__(self) -> None:
        contract = self.watch.pack.contract
        self._numbers = count(1)
        self._subjects: dict[str, _Subject] = {}
        self._actions = [contract.labels.index(label) for label in contract.actions]
        self._least = min(self.thresholds[label].start for label in contract.actions)
        self._at: StepTime | None = None
        self._seen_ns = 0

    def stretch(self, stretch: Stretch, scores: Mapping[int, Mapping[str, Vector]]) -> None:
        """Take in a stretch with the scores of its steps: by row, then by subject."""
        for row, step in enumerate(stretch.steps):
            time_ns = step.moment.time_ns(stretch.media) + stretch.offset_ns
            if time_ns - self._seen_ns > LOST_NS:
                for name in self._subjects:
                    self._interrupt(name, "gap")
            self._seen_ns = time_ns
            if self.watch.takes(step.moment.step_id):
                self._step(step, time_ns, scores.get(row, {}))

    def end(self) -> list[Said]:
        """No more comes: all that was said, in the order of the starts."""
        for name in list(self._subjects):
            self._interrupt(name, "end of stream")
        return sorted(self.said, key=lambda one: (one.start_ns, one.label))

    def _step(self, step: DecidedStep, time_ns: int, scores: Mapping[str, Vector]) -> None:
        there = subjects_at(step, self.watch.view)
        for name in [n for n in self._subjects if there is not None and n not in there]:
            self._interrupt(name, "left")
            del self._subjects[name]
        for name, subject in self._subjects.items():
            if there is not None and subject.segment != step.moment.segment:
                self._interrupt(name, "gap")
                subject.segment = step.moment.segment
        for name, values in scores.items():
            if name not in self._subjects:
                self._subjects[name] = _Subject(self._new_rules(), step.moment.segment)
            subject = self._subjects[name]
            low = float(values[self._actions].max()) < self._least
            if low and subject.quiet:
                continue
            around = self._around(step, name)
            self._at = StepTime(time_ns, None, time_ns, around.subject)
            self._take(name, subject.rules.push(self._at, values.tolist()), around)
            subject.quiet = low and not subject.rules.active

    def _around(self, step: DecidedStep, name: str) -> Around:
        people = None if step.people is None else tuple(one.box for one in step.people)
        if name == WHOLE_PICTURE:
            return NOWHERE if people is None else Around(None, people)
        box = next((one.box for one in step.people or () if one.name == name), None)
        region = (step.regions(self.watch.view) or {}).get(name)
        return Around(box or region, people, box is not None)

    def _interrupt(self, name: str, reason: str) -> None:
        subject = self._subjects[name]
        self._take(name, subject.rules.interrupt(reason), NOWHERE)
        subject.quiet = False

    def _take(self, name: str, changes: Sequence[Change], around: Around) -> None:
        if self.filter is not None and changes and self._at is not None:
            changes = self.filter.passed(changes, self._at, around)
        for change in changes:
            if change.type == "end":
                self.said.append(_said(self.camera, name, change))

    def _new_rules(self) -> EventRules:
        contract = self.watch.pack.contract
        return EventRules(
            contract.labels,
            contract.background,
            self.thresholds,
            float(1 << 30),  # updates are of no interest
            contract.step_hz,
            self._numbers,
        )


def _said(camera: str, subject: str, change: Change) -> Said:
    end_ns = change.start_ns if change.end_ns is None else change.end_ns
    return Said(camera, change.label, change.start_ns, end_ns, change.top_score, subject)


def by_row(found: Iterable[SubjectScores]) -> dict[int, dict[str, Vector]]:
    """Scores by row and subject."""
    rows: dict[int, dict[str, Vector]] = {}
    for one in found:
        for row, values in zip(one.rows, one.values, strict=True):
            rows.setdefault(row, {})[one.subject] = values
    return rows
