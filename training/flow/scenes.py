"""Rendered pairs of frames, whose flow is known exactly.

A scene is a background with cut-outs in front of it (as in FlyingChairs, Dosovitskiy et al., ICCV
2015). Each is a texture that moves by a homography and a smooth deformation of its own. The second
frame samples the textures at the coordinates of the inverse motion. So the truth is exact, even
beside an edge: the flow of a pixel is that of the layer seen there in the first frame.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from training.flow.config import SceneConfig
from training.flow.textures import DENSITY, Gray, Plane, Rng, mask, texture

Matrix = npt.NDArray[np.floating[Any]]
FlowField = npt.NDArray[np.float32]
MARGIN = 48
INVERSE_STEPS = 6
HIDDEN_GRAY_LEVELS = 12  # a pixel that differs by more shows something else


class Rendered(NamedTuple):
    """Two frames, (H, W) uint8, and the flow between them, (H, W, 2) float32 in pixels."""

    prev: Gray
    next: Gray
    flow: FlowField


@dataclass(frozen=True)
class Motion:
    """A layer's motion from the first frame to the second: a homography and K sine waves.

    ``matrix`` (3, 3) maps homogeneous pixels. ``waves`` (K, 5): amplitude x and y in pixels,
    frequency along x and y in radians per pixel, phase. ``K`` may be 0.
    """

    matrix: Matrix
    waves: npt.NDArray[np.float32]

    def forward(self, x: Plane, y: Plane) -> tuple[Plane, Plane]:
        """Where the points (x, y) of the first frame are in the second."""
        to_x, to_y = _transformed(self.matrix, x, y)
        add_x, add_y = self._deformation(x, y)
        return to_x + add_x, to_y + add_y

    def inverse(self, x: Plane, y: Plane) -> tuple[Plane, Plane]:
        """Where the points (x, y) of the second frame are in the first (fixed-point iteration)."""
        back = np.linalg.inv(self.matrix)
        from_x, from_y = _transformed(back, x, y)
        for _ in range(INVERSE_STEPS if len(self.waves) else 0):
            add_x, add_y = self._deformation(from_x, from_y)
            from_x, from_y = _transformed(back, x - add_x, y - add_y)
        return from_x, from_y

    def _deformation(self, x: Plane, y: Plane) -> tuple[Plane, Plane]:
        add_x, add_y = np.zeros_like(x), np.zeros_like(x)
        for wave_x, wave_y, along_x, along_y, phase in self.waves:
            wave = np.sin(along_x * x + along_y * y + phase)
            add_x += wave_x * wave
            add_y += wave_y * wave
        return add_x, add_y


def _transformed(matrix: Matrix, x: Plane, y: Plane) -> tuple[Plane, Plane]:
    m = matrix.astype(np.float32)
    scale = 1 / (m[2, 0] * x + m[2, 1] * y + m[2, 2])
    return (
        (m[0, 0] * x + m[0, 1] * y + m[0, 2]) * scale,
        (m[1, 0] * x + m[1, 1] * y + m[1, 2]) * scale,
    )


def random_motion(
    rng: Rng, size: tuple[int, int], config: SceneConfig, loose: float = 1.0
) -> Motion:
    """A random motion about a point of the frame; ``loose`` scales rotation and zoom."""
    shift = np.zeros(2)
    if rng.random() >= config.still:
        largest = config.far_px if rng.random() < config.far else config.near_px
        length = np.exp(rng.uniform(np.log(config.least_px), np.log(largest)))
        angle = rng.uniform(0, 2 * np.pi)
        shift = length * np.array([np.cos(angle), np.sin(angle)])
        loose *= min(1.0, 0.2 + length / 6)
    else:
        loose *= 0.0 if rng.random() < 0.5 else 0.3
    turn, zoom = rng.normal(0, 0.03 * loose), np.exp(rng.normal(0, 0.02 * loose))
    about = rng.uniform(0, 1, 2) * size[::-1]
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    shear, tilt = rng.normal(0, 0.008 * loose, 2), rng.normal(0, 2e-5 * loose, 2)
    to, back = np.eye(3), np.eye(3)
    to[:2, 2], back[:2, 2] = about + shift, -about
    middle = np.array([[cos, -sin + shear[0], 0], [sin + shear[1], cos, 0], [*tilt, 1]])
    return Motion(to @ middle @ back, _random_waves(rng, config, loose))


def _random_waves(rng: Rng, config: SceneConfig, loose: float) -> npt.NDArray[np.float32]:
    count = int(rng.integers(1, 4)) if rng.random() < config.wavy else 0
    waves = np.zeros((count, 5), np.float32)
    angle = rng.uniform(0, 2 * np.pi, (2, count))
    frequency = 2 * np.pi / rng.uniform(50, 300, count)
    # A slope below 1 in sum keeps the motion invertible.
    amplitude = np.minimum(rng.uniform(0, 0.25, count) * min(1.0, loose) / frequency / 2, 6)
    waves[:, 0], waves[:, 1] = amplitude * np.cos(angle[0]), amplitude * np.sin(angle[0])
    waves[:, 2], waves[:, 3] = frequency * np.cos(angle[1]), frequency * np.sin(angle[1])
    waves[:, 4] = rng.uniform(0, 2 * np.pi, count)
    return waves


def after(first: Motion, then: Motion) -> Motion:
    """The motion of an object that moves by ``then`` on a ground that moves by ``first``.

    Only ``then`` may deform; its waves are kept unchanged.
    """
    return Motion(first.matrix @ then.matrix, then.waves)


class _Layer(NamedTuple):
    texture: Plane
    placing: Matrix  # from the first frame's pixels to the texture's
    mask: Plane | None
    motion: Motion


def _random_layer(
    rng: Rng, photos: Sequence[Gray], config: SceneConfig, background: Motion | None
) -> _Layer:
    size = config.size
    angle = rng.uniform(-0.4, 0.4) if background is None else rng.uniform(0, 2 * np.pi)
    scale = DENSITY * rng.uniform(0.85, 1.1)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    shift = rng.uniform(0, 0.3, 2) * size[::-1]
    placing = np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]], [0, 0, 1]])
    if background is None:
        cover = texture(rng, photos, size, config.flat / 3)
        return _Layer(cover, placing, None, random_motion(rng, size, config))
    motion = after(background, random_motion(rng, size, config, loose=2.5))
    return _Layer(texture(rng, photos, size, config.flat), placing, mask(rng, size, MARGIN), motion)


def _sample(layer: _Layer, x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """The layer's gray levels and its opacity, 0 to 1, at pixels of the first frame."""
    texture_x, texture_y = _transformed(layer.placing, x, y)
    seen = cv2.remap(
        layer.texture, texture_x, texture_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    if layer.mask is None:
        return np.asarray(seen, np.float32), np.ones_like(x)
    # The mask's pixels are half as large: centres lie at (p + 0.5) * 2 - 0.5.
    mask_x, mask_y = (x + MARGIN) * 2 + np.float32(0.5), (y + MARGIN) * 2 + np.float32(0.5)
    alpha = cv2.remap(layer.mask, mask_x, mask_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(seen, np.float32), np.asarray(alpha, np.float32)


def render(rng: Rng, photos: Sequence[Gray], config: SceneConfig) -> Rendered:
    """A scene of ``config.size`` (H, W), filmed twice by a camera without any noise."""
    height, width = config.size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    prev, following = np.zeros((2, height, width), np.float32)
    flow = np.zeros((height, width, 2), np.float32)
    base = _random_layer(rng, photos, config, None)
    rigid = Motion(base.motion.matrix, np.zeros((0, 5), np.float32))
    count = int(rng.integers(config.objects[0], config.objects[1] + 1))
    for layer in (base, *(_random_layer(rng, photos, config, rigid) for _ in range(count))):
        gray, alpha = _sample(layer, x, y)
        prev += alpha * (gray - prev)
        on_top = alpha > 0.5
        to_x, to_y = layer.motion.forward(x, y)
        flow[on_top] = np.dstack([to_x - x, to_y - y])[on_top]
        gray, alpha = _sample(layer, *layer.motion.inverse(x, y))
        following += alpha * (gray - following)
    frames = np.clip(np.rint([prev, following]), 0, 255).astype(np.uint8)
    return Rendered(frames[0], frames[1], flow)


def without_hidden(prev: Gray, following: Gray, flow: FlowField) -> FlowField:
    """``flow`` with NaN where the second frame doesn't show what the first shows.

    Nothing can be learned from a pixel that is then hidden behind a layer or out of the frame.
    """
    height, width = prev.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    to_x, to_y = x + flow[..., 0], y + flow[..., 1]
    back = np.asarray(cv2.remap(following, to_x, to_y, cv2.INTER_LINEAR), np.float32)
    hidden = np.abs(back - prev) > HIDDEN_GRAY_LEVELS
    hidden |= (to_x < 0) | (to_y < 0) | (to_x > width - 1) | (to_y > height - 1)
    seen = flow.copy()
    seen[hidden] = np.nan
    return seen


class Scenes(NamedTuple):
    """Many scenes: ``frames`` (S, 2, H, W) uint8, ``flow`` (S, H, W, 2) float16 in pixels.

    ``flow`` is NaN where the second frame doesn't show what the first shows.
    """

    frames: npt.NDArray[np.uint8]
    flow: npt.NDArray[np.float16]


def render_many(
    seed: int,
    photos: Sequence[Gray],
    config: SceneConfig,
    count: int,
    report: Callable[[], object] = lambda: None,
) -> Scenes:
    """``count`` scenes; the same arguments give the same scenes. ``report`` is called after each.

    float16 stores a flow of 1 pixel to within 0.0005 and one of 40 to within 0.02.
    """
    rng = np.random.default_rng(seed)
    height, width = config.size
    frames = np.empty((count, 2, height, width), np.uint8)
    flow = np.empty((count, height, width, 2), np.float16)
    for index in range(count):
        rendered = render(rng, photos, config)
        frames[index] = rendered.prev, rendered.next
        flow[index] = without_hidden(*rendered)
        report()
    return Scenes(frames, flow)
