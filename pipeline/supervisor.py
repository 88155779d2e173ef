"""Supervisor: starts, watches, restarts and stops the stages; owns all shared memory.

Signal handlers only record; the loop acts. Readiness (the stage said that it is ready) is separate
from liveness (its work loop sends heartbeats). A start-up failure is not restarted; anything else
is, with growing pauses, until the budget is used up.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

import msgspec

from pipeline import topics
from pipeline.bus import Bus
from pipeline.camera_states import CameraStates
from pipeline.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from pipeline.config import PROJECT, Config
from pipeline.errors import EXIT_NO_SOURCE, EXIT_OK, EXIT_STAGE, RingError
from pipeline.event_log import log_path
from pipeline.frame_ring import RingOwner, RunIdentity
from pipeline.governor import LADDER
from pipeline.messages import (
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
from pipeline.metrics import StageMetrics
from pipeline.pacemaker import Pacemaker
from pipeline.run.launch import Launch
from pipeline.run_folder import RunFolder, default_run_root
from pipeline.sources.base import is_file
from pipeline.topology import KINDS, StageSpec, stages

LOOK_S = 0.25
"""How often the stages are looked after when none has ended."""
TOGETHER_S = 0.02
"""Heartbeats that follow each other so closely are heard together."""
FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0
MEBI = 1 << 20
QUARANTINE_S = 60

log = logging.getLogger(__name__)

# One thread for every numeric library in a stage: two cores shared by six processes and more.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclass
class Child:
    """A stage's process as the supervisor sees it."""

    spec: StageSpec
    process: "subprocess.Popen[bytes] | None" = None
    ready: bool = False
    heard_ns: int = 0
    restart_at_ns: int = 0
    restarts: deque[int] = field(default_factory=deque)
    total_restarts: int = 0
    private_bytes: float = 0.0
    end_fd: int | None = None
    """Can be read when the process has ended."""
    aside: bool = False
    """A capture that used up its restarts, while other cameras go on."""

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None


@dataclass
class RunView:
    """What outputs may look at."""

    config: Config
    log_path: Path
    children: dict[str, Child]
    cameras: CameraStates
    metrics: StageMetrics
    started_ns: int


class Output(Protocol):
    """Something that shows events to whoever started the program."""

    def open(self, bus: Bus, view: RunView) -> None: ...

    def tick(self) -> None:
        """Called several times a second, and whenever something arrived."""
        ...

    def close(self) -> None:
        """Called after the last stage has left; the event log is complete."""
        ...


class Supervisor:
    """Runs one :class:`Config` to its end."""

    def __init__(
        self,
        config: Config,
        outputs: Sequence[Output] = (),
        duration_s: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._config = config
        self._clock = clock
        self._outputs = list(outputs)
        self._duration_s = duration_s
        self._run = RunIdentity.new()
        self._children = {spec.name: Child(spec) for spec in stages(config)}
        self._cameras = CameraStates()
        self._stalled: set[str] = set()
        target_ms = 0.0 if config.lossless else config.runtime.latency_ms
        self._pacemaker = Pacemaker(target_ms, list(self._children)) if target_ms else None
        self._pacing: Pacing | None = None
        self._segments: dict[str, int] = {}
        self._opened: set[str] = set()
        self._metrics = StageMetrics()
        self._signals = 0
        self._one_ended = False
        self._verdict: int | None = None

    def run(self) -> int:
        """Run until the sources end, the time is up or a signal comes; returns the exit code."""
        root = self._config.runtime.run_dir or default_run_root()
        for name in RunFolder.remove_dead(root):
            log.info("removed what the dead run %s had left", name)
        folder = RunFolder(root, self._run)
        rings = RingOwner(self._run)
        bus = Bus(folder.path, self._config.lossless)
        previous = [signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)]
        try:
            self._begin(folder, rings, bus)
            self._loop()
            self._stop()
        finally:
            self._kill_all()
            for output in self._outputs:
                output.close()
            bus.close()
            rings.close()
            folder.close()
            for number, handler in zip((signal.SIGINT, signal.SIGTERM), previous, strict=True):
                signal.signal(number, handler)
        return self._verdict if self._verdict is not None else EXIT_OK

    def _begin(self, folder: RunFolder, rings: RingOwner, bus: Bus) -> None:
        self._folder, self._rings, self._bus = folder, rings, bus
        self._origin_ns = self._clock.monotonic_ns()
        self._control = bus.router(topics.CONTROL)
        bus.watch(self._control, self._on_control)
        self._status = bus.push(topics.STATUS)
        if self._config.supervisor.metrics:
            self._metrics.serve(self._config.supervisor.metrics)
        view = RunView(
            config=self._config,
            log_path=log_path(folder.path, self._config.events.log),
            children=self._children,
            cameras=self._cameras,
            metrics=self._metrics,
            started_ns=self._origin_ns,
        )
        for output in self._outputs:
            output.open(bus, view)
        for child in self._children.values():
            self._spawn(child)

    def _loop(self) -> None:
        look_ns = 0
        while not self._over():
            now = self._clock.monotonic_ns()
            if self._one_ended or now >= look_ns:
                self._one_ended = False
                for child in self._children.values():
                    self._look_after(child)
                look_ns = min(now + int(LOOK_S * NS_PER_S), *self._restarts_due_ns())
            for output in self._outputs:
                output.tick()
            if self._bus.poll(max(0, look_ns - self._clock.monotonic_ns()) / NS_PER_S):
                self._clock.sleep(TOGETHER_S)

    def _restarts_due_ns(self) -> list[int]:
        return [c.restart_at_ns for c in self._children.values() if c.process is None] or [1 << 62]

    def _over(self) -> bool:
        if self._verdict is not None or self._signals:
            return True
        now = self._clock.monotonic_ns()
        elapsed_s = (now - self._origin_ns) / NS_PER_S
        if self._duration_s is not None and elapsed_s >= self._duration_s:
            return True
        states = [status.state for status in self._cameras]
        if len(states) == len(self._config.cameras) and all(
            state in ("ended", "failed") for state in states
        ):
            self._verdict = EXIT_OK if self._opened else EXIT_NO_SOURCE
            return True
        patience_s = self._config.supervisor.first_source_s
        if patience_s and not self._opened and elapsed_s > patience_s:
            log.error("no source could be opened within %g s", patience_s)
            self._verdict = EXIT_NO_SOURCE
            return True
        return False

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1

    def _on_control(self) -> None:
        for name, message in self._control.drain():
            child = self._children.get(name)
            if child is None:
                log.warning("control: a message from %r, which is no stage of this run", name)
                continue
            child.heard_ns = self._clock.monotonic_ns()
            self._hear(child, message)

    def _hear(self, child: Child, message: AnyMessage) -> None:
        name = child.spec.name
        if isinstance(message, Heartbeat):
            self._metrics.update(name, message.counters)
            if child.spec.kind == "fusion" and self._pacemaker is not None:
                pacing = self._pacemaker.hear(self._clock.monotonic_ns(), self._metrics)
                if pacing is not None:
                    self._set_pace(pacing)
            child.private_bytes = message.counters.get("private_bytes", 0.0)
        elif isinstance(message, Ready):
            child.ready = True
            log.info("%s is ready", name)
            if self._pacing is not None:
                self._control.send(name, self._pacing)
            if child.spec.kind == "publish":
                # One that was started again knows of no camera.
                for words in self._cameras.words():
                    self._status.send(words)
                if self._pacing is not None:
                    self._status.send(self._pacing)
        elif isinstance(message, RingRequest):
            self._grant(name, message)
        elif isinstance(message, CameraStatus | Quarantined):
            if isinstance(message, CameraStatus):
                self._stalled.discard(message.camera)
            self._note(message)
        elif isinstance(message, Failed):
            log.error("%s: %s", name, message.reason)
            self._verdict = message.exit_code
        elif isinstance(message, Hello):
            log.debug("%s runs as process %d", name, message.pid)

    def _set_pace(self, pacing: Pacing) -> None:
        self._pacing = pacing
        log.warning("pace %d of %d: %s", pacing.level, len(LADDER) - 1, pacing.reason)
        self._metrics.update("supervisor", {"pace_level": pacing.level})
        for child in self._children.values():
            if child.ready:
                self._control.send(child.spec.name, pacing)
        self._status.send(pacing)

    def _note(self, message: CameraStatus | Quarantined) -> None:
        before = self._cameras.get(message.camera)
        if not self._cameras.note(message):
            return
        status = self._cameras.get(message.camera)
        assert status is not None
        if status.state == "online":
            self._opened.add(status.camera)
        if status.segment is not None:
            self._segments[status.camera] = status.segment
        if before is None or before.state != status.state:
            reason = f": {status.reason}" if status.reason else ""
            log.info("camera %s is %s%s", status.camera, status.state, reason)

    def _grant(self, name: str, request: RingRequest) -> None:
        readers = topics.ring_readers(request.content)
        ring, reason = None, None
        try:
            ring = self._rings.create(
                (request.camera, request.content),
                request.shape,
                self._config.runtime.ring_slots,
                len(readers),
            )
        except RingError as error:
            reason = str(error)
        grant = RingGrant(camera=request.camera, content=request.content, ring=ring, reason=reason)
        self._control.send(name, grant)

    def _spawn(self, child: Child) -> None:
        spec = child.spec
        launch = Launch(
            kind=spec.kind,
            instance=spec.instance,
            cameras=spec.cameras,
            config=self._config.model_dump_json(),
            run=self._run.hex,
            run_dir=str(self._folder.path),
            origin_ns=self._origin_ns,
            first_segment=self._segments.get(spec.instance, -1) + 1,
            log_level=logging.getLevelName(log.getEffectiveLevel()),
        )
        environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1")}
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(PROJECT), os.environ.get("PYTHONPATH")))
        )
        child.aside = False
        child.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.run.stage_process", spec.name],
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno(),
            env=environment,
        )
        assert child.process.stdin is not None
        child.process.stdin.write(msgspec.json.encode(launch) + b"\n")
        child.process.stdin.flush()
        self._watch_end(child, child.process.pid)
        child.ready = False
        child.heard_ns = self._clock.monotonic_ns()

    def _watch_end(self, child: Child, pid: int) -> None:
        """Have the end of a process wake this one; where it can't, looking after it has to do."""
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                child.end_fd = os.pidfd_open(pid)
                self._bus.watch(child.end_fd, self._on_end)

    def _unwatch_end(self, child: Child) -> None:
        if child.end_fd is not None:
            self._bus.unwatch(child.end_fd)
            os.close(child.end_fd)
            child.end_fd = None

    def _on_end(self) -> None:
        self._one_ended = True

    def _look_after(self, child: Child) -> None:
        """Restart what has died, kill what hangs."""
        now = self._clock.monotonic_ns()
        if child.process is None:
            if now >= child.restart_at_ns:
                self._spawn(child)
            return
        code = child.process.poll()
        if code is not None:
            self._bury(child, code, now)
            return
        silent_s = (now - child.heard_ns) / NS_PER_S
        if child.spec.kind == "capture":
            self._see_stall(child, silent_s)
        limit = self._config.supervisor.memory_mb * MEBI
        if child.private_bytes > limit:
            held = child.private_bytes / MEBI
            log.error(
                "%s holds %.0f MiB, more than supervisor.memory_mb allows; killing it",
                child.spec.name, held,
            )  # fmt: skip
            child.process.kill()
            child.private_bytes = 0.0
        patience_s = self._patience_s(child)
        if silent_s > patience_s:
            state = "hung" if child.ready else "not ready"
            log.error(
                "%s is %s: not heard for %.1f s; killing it", child.spec.name, state, silent_s
            )
            child.process.kill()

    def _see_stall(self, child: Child, silent_s: float) -> None:
        """Speak for a capture that waits inside OpenCV for a frame, and so can't."""
        camera = child.spec.instance
        status = self._cameras.get(camera)
        if status is None or is_file(self._config.cameras[camera].source):
            return
        if silent_s > self._config.supervisor.stall_s and status.state == "online":
            self._stalled.add(camera)
            self._say(camera, "stalled", f"no frame for {silent_s:.1f} s")
        elif camera in self._stalled and silent_s < self._config.supervisor.stall_s:
            self._stalled.discard(camera)
            # Heard again, and it has said nothing of its own: the pause was no gap to it.
            if status.state == "stalled" and child.ready:
                self._say(camera, "online", None)

    def _patience_s(self, child: Child) -> float:
        settings = self._config.supervisor
        if not child.ready:
            return settings.ready_s
        if child.spec.kind == "capture":
            # Opening and reading block inside OpenCV, for as long as these say and no longer.
            camera = self._config.cameras[child.spec.instance]
            return settings.hang_s + max(camera.open_timeout_s, camera.read_timeout_s)
        return settings.hang_s

    def _bury(self, child: Child, code: int, now: int) -> None:
        """A stage has died: plan its restart, or give up."""
        self._unwatch_end(child)
        self._control_drain()
        if self._verdict is not None:
            return
        name, settings = child.spec.name, self._config.supervisor
        self._close_pipe(child)
        child.process = None
        died = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        window_ns = int(settings.restart_window_s * NS_PER_S)
        while child.restarts and now - child.restarts[0] > window_ns:
            child.restarts.popleft()
        used_up = f"{len(child.restarts)} restarts within {settings.restart_window_s:g} s"
        if self._config.lossless or len(child.restarts) >= settings.restarts:
            child.aside = True
            if not self._config.lossless and self._others_see(child):
                self._put_aside(child, f"died ({died}) after {used_up}", now)
                return
            lossless = "a lossless run can't go on without what it had in hand"
            why = lossless if self._config.lossless else used_up
            log.error("%s died (%s) and is not started again: %s", name, died, why)
            self._verdict = EXIT_STAGE
            return
        backoff_s = min(FIRST_BACKOFF_S * 2 ** len(child.restarts), MAX_BACKOFF_S)
        child.restarts.append(now)
        child.total_restarts += 1
        self._metrics.restarts[name] = child.total_restarts
        child.restart_at_ns = now + int(backoff_s * NS_PER_S)
        log.warning("%s died (%s); starting it again in %.1f s", name, died, backoff_s)
        if child.spec.kind == "capture":
            self._say(child.spec.instance, "offline", f"capture died ({died})")
        for words in self._cameras.released(name, now):
            self._note(words)
            self._status.send(words)

    def _others_see(self, child: Child) -> bool:
        """Whether the run can go on without a capture: another camera's isn't put aside."""
        return child.spec.kind == "capture" and any(
            other.spec.kind == "capture" and not other.aside for other in self._children.values()
        )

    def _put_aside(self, child: Child, why: str, now: int) -> None:
        """One camera must not end the run for all; it is tried again much later."""
        log.error("%s %s; tried again in %g s", child.spec.name, why, QUARANTINE_S)
        child.restarts.clear()
        child.restart_at_ns = now + QUARANTINE_S * NS_PER_S
        self._say(child.spec.instance, "quarantined", f"capture {why}")

    def _say(self, camera: str, state: CameraState, reason: str | None) -> None:
        known = self._cameras.get(camera)
        status = CameraStatus(
            camera=camera,
            state=state,
            reason=reason,
            at_ns=self._clock.monotonic_ns(),
            segment=self._segments.get(camera),
            size=known.size if known is not None else None,
        )
        self._note(status)
        self._status.send(status)

    def _control_drain(self) -> None:
        """Hear the last words of a stage before judging its death."""
        self._bus.poll(0.0)

    def _stop(self) -> None:
        """Stop kind by kind, in the order of the data, so that each drains what it was sent."""
        for child in self._children.values():
            self._unwatch_end(child)
        finished = self._config.lossless and self._verdict == EXIT_OK and not self._signals
        began = self._clock.monotonic_ns()
        stop_s = self._config.supervisor.stop_s
        for place, kind in enumerate(KINDS):
            children = [c for c in self._children.values() if c.spec.kind == kind]
            for child in children:
                if child.process is not None:
                    self._control.send(child.spec.name, Stop())
            # Capture may sit in a read; the others have shares of what is left. Something must be
            # left for killing: 5 % of the time.
            share = 0.4 + 0.55 * place / (len(KINDS) - 1)
            deadline = None if finished else began + int(share * stop_s * NS_PER_S)
            self._await_exit(children, deadline)

    def _await_exit(self, children: list[Child], deadline_ns: int | None) -> None:
        """Wait until they have left; kill who has not by the deadline. A signal cuts it short."""
        signals = self._signals
        while any(c.process is not None and c.process.poll() is None for c in children):
            if self._signals > signals:
                return
            now = self._clock.monotonic_ns()
            if deadline_ns is not None and now > deadline_ns:
                break
            if deadline_ns is None and any(
                c.process is not None and now - c.heard_ns > self._patience_s(c) * NS_PER_S
                for c in children
            ):
                break
            self._bus.poll(0.01)
            for output in self._outputs:
                output.tick()
        for child in children:
            if child.process is not None and child.process.poll() is None:
                log.warning("%s did not stop in time; killing it", child.spec.name)
                child.process.kill()
                child.process.wait()

    def _kill_all(self) -> None:
        alive = [c for c in self._children.values() if c.process is not None]
        for child in alive:
            assert child.process is not None
            if child.process.poll() is None:
                child.process.kill()
        for child in alive:
            assert child.process is not None
            child.process.wait()
            self._unwatch_end(child)
            self._close_pipe(child)

    @staticmethod
    def _close_pipe(child: Child) -> None:
        if child.process is not None and child.process.stdin is not None:
            child.process.stdin.close()
