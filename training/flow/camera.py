"""Camera effects on the frames of a rendered scene: light, blur, noise, compression."""

import cv2
import numpy as np
import numpy.typing as npt

from training.flow.config import CameraConfig

Gray = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
FlowField = npt.NDArray[np.float32]
Rng = np.random.Generator
_LEFT_RIGHT = np.array([-1, 1], np.float32)
_UP_DOWN = np.array([1, -1], np.float32)


def filmed(
    rng: Rng, prev: Gray, following: Gray, flow: FlowField, config: CameraConfig
) -> tuple[Gray, Gray, FlowField]:
    """The pair as a camera would film it, (H, W) uint8 each, and its flow, (H, W, 2) float32.

    The pair is mirrored and inverted at random, and its flow with it. Sometimes the second frame
    is the first again, with noise of its own and no flow. Unknown flow (NaN) stays NaN.
    """
    if rng.random() < config.still:
        following, flow = prev, np.zeros_like(flow)
    first, second, flow = _mirrored(rng, prev, following, flow)
    if rng.random() < config.smear:
        first, second = _smeared(first, flow), _smeared(second, flow)
    if rng.random() < config.blur:
        sigma = rng.uniform(0.4, 2.0)
        first, second = _blurred(first, sigma), _blurred(second, sigma)
    if rng.random() < config.light:
        second = _lit(rng, second, 0.12)
    sigma = config.noise * rng.random() ** 2.5
    frames = [_noisy(rng, frame, sigma) for frame in (first, second)]
    if rng.random() < config.jpeg:
        quality = int(rng.integers(30, 96))
        frames = [_compressed(frame, quality) for frame in frames]
    return frames[0], frames[1], flow


def _mirrored(
    rng: Rng, prev: Gray, following: Gray, flow: FlowField
) -> tuple[Plane, Plane, FlowField]:
    frames = np.stack([prev, following]).astype(np.float32)
    if rng.random() < 0.5:
        frames, flow = frames[:, :, ::-1], np.asarray(flow[:, ::-1] * _LEFT_RIGHT, np.float32)
    if rng.random() < 0.5:
        frames, flow = frames[:, ::-1], np.asarray(flow[::-1] * _UP_DOWN, np.float32)
    if rng.random() < 0.5:
        frames = np.asarray(255 - frames, np.float32)
    first, second = np.ascontiguousarray(frames)
    return first, second, np.ascontiguousarray(flow, np.float32)


def _smeared(frame: Plane, flow: FlowField) -> Plane:
    """Blurred along the picture's median motion, as by an open shutter."""
    x, y = np.median(np.nan_to_num(flow).reshape(-1, 2), 0) / 2
    side = 2 * int(np.ceil(min(max(abs(x), abs(y)), 12) / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    middle, length = side // 2, max(1e-6, float(np.hypot(x, y)))
    end = (round(middle + middle * x / length), round(middle + middle * y / length))
    start = (2 * middle - end[0], 2 * middle - end[1])
    cv2.line(kernel, start, end, 1.0, 1)
    return np.asarray(cv2.filter2D(frame, -1, kernel / kernel.sum()), np.float32)


def _blurred(frame: Plane, sigma: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma), np.float32)


def _lit(rng: Rng, frame: Plane, strength: float) -> Plane:
    """Random gain, gamma and offset, of about ``strength``."""
    gain, gamma = np.exp(rng.normal(0, strength, 2) * (1.0, 0.7))
    bright = 255 * (np.clip(frame, 0, 255) / 255) ** np.float32(gamma) * np.float32(gain)
    return np.asarray(bright + rng.normal(0, 40 * strength), np.float32)


def _noisy(rng: Rng, frame: Plane, sigma: float) -> Gray:
    noise = rng.standard_normal(frame.shape, np.float32)
    noisy = frame + noise * np.float32(sigma)
    return np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8)


def _compressed(frame: Gray, quality: int) -> Gray:
    _, packed = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8)
