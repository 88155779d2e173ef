"""``lesson.npz`` of a taught pack: what it was taught, as features.

With it a pack is fitted again without its clips and without the base: its networks are files of the
pack. The features are in half precision, as in the memory of a running program.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from pipeline.arrays import Vector
from pipeline.evaluate.clip_list import shown
from pipeline.model.pack import ModelPack, network_file
from teach.base import Base
from teach.examples import Example
from teach.features import ClipFeatures
from teach.lesson import Lesson
from teach.pack import TeachError
from teach.streams import Labels
from teach.trial import Looks

LESSON_FILE = "lesson.npz"
FORMAT = 1
_DAMAGE = (
    ValueError, KeyError, EOFError, OverflowError, MemoryError, RuntimeError, SyntaxError,
    struct.error, zlib.error, zipfile.BadZipFile, msgspec.MsgspecError,
)  # fmt: skip
"""What a damaged file raises; pydantic's errors are ValueErrors."""
_LARGEST = float(np.finfo(np.float16).max)


class _Example(msgspec.Struct, frozen=True):
    name: str
    group: str
    label: int
    file: str
    steps: int
    fold: int | None = None


class _About(msgspec.Struct, frozen=True):
    format: int
    looks: tuple[str, str, float, float]
    labels: tuple[str, ...]
    background: tuple[str, ...]
    step_hz: float
    window: int
    false_a_day: float
    examples: list[_Example]
    early: bool = True


@dataclass(frozen=True)
class KeptLesson:
    """What a pack was taught. ``base`` has the pack's own networks."""

    base: Base
    looks: Looks
    labels: Labels
    window: int
    examples: tuple[Example, ...]
    folds: tuple[int, ...] | None
    false_a_day: float
    early: bool = True

    def lesson(self, examples: Sequence[Example], footage: Sequence[Example] = ()) -> Lesson:
        """A lesson of these examples. Those that the pack knows keep their folds, if they had
        their own; others are spread over them by their groups."""
        streams = (self.looks.appearance, self.looks.motion)
        folds = None if self.folds is None else self._folds(examples, self.folds)
        return Lesson(
            self.base, examples, self.labels, streams, self.window, folds, footage, self.early
        )  # fmt: skip

    def _folds(self, examples: Sequence[Example], own: Sequence[int]) -> list[int]:
        known = {one.group: fold for one, fold in zip(self.examples, own, strict=True)}
        numbers = sorted(set(own))
        for one in examples:
            known.setdefault(one.group, numbers[len(known) % len(numbers)])
        by_name = {(e.group, e.name): f for e, f in zip(self.examples, own, strict=True)}
        return [by_name.get((one.group, one.name), known[one.group]) for one in examples]


def encoded(lesson: Lesson, looks: Looks, false_a_day: float) -> bytes:
    """A lesson as the bytes of its file, with the two streams of ``looks``."""
    examples, given = lesson.examples, lesson.given_folds
    about = _About(
        FORMAT,
        (looks.appearance, looks.motion, *looks.shares),
        lesson.labels.names,
        lesson.labels.background,
        lesson.labels.step_hz,
        lesson.length,
        false_a_day,
        [
            _Example(
                shown(one.name), shown(one.group), one.label, shown(one.clip.path.name),
                one.clip.steps, None if given is None else int(given[place]),
            )
            for place, one in enumerate(examples)
        ],
        lesson.early,
    )  # fmt: skip
    files = {looks.appearance: network_file("spatial"), looks.motion: network_file("temporal")}
    arrays: dict[str, Vector] = {
        "about": np.frombuffer(msgspec.json.encode(about), np.uint8),
        "base": np.frombuffer(lesson.base.in_pack(files), np.uint8),
        "times_ns": np.concatenate([one.clip.times_ns for one in examples]),
    }
    for place, name in enumerate((looks.appearance, looks.motion)):
        rows = np.concatenate([one.clip.streams[name] for one in examples])
        arrays[f"features_{place}"] = np.clip(rows, -_LARGEST, _LARGEST).astype(np.float16)
        arrays[f"present_{place}"] = np.concatenate([one.clip.present[name] for one in examples])
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    return content.getvalue()


def load(pack: ModelPack) -> KeptLesson:
    """The lesson of a pack; raises :class:`TeachError` that says what to do without one."""
    path = pack.folder / LESSON_FILE
    again = "teach the pack again from its clips: two-stream teach --clips"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _decoded(pack.folder, arrays)
    except FileNotFoundError:
        raise TeachError(
            f"{path}: no such file, so what the pack was taught isn't known; {again}"
        ) from None
    except OSError as error:
        raise TeachError(f"{path}: can't be read: {error.strerror or error}") from None
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise TeachError(f"{path}: damaged ({reason}); {again}") from None


def _decoded(folder: Path, arrays: np.lib.npyio.NpzFile) -> KeptLesson:
    about = msgspec.json.decode(arrays["about"].tobytes(), type=_About)
    if about.format != FORMAT:
        raise ValueError(f"format {about.format}; this program reads {FORMAT}")
    looks = Looks(about.looks[0], about.looks[1], (about.looks[2], about.looks[3]))
    base = Base.of_pack(folder, arrays["base"].tobytes())
    names = (looks.appearance, looks.motion)
    times = arrays["times_ns"]
    rows = {n: arrays[f"features_{k}"].astype(np.float32) for k, n in enumerate(names)}
    there = {n: arrays[f"present_{k}"] for k, n in enumerate(names)}
    steps = sum(one.steps for one in about.examples)
    for name in names:
        wanted = (steps, base.streams[name].feature_size)
        if rows[name].shape != wanted or len(there[name]) != steps or len(times) != steps:
            raise ValueError(f"the features of {name} aren't {wanted[0]} × {wanted[1]} numbers")
    examples, place = [], 0
    for one in about.examples:
        if not 0 <= one.label < len(about.labels):
            raise ValueError(f"example {one.name}: there is no label {one.label}")
        part = slice(place, place := place + one.steps)
        clip = ClipFeatures(
            Path(one.file),
            times[part],
            {name: rows[name][part] for name in names},
            {name: there[name][part] for name in names},
        )
        examples.append(Example(clip, one.label, one.group, one.name))
    folds = tuple(one.fold for one in about.examples if one.fold is not None)
    return KeptLesson(
        base,
        looks,
        Labels(about.labels, about.background, about.step_hz),
        about.window,
        tuple(examples),
        folds if folds and len(folds) == len(examples) else None,
        about.false_a_day,
        about.early,
    )
