"""The whole pipeline in one process, step by step: what a file would give, without the wait.

Built of the classes that the stages are built of, and fed one step at a time, so its scores and
events are those of ``run_stream.py --lossless`` on the same file.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline import flow
from pipeline.arrays import Frame
from pipeline.clock import SYSTEM_CLOCK
from pipeline.config import CameraConfig, EventConfig
from pipeline.decisions import thresholds
from pipeline.events import Change, EventRules, StepTime
from pipeline.messages import Moment
from pipeline.model_pack import Contract, ModelPack
from pipeline.onnx_session import Network
from pipeline.preprocess import grey_for_flow, spatial_input
from pipeline.sources import Grab, SourceOptions, create
from pipeline.windows import FeatureWindow, FlowStack, FlowSteps, Scored, Steps, score_windows

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """A frame that can be had: ``retrieve`` gives (H, W, 3) uint8 BGR, and is called at most once.

    ``pts_ns`` is media time in nanoseconds, strictly increasing; ``discontinuity`` marks the first
    frame after a jump in the medium.
    """

    pts_ns: int
    retrieve: Callable[[], Frame]
    discontinuity: bool = False


@dataclass(frozen=True, slots=True)
class StepResult:
    """The scores of one step; arrays as in :class:`pipeline.windows.Scored`."""

    segment: int
    step_id: int
    pts_ns: int
    scores: Vector
    spatial: Vector | None
    temporal: Vector | None
    alpha: float | None


@dataclass(frozen=True, slots=True)
class StepChange:
    """What the event rules say, and the media time of the step at which they say it."""

    change: Change
    said_ns: int


def file_frames(path: Path) -> Iterator[TimedFrame]:
    """The frames of a video file or folder of images, as capture grabs them.

    Only those whose ``retrieve`` is called are converted to pixels. Raises
    :class:`pipeline.errors.SourceError` when there is nothing that can be read.
    """
    options = SourceOptions(realtime=False)
    # Absolute, so that no file's name can look like a webcam's number.
    source = create(str(path.resolve()), camera=path.name, clock=SYSTEM_CLOCK, options=options)
    with closing(source):
        source.open()
        while (grab := source.grab()) is not None:
            pts_ns = grab.captured_ns if grab.pts_ns is None else grab.pts_ns
            yield TimedFrame(pts_ns, source.retrieve, grab.discontinuity)


class OfflineRecogniser:
    """Runs a pack over frames; networks are opened once, everything else is made anew per run."""

    def __init__(self, pack: ModelPack, threads: int = 1) -> None:
        """Open the pack's networks; raises :class:`pipeline.errors.PackError`."""
        self.contract = pack.contract
        self._spatial = Network(pack, "spatial", threads)
        self._temporal = Network(pack, "temporal", threads)
        self._fusion = Network(pack, "fusion", threads)
        self._method = flow.create(pack.contract.temporal.method)

    def steps(self, frames: Iterable[TimedFrame]) -> Iterator[StepResult]:
        """Scores at every step of one camera's frames; steps whose scores aren't finite lack."""
        contract = self.contract
        numbering = Steps("offline", contract.step_hz, CameraConfig().gap_s)
        flow_steps = FlowSteps(self._method, contract)
        streams = _Streams(self._spatial, self._temporal, flow_steps, contract)
        window = FeatureWindow(contract.window, contract.feature_size)
        shape: tuple[int, ...] | None = None
        for timed in frames:
            grab = Grab(timed.pts_ns, timed.pts_ns, timed.discontinuity)
            moment = numbering.moment(grab, timed.pts_ns)
            if moment is None:
                continue
            frame = timed.retrieve()
            if shape is not None and frame.shape != shape:  # as when capture changes its ring
                numbering.new_segment()
                moment = numbering.moment(grab, timed.pts_ns) or moment
            shape = frame.shape
            spatial, temporal = streams.features(moment, frame)
            window.push(moment.segment, moment.step_id, spatial, temporal)
            if window.empty:
                continue
            scored = score_windows(self._fusion.run, [window])[0]
            if scored is not None:
                yield _result(moment, timed.pts_ns, scored)


class _Streams:
    """Both streams' networks with what one camera leaves in them between steps."""

    def __init__(
        self, spatial: Network, temporal: Network, flow_steps: FlowSteps, contract: Contract
    ) -> None:
        self._spatial = spatial
        self._temporal = temporal
        self._flow_steps = flow_steps
        self._contract = contract
        self._stack = FlowStack(contract.temporal.stack)
        shape = (1, contract.temporal.stack, *contract.temporal.size, 2)
        self._flow = np.empty(shape, np.uint8)

    def features(self, moment: Moment, frame: Frame) -> tuple[Vector | None, Vector | None]:
        """Spatial and temporal feature (d,) float32 of a step; None where it has none."""
        small = spatial_input(frame, self._contract)
        spatial = _usable(self._spatial.run({"frames": small[None]})["features"][0])
        self._flow_steps.advance(moment)
        field, span = self._flow_steps.field(grey_for_flow(frame, self._contract))
        if not self._stack.push(moment.segment, moment.step_id, field, span):
            return spatial, None
        self._stack.write(self._flow[0])
        return spatial, _usable(self._temporal.run({"flow": self._flow})["features"][0])


def _usable(vector: Vector) -> Vector | None:
    return vector if np.isfinite(vector).all() else None


def _result(moment: Moment, pts_ns: int, scored: Scored) -> StepResult:
    return StepResult(
        segment=moment.segment,
        step_id=moment.step_id,
        pts_ns=pts_ns,
        scores=scored.scores,
        spatial=scored.spatial,
        temporal=scored.temporal,
        alpha=scored.alpha,
    )


def changes(contract: Contract, results: Iterable[StepResult]) -> Iterator[StepChange]:
    """What the event rules, with the pack's thresholds, make of the steps of one camera.

    A new segment and the end of the steps end what is active, as they do live.
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
