"""How a person's box moves: a Kalman filter of constant velocity, whatever the intervals.

Lengths are in picture heights and relative to the person's own size, so that far and near people
are followed alike.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.people.geometry import Boxes
from pipeline.transport.messages import Box

_PLACE = 0.07
"""Standard deviation of a detection's centre, in sizes of the person."""
_SIDES = 0.12
"""The same of its width and its height: arms, legs and hidden parts."""
_BEGIN = 0.8
"""Standard deviation of the speed of somebody who is new, in sizes a second; walking is 0.8."""
_TURN = 0.35
"""How the speed wanders, in sizes a second after one second."""
_GROW = 0.15
"""How width and height wander, in sizes after one second."""
_RUN_OUT_S = 5.0
"""A speed that nothing confirms falls to 1/e in this time: people stop more often than they leave
the picture unseen."""


class Motion:
    """The place (cx, cy), the speed and the sides (w, h) of one person, with their variances."""

    def __init__(self, box: npt.NDArray[np.float64]) -> None:
        self._place, self._sides = _measured(box)
        self._speed = np.zeros(2)
        size = self._size()
        # Variances of place, place and speed, speed; the same for x and y. And of the sides.
        self._pp, self._pv, self._vv = (_PLACE * size) ** 2, 0.0, (_BEGIN * size) ** 2
        self._ss = (_SIDES * size) ** 2

    def advance(self, seconds: float, rested: bool = False) -> None:
        """Predict ``seconds`` on; ``rested`` for a pause in which nothing moved."""
        size = self._size()
        if rested:
            self._speed[:] = 0
            self._pv, self._vv = 0.0, (_BEGIN * size) ** 2
        reach, kept = _coasting(seconds)
        self._place += self._speed * reach
        self._speed *= kept
        wander = (_TURN * size) ** 2
        self._pp += 2 * reach * self._pv + reach**2 * self._vv + wander * seconds**3 / 3
        self._pv = kept * (self._pv + reach * self._vv) + wander * seconds**2 / 2
        self._vv = kept**2 * self._vv + wander * seconds
        self._ss += (_GROW * size) ** 2 * seconds

    def correct(self, box: npt.NDArray[np.float64]) -> None:
        """Take in a detection (4,): x0, y0, x1, y1."""
        place, sides = _measured(box)
        size = self._size()
        spread = self._pp + (_PLACE * size) ** 2
        gain, speed_gain = self._pp / spread, self._pv / spread
        error = place - self._place
        self._place += gain * error
        self._speed += speed_gain * error
        self._vv -= speed_gain * self._pv
        self._pp, self._pv = (1 - gain) * self._pp, (1 - gain) * self._pv
        gain = self._ss / (self._ss + (_SIDES * size) ** 2)
        self._sides += gain * (sides - self._sides)
        self._ss *= 1 - gain

    def shift(self, x: float, y: float) -> None:
        """Move with the camera."""
        self._place += (x, y)

    def state(self) -> tuple[float, ...]:
        """cx, cy, h, and the variances that a detection of them has: of cx and cy, of h."""
        size = self._size()
        return (
            float(self._place[0]),
            float(self._place[1]),
            float(self._sides[1]),
            self._pp + (_PLACE * size) ** 2,
            self._ss + (_SIDES * size) ** 2,
            (_PLACE * size) ** 2,
        )

    def corners(self, seconds: float = 0.0) -> Box:
        """The box ``seconds`` from now, in picture heights; it may lie outside the picture."""
        cx, cy = self._place + self._speed * _coasting(seconds)[0]
        half_w, half_h = self._sides / 2
        return float(cx - half_w), float(cy - half_h), float(cx + half_w), float(cy + half_h)

    def box(self, seconds: float, aspect: float) -> Box:
        """The box ``seconds`` from now in 0..1 of a picture of ``aspect``."""
        x0, y0, x1, y1 = self.corners(seconds)
        return x0 / aspect, y0, x1 / aspect, y1

    def area(self) -> float:
        return float(self._sides[0] * self._sides[1])

    def _size(self) -> float:
        # A person who lies is as large as one who stands.
        return float(self._sides.max())


def surprises(motions: Sequence[Motion], boxes: Boxes, farthest: float) -> npt.NDArray[np.float64]:
    """How unlikely each detection is for each track: (n, m), 0 and up, ``inf`` if too far.

    The squared distance in standard deviations plus the log of the variance over that of a track
    that is followed well: minus twice the log likelihood. The second term gives a detection to the
    track that was seen of late, and not to one that may be anywhere by now.
    """
    if not motions or not len(boxes):
        return np.zeros((len(motions), len(boxes)))
    cx, cy, high, spread, side_spread, still = np.array([m.state() for m in motions]).T[..., None]
    centre_x, centre_y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    distance = ((cx - centre_x) ** 2 + (cy - centre_y) ** 2) / spread
    distance = distance + (high - (boxes[:, 3] - boxes[:, 1])) ** 2 / side_spread
    cost = distance + 2 * np.log(spread / still) + 0 * side_spread
    return np.asarray(np.where(distance <= farthest, np.maximum(cost, 0), np.inf))


def _measured(box: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    low, high = box[:2], box[2:4]
    return (low + high) / 2, high - low


def _coasting(seconds: float) -> tuple[float, float]:
    """How far a speed of 1 carries in ``seconds``, and what is left of it."""
    if seconds < 0:
        return seconds, 1.0
    kept = math.exp(-seconds / _RUN_OUT_S)
    return _RUN_OUT_S * (1 - kept), kept
