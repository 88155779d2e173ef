"""Quarantine: what becomes of a camera whose data a stage can't work on. The others go on."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from pipeline.clock import NS_PER_S
from pipeline.messages import Quarantined
from pipeline.stages.base import Context, Stopped

FIRST_S, LONGEST_S = 5.0, 300.0
WELL_S = 60.0
"""A camera that gave no trouble for so long starts again with the shortest pause."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Case:
    until_ns: int
    pause_s: float
    held: bool = True


class _Guard:
    """The block around one camera's work; entered for every step, hence no generator."""

    __slots__ = ("_camera", "_failed")

    def __init__(self, camera: str, failed: Callable[[str, Exception], bool]) -> None:
        self._camera = camera
        self._failed = failed

    def __enter__(self) -> None:
        return

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> bool:
        return isinstance(error, Exception) and self._failed(self._camera, error)


class Quarantine:
    """Keeps a stage's failures to the camera that caused them.

    A failure puts its camera aside for a pause, twice as long each time it comes again; then its
    data are tried anew. Lossless, a failure is passed on: a result with a hole in it would be
    another result.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cases: dict[str, _Case] = {}

    def guard(self, camera: str) -> _Guard:
        """Around what is done for one camera alone: its failure ends the block, not the stage."""
        return _Guard(camera, self._failed)

    def holds(self, camera: str) -> bool:
        """Whether the camera's data are to be left alone now."""
        case = self._cases.get(camera)
        if case is None or not case.held:
            return False
        if self._context.clock.monotonic_ns() < case.until_ns:
            return True
        case.held = False
        log.info("camera %s: tried again", camera)
        self._tell(camera, None)
        return False

    def _failed(self, camera: str, error: Exception) -> bool:
        """Whether the stage goes on without this camera."""
        if isinstance(error, Stopped) or self._context.lossless:
            return False
        self._put_aside(camera, error)
        return True

    def _put_aside(self, camera: str, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        now = self._context.clock.monotonic_ns()
        case, pause_s = self._cases.get(camera), FIRST_S
        if case is not None and now - case.until_ns < WELL_S * NS_PER_S:
            pause_s = min(2 * case.pause_s, LONGEST_S)
        self._cases[camera] = _Case(now + int(pause_s * NS_PER_S), pause_s)
        self._context.counters["quarantines"] += 1
        log.error("camera %s is left alone for %g s: %s", camera, pause_s, why, exc_info=error)
        self._tell(camera, why)

    def _tell(self, camera: str, reason: str | None) -> None:
        stage, now = self._context.spec.name, self._context.clock.monotonic_ns()
        self._context.status(Quarantined(camera=camera, stage=stage, reason=reason, at_ns=now))
