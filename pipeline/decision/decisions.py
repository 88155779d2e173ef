"""Decisions: from joined steps to transitions. Pure.

A step moves the window on, the window is scored, the rules turn scores into changes, and a change
with all that explains it is a :class:`pipeline.transport.messages.Transition`. The fusion stage,
the recheck of a recording, the offline recogniser and export all decide by :func:`decide_batch`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import count
from typing import NamedTuple

import msgspec
import numpy as np

from pipeline.arrays import Vector
from pipeline.config.paths import plain_key
from pipeline.decision.places import NOWHERE, Around, Zones
from pipeline.decision.rule_filter import RuleFilter, RuleFilters
from pipeline.decision.rules import EventRules, StepTime
from pipeline.errors import ConfigError
from pipeline.model.pack import Contract, ModelPack, Threshold
from pipeline.model.watch import WHOLE_PICTURE, Watch, feature_key
from pipeline.steps.join import DecidedStep
from pipeline.steps.window import FeatureWindow, Run, Scored, score_windows
from pipeline.transport.messages import (
    Change,
    Feature,
    Moment,
    PackId,
    Stamp,
    StepScores,
    StreamScores,
    Transition,
)


def thresholds(
    contract: Contract, configured: Mapping[str, Threshold] | None = None
) -> dict[str, Threshold]:
    """The thresholds of every label: the configured one where there is one, else the pack's."""
    configured = configured or {}
    return {label: configured.get(label) or contract.threshold(label) for label in contract.labels}


def check_thresholds(contracts: Collection[Contract], configured: Mapping[str, Threshold]) -> None:
    """Raise :class:`ConfigError` with a line for each label that no pack has."""
    labels = dict.fromkeys(label for contract in contracts for label in contract.labels)
    who = "the pack has" if len(contracts) == 1 else "the packs have"
    if strange := set(configured) - set(labels):
        raise ConfigError(
            "\n".join(
                f"events.thresholds.{plain_key(label)}: no such label; {who} {', '.join(labels)}"
                for label in sorted(strange)
            )
        )


def pack_id(pack: ModelPack) -> PackId:
    """What a transition says of the pack that decided it."""
    contract = pack.contract
    return PackId(name=contract.name, version=contract.version, sha256=pack.sha256)


class CameraDecisions:
    """The window, the rules and the newest step of one pack for one subject of a camera.

    ``media_timed``: durations are measured in media time, so that a file's are repeatable.
    ``held_back_by`` holds back what the config's rules don't let pass. ``numbers`` are those of
    the events, which subjects share.
    """

    def __init__(
        self,
        name: str,
        watch: Watch,
        thresholds: Mapping[str, Threshold],
        update_every_s: float,
        media_timed: bool,
        held_back_by: RuleFilter | None = None,
        subject: str = WHOLE_PICTURE,
        numbers: Iterator[int] | None = None,
        zones: Zones | None = None,
    ) -> None:
        contract = watch.pack.contract
        self.name = name
        self.watch = watch
        self.subject = subject
        self.around = NOWHERE
        """Where the subject and people are in the newest step."""
        self._networks = {
            "spatial": feature_key(watch.spatial, subject),
            "temporal": feature_key(watch.temporal, subject),
        }
        self._zones = zones or Zones({})
        self._pack = pack_id(watch.pack)
        self.window = FeatureWindow(contract.window, contract.feature_sizes)
        self._labels = contract.labels
        self._rules = EventRules(
            contract.labels,
            contract.background,
            thresholds,
            update_every_s,
            contract.step_hz,
            numbers,
        )
        self._media_timed = media_timed
        self._filter = held_back_by
        self._last: DecidedStep | None = None
        self._scored: Scored | None = None

    @property
    def active(self) -> bool:
        """Whether an event goes on."""
        return self._rules.active

    def enter(self, step: DecidedStep) -> list[Transition]:
        """Move on to a step. A new segment ends the events that go on."""
        ended = []
        if self._last is not None and step.moment.segment != self.window.segment:
            ended = self.interrupt("gap")
        self._last = step
        return ended

    def push(self) -> None:
        """Put the newest step's features into the window.

        Raises ValueError on a feature that isn't d finite numbers.
        """
        step = self._last
        assert step is not None
        spatial = vector_of(step.spatial, self._networks["spatial"])
        temporal = vector_of(step.temporal, self._networks["temporal"])
        number = step.moment.step_id // self.watch.every
        self.window.push(step.moment.segment, number, spatial, temporal)

    def judge(self, scored: Scored, took_ns: int, now_ns: int) -> list[Transition]:
        """What the scores of the newest step change."""
        assert self._last is not None
        self._scored = scored
        at = self._step_time(self._last.moment)
        changes = self._rules.push(at, scored.scores.tolist())
        return self._transitions(changes, took_ns, now_ns)

    def interrupt(self, reason: str, now_ns: int | None = None) -> list[Transition]:
        """End the events that go on."""
        if self._last is None:
            return []
        at_ns = self._last.moment.captured_ns if now_ns is None else now_ns
        return self._transitions(self._rules.interrupt(reason), at_ns, at_ns)

    def forget(self) -> None:
        """The next step starts with an empty window."""
        self.window.segment = -1

    def step_scores(self, took_ns: int, now_ns: int) -> StepScores:
        """All scores of the newest step."""
        step, scored = self._last, self._scored
        assert step is not None
        assert scored is not None
        return StepScores(
            camera=self.name,
            pack=self._pack.name,
            subject=self.subject,
            scores=self._named(scored.scores),
            window=self.window.info(),
            streams={
                "spatial": None if scored.spatial is None else self._named(scored.spatial),
                "temporal": None if scored.temporal is None else self._named(scored.temporal),
            },
            alpha=scored.alpha,
            captured_ns=step.moment.captured_ns,
            pts_ns=step.moment.pts_ns,
            trail=_trail(step, took_ns, now_ns),
        )

    def _named(self, scores: Vector) -> dict[str, float]:
        return dict(zip(self._labels, scores.tolist(), strict=True))

    def _transitions(
        self, changes: Sequence[Change], took_ns: int, now_ns: int
    ) -> list[Transition]:
        step, scored = self._last, self._scored
        if step is None or scored is None:
            return []
        if self._filter is not None and changes:
            at = self._step_time(step.moment)
            changes = self._filter.passed(changes, at, self.around)
        return [self._transition(change, step, scored, took_ns, now_ns) for change in changes]

    def _step_time(self, moment: Moment) -> StepTime:
        media_ns = moment.time_ns(self._media_timed)
        return StepTime(moment.scene_ns, moment.pts_ns, media_ns, self.around.subject)

    def _transition(
        self, change: Change, step: DecidedStep, scored: Scored, took_ns: int, now_ns: int
    ) -> Transition:
        index = self._labels.index(change.label)
        if zone := self._zones.of_subject(self.around):
            change = msgspec.structs.replace(change, zone=zone)
        return Transition(
            camera=self.name,
            pack=self._pack,
            subject=self.subject,
            change=change,
            window=self.window.info(),
            streams=StreamScores(
                spatial=_at(scored.spatial, index),
                temporal=_at(scored.temporal, index),
                alpha=scored.alpha,
            ),
            captured_ns=step.moment.captured_ns,
            trail=_trail(step, took_ns, now_ns),
        )


class PackDecisions:
    """The decisions of one pack at one camera, by subject.

    A pack of the whole picture has one subject, always. Others come and go with their regions.
    """

    def __init__(
        self,
        name: str,
        watch: Watch,
        thresholds: Mapping[str, Threshold],
        update_every_s: float,
        media_timed: bool,
        filters: RuleFilters,
    ) -> None:
        """The arguments are those of :class:`CameraDecisions`."""
        self.watch = watch
        self._make = partial(
            CameraDecisions,
            name,
            watch,
            thresholds,
            update_every_s,
            media_timed,
            filters.new(name),
            numbers=count(1),
            zones=filters.zones(name),
        )
        self._whole = watch.view == WHOLE_PICTURE
        self.subjects: dict[str, CameraDecisions] = {}
        if self._whole:
            self.subjects[WHOLE_PICTURE] = self._make()

    @property
    def active(self) -> bool:
        """Whether an event goes on."""
        return any(decisions.active for decisions in self.subjects.values())

    def interrupt(self, reason: str, now_ns: int | None = None) -> list[Transition]:
        """End the events that go on."""
        return [
            transition
            for decisions in self.subjects.values()
            for transition in decisions.interrupt(reason, now_ns)
        ]

    def forget(self) -> None:
        """The next step starts with empty windows."""
        for decisions in self.subjects.values():
            decisions.forget()

    def leave(self, step: DecidedStep) -> list[tuple[CameraDecisions, list[Transition]]]:
        """Take leave of the subjects that a step no longer has; what that ends."""
        regions = None if self._whole else step.regions(self.watch.view)
        if regions is None:
            return []
        gone = [name for name in self.subjects if name not in regions]
        left = []
        for decisions in (self.subjects.pop(name) for name in gone):
            reason = "left" if decisions.window.segment == step.moment.segment else "gap"
            if ended := decisions.interrupt(reason):
                left.append((decisions, ended))
        return left

    def present(self, step: DecidedStep) -> list[CameraDecisions]:
        """The decisions to be made of a step: those of each subject that is there."""
        people = None
        if step.people is not None:
            people = tuple(person.box for person in step.people)
        if self._whole:
            whole = self.subjects[WHOLE_PICTURE]
            whole.around = NOWHERE if people is None else Around(None, people)
            return [whole]
        regions = step.regions(self.watch.view) or {}
        persons = {person.name: person.box for person in step.people or ()}
        for name, region in regions.items():
            if name not in self.subjects:
                self.subjects[name] = self._make(subject=name)
            box = persons.get(name, region)
            self.subjects[name].around = Around(box, people, name in persons)
        return [self.subjects[name] for name in regions]


class Decided(NamedTuple):
    """What becomes of one camera's step."""

    camera: CameraDecisions
    step: DecidedStep
    transitions: list[Transition]
    scored: Scored | None
    """None where the transitions come of a gap before the step, not of its scores."""
    at_ns: int
    """When it was decided."""


Guard = Callable[[str], AbstractContextManager[object]]
"""Makes the block around one camera's part of a batch. An error that it suppresses takes that
camera out of the batch."""


def decide_batch(
    run: Run,
    batch: Iterable[tuple[CameraDecisions, DecidedStep]],
    took_ns: int,
    now_ns: Callable[[], int],
    guard: Guard = lambda _camera: nullcontext(),
    *,
    score_empty: bool = False,
) -> Iterator[Decided]:
    """Move each camera on to its step, score all their windows together, and judge the scores.

    ``run`` is the fusion network of the pack whose decisions these are. A step that has no feature
    at all is not scored, unless ``score_empty`` asks for it, as a comparison with training's pass
    over a whole clip does. Raises ValueError, inside the camera's guard, for features and for
    scores that aren't finite.
    """
    scoring: list[tuple[CameraDecisions, DecidedStep]] = []
    for camera, step in batch:
        if ended := camera.enter(step):
            yield Decided(camera, step, ended, None, took_ns)
        with guard(camera.name):
            camera.push()
            if score_empty or not camera.window.empty:
                scoring.append((camera, step))
    if not scoring:
        return
    scores = score_windows(run, [camera.window for camera, _ in scoring])
    for (camera, step), scored in zip(scoring, scores, strict=True):
        decided: Decided | None = None
        with guard(camera.name):
            if scored is None:
                raise ValueError("the fusion network's scores are not finite")
            at_ns = now_ns()
            decided = Decided(camera, step, camera.judge(scored, took_ns, at_ns), scored, at_ns)
        if decided is not None:
            yield decided


def decide_packs(
    networks: Mapping[str, Run],
    steps: Sequence[tuple[Iterable[PackDecisions], DecidedStep]],
    took_ns: int,
    now_ns: Callable[[], int],
    guard: Guard,
) -> Iterator[Decided]:
    """:func:`decide_batch` for each pack, by its hash in ``networks``, on the steps it takes.

    Each step comes with the decisions of all packs at its camera.
    """
    for sha256, run in networks.items():
        batch = []
        for packs, step in steps:
            for pack in packs:
                if pack.watch.pack.sha256 == sha256 and pack.watch.takes(step.moment.step_id):
                    for gone, ended in pack.leave(step):
                        yield Decided(gone, step, ended, None, took_ns)
                    batch += [(decisions, step) for decisions in pack.present(step)]
        yield from decide_batch(run, batch, took_ns, now_ns, guard)


def _trail(step: DecidedStep, took_ns: int, now_ns: int) -> tuple[Stamp, ...]:
    stamps = {
        stamp.stage: stamp
        for feature in (step.spatial, step.temporal)
        if feature is not None
        for stamp in feature.trail
    }
    return (*stamps.values(), Stamp("fusion", took_ns, now_ns))


def vector_of(feature: Feature | None, network: str) -> Vector | None:
    """The feature (d,) of a network, by its key; None where it is masked or missing."""
    vector = None if feature is None else feature.vectors.get(network)
    return None if vector is None else np.frombuffer(vector, np.float32)


def _at(scores: Vector | None, index: int) -> float | None:
    return None if scores is None else float(scores[index])
