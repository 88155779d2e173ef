"""Pauses between tries: longer each time, and never the same for all."""

import random
from collections.abc import Callable

FIRST_S = 0.5
LONGEST_ASKED_S = 3600.0
"""A receiver that asks for a longer pause (Retry-After) is tried after this one all the same."""


class Backoff:
    """The next pause, which doubles up to ``longest_s``; a success begins again."""

    def __init__(self, longest_s: float, chance: Callable[[], float] = random.random) -> None:
        self._longest_s = longest_s
        self._chance = chance
        self._pause_s = FIRST_S

    def reset(self) -> None:
        self._pause_s = FIRST_S

    def pause_s(self, at_least_s: float = 0.0) -> float:
        """How long to wait now: between a half and the whole of the pause, by chance.

        Many bridges that lost one receiver must not all come back at the same moment.
        """
        whole = min(self._pause_s, self._longest_s)
        self._pause_s = min(2 * whole, self._longest_s)
        pause = whole * (0.5 + self._chance() / 2)
        if at_least_s <= 0:
            return pause
        return max(pause, min(at_least_s, LONGEST_ASKED_S) * (1 + self._chance() / 10))
