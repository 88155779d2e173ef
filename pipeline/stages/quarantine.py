"""Quarantine: a stage skips a camera for a while after it failed on that camera's data.

The other cameras go on.
"""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pipeline.clock import NS_PER_S, Clock
from pipeline.errors import RingError, TwoStreamError, in_one_line
from pipeline.stages.base import Context, Stopped
from pipeline.transport.counters import key
from pipeline.transport.messages import Quarantined

FIRST_S, LONGEST_S = 5.0, 300.0
LONGEST_FOR_ROOM_S = 10.0
WELL_S = 60.0
"""A camera that gave no trouble for this long starts again with the shortest pause."""

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

    After a failure the stage skips the camera for a pause, which doubles each time. ``publish``
    sends what happens to the supervisor and to subscribers. In a lossless run a failure is passed
    on instead: a result with a hole in it would be another result.
    """

    def __init__(
        self,
        stage: str,
        clock: Clock,
        counters: "Counter[str]",
        publish: Callable[[Quarantined], None],
        *,
        lossless: bool = False,
    ) -> None:
        self._stage = stage
        self._clock = clock
        self._counters = counters
        self._publish = publish
        self._lossless = lossless
        self._cases: dict[str, _Case] = {}

    @classmethod
    def of(cls, context: Context) -> Self:
        """The quarantine of the stage that has this context."""
        return cls(
            context.spec.name,
            context.clock,
            context.counters,
            context.status,
            lossless=context.lossless,
        )

    def guard(self, camera: str) -> _Guard:
        """Around what is done for one camera alone: its failure ends the block, not the stage."""
        return _Guard(camera, self._failed)

    def holds(self, camera: str) -> bool:
        """Whether the camera must be skipped now."""
        case = self._cases.get(camera)
        if case is None or not case.held:
            return False
        if self._clock.monotonic_ns() < case.until_ns:
            return True
        case.held = False
        log.info("camera %s: trying again", camera)
        self._report(camera, None)
        return False

    def _failed(self, camera: str, error: Exception) -> bool:
        """Whether the stage goes on without this camera."""
        if isinstance(error, Stopped) or self._lossless:
            return False
        self._suspend(camera, error)
        return True

    def _suspend(self, camera: str, error: Exception) -> None:
        known = isinstance(error, TwoStreamError)
        why = str(error) if known else f"{type(error).__name__}: {error}"
        now = self._clock.monotonic_ns()
        case, pause_s = self._cases.get(camera), FIRST_S
        if case is not None and now - case.until_ns < WELL_S * NS_PER_S:
            # Room in shared memory comes back without notice.
            longest_s = LONGEST_FOR_ROOM_S if isinstance(error, RingError) else LONGEST_S
            pause_s = min(2 * case.pause_s, longest_s)
        self._cases[camera] = _Case(now + int(pause_s * NS_PER_S), pause_s)
        self._counters[key("quarantines", camera)] += 1
        log.error("camera %s is skipped for %g s: %s", camera, pause_s, in_one_line(error))
        log.debug("camera %s: its traceback", camera, exc_info=error)
        self._report(camera, why)

    def _report(self, camera: str, reason: str | None) -> None:
        now = self._clock.monotonic_ns()
        self._publish(Quarantined(camera=camera, stage=self._stage, reason=reason, at_ns=now))
