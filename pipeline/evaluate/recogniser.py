"""The whole pipeline in one process, step by step, without waiting for real time.

It uses the same classes as the stages, one step at a time. Its scores and events equal those of
``run_stream.py --lossless`` on the same file.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import flow
from pipeline.arrays import Vector
from pipeline.clock import SYSTEM_CLOCK
from pipeline.config import CameraConfig, EventConfig
from pipeline.decision.decisions import CameraDecisions, Decided, decide_batch, thresholds
from pipeline.decision.rules import EventRules, StepTime
from pipeline.model.pack import Contract, ModelPack
from pipeline.model.session import Network
from pipeline.model.watch import Watch
from pipeline.sources import SourceOptions, create
from pipeline.steps.flow_fields import FlowStack
from pipeline.steps.follow import (
    CameraFollower,
    FollowedStep,
    TimedFrame,
    appearance_features,
    motion_features,
)
from pipeline.steps.join import DecidedStep, decided_step
from pipeline.steps.polygons import Polygon
from pipeline.steps.sampling import Steps
from pipeline.transport.messages import Change

_CAMERA = "offline"


@dataclass(frozen=True, slots=True)
class StepResult:
    """The scores of one step; arrays as in :class:`pipeline.steps.window.Scored`."""

    segment: int
    step_id: int
    pts_ns: int
    scores: Vector
    spatial: Vector | None
    temporal: Vector | None
    alpha: float | None


@dataclass(frozen=True, slots=True)
class StepChange:
    """A decision of the event rules, and the media time of the step at which they made it."""

    change: Change
    decided_ns: int


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


class OfflineRecogniser:
    """Runs a pack over frames. It opens the networks once; all other state is new for each run."""

    def __init__(self, pack: ModelPack, threads: int = 1) -> None:
        """Open the pack's networks; raises :class:`pipeline.errors.PackError`."""
        self.contract = pack.contract
        self._watch = Watch(pack)
        self._spatial = Network(pack, "spatial", threads)
        self._temporal = Network(pack, "temporal", threads)
        self._fusion = Network(pack, "fusion", threads)
        self._method = flow.create(pack.contract.temporal.method)

    def steps(
        self, frames: Iterable[TimedFrame], ignore: Sequence[Polygon] = ()
    ) -> Iterator[StepResult]:
        """Scores at every step of a camera's frames; steps with non-finite scores are left out.

        ``ignore`` are parts of the picture that the camera ignores.
        """
        contract = self.contract
        steps = Steps(_CAMERA, contract.step_hz, CameraConfig().gap_s)
        follower = CameraFollower(steps, contract, self._method, ignore)
        stack = FlowStack(contract.temporal.stack)
        decisions = CameraDecisions(
            _CAMERA, self._watch, thresholds(contract), EventConfig().update_every_s, True
        )
        for followed in follower.follow(frames):
            # A batch of one, without a clock for latencies. The guard skips steps whose scores
            # aren't finite.
            batch = [(decisions, self._decided_step(followed, stack))]
            for decided in decide_batch(
                self._fusion.run, batch, 0, lambda: 0, lambda _camera: suppress(ValueError)
            ):
                if decided.scored is not None:
                    yield _result(decided)

    def _decided_step(self, followed: FollowedStep, stack: FlowStack) -> DecidedStep:
        moment, contract = followed.moment, self.contract
        spatial = appearance_features(self._spatial.run, [followed.picture])[0]
        temporal = None
        if stack.push(moment.segment, moment.step_id, followed.field, followed.span):
            temporal = motion_features(self._temporal.run, [stack], contract.temporal)[0]
        return decided_step(moment, self._watch, _usable(spatial), _usable(temporal))


def _usable(vector: Vector | None) -> bytes | None:
    """A feature as fusion gets it; None if it isn't finite, because its stage then refuses it."""
    return vector.tobytes() if vector is not None and np.isfinite(vector).all() else None


def _result(decided: Decided) -> StepResult:
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
    )


def changes(contract: Contract, results: Iterable[StepResult]) -> Iterator[StepChange]:
    """Run the event rules, with the pack's thresholds, over the steps of one camera.

    A new segment and the end of the steps end the active events, as in a live run.
    """
    rules = EventRules(
        contract.labels,
        contract.background,
        thresholds(contract),
        EventConfig().update_every_s,
        contract.step_hz,
    )
    last: StepResult | None = None
    for result in results:
        if last is not None and result.segment != last.segment:
            yield from (StepChange(change, last.pts_ns) for change in rules.interrupt("gap"))
        at = StepTime(result.pts_ns, result.pts_ns, result.pts_ns)
        for change in rules.push(at, result.scores.tolist()):
            yield StepChange(change, result.pts_ns)
        last = result
    if last is not None:
        for change in rules.interrupt("end of stream"):
            yield StepChange(change, last.pts_ns)
