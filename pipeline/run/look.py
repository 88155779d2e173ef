"""What the cameras send: each is opened for some seconds, for ``--check --open``."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from pipeline import topology
from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.config import CameraConfig, Config
from pipeline.errors import SourceError
from pipeline.run.rule_words import percent
from pipeline.sources import Source, create, redact
from pipeline.stages.capture import source_options
from pipeline.steps.frame_rate import FrameRate
from pipeline.steps.ignore_mask import covered
from pipeline.topology import Watched

LOOK_S = 3.0
AT_ONCE = 8
LARGE = 1280 * 720
"""Pixels of a picture; networks see a hundredth of a larger one."""


@dataclass(frozen=True)
class Look:
    """One camera: what it sends, and what would be better."""

    camera: str
    sends: str
    remedies: tuple[str, ...] = ()
    error: SourceError | None = None


def look_at_cameras(config: Config, watched: Watched, seconds: float = LOOK_S) -> list[Look]:
    """Open all cameras and read each for ``seconds``; in the order of the config."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        looking = [
            pool.submit(_look, name, camera, topology.step_hz(watched[name]), seconds)
            for name, camera in config.cameras.items()
        ]
        return [look.result() for look in looking]


def _look(name: str, camera: CameraConfig, step_hz: float, seconds: float) -> Look:
    options = source_options(camera, lossless=False, origin_ns=SYSTEM_CLOCK.monotonic_ns())
    try:
        source = create(camera.source, camera=name, clock=SYSTEM_CLOCK, options=options)
        with closing(source):
            source.open()
            look = _described(name, source, FrameRate(step_hz, camera.gap_s), seconds)
            return replace(look, sends=look.sends + _ignored(camera))
    except SourceError as error:
        return Look(name, redact(camera.source), error=error)


def _ignored(camera: CameraConfig) -> str:
    return f", of which {percent(covered(camera.ignore))} is ignored" if camera.ignore else ""


def _described(name: str, source: Source, rate: FrameRate, seconds: float) -> Look:
    until_ns = SYSTEM_CLOCK.monotonic_ns() + round(seconds * NS_PER_S)
    times: list[int] = []
    stamped = True
    while SYSTEM_CLOCK.monotonic_ns() < until_ns and (grab := source.grab()) is not None:
        stamped = grab.pts_ns is not None
        times.append(grab.step_ns(source.ends))
        rate.note(times[-1])
    height, width = source.size
    apart = [b - a for a, b in pairwise(times)]
    fps = f"{NS_PER_S / median(apart):.3g} frames a second" if apart else "one frame"
    stamps = "its own time stamps" if stamped else "no time stamps"
    sends = f"{source.codec}, {width}×{height}, {fps}, {stamps}"
    remedies = [text for text in (source.trouble, None if source.ends else rate.trouble) if text]
    if width * height > LARGE and not source.ends:
        remedies.append(
            "its picture is larger than the networks need: take the camera's second, smaller stream"
        )
    return Look(name, sends, tuple(remedies))
