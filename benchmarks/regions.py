"""How a region follows a person: false flow of one who stands, and how well one who walks is kept.

Every way of following gets the same boxes: detections five times a second whose sides tremble by
±3 % of the box, through the tracker, and the tracker's prediction at ten steps a second.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import cv2
import numpy as np
from rich import box as lines
from rich.console import Console
from rich.table import Table

from benchmarks.track_figures import part_inside
from pipeline.arrays import Gray
from pipeline.clock import NS_PER_S
from pipeline.flow.opencv import DIS
from pipeline.people.cutting import cut
from pipeline.people.following import Follower, FollowRules
from pipeline.people.tracks import Tracker
from pipeline.transport.messages import Box

PICTURE = (720, 1280)
ASPECT = PICTURE[1] / PICTURE[0]
INPUT = 128
"""Side of the network's input, in whose pixels flow is given."""
STEP_HZ, DETECTOR_HZ = 10, 5
JITTER = 0.03
HIGH, WIDE = 0.4, 0.4 * 0.42 / ASPECT
"""The person's box, in shares of the picture."""
SECONDS = 20.0
WALK = 0.8
"""Heights a second."""


class Following(Protocol):
    """A way of following."""

    def follow(self, box: Box, time_ns: int) -> Box: ...


EXACT = FollowRules(slack=0, size_slack=0, glide_s=0, shrink_s=0)
"""The region that suits the box at every step."""


class Filtered:
    """A region at the box's filtered middle and size; ``make`` makes the filter of one number."""

    def __init__(self, make: Callable[[], Callable[[float, float], float]]) -> None:
        self._filters = [make() for _ in range(3)]

    def follow(self, box: Box, time_ns: int) -> Box:
        exact = Follower(ASPECT, rules=EXACT)
        seconds = time_ns / NS_PER_S
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        x, y, high = (
            one(value, seconds)
            for one, value in zip(self._filters, (x, y, box[3] - box[1]), strict=True)
        )
        wide = high * 0.1
        return exact.follow((x - wide / 2, y - high / 2, x + wide / 2, y + high / 2), time_ns)


def exponential(constant_s: float) -> Callable[[float, float], float]:
    """First order: 63 % of the way in ``constant_s``."""
    state: list[float] = []

    def step(value: float, seconds: float) -> float:
        if not state:
            state.extend((value, seconds))
        share = 1 - math.exp(-(seconds - state[1]) / constant_s)
        state[:] = [state[0] + share * (value - state[0]), seconds]
        return state[0]

    return step


def spring(constant_s: float) -> Callable[[float, float], float]:
    """Second order, critically damped."""
    state: list[float] = []

    def step(value: float, seconds: float) -> float:
        if not state:
            state.extend((value, 0.0, seconds))
        place, speed, before = state
        passed, rate = seconds - before, 1 / constant_s
        off = place - value
        pull = speed + rate * off
        left = math.exp(-rate * passed)
        state[:] = [
            value + (off + pull * passed) * left,
            (speed - rate * pull * passed) * left,
            seconds,
        ]
        return state[0]

    return step


def one_euro(cutoff_hz: float, beta: float) -> Callable[[float, float], float]:
    """Casiez, Roussel and Vogel, "1 € Filter" (CHI 2012): the faster, the less it smooths."""
    state: list[float] = []

    def step(value: float, seconds: float) -> float:
        if not state:
            state.extend((value, 0.0, seconds))
        place, speed, before = state
        passed = seconds - before
        if passed > 0:
            speed += _weight(1.0, passed) * ((value - place) / passed - speed)
            place += _weight(cutoff_hz + beta * abs(speed), passed) * (value - place)
        state[:] = [place, speed, seconds]
        return place

    return step


def _weight(cutoff_hz: float, passed_s: float) -> float:
    return 1 / (1 + 1 / (2 * math.pi * cutoff_hz * passed_s))


def leash(**rules: float) -> Callable[[], Following]:
    return lambda: Follower(ASPECT, rules=FollowRules(**rules))


WAYS: dict[str, Callable[[], Following]] = {
    "the box itself": leash(slack=0, size_slack=0, glide_s=0, shrink_s=0),
    "exponential, 0.3 s": lambda: Filtered(lambda: exponential(0.3)),
    "exponential, 1 s": lambda: Filtered(lambda: exponential(1.0)),
    "spring, 0.2 s": lambda: Filtered(lambda: spring(0.2)),
    "spring, 0.5 s": lambda: Filtered(lambda: spring(0.5)),
    "one euro, 0.3 Hz, β 3": lambda: Filtered(lambda: one_euro(0.3, 3.0)),
    "one euro, 0.1 Hz, β 10": lambda: Filtered(lambda: one_euro(0.1, 10.0)),
    "leash, 3 % and 5 %": leash(slack=0.03, size_slack=0.05),
    "leash, 7 % and 12 % (chosen)": leash(),
    "the same without gliding": leash(glide_s=0, shrink_s=0),
    "leash, 12 % and 20 %": leash(slack=0.12, size_slack=0.2),
}


@dataclass(frozen=True)
class FollowFigures:
    """One way of following, over all seeds."""

    flow_px: float
    """Mean flow between the regions of two steps, for a person who stands; input pixels a step."""
    worst_px: float
    """The same of the worst step."""
    moved: float
    """The share of steps at which the region of a person who stands has moved."""
    offset: float
    """How far a walking person is from the region's middle, mean, in sides of the region."""
    inside: float
    """The least share of a walking person's box that the region shows."""
    shake_px: float
    """How unevenly the region of a walking person moves: RMS change of its speed; input pixels a
    step, for each step."""


def predicted(path: Callable[[float], Box], seed: int) -> Iterator[tuple[float, Box, Box]]:
    """Time, the true box and the tracker's, at each step once the person is announced."""
    rng = np.random.default_rng(seed)
    tracker = Tracker(aspect=ASPECT)
    for step in range(int(SECONDS * STEP_HZ)):
        seconds = step / STEP_HZ
        true = path(seconds)
        time_ns = round((1 + seconds) * NS_PER_S)
        if step % (STEP_HZ // DETECTOR_HZ) == 0:
            sides = np.array([true[2] - true[0], true[3] - true[1]] * 2)
            found = np.array(true) + rng.uniform(-JITTER, JITTER, 4) * sides
            tracks = tracker.update(np.array([[*found, 0.9]], np.float32), time_ns)
        else:
            tracks = tracker.predict(time_ns)
        if tracks:
            yield seconds, true, tracks[0].box


def standing(seconds: float) -> Box:
    return 0.4, 0.3, 0.4 + WIDE, 0.3 + HIGH


def walking(seconds: float) -> Box:
    """To the right, a stop, back again, by :data:`WALK`."""
    speed = WALK * HIGH / ASPECT
    way = min(seconds, 3.0) if seconds < 5 else max(0.0, 3.0 - (seconds - 5))
    x = 0.15 + speed * way
    return x, 0.3, x + WIDE, 0.3 + HIGH


def texture() -> Gray:
    rng = np.random.default_rng(1)
    height, width = PICTURE
    coarse = rng.integers(0, 255, (height // 8, width // 8), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def shown(picture: Gray, region: Box) -> Gray:
    part = cut(np.repeat(picture[:, :, np.newaxis], 3, axis=2), region)[:, :, 0]
    small = cv2.resize(part, (INPUT, INPUT), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def follow(
    way: Callable[[], Following], path: Callable[[float], Box], seed: int
) -> list[tuple[Box, Box]]:
    """(true box, region) of each step."""
    following = way()
    return [
        (true, following.follow(box, round((1 + seconds) * NS_PER_S)))
        for seconds, true, box in predicted(path, seed)
    ]


def figures(way: Callable[[], Following], seeds: int) -> FollowFigures:
    method, picture = DIS(), texture()
    flows: list[float] = []
    offsets: list[float] = []
    inside: list[float] = []
    turns: list[float] = []
    moved = []
    for seed in range(seeds):
        regions = [region for _, region in follow(way, standing, seed)]
        cuts = [shown(picture, region) for region in regions]
        for before, now in pairwise(cuts):
            same = np.array_equal(before, now)
            moved.append(not same)
            flow = np.zeros(2) if same else method(before, now).reshape(-1, 2)
            flows.append(float(np.hypot(flow[..., 0], flow[..., 1]).mean()))
        walk = follow(way, walking, seed)
        offsets += [_offset(true, region) for true, region in walk]
        inside += [part_inside(true, region) for true, region in walk]
        middles = np.array([(r[0] + r[2]) / 2 / (r[2] - r[0]) * INPUT for _, r in walk])
        turns += list(np.diff(middles, 2))
    return FollowFigures(
        float(np.mean(flows)),
        max(flows),
        float(np.mean(moved)),
        float(np.mean(offsets)),
        min(inside),
        float(np.sqrt(np.mean(np.square(turns)))),
    )


def _offset(box: Box, region: Box) -> float:
    sides = region[2] - region[0], region[3] - region[1]
    off = [((box[k] + box[k + 2]) - (region[k] + region[k + 2])) / 2 / sides[k] for k in range(2)]
    return math.hypot(*off)


def measure(seeds: int = 5) -> dict[str, Any]:
    """Every way of following on the same boxes."""
    return {
        "benchmark": "regions",
        "about": {"seeds": seeds, "seconds": SECONDS, "jitter": JITTER, "input": INPUT},
        "ways": {name: figures(way, seeds) for name, way in WAYS.items()},
    }


def show(result: dict[str, Any]) -> None:
    table = Table(
        title="A person who stands in a trembling box, and one who walks",
        box=lines.SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("following", no_wrap=True)
    for heading in ("flow px", "worst px", "moved", "offset", "inside", "shake px"):
        table.add_column(heading, justify="right")
    for name, row in result["ways"].items():
        table.add_row(
            name,
            f"{row.flow_px:.3f}",
            f"{row.worst_px:.2f}",
            f"{row.moved:.0%}",
            f"{row.offset:.3f}",
            f"{row.inside:.0%}",
            f"{row.shake_px:.2f}",
        )
    Console().print(table)
