"""Fusion: both streams' features over a window become scores, and scores become transitions.

One process for all cameras.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pipeline import topology
from pipeline.clock import NS_PER_MS, NS_PER_S
from pipeline.config import Config
from pipeline.config.rules import LabelRule, rules_of
from pipeline.decision.decisions import PackDecisions, decide_packs, thresholds
from pipeline.decision.recording import (
    About,
    RecordedCamera,
    RecordedPack,
    RecordedRule,
    Recorder,
)
from pipeline.decision.rule_filter import RuleFilters
from pipeline.errors import RecordingError, StartupError
from pipeline.model.pack import Threshold
from pipeline.model.session import Network
from pipeline.model.watch import WHOLE_PICTURE, Watch
from pipeline.sources import redact
from pipeline.stages.base import Context
from pipeline.stages.outbox import Outbox
from pipeline.stages.quarantine import Quarantine
from pipeline.stages.step_stage import TOGETHER_S
from pipeline.stages.step_timings import StepTimings
from pipeline.stages.to_memory import ToMemory
from pipeline.steps.join import PEOPLE, DecidedStep, StepJoin
from pipeline.topology import Watched
from pipeline.transport import topics
from pipeline.transport.counters import key
from pipeline.transport.messages import (
    EndOfStream,
    Feature,
    FrameRef,
    HeldBack,
    Transition,
)

PATIENCE_STEPS = 2.0
"""Live: how long a step waits for its second stream."""
LATE_MEMORY = 0.1
"""Weight of the newest step in the mean of how late steps are."""
SILENCE_NS = int(topics.SPATIAL.silence.ns(0))
"""Live: a camera's events are ended when it has brought no step for this long."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Camera:
    name: str
    join: StepJoin
    decisions: list[PackDecisions]
    """One for each pack that watches it."""
    regional: bool
    """Whether a pack looks at regions, of which there may be none."""
    decided: list[DecidedStep] = field(default_factory=list)
    heard_ns: int = 0

    @property
    def active(self) -> bool:
        """Whether an event goes on."""
        return any(decisions.active for decisions in self.decisions)


class Fusion:
    """Joins the streams, scores their windows in batches, sends the transitions."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._quiet_since_stop = False
        self._gathers = not context.lossless and len(context.spec.cameras) > 1
        self._late_ms = 0.0
        runtime, bus, cameras = context.config.runtime, context.bus, context.spec.cameras
        watched = topology.watched(context.config)
        packs = topology.packs(watched)
        self._networks = {
            sha256: Network(pack, "fusion", runtime.threads, runtime.providers).run
            for sha256, pack in packs.items()
        }
        self._thresholds = {
            sha256: thresholds(pack.contract, context.config.events.thresholds)
            for sha256, pack in packs.items()
        }
        self._rules = {name: rules_of(context.config, name) for name in cameras}
        offset_ns = self._wall_minus_monotonic_ns()
        settings = context.config.cameras
        self._filters = RuleFilters(
            self._rules,
            offset_ns,
            context.lossless,
            self._held_back,
            {name: settings[name].zones for name in cameras},
        )
        routes = topology.routes(context.config, watched)
        self._recorder = self._new_recorder(watched, offset_ns)
        self._cameras = {
            name: self._camera(name, watched[name], people=routes[name].people) for name in cameras
        }
        self._inputs = {
            "spatial": bus.subscriber(topics.SPATIAL, [""], cameras),
            "temporal": bus.subscriber(topics.TEMPORAL, [""], cameras),
        }
        if looked_at := topology.with_people(routes):
            self._inputs[PEOPLE] = bus.subscriber(topics.PEOPLE, [""], looked_at)
        dealer = bus.dealer(topics.TRANSITION, "fusion")
        for socket in (*self._inputs.values(), dealer):
            bus.watch(socket)
        self._timings = StepTimings(context.counters, cameras)
        self._outbox = Outbox(dealer, context.clock)
        self._scores = bus.push(topics.SCORE)
        self._held = bus.push(topics.STATUS)
        self._memory = ToMemory(context)
        self._quarantine = Quarantine.of(context)

    def _new_recorder(self, watched: Watched, offset_ns: int) -> Recorder | None:
        folder = self._context.config.runtime.record
        if folder is None:
            return None
        try:
            about = _about(self._context.config, watched, self._rules, self._thresholds, offset_ns)
            recorder = Recorder(folder, about, needed=self._context.lossless)
        except RecordingError as error:
            raise StartupError(f"runtime.record: {error}") from None
        if self._filters.timed:
            # ``about`` is that of the run's first fusion process.
            recorder.clock_set(offset_ns)
        return recorder

    def _wall_minus_monotonic_ns(self) -> int:
        clock = self._context.clock
        return clock.wall_ns() - clock.monotonic_ns()

    def _held_back(self, camera: str, label: str, reason: str) -> None:
        self._context.counters[key("filtered", camera, label, reason)] += 1
        at_ns = self._context.clock.monotonic_ns()
        self._held.send(HeldBack(camera=camera, label=label, reason=reason, at_ns=at_ns))
        log.info("camera %s: %s is held back by its rule: %s", camera, label, reason)

    def _camera(self, name: str, watches: Collection[Watch], *, people: bool) -> _Camera:
        config = self._context.config
        patience_ns = int(PATIENCE_STEPS * NS_PER_S / topology.step_hz(watches))
        return _Camera(
            name=name,
            join=StepJoin(None if config.lossless else patience_ns, people=people),
            # A live file starts over when its capture restarts; only lossless time never jumps.
            decisions=[
                PackDecisions(
                    name,
                    watch,
                    self._thresholds[watch.pack.sha256],
                    config.events.update_every_s,
                    config.lossless,
                    self._filters,
                )
                for watch in watches
            ],
            regional=any(watch.view != WHOLE_PICTURE for watch in watches),
        )

    def work(self) -> float | None:
        took_ns = self._decide()
        if self._gathers and self._others_follow():
            self._context.clock.sleep(TOGETHER_S)
            took_ns = self._decide()
        while batch := self._next_batch():
            self._run(batch, took_ns)
        for camera in self._cameras.values():
            self._end_if_over(camera, took_ns)
        if self._outbox.lost:
            self._context.counters["events_lost"] = self._outbox.lost
        waits = [self._outbox.work(), *(self._wait_s(c, took_ns) for c in self._cameras.values())]
        return min((wait for wait in waits if wait is not None), default=None)

    def _decide(self) -> int:
        """Take in what has arrived, and see which steps that decides; returns the time of it."""
        now_ns = self._context.clock.monotonic_ns()
        self._receive(now_ns)
        for camera in self._cameras.values():
            camera.decided += camera.join.decided(now_ns)
        return now_ns

    def _others_follow(self) -> bool:
        """Whether one camera's step is decided, and another's waits for its second stream only."""
        cameras = self._cameras.values()
        return any(c.decided for c in cameras) and any(
            c.join.waiting and not c.decided for c in cameras
        )

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
                elif isinstance(message, FrameRef):
                    camera = self._cameras[message.moment.camera]
                    camera.heard_ns = now_ns
                    camera.join.push_people(message, now_ns)

    def _next_batch(self) -> list[tuple[_Camera, DecidedStep]]:
        """The next decided step of each camera; lossless: of one at a time."""
        batch: list[tuple[_Camera, DecidedStep]] = []
        for camera in self._cameras.values():
            if self._quarantine.holds(camera.name):
                self._skip(camera)
            if camera.decided and not (self._context.lossless and batch):
                batch.append((camera, camera.decided.pop(0)))
        return batch

    def _skip(self, camera: _Camera) -> None:
        camera.decided.clear()
        for decisions in camera.decisions:
            decisions.forget()
        self._interrupt(camera, "quarantined", forget=True)

    def _run(self, batch: list[tuple[_Camera, DecidedStep]], took_ns: int) -> None:
        """Decide one step of each of some cameras, and send what that changes."""
        counters = self._context.counters
        if self._filters.timed:
            self._follow_clock()
        if self._recorder is not None:
            self._recorder.advanced([step for _, step in batch], took_ns)
        for _, step in batch:
            counters[key("steps", step.moment.camera)] += 1
            if _is_one_stream(step):
                counters[key("steps_one_stream", step.moment.camera)] += 1
        decided_ns: dict[str, int] = {}
        for decided in decide_packs(
            self._networks,
            [(camera.decisions, step) for camera, step in batch],
            took_ns,
            self._context.clock.monotonic_ns,
            self._quarantine.guard,
        ):
            self._emit(decided.transitions)
            if decided.scored is None:
                continue
            decided_ns[decided.camera.name] = decided.at_ns
            if self._context.config.publish.scores:
                self._scores.send(decided.camera.step_scores(took_ns, decided.at_ns))
        for camera, step in batch:
            self._memory.send(step, camera.active)
            # A step in which nobody is there is decided, too.
            at_ns = decided_ns.get(camera.name) or (took_ns if camera.regional else None)
            if at_ns is not None:
                self._timings.add(step, took_ns, at_ns)
                self._note_lateness(step, at_ns)

    def _follow_clock(self) -> None:
        offset_ns = self._wall_minus_monotonic_ns()
        if self._filters.follow(offset_ns) and self._recorder is not None:
            self._recorder.clock_set(offset_ns)

    def _note_lateness(self, step: DecidedStep, now_ns: int) -> None:
        """For the governor, which gets it with the heartbeats.

        A step that waited in vain for a stream says nothing of how busy the machine is: that
        stream's stage may be dead.
        """
        if step.spatial is None or step.temporal is None:
            return
        late_ms = (now_ns - step.moment.captured_ns) / NS_PER_MS
        self._late_ms += LATE_MEMORY * (late_ms - self._late_ms)
        self._context.counters["late_ms"] = round(self._late_ms)
        self._context.counters["steps_timed"] += 1

    def _interrupt(self, camera: _Camera, reason: str, *, forget: bool = False) -> None:
        if not camera.active:
            return
        now_ns = self._context.clock.monotonic_ns()
        if self._recorder is not None:
            self._recorder.interrupted(camera.name, reason, now_ns, forget=forget)
        for decisions in camera.decisions:
            self._emit(decisions.interrupt(reason, now_ns))

    def _emit(self, transitions: list[Transition]) -> None:
        for transition in transitions:
            if self._recorder is not None:
                self._recorder.made(transition)
            self._outbox.send(transition)

    def _end_if_over(self, camera: _Camera, now_ns: int) -> None:
        """End the events of a camera whose stream has ended, or that has fallen silent."""
        if camera.join.ended:
            self._interrupt(camera, "end of stream")
        elif not self._context.lossless and now_ns - camera.heard_ns > SILENCE_NS:
            self._interrupt(camera, "no frames")

    def _wait_s(self, camera: _Camera, now_ns: int) -> float | None:
        deadline = camera.join.next_deadline_ns()
        if deadline is None and camera.active and not self._context.lossless:
            deadline = camera.heard_ns + SILENCE_NS + 1
        return None if deadline is None else max(0.0, (deadline - now_ns) / NS_PER_S)

    def drained(self) -> bool:
        """The stages before this one have left; what is still under way arrives in no time."""
        if not self._quiet_since_stop:
            self._quiet_since_stop = True
            return False
        for camera in self._cameras.values():
            self._interrupt(camera, "stopped")
        return self._outbox.empty

    def close(self) -> None:
        if self._recorder is not None:
            self._recorder.close()


def _is_one_stream(step: DecidedStep) -> bool:
    return any(f is None or f.masked for f in (step.spatial, step.temporal))


def _about(
    config: Config,
    watched: Watched,
    rules: Mapping[str, Mapping[str, LabelRule]],
    thresholds: Mapping[str, Mapping[str, Threshold]],
    offset_ns: int,
) -> About:
    """What a recording says of its run; ``rules`` by camera, ``thresholds`` by the pack's hash."""
    return About(
        packs=[
            RecordedPack.of(pack, thresholds[sha256])
            for sha256, pack in topology.packs(watched).items()
        ],
        cameras={
            name: RecordedCamera(
                source=redact(config.cameras[name].source),
                packs=[watch.pack.sha256 for watch in watches],
                zones=config.cameras[name].zones,
            )
            for name, watches in watched.items()
        },
        flow_method=config.flow.method,
        update_every_s=config.events.update_every_s,
        media_timed=config.lossless,
        wall_minus_monotonic_ns=offset_ns,
        rules={
            camera: {label: RecordedRule.of(rule) for label, rule in labels.items()}
            for camera, labels in rules.items()
            if labels
        },
    )
