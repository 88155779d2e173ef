"""Restarts: what becomes of a stage that died. Pure: time comes in as numbers."""

from collections import deque
from dataclasses import dataclass
from typing import Self

from pipeline.clock import NS_PER_S
from pipeline.config import Config

FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0
SUSPENSION_S = 60.0
"""A capture that keeps dying is tried again after this long, if other cameras can go on."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after a pause."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Suspend:
    """Leave it alone for long: it used up its restarts, but the run can go on without it."""

    after_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End the run."""

    reason: str


Verdict = Restart | Suspend | GiveUp


class Restarts:
    """The recent restarts of one stage: at most ``allowed`` within ``window_s``.

    A lossless stage is never started again: what it had in hand can't be repeated.
    """

    @classmethod
    def of(cls, config: Config, *, can_repeat: bool = False) -> Self:
        """The budget that a config gives each stage.

        ``can_repeat``: the stage can do again what it had in hand.
        """
        settings = config.supervisor
        lossless = config.lossless and not can_repeat
        return cls(settings.restarts, settings.restart_window_s, lossless=lossless)

    def __init__(self, allowed: int, window_s: float, *, lossless: bool = False) -> None:
        self._allowed = allowed
        self._window_s = window_s
        self._lossless = lossless
        self._recent: deque[int] = deque()
        self.total = 0

    def died(self, now_ns: int, *, dispensable: bool) -> Verdict:
        """Judge a death at ``now_ns``. ``dispensable``: the run can go on without this stage."""
        if self._lossless:
            return GiveUp("a lossless run can't go on without what it had in hand")
        while self._recent and now_ns - self._recent[0] > self._window_s * NS_PER_S:
            self._recent.popleft()
        count = len(self._recent)
        if count < self._allowed:
            self._recent.append(now_ns)
            self.total += 1
            return Restart(min(FIRST_BACKOFF_S * 2**count, MAX_BACKOFF_S))
        used_up = f"{count} restarts within {self._window_s:g} s"
        if dispensable:
            self._recent.clear()
            return Suspend(SUSPENSION_S, used_up)
        return GiveUp(used_up)
