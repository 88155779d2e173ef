"""Supervisor: starts, watches, restarts and stops the stages; owns all shared memory.

Signal handlers only record; the loop acts. Readiness (the stage has opened all it needs) is
separate from liveness (its work loop sends heartbeats). A start-up failure is not restarted.
Anything else is, with growing pauses, until the budget is used up.
"""

import contextlib
import logging
from collections.abc import Collection, Iterable, Sequence
from functools import partial

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from pipeline.config import Config
from pipeline.decision.governor import LADDER, Governor
from pipeline.errors import EXIT_OK, EXIT_STAGE, RingError, os_reason
from pipeline.public.event_log import log_path
from pipeline.run import logs
from pipeline.run.camera_board import CameraBoard
from pipeline.run.child import Child
from pipeline.run.launch import Launch
from pipeline.run.limits import make_room
from pipeline.run.log_lines import EACH, turn_log
from pipeline.run.metrics import StageMetrics
from pipeline.run.outputs.base import MakeOutput, Outputs, RunView
from pipeline.run.outputs.monitor import Monitor
from pipeline.run.process import how_ended
from pipeline.run.restarts import GiveUp, Restart, Restarts
from pipeline.run.run_folder import RunFolder, make_run_folder
from pipeline.run.shutdown import Shutdown
from pipeline.run.signals import StopSignals
from pipeline.run.starter import Starter
from pipeline.topology import BESIDE, StageSpec, stages
from pipeline.transport import topics
from pipeline.transport.bus import Bus
from pipeline.transport.frame_ring import RingOwner
from pipeline.transport.messages import (
    AnyMessage,
    CameraState,
    CameraStatus,
    Failed,
    Heartbeat,
    Hello,
    Pacing,
    Quarantined,
    Ready,
    RingGrant,
    RingRequest,
    Stop,
)
from pipeline.transport.run_identity import RunIdentity
from pipeline.transport.topics import ring_readers

LOOK_S = 0.25
"""How often the stages are looked after when none has ended."""
TOGETHER_S = 0.02
"""Heartbeats that follow each other this closely are taken in together."""
MEBI = 1 << 20
STOOD_STILL_S = 1.5
"""A turn that takes longer means that the program itself was stopped: ^Z, a frozen container."""

log = logging.getLogger(__name__)


def run(
    config: Config,
    outputs: Sequence[MakeOutput] = (),
    duration_s: float | None = None,
    clock: Clock = SYSTEM_CLOCK,
    *,
    people: Collection[str] = (),
) -> int:
    """Run until the sources end, the time is up or a signal comes; returns the exit code.

    ``people`` are the cameras at which people are looked for.
    Raises :class:`pipeline.errors.TwoStreamError` for what fails before a stage is started.
    """
    signals = StopSignals()
    try:
        make_room(config, people)
        identity = RunIdentity.new()
        with contextlib.ExitStack() as closing:
            folder = make_run_folder(config.runtime.run_dir, identity)
            closing.callback(folder.close)
            rings = RingOwner(identity)
            closing.callback(rings.close)
            bus = Bus(folder.path, config.lossless, topics.SUPERVISOR)
            closing.callback(bus.close)
            starter = Starter(bus, clock, config.supervisor.ready_s)
            closing.callback(starter.close)
            supervisor = Supervisor(
                config, people, identity, folder, rings, bus, starter, outputs, signals, clock
            )
            return supervisor.run(duration_s)
    finally:
        signals.restore()


class Supervisor:
    """The stages of one run, from their start to their end."""

    def __init__(
        self,
        config: Config,
        people: Collection[str],
        identity: RunIdentity,
        folder: RunFolder,
        rings: RingOwner,
        bus: Bus,
        starter: Starter,
        outputs: Sequence[MakeOutput],
        signals: StopSignals,
        clock: Clock,
    ) -> None:
        self._config = config
        self._people = people
        self._identity = identity
        self._folder = folder
        self._rings = rings
        self._bus = bus
        self._clock = clock
        self._signals = signals
        self._one_ended = False
        self._look_ns = 0
        self._turned_ns = clock.monotonic_ns()
        self._verdict: int | None = None
        self._failures: set[str] = set()
        self._pacing: Pacing | None = None
        self._origin_ns = clock.monotonic_ns()
        self._control = bus.router(topics.CONTROL)
        bus.watch(self._control, self._on_control)
        self._status = bus.push(topics.STATUS)
        self._cameras = CameraBoard(config, clock, self._status.send)
        self._starter = starter
        starter.on_change = self._on_end
        self._children = {spec.name: self._child(spec) for spec in stages(config, people)}
        self._governor = _governor(config, list(self._children))
        self._metrics = StageMetrics()
        view = RunView(
            config=config,
            log_path=log_path(folder.path, config.events.log),
            stages=self._children,
            cameras=self._cameras.states,
            metrics=self._metrics,
            started_ns=self._origin_ns,
            stopped=lambda: self._signals.count > 0,
        )
        self._outputs = Outputs([*_monitors(config), *outputs], bus, view)

    def run(self, duration_s: float | None) -> int:
        """Run to the end; returns the exit code."""
        try:
            while not self._over(duration_s):
                self._turn()
            self._stop()
        finally:
            for child in self._children.values():
                child.kill()
            for child in self._children.values():
                child.bury()
            self._outputs.close()
        return self._verdict if self._verdict is not None else EXIT_OK

    def _child(self, spec: StageSpec) -> Child:
        restarts = Restarts.of(self._config, can_repeat=spec.kind in BESIDE)
        return Child(spec, self._bus, self._clock, restarts, self._starter.start, self._on_end)

    def _launch(self, spec: StageSpec) -> Launch:
        return Launch(
            kind=spec.kind,
            instance=spec.instance,
            cameras=spec.cameras,
            # Bridges hold passwords, which no stage needs.
            config=self._config.model_dump_json(exclude={"bridges"}),
            run=self._identity.hex,
            run_dir=str(self._folder.path),
            origin_ns=self._origin_ns,
            first_number=_first_number(self._children[spec.name], self._cameras),
            first=not self._children[spec.name].ever_ready,
            log_level=logging.getLevelName(log.getEffectiveLevel()),
            log_form=logs.form(),
        )

    def _turn(self) -> None:
        """Look after the stages, show what has arrived, and sleep until there is more to do."""
        now = self._clock.monotonic_ns()
        turn_log()
        if now - self._turned_ns > STOOD_STILL_S * NS_PER_S:
            # What stopped this process has stopped the stages too: their silence says nothing.
            log.warning("the program stood still for %.1f s", (now - self._turned_ns) / NS_PER_S)
            for child in self._children.values():
                child.heard()
        if self._one_ended or now >= self._look_ns:
            self._one_ended = False
            for child in self._children.values():
                self._look_after(child)
            waiting = self._children.values() if self._starter.can_start() else ()
            restarts = [child.restart_at_ns for child in waiting if not child.started]
            self._look_ns = min([now + int(LOOK_S * NS_PER_S), *restarts])
        self._outputs.tick()
        if self._bus.poll(max(0, self._look_ns - self._clock.monotonic_ns()) / NS_PER_S):
            self._clock.sleep(TOGETHER_S)
        self._turned_ns = max(now, self._turned_ns)

    def _over(self, duration_s: float | None) -> bool:
        if self._verdict is not None or self._signals.count:
            return True
        elapsed_s = (self._clock.monotonic_ns() - self._origin_ns) / NS_PER_S
        at_end = duration_s is not None and elapsed_s >= duration_s
        self._verdict = self._cameras.verdict(elapsed_s, at_end)
        return at_end or self._verdict is not None

    def _on_end(self) -> None:
        self._one_ended = True

    def _on_control(self) -> None:
        for name, message in self._control.drain():
            if (child := self._children.get(name)) is None:
                log.warning("control: a message from %r, which is no stage of this run", name)
                continue
            child.heard()
            self._handle(child, message)

    def _handle(self, child: Child, message: AnyMessage) -> None:
        if isinstance(message, Heartbeat):
            self._on_heartbeat(child, message)
        elif isinstance(message, Ready):
            self._on_ready(child)
        elif isinstance(message, RingRequest):
            readers = len(ring_readers(message.content, people=message.camera in self._people))
            self._control.send(child.name, _granted(self._rings, message, self._config, readers))
        elif isinstance(message, CameraStatus | Quarantined):
            self._cameras.note(message)
        elif isinstance(message, Failed):
            if message.reason not in self._failures:  # all stages may lack the same
                log.error("%s: %s", child.name, message.reason)
            self._failures.add(message.reason)
            self._verdict = message.exit_code
        elif isinstance(message, Hello):
            log.debug("%s runs as process %d", child.name, message.pid)

    def _on_heartbeat(self, child: Child, message: Heartbeat) -> None:
        self._metrics.update(child.name, message.counters)
        child.beat(message.counters)
        governor = self._governor if child.spec.kind == "fusion" else None
        now = self._clock.monotonic_ns()
        if governor is not None and (pacing := governor.heartbeat(now, self._metrics.of)):
            self._set_pace(pacing)

    def _on_ready(self, child: Child) -> None:
        child.ready = child.ever_ready = True
        log.info("%s is ready", child.name, extra=EACH)
        if self._pacing is not None:
            self._control.send(child.name, self._pacing)
        if child.spec.kind == "publish":
            # A restarted publish knows no camera yet.
            for report in self._cameras.states.reports():
                self._status.send(report)
            if self._pacing is not None:
                self._status.send(self._pacing)

    def _set_pace(self, pacing: Pacing) -> None:
        self._pacing = pacing
        log.warning("pace %d of %d: %s", pacing.level, len(LADDER) - 1, pacing.reason)
        self._metrics.update(topics.SUPERVISOR, {"pace_level": pacing.level})
        for child in self._children.values():
            if child.ready:
                self._control.send(child.name, pacing)
        self._status.send(pacing)

    def _look_after(self, child: Child) -> None:
        """Restart what has died, kill what hangs."""
        now = self._clock.monotonic_ns()
        if not child.started:
            if now >= child.restart_at_ns and self._starter.can_start():
                self._spawn(child)
            return
        if (code := child.ended()) is not None:
            self._on_death(child, how_ended(code), now)
            return
        silent_s = child.silent_s(now)
        if child.spec.kind == "capture":
            self._cameras.see_silence(child.spec.instance, silent_s, child.ready)
        if child.private_bytes > self._config.supervisor.memory_mb * MEBI:
            log.error(
                "%s holds %.0f MiB, more than supervisor.memory_mb allows; killing it",
                child.name, child.private_bytes / MEBI,
            )  # fmt: skip
            child.private_bytes = 0.0
            child.kill()
        if silent_s > patience_s(self._config, child):
            state = "hung" if child.ready else "not ready"
            log.error("%s is %s: silent for %.1f s; killing it", child.name, state, silent_s)
            child.kill()

    def _spawn(self, child: Child) -> None:
        """Start a stage's process. That it can't be started counts as its death."""
        try:
            child.spawn(self._launch(child.spec))
        except OSError as error:
            died = f"its process can't be started: {os_reason(error)}"
            self._on_death(child, died, self._clock.monotonic_ns())
        self._bus.poll(0.0)  # it may have taken long, in which the others were not silent
        self._turned_ns = self._clock.monotonic_ns()

    def _on_death(self, child: Child, died: str, now: int) -> None:
        """A stage has died: plan its restart, suspend it, or give up."""
        self._bus.poll(0.0)  # take in its last messages before judging its death
        child.bury()
        self._metrics.ended(child.name)
        if self._verdict is not None:
            return
        verdict = child.restarts.died(
            now, dispensable=_is_dispensable(child, self._children.values())
        )
        if isinstance(verdict, GiveUp):
            log.error("%s died (%s) and is not started again: %s", child.name, died, verdict.reason)
            self._verdict = EXIT_STAGE
            return
        child.restart_at_ns = now + int(verdict.after_s * NS_PER_S)
        if isinstance(verdict, Restart):
            text = "%s died (%s); restarting it in %.1f s"
            log.warning(text, child.name, died, verdict.after_s, extra=EACH)
            state: CameraState = "offline"
            why = f"died ({died})"
        else:
            # One camera must not end the run for all.
            child.suspended = True
            state, why = "quarantined", f"died ({died}) after {verdict.reason}"
            log.error("%s %s; trying again in %g s", child.name, why, verdict.after_s)
        if child.spec.kind == "capture":
            self._cameras.set_state(child.spec.instance, state, f"capture {why}")
        self._cameras.stage_died(child.name, now)

    def _stop(self) -> None:
        finished = self._config.lossless and self._verdict == EXIT_OK and not self._signals.count
        Shutdown(
            clock=self._clock,
            stop_s=None if finished else self._config.supervisor.stop_s,
            send_stop=lambda child: self._control.send(child.name, Stop()),
            turn=self._turn_while_stopping,
            patience_s=partial(patience_s, self._config),
            signals=lambda: self._signals.count,
        ).run(list(self._children.values()))

    def _turn_while_stopping(self) -> None:
        self._bus.poll(0.01)
        self._outputs.tick()


def _governor(config: Config, stages: list[str]) -> Governor | None:
    target_ms = 0.0 if config.lossless else config.runtime.latency_ms
    return Governor(target_ms, stages) if target_ms else None


def _monitors(config: Config) -> list[MakeOutput]:
    """What comes before other outputs: a port that is taken shows before a table is drawn."""
    return [Monitor] if config.supervisor.metrics else []


def _first_number(child: Child, cameras: CameraBoard) -> int:
    if child.spec.kind == "people":
        return child.first_name
    return cameras.next_segment(child.spec.instance)


def patience_s(config: Config, child: Child) -> float:
    """How long a stage may be silent; ``topics.CONTROL`` names the setting."""
    settings = config.supervisor
    if not child.ready:
        return settings.ready_s
    if child.spec.kind == "capture":
        # Opening and reading block inside OpenCV, for as long as these say and no longer.
        camera = config.cameras[child.spec.instance]
        return settings.hang_s + max(camera.open_timeout_s, camera.read_timeout_s)
    return settings.hang_s


def _is_dispensable(child: Child, children: Iterable[Child]) -> bool:
    """Whether the run can go on without it: it is beside, or a capture as others that work."""
    return child.spec.kind in BESIDE or (
        child.spec.kind == "capture"
        and any(
            other is not child and other.spec.kind == "capture" and not other.suspended
            for other in children
        )
    )


def _granted(rings: RingOwner, request: RingRequest, config: Config, readers: int) -> RingGrant:
    """The ring that a writer asked for, or why it can't have one."""
    key = (request.camera, f"{request.content}{request.kind}")
    ring, reason = None, None
    try:
        ring = rings.create(key, request.shape, config.runtime.ring_slots, readers)
    except RingError as error:
        reason = str(error)
    return RingGrant(camera=request.camera, content=request.content, ring=ring, reason=reason)
