"""How the hand of the demo camera moves: strokes, pauses and idle behaviour, planned from a seed.

Places are in picture heights: y goes from 0 (top) to 1 (bottom), x from 0 to the aspect ratio.
Stroke order and direction are those of the EgoGestAR clips (a right hand before a head-worn
camera): the circle runs anticlockwise from its upper right, the square clockwise from its upper
left, the star is a pentagram from its lower left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

GESTURES: tuple[str, ...] = (
    "left", "right", "up", "down", "circle", "square", "star", "tick", "cross", "caret",
)  # fmt: skip

SAMPLE_HZ = 60.0
TIP_X, TIP_Y, TILT, THUMB, INDEX, MIDDLE, RING, LITTLE = range(8)
POINTING = (0.0, 1.0, 0.0, 0.0, 0.0)
FIST = (0.0, 0.0, 0.0, 0.0, 0.0)
OPEN_HAND = (1.0, 1.0, 1.0, 1.0, 1.0)

Pattern = Literal["line", "few", "round", "many"]


@dataclass(frozen=True)
class ScriptedGesture:
    """A gesture that the demo performs; the stroke runs from ``start_s`` to ``end_s``."""

    label: str
    start_s: float
    end_s: float


def _polygon(*degrees: float) -> Array:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


# Corners in a box of ±1, x right and y down. The ranges of duration and size below are around those
# of the clips (for the duration, the median active time per class).
_CORNERS: dict[str, Array] = {
    "left": np.array([[1.0, 0.0], [-1.0, 0.0]]),
    "right": np.array([[-1.0, 0.0], [1.0, 0.0]]),
    "up": np.array([[0.0, 1.0], [0.0, -1.0]]),
    "down": np.array([[0.0, -1.0], [0.0, 1.0]]),
    "square": np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]]),
    "star": _polygon(126.0, -90.0, 54.0, -162.0, -18.0, 126.0),
    "tick": np.array([[-1.0, -0.7], [-0.3, 1.0], [1.0, -0.9]]),
    "cross": np.array([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]]),
    "caret": np.array([[-1.0, 1.0], [0.0, -1.0], [1.0, 1.0]]),
}
_DURATION_S: dict[str, tuple[float, float]] = {
    "left": (0.8, 2.6), "right": (0.8, 2.6), "up": (0.7, 2.4), "down": (0.7, 2.2),
    "circle": (1.6, 4.2), "square": (2.5, 5.2), "star": (3.2, 6.5), "tick": (1.1, 2.5),
    "cross": (2.3, 4.2), "caret": (1.2, 2.6),
}  # fmt: skip
_HALF_SIZE: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "left": ((0.25, 0.45), (0.2, 0.2)),
    "right": ((0.25, 0.45), (0.2, 0.2)),
    "up": ((0.2, 0.2), (0.15, 0.3)),
    "down": ((0.2, 0.2), (0.15, 0.3)),
}
_USUAL_HALF_SIZE = ((0.2, 0.36), (0.17, 0.3))


def _minimum_jerk(fraction: Array) -> Array:
    """Position along a reach as people make it (Flash and Hogan, J. Neurosci. 1985)."""
    return fraction**3 * (10.0 - 15.0 * fraction + 6.0 * fraction**2)


def stroke_points(label: str, rng: np.random.Generator, aspect: float) -> list[Array]:
    """The legs of a gesture, each a polyline (N, 2) in picture heights; a circle is one leg.

    N is 2 except for circles, 40.
    """
    (low_x, high_x), (low_y, high_y) = _HALF_SIZE.get(label, _USUAL_HALF_SIZE)
    half = np.array([rng.uniform(low_x, high_x), rng.uniform(low_y, high_y)])
    if label == "circle":
        start, sweep = rng.uniform(-80.0, 0.0), rng.uniform(340.0, 400.0)
        corners = _polygon(*np.linspace(start, start - sweep, 40))
    else:
        corners = _CORNERS[label] + rng.normal(0.0, 0.06, _CORNERS[label].shape)
    turn = np.radians(rng.normal(0.0, 5.0))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (corners * half) @ rotation.T  # (N, 2)
    # The centre is random, but the stroke stays 0.08 away from the edges of the picture. Where it
    # is too large for that, the two bounds change places.
    low = np.array([0.08, 0.08]) - points.min(axis=0)
    high = np.array([aspect - 0.08, 0.92]) - points.max(axis=0)
    centre = rng.normal((0.5 * aspect, 0.48), (0.12, 0.08))
    points += np.clip(centre, np.minimum(low, high), np.maximum(low, high))
    if label == "circle":
        return [points]
    return [points[i : i + 2] for i in range(len(points) - 1)]


class Choreography:
    """Builds a track movement by movement, sampled at :data:`SAMPLE_HZ`."""

    def __init__(self, rng: np.random.Generator, aspect: float) -> None:
        self._rng = rng
        self._aspect = aspect
        self._samples: list[Array] = []
        self._count = 0
        self._state = np.array([*self._outside(), 0.0, *POINTING])

    @property
    def now_s(self) -> float:
        return self._count / SAMPLE_HZ

    def track(self) -> Array:
        """(K, 8) samples: x, y, tilt in radians, five finger extensions in 0…1; with tremor."""
        # A sum of sine waves (hertz, size in picture heights), from a slow sway to a fast tremor.
        samples = np.concatenate(self._samples)
        times = np.arange(len(samples)) / SAMPLE_HZ
        for hertz, size in ((0.4, 0.006), (1.1, 0.003), (2.3, 0.0015), (8.0, 0.0005)):
            size *= self._rng.uniform(0.3, 1.5)
            phase = self._rng.uniform(0.0, 6.28, 2)
            wave = 2 * np.pi * hertz * self._rng.uniform(0.8, 1.2) * times[:, None] + phase
            samples[:, :2] += size * np.sin(wave)
        return samples

    def hold(self, seconds: float) -> None:
        self._append(np.repeat(self._state[None], self._steps(seconds), axis=0))

    def reach(self, seconds: float, bow: float = 0.0, **channels: object) -> None:
        """Go to ``place`` (x, y), ``tilt`` and ``fingers``; what isn't given stays as it is.

        The path bows sideways by ``bow`` of its length, as that of a hand that isn't drawing.
        """
        target = self._state.copy()
        for name, part in (("place", slice(0, 2)), ("tilt", TILT), ("fingers", slice(3, 8))):
            if name in channels:
                target[part] = channels[name]
        fraction = _minimum_jerk(self._fractions(seconds))[:, None]
        path = self._state + (target - self._state) * fraction
        way = target[:2] - self._state[:2]
        path[:, :2] += bow * np.sin(np.pi * fraction) * np.array([-way[1], way[0]])
        self._append(path)

    def gesture(self, label: str) -> ScriptedGesture:
        """Reach for the start of the stroke, wait a little, draw it, wait a little."""
        legs = stroke_points(label, self._rng, self._aspect)
        away = np.hypot(*(legs[0][0] - self._state[:2]))
        if away > 0.05:
            seconds = max(0.35, away / self._rng.uniform(0.7, 1.6))
            self.reach(seconds, bow=self._rng.normal(0.0, 0.15), place=legs[0][0], tilt=0.0)
        self.reach(0.15, fingers=POINTING)
        self.hold(self._rng.uniform(0.2, 0.6))
        return self._draw(label, legs)

    def place_at_start_of(self, label: str) -> ScriptedGesture:
        """As :meth:`gesture`, but the hand begins where the stroke starts, as clips are cut."""
        legs = stroke_points(label, self._rng, self._aspect)
        self._state[:2] = legs[0][0]
        self.hold(self._rng.uniform(0.05, 0.6))
        return self._draw(label, legs)

    def _draw(self, label: str, legs: list[Array]) -> ScriptedGesture:
        start_s = self.now_s
        seconds = self._rng.uniform(*_DURATION_S[label])
        lengths = np.array([np.hypot(*np.diff(leg, axis=0).T).sum() for leg in legs])
        # Longer legs are drawn faster: the time grows as the square root of the length.
        shares = np.sqrt(lengths) / np.sqrt(lengths).sum()
        stops = self._rng.uniform(0.5, 1.0)  # how far the finger slows down at corners
        dwell = self._rng.choice([0.0, 0.0, 0.05, 0.12])
        for index, (leg, share) in enumerate(zip(legs, shares, strict=True)):
            self._follow(leg, seconds * float(share), stops)
            if index < len(legs) - 1 and dwell:
                self.hold(float(dwell))
        end_s = self.now_s
        self.hold(self._rng.uniform(0.1, 0.5))
        return ScriptedGesture(label, start_s, end_s)

    def idle(self, seconds: float) -> None:
        """Do one random movement that isn't a gesture, for about ``seconds``."""
        behaviours: tuple[Callable[[float], None], ...] = (
            self._stay_away, self._stay_away, self._rest, self._wag, self._count_fingers,
            self._drift, self._fidget,
        )  # fmt: skip
        behaviours[int(self._rng.integers(len(behaviours)))](seconds)

    def leave(self) -> None:
        """Move the hand out of the picture, unless it is already outside."""
        if self._state[TIP_Y] < 1.1:
            if self._rng.random() < 0.4:
                self.reach(0.2, fingers=FIST)
            self.reach(self._rng.uniform(0.4, 0.9), bow=self._bow(), place=self._outside())

    def enter(self) -> None:
        """Move the hand into the picture, unless it is already inside."""
        if self._state[TIP_Y] > 1.0:
            fingers = (POINTING, FIST, OPEN_HAND)[int(self._rng.choice(3, p=(0.6, 0.25, 0.15)))]
            self._state[3:] = fingers
            self.reach(self._rng.uniform(0.4, 1.0), bow=self._bow(), place=self._inside())

    def appear(self) -> None:
        """Put the hand into the picture from the first sample on, in any shape."""
        self._state[:2] = self._inside()
        self._state[TILT] = self._rng.normal(0.0, 0.2)
        self._state[3:] = (POINTING, FIST, OPEN_HAND)[int(self._rng.integers(3))]

    def _stay_away(self, seconds: float) -> None:
        self.leave()
        self.hold(seconds)

    def _rest(self, seconds: float) -> None:
        self.enter()
        self.hold(seconds)

    def _wag(self, seconds: float) -> None:
        """The finger swings about the wrist."""
        self.enter()
        self.reach(0.2, fingers=POINTING)
        end_s, swing = self.now_s + seconds, self._rng.uniform(0.2, 0.6)
        while self.now_s < end_s:
            self.reach(self._rng.uniform(0.2, 0.5), tilt=swing * self._rng.uniform(0.6, 1.1))
            swing = -swing
        self.reach(0.3, tilt=0.0)

    def _count_fingers(self, seconds: float) -> None:
        """Fingers open and close one by one or together."""
        self.enter()
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            fingers = self._rng.choice([0.0, 1.0], 5)
            self.reach(self._rng.uniform(0.15, 0.4), fingers=fingers)
            self.hold(self._rng.uniform(0.0, 0.5))

    def _drift(self, seconds: float) -> None:
        """The hand floats slowly, fist or open."""
        self.enter()
        self.reach(0.25, fingers=(FIST, OPEN_HAND)[int(self._rng.integers(2))])
        away = self._rng.normal(0.0, 0.06, 2)
        self.reach(seconds, bow=self._bow(), place=self._state[:2] + away)

    def _fidget(self, seconds: float) -> None:
        """Small quick pokes here and there, much shorter than a stroke."""
        self.enter()
        end_s, home = self.now_s + seconds, self._state[:2].copy()
        while self.now_s < end_s:
            place = home + self._rng.normal(0.0, 0.035, 2)
            tilt = self._rng.normal(0.0, 0.15)
            self.reach(self._rng.uniform(0.15, 0.5), place=place, tilt=tilt)
        self.reach(0.2, tilt=0.0)

    def _follow(self, points: Array, seconds: float, stops: float) -> None:
        """Draw along ``points`` (N, 2): at one speed for ``stops`` 0, slow at the ends for 1."""
        fraction = self._fractions(seconds)
        along = stops * _minimum_jerk(fraction) + (1.0 - stops) * fraction
        lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
        path = np.repeat(self._state[None], len(along), axis=0)
        for axis in (TIP_X, TIP_Y):
            path[:, axis] = np.interp(along * lengths[-1], lengths, points[:, axis])
        self._append(path)

    def _append(self, samples: Array) -> None:
        self._samples.append(samples)
        self._count += len(samples)
        self._state = samples[-1].copy()

    def _steps(self, seconds: float) -> int:
        return max(1, round(seconds * SAMPLE_HZ))

    def _fractions(self, seconds: float) -> Array:
        steps = self._steps(seconds)
        return np.arange(1, steps + 1, dtype=np.float64) / steps

    def _bow(self) -> float:
        return float(self._rng.normal(0.0, 0.25))

    def _inside(self) -> Array:
        return self._rng.uniform((0.25 * self._aspect, 0.2), (0.75 * self._aspect, 0.75))

    def _outside(self) -> Array:
        return self._rng.uniform((0.6 * self._aspect, 1.2), (1.0 * self._aspect, 1.35))


@dataclass(frozen=True)
class Plan:
    """A track (K, 8) at :data:`SAMPLE_HZ` and the gestures in it, times from its start."""

    track: Array
    gestures: tuple[ScriptedGesture, ...]

    @property
    def duration_s(self) -> float:
        return len(self.track) / SAMPLE_HZ

    def state(self, t_s: float) -> Array:
        """The hand's (8,) state at ``t_s``, held beyond either end."""
        position = min(max(t_s * SAMPLE_HZ, 0.0), len(self.track) - 1.0)
        index = min(int(position), len(self.track) - 2)
        weight = position - index
        return np.asarray(self.track[index] * (1.0 - weight) + self.track[index + 1] * weight)


def plan_episode(rng: np.random.Generator, aspect: float, length_s: float) -> Plan:
    """Plan gestures in random order with pauses; the hand is outside the picture at both ends."""
    quiet_s, longest_s = 1.2, 12.0
    choreography = Choreography(rng, aspect)
    choreography.hold(quiet_s)
    gestures = []
    for label in rng.permutation(GESTURES):
        if choreography.now_s + longest_s + quiet_s > length_s:
            break
        gestures.append(choreography.gesture(str(label)))
        if rng.random() < 0.6:
            choreography.leave()
        choreography.idle(rng.uniform(1.0, 2.5))
    choreography.leave()
    choreography.hold(max(0.0, length_s - choreography.now_s))
    return Plan(choreography.track(), tuple(gestures))


def plan_clip(label: str | None, rng: np.random.Generator, aspect: float) -> Plan:
    """Plan one gesture as clips are cut, or for None two to five seconds of idle behaviour."""
    choreography = Choreography(rng, aspect)
    if label is None:
        end_s = rng.uniform(2.0, 5.0)
        if rng.random() < 0.6:
            choreography.appear()
        while choreography.now_s < end_s:
            choreography.idle(rng.uniform(0.8, end_s))
            step = rng.integers(4)
            if step == 0:
                choreography.leave()
            elif step == 1:
                choreography.enter()
        return Plan(choreography.track()[: round(5.0 * SAMPLE_HZ)], ())
    if rng.random() < 0.7:
        gesture = choreography.place_at_start_of(label)
    else:
        gesture = choreography.gesture(label)
    if rng.random() < 0.25:
        choreography.leave()
    return Plan(choreography.track(), (gesture,))
