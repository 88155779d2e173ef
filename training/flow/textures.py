"""Textures of rendered layers, and the shapes that they are cut into."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Gray = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Rng = np.random.Generator

DENSITY = 1.5  # texture pixels per frame pixel: textures are finer than the frame
LARGEST_SIDE = 1024
LEAST_TEXTURE = 2.2  # mean gray levels between neighbouring rows, of a picture of TEXTURE_SIDE
TEXTURE_SIDE = 480
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
VIDEOS = (".mp4", ".avi", ".mkv")
LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789&%?#"


class PhotoError(Exception):
    """No photographs to render with; the message names the folder."""


def load_photos(folder: Path) -> list[Gray]:
    """The textured pictures under ``folder``, sorted by path: gray, at most 1024 pixels a side.

    Raises :class:`PhotoError` if it has none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    read = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths)
    photos = [_shrunk(np.asarray(photo, np.uint8)) for photo in read if photo is not None]
    if not (textured := [photo for photo in photos if _has_texture(photo)]):
        flat = f"; {len(photos)} have too little texture" if photos else ""
        raise PhotoError(f"{folder}: no readable picture ({', '.join(PICTURES)}) in it{flat}")
    return textured


def _has_texture(photo: Gray) -> bool:
    small = _shrunk(photo, TEXTURE_SIDE).astype(np.float32)
    return float(np.abs(np.diff(small, axis=0)).mean()) >= LEAST_TEXTURE


def clip_frames(folder: Path, count: int, rng: Rng) -> list[Gray]:
    """The middle frames of ``count`` random videos under ``folder``, gray.

    Raises :class:`PhotoError` if it has no video.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEOS)
    if not paths:
        raise PhotoError(f"{folder}: no video ({', '.join(VIDEOS)}) in it")
    frames = []
    for index in rng.permutation(len(paths))[:count]:
        capture = cv2.VideoCapture(str(paths[index]))
        capture.set(cv2.CAP_PROP_POS_FRAMES, capture.get(cv2.CAP_PROP_FRAME_COUNT) // 2)
        there, frame = capture.read()
        capture.release()
        if there:
            frames.append(_shrunk(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)))
    return frames


def _shrunk(photo: Gray, side: int = LARGEST_SIDE) -> Gray:
    scale = side / max(photo.shape)
    if scale >= 1:
        return photo
    shrunk = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.uint8)


def texture(rng: Rng, photos: Sequence[Gray], size: tuple[int, int], flat: float) -> Plane:
    """A texture (DENSITY h, DENSITY w) float32, 0 to 255, for a frame of ``size`` (h, w).

    ``flat`` is the share of textures with little detail.
    """
    shape = (round(size[0] * DENSITY), round(size[1] * DENSITY))
    kind = rng.random()
    if kind < flat:
        made = _shading(rng, shape)
    elif kind < flat + 0.12:
        made = _fractal(rng, shape)
    elif kind < flat + 0.16:
        made = _stripes(rng, shape)
    else:
        made = _crop(rng, photos[int(rng.integers(len(photos)))], shape)
    contrast = rng.uniform(0.4, 1.2)
    made = (made - 128) * contrast + 128 + rng.normal(0, 20)
    sharp = np.asarray(np.clip(made, 0, 255), np.float32)
    blurred = cv2.GaussianBlur(sharp, (0, 0), rng.uniform(0.5, 1.3))
    return np.asarray(blurred, np.float32)


def _crop(rng: Rng, photo: Gray, shape: tuple[int, int]) -> Plane:
    height, width = photo.shape
    part = rng.uniform(0.35, 1.0)
    high, wide = int(height * part), int(width * part)
    top, left = rng.integers(height - high + 1), rng.integers(width - wide + 1)
    crop = photo[top : top + high, left : left + wide]
    way = cv2.INTER_AREA if wide > shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(crop, shape[::-1], interpolation=way), np.float32)


def _fractal(rng: Rng, shape: tuple[int, int]) -> Plane:
    """Noise whose amplitude in each octave is a power of the wavelength."""
    total = np.zeros(shape, np.float32)
    rough = rng.uniform(0.3, 1.2)
    for octave in range(1, 8):
        rows, columns = (max(1, (side + 2) >> octave) for side in shape)
        cells = rng.normal(0, 1, (rows, columns))
        cells = cells.astype(np.float32)
        layer = cv2.resize(cells, shape[::-1], interpolation=cv2.INTER_CUBIC)
        total += layer * np.float32(2 ** (octave * rough))
    return np.asarray(128 + 50 * total / (total.std() + 1e-6), np.float32)


def _stripes(rng: Rng, shape: tuple[int, int]) -> Plane:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle, length = rng.uniform(0, np.pi), rng.uniform(8, 60)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / length))
    return np.asarray(128 + 60 * np.tanh(wave * rng.uniform(1, 6)), np.float32)


def _shading(rng: Rng, shape: tuple[int, int]) -> Plane:
    corners = rng.uniform(30, 225) + rng.normal(0, 25, (3, 3))
    return np.asarray(
        cv2.resize(corners.astype(np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR),
        np.float32,
    )


Draw = Callable[[Rng, Gray, tuple[int, int], int], None]


def _polygon(rng: Rng, canvas: Gray, centre: tuple[int, int], radius: int) -> None:
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
    reach = radius * rng.uniform(0.4, 1.0, len(angles))
    _fill(canvas, centre, angles, reach)


def _blob(rng: Rng, canvas: Gray, centre: tuple[int, int], radius: int) -> None:
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    reach = np.full(90, 0.7)
    for waves in range(2, 7):
        reach += rng.normal(0, 0.25 / waves) * np.cos(waves * angles + rng.uniform(0, 7))
    _fill(canvas, centre, angles, radius * np.clip(reach, 0.1, 1.0))


def _fill(
    canvas: Gray,
    centre: tuple[int, int],
    angles: npt.NDArray[np.float64],
    reach: npt.NDArray[np.float64],
) -> None:
    points = np.stack([np.cos(angles), np.sin(angles)], -1) * reach[:, None] + centre
    cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], 255)


def _ellipse(rng: Rng, canvas: Gray, centre: tuple[int, int], radius: int) -> None:
    axes = (max(2, int(radius * rng.uniform(0.2, 1))), max(2, int(radius * rng.uniform(0.2, 1))))
    cv2.ellipse(canvas, centre, axes, rng.uniform(0, 180), 0, 360, 255, -1)


def _stick(rng: Rng, canvas: Gray, centre: tuple[int, int], radius: int) -> None:
    points = np.cumsum(rng.normal(0, radius * 0.6, (rng.integers(2, 5), 2)), 0) + centre
    thickness = int(rng.integers(3, max(4, radius // 4)))
    cv2.polylines(canvas, [np.rint(points).astype(np.int32)], False, 255, thickness)


def _hand(rng: Rng, canvas: Gray, centre: tuple[int, int], radius: int) -> None:
    """A palm, an arm, and up to five fingers that point in about the same direction."""
    way = rng.uniform(0, 2 * np.pi)
    palm, thickness = max(3, radius // 3), max(2, radius // 6)
    middle = np.array(centre)
    cv2.circle(canvas, centre, palm, 255, -1)
    for finger in range(rng.integers(1, 6)):
        angle = way + (finger - 2) * rng.uniform(0.2, 0.45)
        reach = radius * rng.uniform(0.6, 1.0)
        tip = middle + reach * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(canvas, centre, (int(tip[0]), int(tip[1])), 255, thickness)
    arm = middle - 3 * radius * np.array([np.cos(way), np.sin(way)])
    cv2.line(canvas, centre, (int(arm[0]), int(arm[1])), 255, int(palm * 1.5))


def _text(rng: Rng, canvas: Gray, centre: tuple[int, int], radius: int) -> None:
    letters = "".join(rng.choice(list(LETTERS), rng.integers(1, 7)))
    scale, thickness = radius / 30, max(2, radius // 10)
    corner = (centre[0] - radius, centre[1] + radius // 3)
    cv2.putText(canvas, letters, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness)


def _foliage(rng: Rng, canvas: Gray, centre: tuple[int, int], radius: int) -> None:
    """Many small pieces and holes: thresholded noise inside a blob."""
    whole = np.zeros_like(canvas)
    _blob(rng, whole, centre, radius)
    cell = int(rng.integers(5, 16))
    noise = rng.normal(0, 1, (canvas.shape[0] // cell + 1, canvas.shape[1] // cell + 1))
    field = cv2.resize(noise.astype(np.float32), canvas.shape[::-1], interpolation=cv2.INTER_CUBIC)
    canvas |= np.where(field > rng.uniform(-0.4, 0.4), whole, np.uint8(0))


SHAPES: tuple[Draw, ...] = (_polygon, _blob, _ellipse, _stick, _hand, _text, _foliage)


def mask(rng: Rng, size: tuple[int, int], margin: int) -> Plane:
    """One shape, 0 to 1, (2 h + 4 margin, 2 w + 4 margin) float32, for a frame of ``size`` (h, w).

    The mask is twice as fine as the frame and extends ``margin`` frame pixels beyond each side.
    """
    height, width = size
    canvas = np.zeros((2 * height + 4 * margin, 2 * width + 4 * margin), np.uint8)
    x = int(2 * margin + 2 * width * rng.uniform(-0.1, 1.1))
    y = int(2 * margin + 2 * height * rng.uniform(-0.1, 1.1))
    radius = int(2 * height * np.exp(rng.uniform(np.log(0.06), np.log(0.7))))
    SHAPES[rng.integers(len(SHAPES))](rng, canvas, (x, y), max(8, radius))
    soft = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.8, 1.6))
    return np.asarray(soft, np.float32) / np.float32(255)
