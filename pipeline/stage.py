"""Stage: what turns messages into messages, and the process that runs one.

``python -m pipeline.stage`` is started by the supervisor only: it reads a :class:`Launch` from its
standard input, which stays open from then on; its end tells the stage that the supervisor is gone.
"""

import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

import msgspec

from pipeline import topics
from pipeline.bus import Bus, BusError, Push
from pipeline.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from pipeline.config import Config
from pipeline.event_log import EventLogError
from pipeline.frame_ring import RingError, RunIdentity, Shape
from pipeline.governor import Pace
from pipeline.messages import (
    CameraStatus,
    Failed,
    Heartbeat,
    Hello,
    Message,
    Pacing,
    Quarantined,
    Ready,
    RingGrant,
    RingRequest,
    Stop,
)
from pipeline.model_pack import PackError
from pipeline.topology import StageSpec

EXIT_OK, EXIT_USAGE, EXIT_NO_SOURCE, EXIT_STAGE = 0, 2, 3, 4
"""Exit codes of the program: done, bad usage or config, no source opened, a stage kept failing."""

DRAIN_LIVE_S = 0.4
GAUGES_S = 2.0
"""How old what a heartbeat says of memory and files may be."""
LOOK_UP_S = 0.05
"""How long a stage that has work without end goes on before it looks for a word to it."""
RING_GRANT_S = 5.0

log = logging.getLogger(__name__)


class Stopped(Exception):
    """Raised out of a wait, when the stage was told to stop meanwhile."""


class StartupError(Exception):
    """The stage can't start and a restart would not help."""

    def __init__(self, reason: str, exit_code: int = EXIT_USAGE) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor tells a new process; over a pipe, so that ``ps`` shows nothing of it."""

    kind: str
    instance: str
    cameras: tuple[str, ...]
    config: str
    run: str
    run_dir: str
    origin_ns: int
    """Start of the run, monotonic: step numbers and the demo camera's time count from it."""
    first_segment: int
    log_level: str


class SupervisorLink:
    """A stage's side of the control socket."""

    def __init__(self, bus: Bus, stage: str, clock: Clock, heartbeat_s: float) -> None:
        self._clock = clock
        self._stage = stage
        self._period_ns = int(heartbeat_s * NS_PER_S)
        self._due_ns = 0
        self._gauges: dict[str, float] = {}
        self._gauged_ns: int | None = None
        self._grants: list[RingGrant] = []
        self._dealer = bus.dealer(topics.CONTROL, stage)
        self.stop_requested = False
        self.pace = Pace()
        bus.watch(self._dealer, self._receive)

    def send(self, message: Message) -> None:
        self._dealer.send(message)

    def hello(self) -> None:
        self.send(Hello(stage=self._stage, pid=os.getpid()))

    def heartbeat(self, counters: "Counter[str]") -> None:
        """Send a heartbeat when one is due: all stages' at the same moments, which wakes the
        supervisor for many at once."""
        now = self._clock.monotonic_ns()
        if now >= self._due_ns:
            self._due_ns = now - now % self._period_ns + self._period_ns
            if self._gauged_ns is None or now - self._gauged_ns >= GAUGES_S * NS_PER_S:
                self._gauges, self._gauged_ns = _process_gauges(), now
            self.send(Heartbeat(counters={**counters, **self._gauges}))

    def until_heartbeat_s(self) -> float:
        return max(0, self._due_ns - self._clock.monotonic_ns()) / NS_PER_S

    def take_grant(self) -> RingGrant | None:
        return self._grants.pop(0) if self._grants else None

    def _receive(self) -> None:
        for message in self._dealer.drain():
            if isinstance(message, Stop):
                self.stop_requested = True
            elif isinstance(message, RingGrant):
                self._grants.append(message)
            elif isinstance(message, Pacing):
                self.pace = Pace(message.spatial_every, message.fast_flow, message.step_every)


@dataclass
class Context:
    """What a stage is given: its part of the config, its sockets and its link to the supervisor."""

    spec: StageSpec
    config: Config
    run: RunIdentity
    run_dir: Path
    bus: Bus
    link: SupervisorLink
    clock: Clock
    origin_ns: int
    first_segment: int
    counters: "Counter[str]"
    _status: Push | None = None

    @property
    def lossless(self) -> bool:
        return self.config.lossless

    def idle(self, seconds: float) -> None:
        """Wait inside a piece of work: heartbeats go on, a stop raises :class:`Stopped`."""
        self.bus.poll(min(seconds, self.link.until_heartbeat_s()))
        self.link.heartbeat(self.counters)
        if self.link.stop_requested:
            raise Stopped

    def request_ring(self, camera: str, content: str, shape: Shape) -> str:
        """Ask the owner of all shared memory for a ring; returns its name or raises RingError."""
        request = RingRequest(
            camera=camera, content="frame" if content == "frame" else "flow", shape=shape
        )
        self.link.send(request)
        deadline = self.clock.monotonic_ns() + int(RING_GRANT_S * NS_PER_S)
        while self.clock.monotonic_ns() < deadline:
            self.idle(0.05)
            grant = self.link.take_grant()
            if grant is not None and grant.camera == camera:
                if grant.ring is None:
                    raise RingError(grant.reason or "refused")
                return grant.ring
        raise RingError(f"the supervisor did not answer for {camera} within {RING_GRANT_S:g} s")

    def status(self, status: CameraStatus | Quarantined) -> None:
        """Tell both who want to know: the supervisor, and publish for all others."""
        if self._status is None:
            self._status = self.bus.push(topics.STATUS)
        self.link.send(status)
        self._status.send(status)


class Stage(Protocol):
    """One kind of work. Made, opened, worked, drained when told to stop, closed."""

    def open(self) -> None:
        """Load and bind what is needed; raises :class:`StartupError` when that can't succeed."""
        ...

    def work(self) -> float | None:
        """Do what there is to do; returns in how many seconds to be called again at the latest.

        None: when something arrives. 0: at once.
        """
        ...

    def drained(self) -> bool:
        """After a stop: whether all that the stage will ever get has been worked off."""
        ...

    def close(self) -> None: ...


def run_loop(stage: Stage, context: Context, alive: "Lifeline") -> None:
    """Work until told to stop and drained. Heartbeats come from here: a hung stage is silent."""
    link = context.link
    drain_ns: int | None = None
    look_up_ns = 0
    while alive:
        wait = stage.work()
        if context.bus.rejected:
            context.counters["messages_refused"] = context.bus.rejected
        link.heartbeat(context.counters)
        if link.stop_requested or alive.terminated:
            link.stop_requested = True
            now = context.clock.monotonic_ns()
            if drain_ns is None:
                patience = 1 << 62 if context.lossless else int(DRAIN_LIVE_S * NS_PER_S)
                drain_ns = now + patience
            if stage.drained() or now > drain_ns:
                return
            wait = min(wait or 0.02, 0.02)
        elif wait == 0.0 and context.clock.monotonic_ns() < look_up_ns:
            continue
        look_up_ns = context.clock.monotonic_ns() + int(LOOK_UP_S * NS_PER_S)
        pause = link.until_heartbeat_s()
        context.bus.poll(pause if wait is None else min(wait, pause))


class Lifeline:
    """Whether to live on: signals that came, and the supervisor's end of the pipe."""

    def __init__(self, bus: Bus) -> None:
        self.terminated = False
        self._orphaned = False
        signal.signal(signal.SIGTERM, self._on_signal)
        # Control-C goes to the whole foreground group; the supervisor decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        bus.watch(sys.stdin.fileno(), self._on_stdin)

    def __bool__(self) -> bool:
        return not self._orphaned

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.terminated = True

    def _on_stdin(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self._orphaned = True


def die_with_parent() -> None:
    """Have Linux kill this process when its parent ends, even where a call never returns."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def limit_threads() -> None:
    """One thread for OpenCV in each stage: parallelism is between the stages, not inside."""
    import cv2

    cv2.setNumThreads(1)


def _process_gauges() -> dict[str, float]:
    gauges = {}
    with contextlib.suppress(OSError):
        resident, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
        gauges["rss_bytes"] = float(resident * os.sysconf("SC_PAGE_SIZE"))
        # Without the rings, which belong to nobody in particular.
        gauges["private_bytes"] = float((resident - shared) * os.sysconf("SC_PAGE_SIZE"))
        gauges["open_files"] = float(len(os.listdir("/proc/self/fd")))
    return gauges


def _read_launch() -> Launch:
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            raise SystemExit("pipeline.stage is started by the supervisor (run_stream.py)")
        line += byte
    return msgspec.json.decode(line, type=Launch)


def _context(launch: Launch) -> Context:
    config = Config.model_validate_json(launch.config)
    bus = Bus(Path(launch.run_dir), config.lossless)
    spec = StageSpec(launch.kind, launch.instance, launch.cameras)
    link = SupervisorLink(bus, spec.name, SYSTEM_CLOCK, config.supervisor.heartbeat_s)
    return Context(
        spec=spec,
        config=config,
        run=RunIdentity(launch.run),
        run_dir=Path(launch.run_dir),
        bus=bus,
        link=link,
        clock=SYSTEM_CLOCK,
        origin_ns=launch.origin_ns,
        first_segment=launch.first_segment,
        counters=Counter(),
    )


def main() -> int:
    die_with_parent()
    launch = _read_launch()
    logging.basicConfig(
        level=launch.log_level,
        stream=sys.stderr,
        format=f"%(asctime)s %(levelname)s {launch.kind}:{launch.instance} %(message)s".replace(
            ": ", " "
        ),
    )
    context = _context(launch)
    alive = Lifeline(context.bus)
    context.link.hello()
    # Imported only now: a stage that needs no network does not pay for onnxruntime.
    from pipeline.stages import create

    stage = create(context)
    try:
        limit_threads()
        stage.open()
        context.link.send(Ready())
        run_loop(stage, context, alive)
    except Stopped:
        pass
    except (StartupError, PackError, BusError, EventLogError) as error:
        code = error.exit_code if isinstance(error, StartupError) else EXIT_USAGE
        context.link.send(Failed(reason=str(error), exit_code=code))
        return code
    finally:
        stage.close()
        context.bus.close()
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
