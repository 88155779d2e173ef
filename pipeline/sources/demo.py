"""The built-in demo camera: a hand that performs the ten gestures, endlessly, at known times.

Everything is a pure function of the seed, the size and the time. So a restarted capture continues
where the clock is, and a recogniser's events can be scored against :meth:`DemoScene.script`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from pipeline.sources.demo_drawing import HandStyle, Image, draw_hand, make_background
from pipeline.sources.demo_motion import (
    GESTURES,
    TIP_Y,
    Array,
    Plan,
    ScriptedGesture,
    plan_clip,
    plan_episode,
)

__all__ = ["EPISODE_S", "GESTURES", "DemoScene", "ScriptedGesture", "clip_script", "render_clip"]

EPISODE_S = 40.0
_FADE_S = 0.8
_MARGIN = 0.06  # of the height, on each side of the background: room for the camera to move
_NOISE_MEAN = 24


@dataclass(frozen=True)
class _Take:
    """One background, one hand, one camera: what doesn't change within an episode or clip."""

    plan: Plan
    background: Image  # larger than the picture by the margin
    hand: HandStyle
    noise: Image  # (H, W, 3), mean _NOISE_MEAN, larger than the picture
    shake: Array  # (n, 5): hertz, size x, size y in heights, phase x, phase y
    light: Array  # (n, 3): hertz, relative size, phase
    exposure_s: float
    height: int
    width: int

    @classmethod
    def random(cls, rng: np.random.Generator, plan: Plan, height: int, width: int) -> Self:
        """Draw everything but the plan from ``rng``."""
        # The order of the draws belongs to the seed: another order is another stream.
        margin = round(_MARGIN * height)
        noise = rng.standard_normal((height + 64, width + 64, 3), dtype=np.float32)
        noise = noise * np.float32(rng.uniform(0.8, 5.0)) + _NOISE_MEAN
        hertz = np.array([0.15, 0.35, 0.9, 2.5])
        sizes = np.array([0.016, 0.012, 0.005, 0.0012]) * rng.uniform(0.0, 1.2)
        shake = np.stack([
            hertz * rng.uniform(0.7, 1.3, 4),
            sizes * rng.uniform(0.3, 1.0, 4),
            sizes * rng.uniform(0.3, 1.0, 4),
            rng.uniform(0, 6.28, 4),
            rng.uniform(0, 6.28, 4),
        ], axis=1)  # fmt: skip
        light = np.array([
            [rng.uniform(0.05, 0.3), rng.choice([0.03, 0.15]), rng.uniform(0, 6.28)],
            [rng.uniform(3.0, 9.0), rng.uniform(0.0, 0.02), rng.uniform(0, 6.28)],
        ])  # fmt: skip
        return cls(
            plan=plan,
            background=make_background(rng, height + 2 * margin, width + 2 * margin),
            hand=HandStyle.random(rng, width / height),
            noise=np.clip(noise, 0, 255).astype(np.uint8),
            shake=shake,
            light=light,
            exposure_s=rng.uniform(0.004, 0.03),
            height=height,
            width=width,
        )

    def view(self, t_s: float) -> Image:
        """Render the background as the moving camera sees it, (H, W, 3) uint8 BGR."""
        hertz, size_x, size_y, phase_x, phase_y = self.shake.T
        angle = 2 * np.pi * hertz * t_s
        margin = round(_MARGIN * self.height)
        x = margin + float(self.height * (size_x * np.sin(angle + phase_x)).sum())
        y = margin + float(self.height * (size_y * np.sin(angle + phase_y)).sum())
        shift = np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        picture = cv2.warpAffine(self.background, shift, (self.width, self.height), flags=flags)
        return np.asarray(picture, np.uint8)

    def add_hand(self, picture: Image, t_s: float) -> None:
        """Draw the hand as it moves while the shutter is open."""
        states = [self.plan.state(t_s - self.exposure_s * part) for part in (0.0, 0.5, 1.0)]
        if all(state[TIP_Y] > 1.15 for state in states):
            return  # below the picture
        # Only the rows from the highest fingertip down can change.
        highest = min(state[TIP_Y] for state in states) - 1.3 * self.hand.finger
        top = int(min(max(highest, 0.0), 1.0) * self.height)
        travel = np.abs(states[0][:3] - states[2][:3]) * (1.0, 1.0, 2.0 * self.hand.finger)
        if travel.max() * self.height < 1.5:  # pixels: too little for a visible blur
            draw_hand(picture, states[1], self.hand)
            return
        clean = picture[top:].copy()
        draw_hand(picture, states[0], self.hand)
        blurred = picture[top:].copy()
        # A running mean: shares of 1/2 and then 1/3 weigh the three moments equally.
        for share, state in zip((1 / 2, 1 / 3), states[1:], strict=True):
            picture[top:] = clean
            draw_hand(picture, state, self.hand)
            cv2.addWeighted(picture[top:], share, blurred, 1.0 - share, 0.0, dst=blurred)
        picture[top:] = blurred

    def develop(self, picture: Image, t_s: float, out: Image | None) -> Image:
        """Apply the changes of the light and the noise of the sensor."""
        hertz, size, phase = self.light.T
        gain = 1.0 + float((size * np.sin(2 * np.pi * hertz * t_s + phase)).sum())
        # Which part of the noise to add: any function of the time that differs between frames.
        row, column = divmod((round(t_s * 1e4) * 2654435761) % 4096, 64)
        noise = self.noise[row : row + self.height, column : column + self.width]
        result = cv2.addWeighted(picture, gain, noise, 1.0, -_NOISE_MEAN, dst=out)
        return np.asarray(result, np.uint8)


class DemoScene:
    """An endless scripted stream; every :data:`EPISODE_S` the background and the hand change.

    Memory is bounded: only the takes of two episodes are kept.
    """

    def __init__(self, seed: int, width: int = 640, height: int = 480) -> None:
        if width < 32 or height < 32:
            raise ValueError(f"demo size must be at least 32x32, got {width}x{height}")
        self.seed, self.width, self.height = seed, width, height
        self._takes: dict[int, _Take] = {}

    def render(self, t_s: float, out: Image | None = None) -> Image:
        """Render the picture at ``t_s`` seconds from stream start: (H, W, 3) uint8 BGR.

        ``out``, of that shape and dtype, is filled and returned when given.
        """
        if t_s < 0:
            raise ValueError(f"t_s must not be negative, the demo starts at 0 s; got {t_s}")
        if out is not None and (out.shape != (self.height, self.width, 3) or out.dtype != np.uint8):
            raise ValueError(
                f"out must be ({self.height}, {self.width}, 3) uint8, got {out.shape} {out.dtype}"
            )
        episode, local_s = int(t_s // EPISODE_S), t_s % EPISODE_S
        take = self._take(episode)
        picture = take.view(local_s)
        if episode and local_s < _FADE_S:
            # The previous episode's camera keeps moving while its background fades out.
            before = self._take(episode - 1).view(EPISODE_S + local_s)
            share = local_s / _FADE_S
            cv2.addWeighted(picture, share, before, 1.0 - share, 0.0, dst=picture)
        take.add_hand(picture, local_s)
        return take.develop(picture, local_s, out)

    def script(self, until_s: float) -> list[ScriptedGesture]:
        """List the gestures whose stroke starts before ``until_s``; times from stream start."""
        gestures = []
        for episode in range(int(until_s // EPISODE_S) + 1):
            offset = episode * EPISODE_S
            gestures += [
                ScriptedGesture(g.label, g.start_s + offset, g.end_s + offset)
                for g in self._plan(self._rng(episode)).gestures
            ]
        return [gesture for gesture in gestures if gesture.start_s < until_s]

    def _rng(self, episode: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, episode])

    def _plan(self, rng: np.random.Generator) -> Plan:
        return plan_episode(rng, self.width / self.height, EPISODE_S)

    def _take(self, episode: int) -> _Take:
        if episode not in self._takes:
            rng = self._rng(episode)
            self._takes[episode] = _Take.random(rng, self._plan(rng), self.height, self.width)
            while len(self._takes) > 2:  # a fade needs two; the oldest comes first
                del self._takes[next(iter(self._takes))]
        return self._takes[episode]


def _clip_plan(label: str | None, seed: int, aspect: float) -> tuple[np.random.Generator, Plan]:
    if label is not None and label not in GESTURES:
        raise ValueError(f"unknown gesture {label!r}; must be one of {', '.join(GESTURES)}")
    rng = np.random.default_rng([seed, *(label or "idle").encode()])
    return rng, plan_clip(label, rng, aspect)


def render_clip(
    label: str | None, seed: int, fps: float, size: tuple[int, int]
) -> Iterator[tuple[float, Image]]:
    """Render a short clip of one gesture, or for None two to five seconds of idle behaviour.

    Yields ``(t_s, frame)``, frames (h, w, 3) uint8 BGR for ``size`` (h, w). Everything is drawn
    from ``seed``: scene, hand, stroke, speed, camera. Raises ValueError for an unknown label.
    """
    height, width = size
    rng, plan = _clip_plan(label, seed, width / height)
    take = _Take.random(rng, plan, height, width)
    for index in range(max(1, int(plan.duration_s * fps))):
        t_s = index / fps
        picture = take.view(t_s)
        take.add_hand(picture, t_s)
        yield t_s, take.develop(picture, t_s, None)


def clip_script(label: str | None, seed: int, aspect: float = 4 / 3) -> ScriptedGesture | None:
    """Return when the stroke of ``render_clip(label, seed, …)`` starts and ends; None when idle.

    ``aspect`` is the clip's width over its height.
    """
    _, plan = _clip_plan(label, seed, aspect)
    return plan.gestures[0] if plan.gestures else None
