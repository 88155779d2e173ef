"""Which steps are worth keeping: those while something moves, and some before and after. Pure."""

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

import numpy as np

from pipeline.arrays import STILL, QuantisedFlow

MOVES_PX = 0.3
"""Flow of so many pixels a step is motion."""
LEAST_SHARE = 0.002
"""The least share of a picture's cells that must move: a hand at the other end of a room."""
MOST_NOISE = 0.01
"""Noise makes no more than this share of the cells move. A crowded street is no noise."""
OVER_NOISE = 3.0
"""Motion is so many times the camera's own noise."""
STEPS, OF_STEPS = 3, 6
"""So many of the newest steps move where there is motion."""
FALL, RISE = 0.1, 0.002
"""How fast the noise is learned, a step: at once downwards, in minutes upwards."""

Item = TypeVar("Item")


def moving_share(fields: Iterable[QuantisedFlow], bound: float) -> float:
    """The largest share of the cells of a field that move, 0 to 1; 0 without a field.

    ``fields`` (h, w, 2) uint8, quantised with ``bound`` (:mod:`pipeline.steps.preprocess`).
    """
    least = MOVES_PX / bound * (255 - STILL)
    low, high = np.uint8(STILL - least), np.uint8(np.ceil(STILL + least))
    shares = [
        int(np.count_nonzero(((field < low) | (field > high)).any(axis=2))) / (field.size / 2)
        for field in fields
    ]
    return max(shares, default=0.0)


class MotionGate:
    """Tells motion from the noise of one camera, which it learns.

    A codec's key picture, which cameras send every second or two, is sharper than the pictures
    before it. That looks like motion, for a step or two; so motion is three steps of the last six.
    They need not follow each other, as some cameras send each picture twice.
    """

    def __init__(self) -> None:
        self._noise = 0.0
        self._newest: deque[float] = deque([0.0] * OF_STEPS, maxlen=OF_STEPS)

    def moves(self, share: float) -> bool:
        """Whether a step in which this share of the cells moves shows motion."""
        self._newest.append(share)
        lasting = sorted(self._newest)[-STEPS]
        moves = lasting > max(LEAST_SHARE, OVER_NOISE * self._noise)
        speed = FALL if share < self._noise else RISE
        self._noise = min(self._noise + speed * (share - self._noise), MOST_NOISE)
        return moves


class Keeper(Generic[Item]):
    """Keeps ``before`` steps before each motion and ``after`` steps after it.

    With a window's length of both, a window that ends in motion, or just after it, is whole.
    """

    def __init__(self, before: int, after: int) -> None:
        self._before: deque[Item] = deque(maxlen=before)
        self._after = after
        self._left = 0
        self.dropped = False
        """Whether a step has been given up since the last one that was kept."""

    def push(self, item: Item, moves: bool) -> list[Item]:
        """The steps that are to be kept now that ``item`` has come, in order."""
        if moves:
            self._left = self._after
        elif self._left:
            self._left -= 1
        else:
            self.dropped |= len(self._before) == self._before.maxlen
            self._before.append(item)
            return []
        kept = [*self._before, item]
        self._before.clear()
        return kept
