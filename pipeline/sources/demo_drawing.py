"""What the demo camera sees: textured backgrounds, and a hand drawn from its pose."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.sources.demo_motion import INDEX, THUMB, TILT, TIP_X, TIP_Y, Array

Image = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Color = tuple[float, float, float]

_SHIFT = 4  # fractional bits of the pixel positions that OpenCV gets
_ARC = np.linspace(-0.5, 0.5, 9)
# Knuckles in finger lengths (forward, sideways) from the index knuckle; then how far each finger
# spreads when extended, in radians, and its length.
_KNUCKLES = np.array([[-0.72, -0.06], [0.0, 0.0], [0.05, 0.24], [0.0, 0.47], [-0.12, 0.68]])
_SPREAD = np.array([-0.75, -0.08, 0.02, 0.12, 0.28])
_LENGTHS = np.array([0.72, 1.0, 1.08, 1.0, 0.8])
_WIDTHS = np.array([0.155, 0.14, 0.145, 0.14, 0.12])
_SKIN_BGR = np.array([[48, 62, 92], [66, 92, 138], [92, 124, 178], [128, 160, 208],
                      [150, 178, 228], [160, 190, 240]], dtype=np.float64)  # fmt: skip


@dataclass(frozen=True)
class HandStyle:
    """A hand's shape and colours; lengths and places in picture heights, colours 0 to 255 BGR."""

    skin: Color
    finger: float
    tilt: float
    follow: float
    elbow: tuple[float, float]
    side: float
    light: tuple[float, float]
    sleeve: Color
    sleeve_stripe: Color
    sleeve_reach: float
    bracelet: Color | None

    @classmethod
    def random(cls, rng: np.random.Generator, aspect: float) -> "HandStyle":
        position = rng.uniform(0.0, len(_SKIN_BGR) - 1.0)
        index = min(int(position), len(_SKIN_BGR) - 2)
        skin = _SKIN_BGR[index] + (_SKIN_BGR[index + 1] - _SKIN_BGR[index]) * (position - index)
        skin = skin * rng.choice([1.0, rng.uniform(0.2, 0.6)], p=(0.85, 0.15))  # against the light
        left_handed = rng.random() < 0.12
        elbow_x = rng.uniform(0.75, 1.2) * aspect
        return cls(
            skin=_color(skin * rng.uniform(0.75, 1.1)),
            finger=rng.uniform(0.13, 0.25),
            tilt=rng.normal(-0.12, 0.15) * (-1.0 if left_handed else 1.0),
            follow=rng.uniform(0.1, 0.8),
            elbow=(aspect - elbow_x if left_handed else elbow_x, rng.uniform(1.25, 1.7)),
            side=-1.0 if left_handed else 1.0,
            light=(rng.uniform(-0.3, 0.3), rng.uniform(-0.35, 0.0)),
            sleeve=_color(rng.uniform(10, 235, 3)),
            sleeve_stripe=_color(rng.uniform(10, 235, 3)),
            sleeve_reach=float(rng.choice([0.0, rng.uniform(0.35, 0.92)])),
            bracelet=_color(rng.uniform(20, 240, 3)) if rng.random() < 0.3 else None,
        )


def _color(values: Array) -> Color:
    blue, green, red = np.clip(values, 0.0, 255.0).tolist()
    return blue, green, red


def _shade(color: Color, gain: float) -> Color:
    return color[0] * gain, color[1] * gain, color[2] * gain


def _capsules(parts: Array) -> npt.NDArray[np.int32]:
    """Outlines (M, 18, 2), fixed point, of tapered capsules (M, 6): x0, y0, r0, x1, y1, r1."""
    x0, y0, r0, x1, y1, r1 = parts.T
    away = np.maximum(np.hypot(x1 - x0, y1 - y0), 1e-6)  # (M,), as axis and flank
    axis = np.arctan2(y1 - y0, x1 - x0)
    # Half the arc of the front end; the tangent lines of the two circles join the ends.
    flank = np.arccos(np.clip((r0 - r1) / away, -1.0, 1.0))
    front = axis[:, None] + 2.0 * flank[:, None] * _ARC  # (M, 9) angles, as back
    back = axis[:, None] + np.pi + 2.0 * (np.pi - flank[:, None]) * _ARC
    xs = [x1[:, None] + r1[:, None] * np.cos(front), x0[:, None] + r0[:, None] * np.cos(back)]
    ys = [y1[:, None] + r1[:, None] * np.sin(front), y0[:, None] + r0[:, None] * np.sin(back)]
    outline = np.stack([np.concatenate(xs, axis=1), np.concatenate(ys, axis=1)], axis=2)
    return np.asarray(np.rint(outline * (1 << _SHIFT)), np.int32)


@dataclass(frozen=True)
class _Skeleton:
    """The places of a hand's parts in one pose, in pixels."""

    knuckles: Array  # (5, 2), thumb first
    tips: Array  # (5, 2)
    palm: Array  # (2,)
    wrist: Array  # (2,)
    elbow: Array  # (2,)
    scale: float  # a finger's length in pixels


def _skeleton(state: Array, style: HandStyle, height: int) -> _Skeleton:
    tip = state[[TIP_X, TIP_Y]]
    elbow = np.array(style.elbow)
    arm = math.atan2(tip[0] - elbow[0], elbow[1] - tip[1])  # from upright, clockwise
    angle = style.tilt + style.follow * arm + state[TILT]
    forward = np.array([math.sin(angle), -math.cos(angle)])
    sideways = np.array([-forward[1], forward[0]]) * style.side
    # The state holds the tip of a straight index finger, and the wrist follows from it. A tilt then
    # turns the hand about that wrist.
    rest = style.tilt + style.follow * arm
    wrist_to_tip = 1.9 * style.finger
    wrist = tip - wrist_to_tip * np.array([math.sin(rest), -math.cos(rest)])
    index = wrist + 0.9 * style.finger * forward
    knuckles = index + style.finger * (_KNUCKLES[:, :1] * forward + _KNUCKLES[:, 1:] * sideways)
    extension = state[THUMB:]
    turn = _SPREAD * extension
    lengths = style.finger * _LENGTHS * (0.24 + 0.76 * extension)
    tips = knuckles + lengths[:, None] * (
        np.cos(turn)[:, None] * forward + np.sin(turn)[:, None] * sideways
    )
    palm = index + style.finger * (-0.2 * forward + 0.33 * sideways)
    wrist = wrist + style.finger * 0.3 * sideways
    return _Skeleton(
        knuckles * height,
        tips * height,
        palm * height,
        wrist * height,
        elbow * height,
        scale=style.finger * height,
    )


def draw_hand(image: Image, state: Array, style: HandStyle) -> None:
    """Draw the hand of ``state`` (8,) onto ``image`` (H, W, 3) uint8 BGR, antialiased."""
    bones = _skeleton(state, style, image.shape[0])
    size = bones.scale
    # The index finger is drawn last, over the others.
    order = [4, 3, 2, INDEX - THUMB]
    rows = [
        (*bones.elbow, 0.62 * size, *bones.wrist, 0.36 * size),
        (*bones.knuckles[0], 0.2 * size, *bones.tips[0], _WIDTHS[0] * size),
        (*bones.wrist, 0.37 * size, *bones.palm, 0.44 * size),
    ]
    rows += [
        (*bones.knuckles[i], (_WIDTHS[i] + 0.015) * size, *bones.tips[i], _WIDTHS[i] * 0.8 * size)
        for i in order
    ]
    parts = np.array(rows)
    shift = 0.1 * size * np.array(style.light)
    for shades in zip(*(_layers(parts, shift, style.skin)), strict=True):
        for outline, color in shades:
            cv2.fillConvexPoly(image, outline, color, cv2.LINE_AA, _SHIFT)
    _draw_details(image, bones, style)
    if style.sleeve_reach:
        _draw_sleeve(image, bones, style)


def _layers(
    parts: Array, shift: Array, skin: Color
) -> list[list[tuple[npt.NDArray[np.int32], Color]]]:
    """Nested outlines of each part with their colours, from the dark rim to the lit ridge."""
    layers = []
    # Gain of the colour, share of the width, shifts towards the light.
    ramp = ((0.68, 1.0, 0.0), (0.86, 0.86, 0.5), (1.0, 0.64, 1.2), (1.08, 0.38, 2.0))
    for gain, width, steps in ramp:
        inner = parts.copy()
        inner[:, [2, 5]] *= width
        inner[:, [0, 1]] += shift * steps
        inner[:, [3, 4]] += shift * steps
        layers.append([(outline, _shade(skin, gain)) for outline in _capsules(inner)])
    return layers


def _fixed(point: Array) -> tuple[int, int]:
    return round(float(point[0]) * (1 << _SHIFT)), round(float(point[1]) * (1 << _SHIFT))


def _line(image: Image, start: Array, end: Array, color: Color, width: float) -> None:
    cv2.line(image, _fixed(start), _fixed(end), color, max(1, round(width)), cv2.LINE_AA, _SHIFT)


def _draw_details(image: Image, bones: _Skeleton, style: HandStyle) -> None:
    """Draw creases, the index nail and a bracelet: texture that optical flow can follow."""
    size = bones.scale
    dark, light = _shade(style.skin, 0.6), _shade(style.skin, 1.25)
    for knuckle, tip, width in zip(bones.knuckles[1:], bones.tips[1:], _WIDTHS[1:], strict=True):
        along = tip - knuckle
        across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
        for joint in (0.02, 0.42, 0.7):
            middle = knuckle + along * joint
            reach = across * width * 0.55 * size
            _line(image, middle - reach, middle + reach, dark, size * 0.02)
    index_tip, along = bones.tips[1], bones.tips[1] - bones.knuckles[1]
    _line(image, index_tip - 0.1 * along, index_tip, light, size * 0.09)
    arm = bones.elbow - bones.wrist
    across = np.array([-arm[1], arm[0]]) / max(float(np.hypot(*arm)), 1e-6) * 0.36 * size
    if style.bracelet is not None:
        centre = bones.wrist + 0.06 * arm
        _line(image, centre - across, centre + across, style.bracelet, size * 0.1)


def _draw_sleeve(image: Image, bones: _Skeleton, style: HandStyle) -> None:
    arm = bones.wrist - bones.elbow
    cuff = bones.elbow + arm * style.sleeve_reach
    size = bones.scale
    part = np.array([[*bones.elbow, 0.8 * size, *cuff, 0.5 * size]])
    for gain, width in ((0.6, 1.0), (1.0, 0.85)):
        inner = part.copy()
        inner[:, [2, 5]] *= width
        color = _shade(style.sleeve, gain)
        cv2.fillConvexPoly(image, _capsules(inner)[0], color, cv2.LINE_AA, _SHIFT)
    across = np.array([-arm[1], arm[0]]) / max(float(np.hypot(*arm)), 1e-6) * 0.48 * size
    for step in range(1, 7):
        centre = cuff - arm * (0.08 * step)
        _line(image, centre - across, centre + across, style.sleeve_stripe, size * 0.08)


def make_background(rng: np.random.Generator, height: int, width: int) -> Image:
    """Draw a still picture (height, width, 3) uint8 BGR, such as a wall, cloth or room."""
    painters: tuple[Callable[[np.random.Generator, int, int], Plane], ...] = (
        _wall, _tiles, _stripes, _foliage, _chevrons, _shelf,
    )  # fmt: skip
    picture = painters[int(rng.integers(len(painters)))](rng, height, width)
    if rng.random() < 0.5:
        _furnish(rng, picture)
    picture *= 1.0 + rng.uniform(0.03, 0.15) * _noise(rng, height, width, 5)[..., None]
    ramp_y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    ramp_x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    slope = rng.normal(0.0, 0.2, 2)
    picture *= (1.0 + slope[0] * ramp_y + slope[1] * ramp_x)[..., None] * rng.uniform(0.5, 1.1)
    softness = rng.uniform(0.0, 0.004) * height
    if softness > 0.5:
        cv2.GaussianBlur(picture, (0, 0), softness, dst=picture)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, height: int, width: int, octaves: int) -> Plane:
    """Smooth noise (height, width) float32 around zero, in octaves that halve in size."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cells = (3 << octave) + 2
        grid = rng.standard_normal((cells, cells)).astype(np.float32) * 0.6**octave
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
    return total


def _flat(color: Array, height: int, width: int) -> Plane:
    return np.broadcast_to(color.astype(np.float32), (height, width, 3)).copy()


def _blend(mask: Plane, one: Array, other: Array) -> Plane:
    """Colour ``one`` where ``mask`` (H, W) is 0, ``other`` where it is 1."""
    return (one + mask[..., None] * (other - one)).astype(np.float32)


def _colors(rng: np.random.Generator, count: int) -> Array:
    """(count, 3) colours, mostly dull as rooms are, sometimes vivid."""
    vivid = rng.choice([0.15, 0.35, 1.0], p=(0.5, 0.3, 0.2))
    gray = rng.uniform(15, 240, (count, 1))
    tint = rng.normal(0.0, 12.0, 3)
    return np.asarray(np.clip(gray + tint + vivid * rng.uniform(-110, 110, (count, 3)), 0, 255))


def _grid(height: int, width: int) -> tuple[Plane, Plane]:
    """x and y in picture heights, (1, W) and (H, 1)."""
    x = np.arange(width, dtype=np.float32)[None] / np.float32(height)
    y = np.arange(height, dtype=np.float32)[:, None] / np.float32(height)
    return x, y


def _wall(rng: np.random.Generator, height: int, width: int) -> Plane:
    gray = rng.uniform(30, 230)
    return _flat(gray + rng.normal(0, 15, 3), height, width)


def _tiles(rng: np.random.Generator, height: int, width: int) -> Plane:
    x, y = _grid(height, width)
    turn, pitch = rng.uniform(-0.5, 0.5), rng.uniform(0.06, 0.3)
    across = np.abs((x * np.cos(turn) + y * np.sin(turn)) / pitch % 1.0 - 0.5)
    down = np.abs((y * np.cos(turn) - x * np.sin(turn)) / (pitch * rng.uniform(0.5, 2)) % 1.0 - 0.5)
    joint = np.maximum(across, down) > 0.5 - rng.uniform(0.02, 0.1)
    tile, mortar = _colors(rng, 2)
    return _blend(joint.astype(np.float32), tile, mortar)


def _stripes(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Wavy bands, upright or lying, like curtains or wood grain."""
    x, y = _grid(height, width)
    along, across = (x, y) if rng.random() < 0.3 else (y, x)
    bend = rng.uniform(0.0, 0.06) * np.sin(along * rng.uniform(3, 20) + rng.uniform(0, 6))
    wave = np.sin((across + bend) * rng.uniform(20, 140) + 2.0 * _noise(rng, height, width, 3))
    return _blend((0.5 + 0.5 * wave).astype(np.float32), *_colors(rng, 2))


def _foliage(rng: np.random.Generator, height: int, width: int) -> Plane:
    mask = 1.0 / (1.0 + np.exp(-rng.uniform(1, 6) * _noise(rng, height, width, 7)))
    return _blend(mask.astype(np.float32), *_colors(rng, 2))


def _chevrons(rng: np.random.Generator, height: int, width: int) -> Plane:
    x, y = _grid(height, width)
    pitch, slope = rng.uniform(0.1, 0.3), rng.uniform(0.3, 1.2)
    fold = np.abs(x / (2 * pitch) % 1.0 - 0.5) * 2 * pitch
    band = ((y + slope * fold) / (pitch * rng.uniform(0.3, 0.8))).astype(np.int32)
    palette = _colors(rng, 5).astype(np.float32)
    return np.asarray(palette[band % len(palette)], np.float32)


def _shelf(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Rows of upright rectangles, like books or a front of windows."""
    palette = _colors(rng, 12)
    picture = _flat(palette[0] * 0.6, height, width)
    row = max(8, int(height * rng.uniform(0.12, 0.3)))
    for top in range(0, height, row):
        left = 0
        while left < width:
            right = left + max(3, int(height * rng.uniform(0.02, 0.06)))
            head = top + int(row * rng.uniform(0.1, 0.4))
            picture[head : top + int(row * 0.92), left : right - 1] = palette[rng.integers(12)]
            left = right
    return picture


def _furnish(rng: np.random.Generator, picture: Plane) -> None:
    """Add a few flat polygons, like desks, frames and doors."""
    height, width = picture.shape[:2]
    for color in _colors(rng, int(rng.integers(1, 7))):
        centre = rng.uniform((0, 0), (width, height))
        reach = rng.uniform(0.05, 0.35, 2) * height
        corners = int(rng.integers(3, 6))
        angles = np.sort(rng.uniform(0, 6.28, corners))
        if corners == 4:
            angles = np.radians([45, 135, 225, 315]) + rng.normal(0, 0.05)
        points = centre + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1) * 1.4
        outline = np.rint(points).astype(np.int32)
        cv2.fillPoly(picture, [outline], color.tolist(), cv2.LINE_AA)
