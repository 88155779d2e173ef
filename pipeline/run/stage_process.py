"""The process of one stage: ``python -m pipeline.run.stage_process NAME``.

Only the supervisor starts it. It reads a :class:`~pipeline.run.launch.Launch` from its standard
input, which stays open from then on: its end means that the supervisor is gone.
"""

import logging
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import msgspec

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.config import Config
from pipeline.errors import EXIT_OK, EXIT_STAGE, EXIT_USAGE, TwoStreamError
from pipeline.program import command, missing_library
from pipeline.run import logs
from pipeline.run.launch import Launch
from pipeline.run.linux import die_with_parent
from pipeline.run.log_lines import log_crash, turn_log
from pipeline.run.signals import ignore_terminal
from pipeline.run.standard_streams import open_missing_streams
from pipeline.stages import create
from pipeline.stages.base import Context, Stage, Stopped
from pipeline.stages.link import SupervisorLink
from pipeline.topology import BESIDE, StageSpec
from pipeline.transport.bus import Bus
from pipeline.transport.messages import Failed, Ready
from pipeline.transport.run_identity import RunIdentity

DRAIN_LIVE_S = 0.4
DRAIN_BESIDE_S = 3.0
"""Evidence has clips in hand that are written when the last events are known."""
BUSY_POLL_S = 0.05
"""A stage that always has work polls its control socket this often."""
EXIT_CRASHED = 1
"""A stage's own exit code after an exception that nobody expected."""

log = logging.getLogger(__name__)


def run_loop(stage: Stage, context: Context, alive: "Lifeline") -> None:
    """Work until the stage was told to stop and has drained.

    Heartbeats come from here, so a hung stage falls silent.
    """
    link = context.link
    drain_ns: int | None = None
    poll_ns = 0
    while alive:
        wait = stage.work()
        if context.bus.rejected:
            context.counters["messages_refused"] = context.bus.rejected
        if context.bus.dropped:
            context.counters["messages_dropped"] = context.bus.dropped
        link.heartbeat(context.counters)
        turn_log()
        if link.stop_requested or alive.terminated:
            link.stop_requested = True
            now = context.clock.monotonic_ns()
            if drain_ns is None:
                drain_ns = now + _patience_ns(context)
            if stage.drained() or now > drain_ns:
                return
            wait = min(wait or 0.02, 0.02)
        elif wait == 0.0 and context.clock.monotonic_ns() < poll_ns:
            continue
        poll_ns = context.clock.monotonic_ns() + int(BUSY_POLL_S * NS_PER_S)
        pause = link.until_heartbeat_s()
        context.bus.poll(pause if wait is None else min(wait, pause))


def _patience_ns(context: Context) -> int:
    """How long a stage may drain."""
    if context.lossless:
        return 1 << 62
    beside = context.spec.kind in BESIDE
    return int((DRAIN_BESIDE_S if beside else DRAIN_LIVE_S) * NS_PER_S)


class Lifeline:
    """Whether to go on: false once the supervisor's end of the pipe is closed."""

    def __init__(self, bus: Bus) -> None:
        self.terminated = False
        self._orphaned = False
        signal.signal(signal.SIGTERM, self._on_signal)
        bus.watch(sys.stdin.fileno(), self._on_stdin)

    def __bool__(self) -> bool:
        return not self._orphaned

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.terminated = True

    def _on_stdin(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self._orphaned = True


def limit_threads() -> None:
    """One thread for OpenCV in each stage: parallelism is between the stages, not inside."""
    import cv2

    cv2.setNumThreads(1)


def _read_launch() -> Launch:
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            raise SystemExit(f"only the supervisor starts a stage: {command('run')}")
        line += byte
    return msgspec.json.decode(line, type=Launch)


def _context(launch: Launch, spec: StageSpec) -> Context:
    config = Config.model_validate_json(launch.config)
    bus = Bus(Path(launch.run_dir), config.lossless, launch.kind)
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
        first_number=launch.first_number,
        counters=Counter(),
    )


def main() -> int:
    """Run one stage to its end; returns the exit code of the process."""
    die_with_parent()
    ignore_terminal()
    open_missing_streams()
    launch = _read_launch()
    spec = StageSpec(launch.kind, launch.instance, launch.cameras)
    logs.start(launch.log_level, launch.log_form, spec)
    context = _context(launch, spec)
    alive = Lifeline(context.bus)
    context.link.hello()
    try:
        return _work(context, alive, first=launch.first)
    finally:
        context.bus.close()


def _work(context: Context, alive: "Lifeline", *, first: bool) -> int:
    """Make the stage and have it work; its errors become messages and exit codes.

    ``first``: the stage has not been ready in this run yet.
    """
    stage: Stage | None = None
    try:
        limit_threads()
        stage = create(context)
        context.link.send(Ready())
        run_loop(stage, context, alive)
    except Stopped:
        pass
    except TwoStreamError as error:
        context.link.send(Failed(reason=str(error), exit_code=error.exit_code))
        return error.exit_code
    except ImportError as error:
        context.link.send(Failed(reason=missing_library(error), exit_code=EXIT_USAGE))
        return EXIT_USAGE
    except Exception as error:
        log_crash(log, "stopped by an unexpected error", error)
        if stage is None and first and context.spec.kind != "capture":
            # What fails before anything has arrived would fail again.
            context.link.send(Failed(reason="it can't start", exit_code=EXIT_STAGE))
        return EXIT_CRASHED
    finally:
        if stage is not None:
            stage.close()
    return EXIT_OK


if __name__ == "__main__":
    # By its own name: what is defined here must be the same thing to all who import it.
    from pipeline.run import stage_process

    sys.exit(stage_process.main())
