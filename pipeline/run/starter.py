"""How the processes of stages are started: by the fork server where there is one, else directly."""

import contextlib
import logging
import sys
from collections.abc import Callable

from pipeline.clock import NS_PER_S, Clock
from pipeline.run.fork_protocol import EXIT_UNFIT
from pipeline.run.fork_server import ForkServer, ForkServerLost
from pipeline.run.linux import adopt_orphans
from pipeline.run.process import Process, how_ended, start_directly
from pipeline.transport.bus import Bus

MOST_DEATHS = 5
"""Fork servers that may die in a run before stages are started without one."""

log = logging.getLogger(__name__)


class Starter:
    """Starts stages, and keeps a fork server for it, which loads meanwhile.

    A fork server that dies is replaced. One that dies before it is ready, or isn't ready after
    ``patience_s``, is not.
    """

    def __init__(self, bus: Bus, clock: Clock, patience_s: float) -> None:
        self.on_change: Callable[[], None] = lambda: None
        """Called from the bus's poll when :meth:`can_start` may have changed."""
        self._bus = bus
        self._clock = clock
        self._patience_s = patience_s
        self._server: ForkServer | None = None
        self._began_ns = 0
        self._deaths = 0
        if sys.platform == "linux":
            self._begin()

    def can_start(self) -> bool:
        """Whether to start stages now; False while the fork server loads."""
        if self._server is None or self._server.ready:
            return True
        if self._clock.monotonic_ns() - self._began_ns < self._patience_s * NS_PER_S:
            return False
        self._end(self._server)
        log.warning(
            "the fork server was not ready after %g s; stages are started without it",
            self._patience_s,
        )
        return True

    def start(self, stage: str) -> Process:
        """Start the process of a stage. Raises OSError where the system has none left to give."""
        server = self._server
        if server is not None and server.ready:
            try:
                return server.fork(stage)
            except ForkServerLost:
                log.debug("the fork server was asked for %s in vain", stage)
            finally:
                if not server.ready:
                    self._lost(server)
        return start_directly(stage)

    def close(self) -> None:
        """End the fork server. Stages don't depend on it."""
        if self._server is not None:
            self._end(self._server)
        adopt_orphans(on=False)

    def _begin(self) -> None:
        # Where it can't be started, a stage may: it needs fewer descriptors.
        with contextlib.suppress(OSError):
            server = ForkServer()
            self._bus.watch(server.fileno(), self._on_readable)
            self._server = server
            self._began_ns = self._clock.monotonic_ns()

    def _on_readable(self) -> None:
        server = self._server
        if server is not None:
            if server.receive():
                log.debug("the fork server is ready")
            else:
                self._lost(server)
        self.on_change()

    def _lost(self, server: ForkServer) -> None:
        was_ready = server.was_ready
        code = self._end(server)
        self._deaths += 1
        if was_ready and self._deaths < MOST_DEATHS:
            log.warning("the fork server died (%s); starting another", how_ended(code))
            self._begin()
        elif code == EXIT_UNFIT:
            log.debug("the fork server is not fit; stages are started without it")
        else:
            log.warning("the fork server died (%s); stages are started without it", how_ended(code))

    def _end(self, server: ForkServer) -> int:
        self._server = None
        self._bus.unwatch(server.fileno())
        return server.end()
