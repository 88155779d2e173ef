"""Photometric variants of a clip: other light, colour, crop, blur, noise and compression.

The appearance backbone is frozen and its grids are cached, so its input can't be varied in each
batch. Instead, the cache holds a few variants of each clip. A variant treats all pictures of the
clip alike, as if another camera had filmed it in another light.
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


def random_variant(rng: Rng) -> Callable[[Picture], Picture]:
    """A function from picture to picture, (h, w, 3) uint8 BGR.

    Its random parameters are drawn once; only the noise differs from call to call.
    """
    side = rng.uniform(SMALLEST_CROP, 1.0)
    left, top = rng.uniform(0.0, 1.0 - side, 2)
    gamma, gain = rng.uniform(*GAMMA), rng.uniform(*GAIN) * rng.uniform(*COLOUR, 3)
    blur, noise = float(rng.choice(BLUR)), float(rng.choice(NOISE))
    quality = int(rng.integers(*QUALITY))

    def vary(picture: Picture) -> Picture:
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

    return vary


def photometric_variants(pictures: npt.NDArray[np.uint8], count: int, seed: int) -> list[Picture]:
    """``count`` variants of a clip's ``pictures``, each (S, h, w, 3) uint8 BGR as they are."""
    variants = [random_variant(np.random.default_rng([seed, number])) for number in range(count)]
    return [np.stack([vary(picture) for picture in pictures]) for vary in variants]
