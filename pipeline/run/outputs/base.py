"""What an output is, and what it may look at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.config import Config
from pipeline.public.camera_states import CameraStates
from pipeline.run.metrics import StageMetrics
from pipeline.transport.bus import Bus


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
