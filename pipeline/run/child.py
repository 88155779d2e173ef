"""A stage's process as the supervisor sees it: started, watched, killed."""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping

import msgspec

from pipeline.clock import NS_PER_S, Clock
from pipeline.run.launch import Launch
from pipeline.run.process import Process
from pipeline.run.restarts import Restarts
from pipeline.topology import StageSpec
from pipeline.transport.bus import Bus


class Child:
    """One stage and its present process, if it has one.

    ``start`` starts the process of a stage, by its name. ``on_end`` is called from the bus's poll
    when the process ends, where the system can tell (Linux); elsewhere :meth:`ended` must be asked.
    """

    def __init__(
        self,
        spec: StageSpec,
        bus: Bus,
        clock: Clock,
        restarts: Restarts,
        start: Callable[[str], Process],
        on_end: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.restarts = restarts
        self.ready = False
        self.ever_ready = False
        self.suspended = False
        self.private_bytes = 0.0
        self.people_named = 0.0
        self.restart_at_ns = 0
        self.heard_ns = 0
        self._bus = bus
        self._clock = clock
        self._on_end = on_end
        self._start = start
        self._process: Process | None = None
        self._end_fd: int | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def total_restarts(self) -> int:
        return self.restarts.total

    @property
    def started(self) -> bool:
        """Whether there is a process, dead or alive, that :meth:`bury` has not taken away."""
        return self._process is not None

    def spawn(self, launch: Launch) -> None:
        """Start the process and tell it over its standard input what to do.

        Raises OSError where the system has no process left to give.
        """
        self.suspended = self.ready = False
        process = self._process = self._start(self.name)
        # It may have been killed already, which is noticed as any other death is.
        with contextlib.suppress(BrokenPipeError):
            _write_all(process.stdin_fd, msgspec.json.encode(launch) + b"\n")
        self._watch_end(process.pid)
        self.heard_ns = self._clock.monotonic_ns()

    def heard(self) -> None:
        """A message has come from it."""
        self.heard_ns = self._clock.monotonic_ns()

    def beat(self, counters: Mapping[str, float]) -> None:
        """Keep what must be known of it from its heartbeats."""
        self.private_bytes = counters.get("private_bytes", 0.0)
        self.people_named = counters.get("people_named", self.people_named)

    @property
    def first_name(self) -> int:
        """The number of the first person that its next process names.

        A new process begins a new hundred: it can't know what was named after the last heartbeat.
        """
        return 1 if not self.ever_ready else (int(self.people_named) + 50) // 100 * 100 + 101

    def silent_s(self, now_ns: int) -> float:
        return (now_ns - self.heard_ns) / NS_PER_S

    def ended(self) -> int | None:
        """The exit code of a process that has ended (negative: the signal), else None."""
        return self._process.ended() if self._process is not None else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.ended() is None

    def kill(self) -> None:
        if self.alive and self._process is not None:
            self._process.kill()

    def bury(self) -> None:
        """Take away what is left of a process that ends or has ended."""
        self.unwatch()
        if self._process is not None:
            self._process.bury()
            self._process = None

    def unwatch(self) -> None:
        """No longer wake up when the process ends."""
        if self._end_fd is not None:
            self._bus.unwatch(self._end_fd)
            os.close(self._end_fd)
            self._end_fd = None

    def _watch_end(self, pid: int) -> None:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                self._end_fd = os.pidfd_open(pid)
                self._bus.watch(self._end_fd, self._on_end)


def _write_all(number: int, data: bytes) -> None:
    while data:
        data = data[os.write(number, data) :]
