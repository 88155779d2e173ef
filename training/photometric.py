"""Other looks of the same pictures: light, colour, crop, blur, noise and compression.

The appearance backbone is frozen and its grids are cached, so its input can't be varied anew in
each batch. Instead, each clip is cached under a few looks, each the same for all of its pictures,
as if another camera had filmed it in another light.
"""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Rng = np.random.Generator

SMALLEST_CROP = 0.72
GAMMA = (0.6, 1.6)
GAIN = (0.7, 1.3)
COLOUR = (0.85, 1.15)
BLUR = (0.0, 0.0, 0.5, 1.0)
NOISE = (0.0, 3.0, 8.0)
QUALITY = (25, 95)


def random_look(rng: Rng) -> Callable[[Picture], Picture]:
    """A function that gives a picture, (h, w, 3) uint8 BGR, the same random look each time."""
    side = rng.uniform(SMALLEST_CROP, 1.0)
    left, top = rng.uniform(0.0, 1.0 - side, 2)
    gamma, gain = rng.uniform(*GAMMA), rng.uniform(*GAIN) * rng.uniform(*COLOUR, 3)
    blur, noise = float(rng.choice(BLUR)), float(rng.choice(NOISE))
    quality = int(rng.integers(*QUALITY))

    def look(picture: Picture) -> Picture:
        height, width = picture.shape[:2]
        rows = slice(round(top * height), round((top + side) * height))
        columns = slice(round(left * width), round((left + side) * width))
        cut = cv2.resize(picture[rows, columns], (width, height), interpolation=cv2.INTER_LINEAR)
        light = 255.0 * np.clip((cut.astype(np.float32) / 255.0) ** gamma * gain, 0.0, 1.0)
        if blur:
            light = np.asarray(cv2.GaussianBlur(light, (0, 0), blur), np.float32)
        light = light + noise * rng.standard_normal(light.shape, np.float32)
        _, packed = cv2.imencode(
            ".jpg", np.clip(light, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality]
        )
        return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)

    return look


def looks_of(pictures: npt.NDArray[np.uint8], count: int, seed: int) -> list[Picture]:
    """``count`` other looks of a clip's pictures, each (S, h, w, 3) uint8 BGR as ``pictures``."""
    looks = [random_look(np.random.default_rng([seed, number])) for number in range(count)]
    return [np.stack([look(picture) for picture in pictures]) for look in looks]
