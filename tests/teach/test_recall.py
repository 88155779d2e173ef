"""What a memory gives back of some time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.memory.store import MemoryReader, MemoryWriter
from pipeline.model.pack import ModelPack
from pipeline.model.watch import Watch, feature_key
from pipeline.steps.join import DecidedStep
from pipeline.transport.messages import Feature, Moment, Regions
from teach.recall import Recall
from testbed import tiny_pack
from tests.teach.parts import LOOKS

START_NS = 1_764_000_000 * NS_PER_S
PERIOD_NS = NS_PER_S // 10


def at(step: float) -> int:
    return START_NS + round(step * PERIOD_NS)


class Camera:
    """A memory of steps that are given by number, segment and who is there."""

    def __init__(self, folder: Path, view: str, every: int = 1) -> None:
        pack = ModelPack.load(tiny_pack.make(folder / "pack", view=view, step_hz=10.0 / every))
        self._folder, self._watch = folder / "memory", Watch(pack, every)

    def remember(self, steps: Sequence[tuple[int, int, tuple[str, ...]]]) -> Recall:
        writer = MemoryWriter(self._folder, "door", 7.0, 10.0, SYSTEM_CLOCK)
        writer.append([self._step(*one) for one in steps], START_NS, media=False)
        writer.close()
        return Recall(MemoryReader(self._folder), "door", self._watch, LOOKS)

    def _step(self, number: int, segment: int, there: tuple[str, ...]) -> DecidedStep:
        moment = Moment(
            camera="door", segment=segment, step_id=number, frame_id=number,
            captured_ns=number * PERIOD_NS, pts_ns=None, elapsed_steps=1.0, skipped=0,
        )  # fmt: skip
        view = self._watch.view
        regions: Regions = {}
        if view != "frame":
            regions = {view: dict.fromkeys(there, (0.0, 0.0, 1.0, 1.0))}
        streams: dict[Literal["spatial", "temporal"], str] = {
            "spatial": self._watch.spatial,
            "temporal": self._watch.temporal,
        }
        found = {
            stream: Feature(
                moment=moment, stream=stream, regions=regions, trail=(),
                vectors={
                    feature_key(key, who): np.full(4, number + 100 * place, np.float32).tobytes()
                    for place, who in enumerate(there)
                },
            )
            for stream, key in streams.items()
        }  # fmt: skip
        return DecidedStep(moment, found["spatial"], found["temporal"])


def test_a_clip_has_the_steps_of_its_time(tmp_path: Path) -> None:
    recall = Camera(tmp_path, "frame").remember([(n, 0, ("frame",)) for n in range(40)])
    clip = recall.clip(at(10), at(19))
    assert clip is not None
    assert clip.streams["flow"][:, 0].tolist() == list(range(10, 20))
    assert clip.present["still"].all()
    assert clip.times_ns.tolist() == [at(n) for n in range(10, 20)]


def test_steps_that_are_not_remembered_are_absent(tmp_path: Path) -> None:
    steps = [(n, 0, ("frame",)) for n in range(20) if n not in (5, 6)]
    clip = Camera(tmp_path, "frame").remember(steps).clip(at(0), at(9))
    assert clip is not None
    assert np.flatnonzero(clip.present["flow"] == 0).tolist() == [5, 6]
    assert clip.times_ns.tolist() == [at(n) for n in range(10)]


@pytest.mark.parametrize(
    "steps",
    [
        [(n, int(n >= 6), ("frame",)) for n in range(10)],
        [(n, 0, ("frame",)) for n in range(6)] + [(n, 0, ("frame",)) for n in range(16, 20)],
    ],
    ids=["a segment begins", "a gap as long as a window"],
)
def test_the_longest_piece_is_taken(
    tmp_path: Path, steps: Sequence[tuple[int, int, tuple[str, ...]]]
) -> None:
    recall = Camera(tmp_path, "frame").remember(steps)
    clip = recall.clip(at(0), at(10))
    assert clip is not None
    assert clip.steps == 6
    # Less than half of what is asked for is nothing.
    assert recall.clip(at(0), at(19)) is None
    assert recall.clip(at(100), at(110)) is None


def test_a_person_has_an_own_clip(tmp_path: Path) -> None:
    recall = Camera(tmp_path, "person").remember([(n, 0, ("p1", "p2")) for n in range(20)])
    clip = recall.clip(at(0), at(9), "p2")
    assert clip is not None
    assert clip.streams["flow"][:, 0].tolist() == list(range(100, 110))
    # Nobody can tell which of them is meant.
    assert recall.clip(at(0), at(9)) is None
    assert recall.clip(at(0), at(9), "p3") is None


def test_a_slower_pack_takes_its_own_steps(tmp_path: Path) -> None:
    recall = Camera(tmp_path, "frame", every=2).remember([(n, 0, ("frame",)) for n in range(20)])
    clip = recall.clip(at(0), at(19))
    assert clip is not None
    assert clip.streams["flow"][:, 0].tolist() == list(range(0, 20, 2))
