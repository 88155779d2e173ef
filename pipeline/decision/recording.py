"""Recording: a folder from which a run's decisions can be made again. It can be a bug report.

``recording.json`` names the packs, the thresholds and the cameras. ``steps-000.msgpack`` holds, in
the order of fusion's work, the features of each batch of steps, the interruptions, and the
transitions that fusion made. Each fusion process of the run has a file. No picture is kept: a step
names its frame by camera, segment and number.
"""

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Self

import msgspec

from pipeline.config.hours import Hours
from pipeline.config.rules import LabelRule
from pipeline.decision import old_recordings
from pipeline.decision.old_recordings import OldAbout, OldEntries
from pipeline.errors import RecordingError
from pipeline.model.pack import ModelPack, Threshold
from pipeline.model.watch import Watch
from pipeline.steps.join import DecidedStep
from pipeline.steps.polygons import Polygon
from pipeline.transport.messages import Feature, Moment, PackId, Person, Transition

VERSION = 4
"""Earlier ones can still be read (:mod:`pipeline.decision.old_recordings`)."""
_MODERN = 3
"""From this one on, what is newer has only been added."""
ABOUT_FILE, STEPS_FILES = "recording.json", "steps-*.msgpack"
_LENGTH_BYTES = 4
_MAX_BYTES = 16 << 20


class RecordedPack(msgspec.Struct, frozen=True, kw_only=True):
    """A pack that watched some camera."""

    model: str
    """Its folder when it was recorded; another may be named instead."""
    name: str
    version: str
    sha256: str
    thresholds: dict[str, dict[str, float]]

    @classmethod
    def of(cls, pack: ModelPack, thresholds: Mapping[str, Threshold]) -> "RecordedPack":
        return cls(
            model=str(pack.folder.resolve()),
            name=pack.contract.name,
            version=pack.contract.version,
            sha256=pack.sha256,
            thresholds={label: one.model_dump() for label, one in thresholds.items()},
        )


class RecordedCamera(msgspec.Struct, frozen=True, kw_only=True):
    """A camera: its source without passwords, and the hashes of its packs."""

    source: str
    packs: list[str]
    zones: dict[str, Polygon] = {}


class RecordedRule(msgspec.Struct, frozen=True):
    """What the config says of one label of a camera (:class:`pipeline.config.rules.LabelRule`)."""

    hours: list[str]
    """Empty: any time."""
    timezone: str
    cooldown_s: float
    needs_person: bool = False
    zones: tuple[str, ...] = ()
    min_size: float = 0.0

    @classmethod
    def of(cls, rule: LabelRule) -> Self:
        hours = rule.hours
        return cls(
            [] if hours is None else [str(one) for one in hours.intervals],
            "UTC" if hours is None else hours.zone.key,
            rule.cooldown_s,
            rule.needs_person,
            rule.zones,
            rule.min_size,
        )

    def rule(self) -> LabelRule:
        hours = Hours.of(self.hours, self.timezone) if self.hours else None
        return LabelRule(hours, self.cooldown_s, self.needs_person, self.zones, self.min_size)


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a recheck must know besides the steps."""

    schema: int = VERSION
    packs: list[RecordedPack]
    cameras: dict[str, RecordedCamera]
    flow_method: str | None = None
    """What the config had; None: that of each pack."""
    update_every_s: float
    media_timed: bool
    wall_minus_monotonic_ns: int
    rules: dict[str, dict[str, RecordedRule]] = {}
    """By camera and label."""


class Recorded(msgspec.Struct, frozen=True, tag=True, tag_field="is"):
    """One entry of ``steps.msgpack``."""


class RecordedStep(msgspec.Struct, frozen=True):
    moment: Moment
    spatial: Feature | None
    temporal: Feature | None
    people: tuple[Person, ...] | None = None


class Advanced(Recorded, frozen=True):
    """Steps, of one camera each, that were scored in one batch."""

    steps: list[RecordedStep]
    took_ns: int


class Interrupted(Recorded, frozen=True):
    """A camera's events were ended by something other than its scores."""

    camera: str
    reason: str
    at_ns: int
    forget: bool


class ClockSet(Recorded, frozen=True):
    """The time of day by which rules are applied from here on."""

    wall_minus_monotonic_ns: int


class Made(Recorded, frozen=True, tag="Said"):
    """A transition that fusion made."""

    transition: Transition


Entry = Advanced | Interrupted | ClockSet | Made


log = logging.getLogger(__name__)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


class Recorder:
    """Writes the file of one fusion process; raises :class:`RecordingError` at the run's start.

    On a disk that fills up the recording ends with its last whole entry, and the run goes on
    without it. ``needed``: raise then, too.
    """

    def __init__(self, folder: Path, about: About, *, needed: bool = False) -> None:
        self._folder = folder
        self._needed = needed
        self._file: FileIO | None = None
        self._size = 0
        parts = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            parts = len(list(folder.glob(STEPS_FILES)))
            path = folder / STEPS_FILES.replace("*", f"{parts:03d}")
            self._file = path.open("xb", buffering=0)
            if not parts:
                (folder / ABOUT_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(about)))
        except OSError as error:
            if not parts:
                raise RecordingError(f"{folder}: {error.strerror}") from None
            self._give_up(error)

    def advanced(self, steps: list[DecidedStep], took_ns: int) -> None:
        recorded = [RecordedStep(s.moment, s.spatial, s.temporal, s.people) for s in steps]
        self._write(Advanced(recorded, took_ns))

    def interrupted(self, camera: str, reason: str, at_ns: int, *, forget: bool = False) -> None:
        self._write(Interrupted(camera, reason, at_ns, forget))

    def clock_set(self, wall_minus_monotonic_ns: int) -> None:
        self._write(ClockSet(wall_minus_monotonic_ns))

    def made(self, transition: Transition) -> None:
        self._write(Made(transition))

    def _write(self, entry: Entry) -> None:
        if self._file is None:
            return
        data = _encoder.encode(entry)
        data = len(data).to_bytes(_LENGTH_BYTES, "little") + data
        try:
            if self._file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._size += len(data)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
        self.close()
        reason = f"{self._folder}: {error.strerror}"
        if self._needed:
            raise RecordingError(f"runtime.record: {reason}")
        log.error("runtime.record: %s; it ends here, and the run goes on without it", reason)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def check_new(folder: Path) -> None:
    """Raises :class:`RecordingError` where there is a recording already."""
    if (folder / ABOUT_FILE).exists() or list(folder.glob(STEPS_FILES)):
        raise RecordingError(f"{folder}: holds a recording already; name a new folder")


class Recording:
    """Reads a recording; raises :class:`RecordingError` for what isn't one."""

    def __init__(self, folder: Path) -> None:
        path = folder / ABOUT_FILE
        self._parts = sorted(folder.glob(STEPS_FILES))
        try:
            content = path.read_bytes()
            self.version = msgspec.json.decode(content, type=_Version).schema
            if not 1 <= self.version <= VERSION:
                raise RecordingError(
                    f"{path}: schema {self.version}; this program reads 1 to {VERSION}"
                )
            self.about = _about(content, self.version)
        except OSError as error:
            raise RecordingError(f"{error.filename}: {error.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RecordingError(f"{path}: {error}") from None
        self.rules = self._rules(path)

    def _rules(self, about: Path) -> dict[str, dict[str, LabelRule]]:
        found: dict[str, dict[str, LabelRule]] = {}
        for camera, labels in self.about.rules.items():
            for label, recorded in labels.items():
                try:
                    found.setdefault(camera, {})[label] = recorded.rule()
                except ValueError as error:
                    raise RecordingError(f"{about}: rules.{camera}.{label}: {error}") from None
        return found

    def parts(self, watches: Iterable[Watch]) -> list[Iterator[Entry]]:
        """The entries of each fusion process. Old ones are of the first of ``watches``."""
        decode: Decode = _decoder.decode
        if self.version < _MODERN:
            pack = self.about.packs[0]
            name = PackId(name=pack.name, version=pack.version, sha256=pack.sha256)
            old = OldEntries(self.version, next(iter(watches)), name)
            decode = partial(_modern, old)
        return [_entries(path, decode) for path in self._parts]


Decode = Callable[[bytes], Entry]


class _Version(msgspec.Struct):
    schema: int


def _about(content: bytes, version: int) -> About:
    if version >= _MODERN:
        return msgspec.json.decode(content, type=About)
    old = msgspec.json.decode(content, type=OldAbout)
    pack = RecordedPack(
        model=old.model,
        name=old.name,
        version=old.version,
        sha256=old.sha256,
        thresholds=old.thresholds,
    )
    return About(
        schema=old.schema,
        packs=[pack],
        cameras={
            name: RecordedCamera(source=source, packs=[old.sha256])
            for name, source in old.cameras.items()
        },
        update_every_s=old.update_every_s,
        media_timed=old.media_timed,
        wall_minus_monotonic_ns=old.wall_minus_monotonic_ns,
    )


def _modern(old: OldEntries, data: bytes) -> Entry:
    """An entry of an earlier version as it would be written now."""
    entry = old.decode(data)
    if isinstance(entry, old_recordings.Advanced):
        steps = [
            RecordedStep(step.moment, old.feature(step.spatial), old.feature(step.temporal))
            for step in entry.steps
        ]
        return Advanced(steps, entry.took_ns)
    if isinstance(entry, old_recordings.Interrupted):
        return Interrupted(entry.camera, entry.reason, entry.at_ns, entry.forget)
    return Made(old.transition(entry.transition))


def _entries(path: Path, decode: Decode) -> Iterator[Entry]:
    """The entries of a file, up to the first that was cut off, as by a kill."""
    with path.open("rb") as file:
        while len(head := file.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
            length = int.from_bytes(head, "little")
            where = f"{path}: at byte {file.tell() - _LENGTH_BYTES}"
            if length > _MAX_BYTES:
                raise RecordingError(f"{where}: an entry of {length} bytes")
            data = file.read(length)
            if len(data) < length:
                return
            try:
                yield decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise RecordingError(f"{where}: {error}") from None
