"""Fusion: both streams' features over a window become scores, and scores become transitions.

One process for all cameras.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline import topics
from pipeline.clock import NS_PER_S
from pipeline.config import Config
from pipeline.events import Change, EventRules, StepTime
from pipeline.messages import (
    EndOfStream,
    Feature,
    Moment,
    Stamp,
    StepScores,
    StreamScores,
    Transition,
)
from pipeline.model_pack import Contract, ModelPack, Threshold
from pipeline.onnx_session import Float, Network
from pipeline.stage import Context, StartupError
from pipeline.stages.outbox import Outbox
from pipeline.stages.quarantine import Quarantine
from pipeline.windows import DecidedStep, FeatureWindow, Scored, StepJoin, score_windows

PATIENCE_STEPS = 2.0
"""Live: how long a step waits for its second stream."""
SILENCE_NS = 2 * NS_PER_S
"""Live: an active event is ended when its camera has brought no step for so long."""


@dataclass(slots=True)
class _Camera:
    name: str
    join: StepJoin
    window: FeatureWindow
    rules: EventRules
    media_timed: bool
    decided: list[DecidedStep] = field(default_factory=list)
    last: DecidedStep | None = None
    scored: Scored | None = None
    heard_ns: int = 0


class Fusion:
    """Joins the streams, fills the windows, runs the fusion network, applies the event rules."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._quiet_since_stop = False

    def open(self) -> None:
        context = self._context
        runtime = context.config.runtime
        pack = ModelPack.load(context.config.model)
        contract = self._contract = pack.contract
        self._network = Network(pack, "fusion", runtime.threads, runtime.providers)
        self._background = frozenset(contract.background)
        self._cameras = {name: self._camera(name) for name in context.spec.cameras}
        self._inputs = {
            "spatial": context.bus.subscriber(topics.SPATIAL, "", context.spec.cameras),
            "temporal": context.bus.subscriber(topics.TEMPORAL, "", context.spec.cameras),
        }
        for subscriber in self._inputs.values():
            context.bus.watch(subscriber, lambda: None)
        dealer = context.bus.dealer(topics.TRANSITION, "fusion")
        context.bus.watch(dealer, lambda: None)
        self._outbox = Outbox(dealer, context.clock)
        self._scores = context.bus.push(topics.SCORE)
        self._quarantine = Quarantine(context)

    def _camera(self, name: str) -> _Camera:
        contract, config = self._contract, self._context.config
        patience_ns = int(PATIENCE_STEPS * NS_PER_S / contract.step_hz)
        return _Camera(
            name=name,
            join=StepJoin(None if config.lossless else patience_ns),
            window=FeatureWindow(contract.window, contract.feature_size),
            rules=EventRules(
                contract.labels,
                contract.background,
                thresholds(contract, config),
                config.events.update_every_s,
                contract.step_hz,
            ),
            # A live file begins anew with its capture process; only lossless time never jumps.
            media_timed=config.lossless,
        )

    def work(self) -> float | None:
        took_ns = self._context.clock.monotonic_ns()
        self._receive(took_ns)
        for camera in self._cameras.values():
            camera.decided += camera.join.decided(took_ns)
        while batch := self._next_batch():
            self._run(batch, took_ns)
        for camera in self._cameras.values():
            self._end_if_over(camera, took_ns)
        if self._outbox.lost:
            self._context.counters["events_lost"] = self._outbox.lost
        waits = [self._outbox.work(), *(self._wait_s(c, took_ns) for c in self._cameras.values())]
        return min((wait for wait in waits if wait is not None), default=None)

    def _receive(self, now_ns: int) -> None:
        for stream, subscriber in self._inputs.items():
            for message in subscriber.drain():
                self._quiet_since_stop = False
                if isinstance(message, EndOfStream):
                    self._cameras[message.camera].join.end(stream)
                elif isinstance(message, Feature):
                    camera = self._cameras[message.moment.camera]
                    camera.heard_ns = now_ns
                    camera.join.push(message, now_ns)

    def _next_batch(self) -> list[_Camera]:
        """Cameras with a decided step to score, each moved on to it; lossless: one at a time."""
        batch: list[_Camera] = []
        for camera in self._cameras.values():
            if self._quarantine.holds(camera.name):
                self._leave_alone(camera)
            if camera.decided and not (self._context.lossless and batch):
                step = camera.decided.pop(0)
                with self._quarantine.guard(camera.name):
                    self._advance(camera, step)
                    batch.append(camera)
        return batch

    def _leave_alone(self, camera: _Camera) -> None:
        camera.decided.clear()
        camera.window.segment = -1  # whatever it held, the next step empties it
        if camera.last is not None:
            self._emit(camera, camera.rules.interrupt("quarantined"), camera.last)

    def _advance(self, camera: _Camera, step: DecidedStep) -> None:
        moment = step.moment
        if camera.last is not None and moment.segment != camera.window.segment:
            self._emit(camera, camera.rules.interrupt("gap"), camera.last)
        camera.last = step
        spatial, temporal = _vector(step.spatial), _vector(step.temporal)
        camera.window.push(moment.segment, moment.step_id, spatial, temporal)
        self._context.counters["steps"] += 1
        if spatial is None or temporal is None:
            self._context.counters["steps_one_stream"] += 1

    def _run(self, batch: list[_Camera], took_ns: int) -> None:
        cameras = [camera for camera in batch if not camera.window.empty]
        if not cameras:
            return
        scored = score_windows(self._network.run, [camera.window for camera in cameras])
        for camera, one in zip(cameras, scored, strict=True):
            with self._quarantine.guard(camera.name):
                if one is None:
                    self._context.counters["scores_refused"] += 1
                    raise ValueError("the fusion network's scores are not finite")
                camera.scored = one
                self._judge(camera, took_ns)

    def _judge(self, camera: _Camera, took_ns: int) -> None:
        step, scored = camera.last, camera.scored
        assert step is not None
        assert scored is not None
        at = _step_time(step.moment, camera.media_timed)
        changes = camera.rules.push(at, scored.scores.tolist())
        self._emit(camera, changes, step, took_ns)
        if self._context.config.publish.scores:
            self._send_scores(camera, step, scored, took_ns)

    def _emit(
        self,
        camera: _Camera,
        changes: list[Change],
        step: DecidedStep,
        took_ns: int | None = None,
    ) -> None:
        scored = camera.scored
        if not changes or scored is None:
            return
        for change in changes:
            index = self._contract.labels.index(change.label)
            self._outbox.send(
                Transition(
                    key=f"{camera.name}/{change.number}",
                    type=change.type,
                    camera=camera.name,
                    label=change.label,
                    score=change.score,
                    top_score=change.top_score,
                    start_ns=change.start_ns,
                    end_ns=change.end_ns,
                    start_pts_ns=change.start_pts_ns,
                    end_pts_ns=change.end_pts_ns,
                    reason=change.reason,
                    window=camera.window.info(),
                    streams=StreamScores(
                        spatial=_at(scored.spatial, index),
                        temporal=_at(scored.temporal, index),
                        alpha=scored.alpha,
                    ),
                    captured_ns=step.moment.captured_ns,
                    trail=self._trail(step, took_ns),
                )
            )
            self._context.counters[f"events_{change.type}"] += 1

    def _send_scores(
        self, camera: _Camera, step: DecidedStep, scored: Scored, took_ns: int
    ) -> None:
        self._scores.send(
            StepScores(
                camera=camera.name,
                scores=self._named(scored.scores),
                window=camera.window.info(),
                streams={
                    "spatial": self._named(scored.spatial) if scored.spatial is not None else None,
                    "temporal": (
                        self._named(scored.temporal) if scored.temporal is not None else None
                    ),
                },
                alpha=scored.alpha,
                captured_ns=step.moment.captured_ns,
                pts_ns=step.moment.pts_ns,
                trail=self._trail(step, took_ns),
            )
        )

    def _named(self, scores: Float) -> dict[str, float]:
        return dict(zip(self._contract.labels, scores.tolist(), strict=True))

    def _trail(self, step: DecidedStep, took_ns: int | None) -> tuple[Stamp, ...]:
        stamps = {
            stamp.stage: stamp
            for feature in (step.spatial, step.temporal)
            if feature is not None
            for stamp in feature.trail
        }
        now_ns = self._context.clock.monotonic_ns()
        return (*stamps.values(), Stamp("fusion", took_ns or now_ns, now_ns))

    def _end_if_over(self, camera: _Camera, now_ns: int) -> None:
        """End active events of a camera whose stream has ended, or that has fallen silent."""
        if camera.last is None or not camera.rules.active:
            return
        if camera.join.ended:
            self._emit(camera, camera.rules.interrupt("end of stream"), camera.last)
        elif not self._context.lossless and now_ns - camera.heard_ns > SILENCE_NS:
            self._emit(camera, camera.rules.interrupt("no frames"), camera.last)

    def _wait_s(self, camera: _Camera, now_ns: int) -> float | None:
        deadline = camera.join.next_deadline_ns()
        if deadline is None and camera.rules.active and not self._context.lossless:
            deadline = camera.heard_ns + SILENCE_NS + 1
        return None if deadline is None else max(0.0, (deadline - now_ns) / NS_PER_S)

    def drained(self) -> bool:
        """The stages before this one have left; what still is under way arrives in no time."""
        if not self._quiet_since_stop:
            self._quiet_since_stop = True
            return False
        for camera in self._cameras.values():
            if camera.last is not None:
                self._emit(camera, camera.rules.interrupt("stopped"), camera.last)
        return self._outbox.empty

    def close(self) -> None:
        pass


def thresholds(contract: Contract, config: Config) -> dict[str, Threshold]:
    """The thresholds of every label: the config's where it has them, else the pack's."""
    if strange := set(config.events.thresholds) - set(contract.labels):
        raise StartupError(
            f"events.thresholds.{sorted(strange)[0]}: no such label; the pack has "
            f"{', '.join(contract.labels)}"
        )
    return {
        label: config.events.thresholds.get(label) or contract.threshold(label)
        for label in contract.labels
    }


def _vector(feature: Feature | None) -> npt.NDArray[np.float32] | None:
    if feature is None or feature.vector is None:
        return None
    return np.frombuffer(feature.vector, np.float32)


def _step_time(moment: Moment, media_timed: bool) -> StepTime:
    media_ns = moment.pts_ns if media_timed and moment.pts_ns is not None else moment.captured_ns
    return StepTime(moment.captured_ns, moment.pts_ns, media_ns)


def _at(scores: Float | None, index: int) -> float | None:
    return None if scores is None else float(scores[index])
