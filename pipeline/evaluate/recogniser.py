"""The whole pipeline in one process, step by step, without waiting for real time.

It uses the same classes as the stages, one step at a time. Its scores and events equal those of
``run_stream.py --lossless`` on the same file.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from pipeline import flow
from pipeline.arrays import Frame, QuantisedFlow, Vector
from pipeline.clock import SYSTEM_CLOCK
from pipeline.config import CameraConfig, EventConfig
from pipeline.config.schema import PeopleConfig
from pipeline.decision.decisions import CameraDecisions, Decided, decide_batch, thresholds
from pipeline.decision.rules import EventRules, StepTime
from pipeline.model.pack import Contract, ModelPack
from pipeline.model.session import Network
from pipeline.model.watch import WHOLE_PICTURE, Watch
from pipeline.people.detector import PersonDetector
from pipeline.people.looking import CameraPeople, Detector
from pipeline.people.regions import VIEWS
from pipeline.people.tracks import TrackRules
from pipeline.sources import SourceOptions, create
from pipeline.steps.flow_fields import FlowStack
from pipeline.steps.follow import (
    CameraFollower,
    SubjectFollower,
    TimedFrame,
    appearance_features,
    motion_features,
)
from pipeline.steps.join import DecidedStep, decided_step
from pipeline.steps.polygons import Polygon
from pipeline.steps.sampling import Steps
from pipeline.transport.messages import Change, Moment

_CAMERA = "offline"


@dataclass(frozen=True, slots=True)
class StepResult:
    """The scores of one subject at a step; arrays as in :class:`pipeline.steps.window.Scored`."""

    segment: int
    step_id: int
    pts_ns: int
    scores: Vector
    spatial: Vector | None
    temporal: Vector | None
    alpha: float | None
    subject: str = WHOLE_PICTURE
    begins: bool = False
    """Whether it is the first of a subject that comes, or comes back."""


@dataclass(frozen=True, slots=True)
class StepChange:
    """A decision of the event rules, and the media time of the step at which they made it."""

    change: Change
    decided_ns: int
    subject: str = WHOLE_PICTURE


def file_frames(path: Path) -> Iterator[TimedFrame]:
    """The frames of a video file or folder of images, as capture grabs them.

    Frames are decoded only when their ``retrieve`` is called. Raises
    :class:`pipeline.errors.SourceError` when nothing can be read.
    """
    options = SourceOptions(realtime=False)
    # Absolute, so that a file named "0" isn't taken for a webcam.
    source = create(str(path.resolve()), camera=path.name, clock=SYSTEM_CLOCK, options=options)
    with closing(source):
        source.open()
        while (grab := source.grab()) is not None:
            pts_ns = grab.captured_ns if grab.pts_ns is None else grab.pts_ns
            yield TimedFrame(pts_ns, source.retrieve, grab.discontinuity)


Stepped = Callable[[int], None]
"""Called with the media time of each step, whether or not it has scores."""


class _Subject:
    """What is kept of one subject: the stack of its flow, and its window with the rules."""

    def __init__(self, watch: Watch) -> None:
        contract = watch.pack.contract
        self.stack = FlowStack(contract.temporal.stack)
        self.decisions = CameraDecisions(
            _CAMERA, watch, thresholds(contract), EventConfig().update_every_s, True
        )
        self.scored = False


class OfflineRecogniser:
    """Runs a pack over frames. It opens the networks once; all other state is new for each run."""

    def __init__(self, pack: ModelPack, threads: int = 1, detector: Detector | None = None) -> None:
        """Open the pack's networks; raises :class:`pipeline.errors.PackError`.

        ``detector`` finds people for a pack that looks at them; by default the shipped one.
        """
        self.contract = pack.contract
        self._watch = Watch(pack)
        self._spatial = Network(pack, "spatial", threads)
        self._temporal = Network(pack, "temporal", threads)
        self._fusion = Network(pack, "fusion", threads)
        self._method = flow.create(pack.contract.temporal.method)
        self._detector = detector
        if detector is None and VIEWS[pack.contract.view].needs_people:
            self._detector = PersonDetector(score=TrackRules().faint, threads=threads)

    def steps(
        self,
        frames: Iterable[TimedFrame],
        ignore: Sequence[Polygon] = (),
        stepped: Stepped = lambda _pts_ns: None,
    ) -> Iterator[StepResult]:
        """Scores of each subject at every step of a camera's frames; steps with non-finite scores
        are left out. The whole picture is a subject, too.

        ``ignore`` are parts of the picture that the camera ignores.
        """
        subjects: dict[str, _Subject] = {}
        for moment, span, inputs in self._inputs(frames, ignore):
            assert moment.pts_ns is not None
            stepped(moment.pts_ns)
            # Whoever comes back begins an empty window.
            subjects = {name: subjects.get(name) or _Subject(self._watch) for name, _, _ in inputs}
            for name, picture, field in inputs:
                subject = subjects[name]
                step = self._decided_step(subject.stack, moment, picture, field, span)
                # A batch of one, without a clock for latencies. The guard skips steps whose scores
                # aren't finite.
                batch = [(subject.decisions, step)]
                for decided in decide_batch(
                    self._fusion.run, batch, 0, lambda: 0, lambda _camera: suppress(ValueError)
                ):
                    if decided.scored is not None:
                        yield _result(decided, name, not subject.scored)
                        subject.scored = True

    def _inputs(
        self, frames: Iterable[TimedFrame], ignore: Sequence[Polygon]
    ) -> Iterator[tuple[Moment, int, list[tuple[str, Frame, QuantisedFlow | None]]]]:
        """For each step the steps that its fields stand for, and for each subject its name, its
        picture and its field."""
        contract = self.contract
        steps = Steps(_CAMERA, contract.step_hz, CameraConfig().gap_s)
        if contract.view == WHOLE_PICTURE:
            follower = CameraFollower(steps, contract, self._method, ignore)
            for step in follower.follow(frames):
                yield step.moment, step.span, [(WHOLE_PICTURE, step.picture, step.field)]
            return
        settings = PeopleConfig()
        people = None if self._detector is None else CameraPeople(self._detector, settings.hz)
        finder = SubjectFollower(
            steps, contract, contract.view, self._method, people, settings.subjects, ignore
        )
        for one in finder.follow(frames):
            yield one.moment, one.span, [(n, x.picture, x.field) for n, x in one.subjects.items()]

    def _decided_step(
        self, stack: FlowStack, moment: Moment, picture: Frame, field: QuantisedFlow | None,
        span: int,
    ) -> DecidedStep:  # fmt: skip
        spatial = appearance_features(self._spatial.run, [picture])[0]
        temporal = None
        if stack.push(moment.segment, moment.step_id, field, span):
            temporal = motion_features(self._temporal.run, [stack], self.contract.temporal)[0]
        return decided_step(moment, self._watch, _usable(spatial), _usable(temporal))


def _usable(vector: Vector | None) -> bytes | None:
    """A feature as fusion gets it; None if it isn't finite, because its stage then refuses it."""
    return vector.tobytes() if vector is not None and np.isfinite(vector).all() else None


def _result(decided: Decided, subject: str, begins: bool) -> StepResult:
    moment, scored = decided.step.moment, decided.scored
    assert scored is not None
    assert moment.pts_ns is not None
    return StepResult(
        segment=moment.segment,
        step_id=moment.step_id,
        pts_ns=moment.pts_ns,
        scores=scored.scores,
        spatial=scored.spatial,
        temporal=scored.temporal,
        alpha=scored.alpha,
        subject=subject,
        begins=begins,
    )


def changes(contract: Contract, results: Iterable[StepResult]) -> Iterator[StepChange]:
    """Run the event rules, with the pack's thresholds, over the steps of one camera.

    Each subject has rules of its own. The end of a subject, a new segment and the end of the steps
    end the active events, as in a live run.
    """
    known: dict[str, EventRules] = {}
    numbers = count(1)
    last: dict[str, StepResult] = {}
    for result in results:
        name = result.subject
        rules, before = known.get(name), last.get(name)
        if rules is not None and before is not None and result.begins:
            for change in rules.interrupt("left"):
                yield StepChange(change, before.pts_ns, name)
            rules = before = None
        if rules is None:
            rules = known[name] = _rules(contract, numbers)
        if before is not None and result.segment != before.segment:
            for change in rules.interrupt("gap"):
                yield StepChange(change, before.pts_ns, name)
        at = StepTime(result.pts_ns, result.pts_ns, result.pts_ns)
        for change in rules.push(at, result.scores.tolist()):
            yield StepChange(change, result.pts_ns, name)
        last[name] = result
    for name, rules in known.items():
        for change in rules.interrupt("end of stream"):
            yield StepChange(change, last[name].pts_ns, name)


def _rules(contract: Contract, numbers: Iterator[int]) -> EventRules:
    return EventRules(
        contract.labels,
        contract.background,
        thresholds(contract),
        EventConfig().update_every_s,
        contract.step_hz,
        numbers,
    )
