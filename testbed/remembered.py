"""Memory files of clips: what a running program would have kept, without running one."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.memory.store import MemoryWriter
from pipeline.model.watch import Watch
from pipeline.steps.join import DecidedStep, decided_step
from pipeline.transport.messages import Moment
from teach.features import ClipFeatures
from teach.trial import Looks

STRETCH = 100
"""Steps in a row of the file."""


def remember(
    folder: Path,
    camera: str,
    watch: Watch,
    clips: Sequence[ClipFeatures],
    looks: Looks,
    start_ns: int,
    segment: int = 0,
) -> list[tuple[int, int]]:
    """Append clips that play one after the other; returns the times of day of their first and last
    steps. They are a segment of their own."""
    period_ns = round(NS_PER_S / watch.pack.contract.step_hz)
    steps: list[DecidedStep] = []
    times = []
    for clip in clips:
        first = len(steps)
        for step in range(clip.steps):
            number = len(steps)
            moment = Moment(
                camera=camera, segment=segment, step_id=number * watch.every, frame_id=number,
                captured_ns=number * period_ns, pts_ns=None, elapsed_steps=1.0, skipped=0,
            )  # fmt: skip
            vectors = [
                clip.streams[name][step].tobytes() if clip.present[name][step] else None
                for name in (looks.appearance, looks.motion)
            ]
            steps.append(decided_step(moment, watch, vectors[0], vectors[1]))
        times.append((start_ns + first * period_ns, start_ns + (len(steps) - 1) * period_ns))
    writer = MemoryWriter(folder, camera, 7.0, 1000.0, SYSTEM_CLOCK)
    for first in range(0, len(steps), STRETCH):
        writer.append(steps[first : first + STRETCH], start_ns, media=False)
    writer.close()
    return times
