"""Memory: keeps the features of steps in which something moves. One process for all cameras.

Fusion sends it each step as it was decided. No other stage waits for it, and it works at low
priority.
"""

import logging
import os
import sqlite3
from dataclasses import dataclass, field

from pipeline import topology
from pipeline.clock import NS_PER_S
from pipeline.config import Config
from pipeline.errors import os_reason
from pipeline.memory.keeping import Keeper, MotionGate
from pipeline.memory.store import MemoryWriter
from pipeline.stages.base import Context
from pipeline.steps.join import DecidedStep
from pipeline.transport import topics
from pipeline.transport.counters import key
from pipeline.transport.messages import Remembered

NICE = 5
AROUND_S = 6.4
"""Kept before and after each motion; longer than the windows of most packs."""
WRITE_S = 30.0
"""A stretch is written after so long, whether or not it goes on."""
DELETE_S = 60.0
AT_ONCE = 64

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Camera:
    writer: MemoryWriter
    keeper: Keeper[DecidedStep]
    gate: MotionGate
    most: int
    """Steps of a stretch."""
    steps: list[DecidedStep] = field(default_factory=list)
    since_ns: int = 0
    works: bool = True
    """Whether the disk took the last stretch."""


class Memory:
    """Writes stretches of steps, and deletes old ones."""

    def __init__(self, context: Context) -> None:
        self._context, self._clock = context, context.clock
        self._inbox = context.bus.pull(topics.MEMORY)
        context.bus.watch(self._inbox)
        self._cameras = {name: _camera(context, name) for name in context.spec.cameras}
        self._delete_ns = 0
        self._quiet = False
        os.nice(NICE)

    def work(self) -> float | None:
        now_ns = self._clock.monotonic_ns()
        self._take(now_ns)
        waits = [DELETE_S]
        for name, camera in self._cameras.items():
            if not camera.steps:
                continue
            left_s = (camera.since_ns - now_ns) / NS_PER_S + WRITE_S
            if left_s <= 0 or len(camera.steps) >= camera.most:
                self._write(name, camera)
            else:
                waits.append(left_s)
        if now_ns >= self._delete_ns:
            self._delete_ns = now_ns + int(DELETE_S * NS_PER_S)
            self._delete_old()
        return min(waits)

    def _take(self, now_ns: int) -> None:
        while messages := self._inbox.drain(AT_ONCE):
            self._quiet = False
            for message in messages:
                if isinstance(message, Remembered):
                    self._push(message, now_ns)

    def _push(self, message: Remembered, now_ns: int) -> None:
        name = message.moment.camera
        camera = self._cameras[name]
        temporal = message.temporal
        share = temporal.moved if temporal is not None else None
        moves = share is not None and camera.gate.moves(share)
        step = DecidedStep(message.moment, message.spatial, temporal, message.people)
        kept = camera.keeper.push(step, moves or message.active)
        if kept and camera.keeper.dropped:
            camera.keeper.dropped = False
            self._write(name, camera)
        if kept and not camera.steps:
            camera.since_ns = now_ns
        camera.steps += kept
        if len(camera.steps) >= camera.most:
            self._write(name, camera)

    def _write(self, name: str, camera: _Camera) -> None:
        steps, camera.steps = camera.steps, []
        if not steps:
            return
        offset_ns = self._clock.wall_ns() - self._clock.monotonic_ns()
        media = self._context.lossless
        if media:
            offset_ns += self._context.origin_ns
        try:
            size = camera.writer.append(steps, offset_ns, media=media)
        except (OSError, sqlite3.Error) as error:
            self._context.counters[key("remembered_steps_lost", name)] += len(steps)
            self._say(name, camera, error)
            return
        camera.works = True
        self._context.counters[key("remembered_steps", name)] += len(steps)
        self._context.counters[key("remembered_written", name)] += size

    def _delete_old(self) -> None:
        for name, camera in self._cameras.items():
            try:
                left = camera.writer.delete_old()
            except (OSError, sqlite3.Error) as error:
                self._say(name, camera, error)
                continue
            self._context.counters[key("remembered_bytes", name)] = left

    def _say(self, name: str, camera: _Camera, error: OSError | sqlite3.Error) -> None:
        if camera.works:
            reason = os_reason(error) if isinstance(error, OSError) else str(error)
            log.warning(
                "camera %s: features can't be kept: %s: %s", name, camera.writer.path, reason
            )
        camera.works = False

    def drained(self) -> bool:
        """Nothing more comes: write what is there."""
        if not self._quiet:
            self._quiet = True
            return False
        for name, camera in self._cameras.items():
            self._write(name, camera)
        return True

    def close(self) -> None:
        for camera in self._cameras.values():
            camera.writer.close()


def _camera(context: Context, name: str) -> _Camera:
    config: Config = context.config
    settings = config.memory
    assert settings.folder is not None
    watches = topology.watched(config, [name])[name]
    step_hz = topology.step_hz(watches)
    longest = max(watch.pack.contract.window * watch.every for watch in watches)
    around = max(longest, round(AROUND_S * step_hz))
    return _Camera(
        MemoryWriter(settings.folder, name, settings.days, settings.mb, context.clock),
        Keeper(around, around),
        MotionGate(),
        round(WRITE_S * step_hz),
    )
