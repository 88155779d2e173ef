"""A region follows a box: it stands still while the box trembles, and glides when it leaves."""

import math
from dataclasses import dataclass

from pipeline.clock import NS_PER_S
from pipeline.transport.messages import Box


@dataclass(frozen=True, slots=True)
class FollowRules:
    """How a region lies around a box and follows it (docs/regions.md has the measurement)."""

    pad: float = 1.4
    """The region's height or width in those of the box, whichever is the tighter."""
    slack: float = 0.07
    """How far the box may wander from the region's middle, in sides of the region, before the
    region moves at all. It then moves only as far as it must: a box on a leash."""
    size_slack: float = 0.12
    """How far the size may differ, as a share, before the region grows or shrinks."""
    glide_s: float = 0.15
    """Time in which the region covers 63 % of the way that it must go."""
    shrink_s: float = 0.6
    """The same for becoming smaller. Slower: it is worse to lose somebody than to show more."""
    least: float = 0.08
    """The smallest height of a region, in heights of the picture."""


class Follower:
    """The region of one box.

    ``aspect`` is the picture's width divided by its height, ``shape`` the region's, both in pixels:
    the shape of the network's input, so that nothing is squeezed.
    """

    def __init__(self, aspect: float, shape: float = 1.0, rules: FollowRules | None = None) -> None:
        self._aspect = aspect
        self._shape = shape
        self._rules = rules or FollowRules()
        self._region: tuple[float, float, float] | None = None  # middle and height, in heights
        self._time_ns = 0

    def follow(self, box: Box, time_ns: int) -> Box:
        """The region at ``time_ns``, when the box (0..1 of the picture) is there."""
        target = self._target(box)
        if self._region is None:
            self._region = target
        else:
            seconds = max(0.0, (time_ns - self._time_ns) / NS_PER_S)
            self._region = self._glided(self._region, target, seconds)
        self._time_ns = time_ns
        return self._inside(*self._region)

    def _target(self, box: Box) -> tuple[float, float, float]:
        """The middle and the height that suit the box exactly."""
        wide, high = (box[2] - box[0]) * self._aspect, box[3] - box[1]
        height = self._rules.pad * max(high, wide / self._shape)
        largest = min(1.0, self._aspect / self._shape)
        height = min(max(height, self._rules.least), largest)
        return (box[0] + box[2]) / 2 * self._aspect, (box[1] + box[3]) / 2, height

    def _glided(
        self, region: tuple[float, float, float], target: tuple[float, float, float], seconds: float
    ) -> tuple[float, float, float]:
        rules = self._rules
        x, y, height = region
        ratio = math.log(target[2] / height)
        most = math.log(1 + rules.size_slack)
        change = ratio - min(max(ratio, -most), most)
        height *= math.exp(
            change * _share(seconds, rules.glide_s if change > 0 else rules.shrink_s)
        )
        share = _share(seconds, rules.glide_s)
        free_x, free_y = rules.slack * height * self._shape, rules.slack * height
        x += share * _beyond(target[0] - x, free_x)
        y += share * _beyond(target[1] - y, free_y)
        return x, y, height

    def _inside(self, x: float, y: float, height: float) -> Box:
        """As a box of 0..1, shifted into the picture."""
        width = height * self._shape / self._aspect
        x0 = min(max(x / self._aspect - width / 2, 0.0), 1.0 - width)
        y0 = min(max(y - height / 2, 0.0), 1.0 - height)
        return max(x0, 0.0), max(y0, 0.0), min(x0 + width, 1.0), min(y0 + height, 1.0)


def _beyond(distance: float, free: float) -> float:
    """What of a distance exceeds what is free."""
    return distance - min(max(distance, -free), free)


def _share(seconds: float, constant: float) -> float:
    return 1.0 if constant <= 0 else 1 - math.exp(-seconds / constant)
