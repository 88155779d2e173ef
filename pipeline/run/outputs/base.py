"""What an output is, and what it may look at."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.config import Config
from pipeline.errors import in_one_line, os_reason
from pipeline.public.camera_states import CameraStates
from pipeline.run.metrics import StageMetrics
from pipeline.transport.bus import Bus

log = logging.getLogger(__name__)


class StageView(Protocol):
    """A stage, as far as outputs care."""

    @property
    def ready(self) -> bool: ...
    @property
    def total_restarts(self) -> int: ...


@dataclass
class RunView:
    """What outputs may look at."""

    config: Config
    log_path: Path
    stages: Mapping[str, StageView]
    cameras: CameraStates
    metrics: StageMetrics
    started_ns: int
    stopped: Callable[[], bool] = lambda: False
    """Whether a signal has stopped the program: then nobody waits for long."""


class Output(Protocol):
    """Shows events to the person who started the program."""

    def tick(self) -> None:
        """Called several times a second, and whenever something has arrived."""
        ...

    def close(self) -> None:
        """Called after the last stage has left; the event log is complete."""
        ...


MakeOutput = Callable[[Bus, RunView], Output]
"""Opens an output. It may watch sockets of the bus."""


class Outputs:
    """The outputs of a run. One that fails is dropped and logged; the run goes on without it."""

    def __init__(self, makers: Sequence[MakeOutput], bus: Bus, view: RunView) -> None:
        self._outputs: list[Output] = []
        for make in makers:
            try:
                self._outputs.append(make(bus, view))
            except (OSError, ValueError) as error:
                _log_dropped(error)

    def tick(self) -> None:
        """Have each show what has arrived."""
        for output in list(self._outputs):
            try:
                output.tick()
            except (OSError, ValueError) as error:
                self._outputs.remove(output)
                _log_dropped(error)

    def close(self) -> None:
        """Have each show what is left."""
        while self._outputs:
            try:
                self._outputs.pop(0).close()
            except (OSError, ValueError) as error:
                _log_dropped(error)


def _log_dropped(error: OSError | ValueError) -> None:
    reason = os_reason(error) if isinstance(error, OSError) else in_one_line(error)
    text = "standard output can't be written (%s): events are no longer printed; the run goes on"
    log.error(text, reason)
