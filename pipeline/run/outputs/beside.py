"""Bridges of the config, each a process beside the stages; it is started again when it dies.

The pipeline knows no more of bridges than how one is called. They connect to the public sockets
like any other program, and remember by themselves what they have sent.
"""

import contextlib
import logging
import os
import subprocess
from pathlib import Path

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from pipeline.errors import EXIT_OK, EXIT_USAGE
from pipeline.program import BRIDGES, command
from pipeline.run.log_lines import EACH
from pipeline.run.outputs.base import RunView
from pipeline.run.process import how_ended, start_beside
from pipeline.run.standard_streams import say
from pipeline.transport.bus import Bus

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STEADY_S = 60.0
"""One that ran for so long is started again soon."""
STOP_S = 3.0

log = logging.getLogger(__name__)


def check_bridges(config: Path, form: str) -> int:
    """Have the bridges of a config file checked by themselves, and print what they say.

    ``form`` is that of log lines. Returns their exit code. Raises OSError.
    """
    arguments = ("-c", str(config), "--check", "--log-format", form)
    with start_beside(BRIDGES, *arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            say(f"bridge {line.decode(errors='replace').rstrip()}")
    return process.returncode


class _Bridge:
    """One process."""

    def __init__(self, name: str, config: Path) -> None:
        self.name, self._config = name, config
        self._process: subprocess.Popen[bytes] | None = None
        self._started_ns = self._due_ns = 0
        self._pause_s = FIRST_PAUSE_S
        self._given_up = False

    def look_after(self, now_ns: int) -> None:
        """Start it, and start it again after a pause when it has died."""
        if self._given_up:
            return
        if self._process is None:
            if now_ns >= self._due_ns:
                self._start(now_ns)
            return
        code = self._process.poll()
        if code is None:
            return
        self._process = None
        if code in (EXIT_OK, EXIT_USAGE):
            # Somebody stopped it, or it can't work with this config, as it has said itself.
            self._given_up = True
            log.error(
                "bridge %s ended (%s) and is not started again; %s -c %s %s --check tells more",
                self.name, how_ended(code), command("bridge"), self._config, self.name,
            )  # fmt: skip
            return
        if now_ns - self._started_ns > STEADY_S * NS_PER_S:
            self._pause_s = FIRST_PAUSE_S
        text = "bridge %s died (%s); starting it again in %g s"
        log.warning(text, self.name, how_ended(code), self._pause_s, extra=EACH)
        self._due_ns = now_ns + int(self._pause_s * NS_PER_S)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def bury(self, seconds: float) -> None:
        """Wait for its end for so long; then kill it."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            return
        self._process.kill()
        self._process.wait()

    def _start(self, now_ns: int) -> None:
        self._started_ns = now_ns
        arguments = ("-c", str(self._config), self.name, "--with-parent", str(os.getpid()))
        try:
            self._process = start_beside(BRIDGES, *arguments)
        except OSError as error:
            log.warning("bridge %s can't be started: %s", self.name, error.strerror)
            self._due_ns = now_ns + int(self._pause_s * NS_PER_S)


class Beside:
    """Keeps the bridges of a config file running, as long as the stages run."""

    def __init__(self, _bus: Bus, view: RunView, config: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._bridges = [_Bridge(name, config) for name in view.config.bridges]

    def tick(self) -> None:
        now_ns = self._clock.monotonic_ns()
        for bridge in self._bridges:
            bridge.look_after(now_ns)

    def close(self) -> None:
        for bridge in self._bridges:
            bridge.stop()
        for bridge in self._bridges:
            bridge.bury(STOP_S)
