"""Recording: a folder from which a run's decisions can be made again. A bug report can be one.

``recording.json`` says which pack, thresholds and cameras; ``steps-000.msgpack`` holds, in order
of fusion's work, the features of each batch of steps, the interruptions, and the transitions that
came of them; each life of the fusion process has a file. No picture is kept: a step names its
frame by camera, segment and number.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from pipeline.errors import RecordingError
from pipeline.messages import SCHEMA_VERSION, Feature, Moment, Transition
from pipeline.windows import DecidedStep

ABOUT_FILE, STEPS_FILES = "recording.json", "steps-*.msgpack"
_LENGTH_BYTES = 4
_MAX_BYTES = 16 << 20


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay must know besides the steps."""

    schema: int = SCHEMA_VERSION
    model: str
    """The pack's folder when it was recorded; another may be named instead."""
    name: str
    version: str
    sha256: str
    log: str = ""
    cameras: dict[str, str]
    """Name → source, without passwords."""
    thresholds: dict[str, dict[str, float]]
    update_every_s: float
    media_timed: bool
    wall_minus_monotonic_ns: int


class Recorded(msgspec.Struct, frozen=True, tag=True, tag_field="is"):
    """One entry of ``steps.msgpack``."""


class RecordedStep(msgspec.Struct, frozen=True):
    moment: Moment
    spatial: Feature | None
    temporal: Feature | None


class Advanced(Recorded, frozen=True):
    """Steps, of one camera each, that were scored in one batch."""

    steps: list[RecordedStep]
    took_ns: int


class Interrupted(Recorded, frozen=True):
    """What went on at a camera was ended by something else than its scores."""

    camera: str
    reason: str
    at_ns: int
    forget: bool


class Said(Recorded, frozen=True):
    """A transition that fusion made."""

    transition: Transition


Entry = Advanced | Interrupted | Said
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


class Recorder:
    """Writes the part of a recording that one life of fusion makes; raises RecordingError."""

    def __init__(self, folder: Path, about: About) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = len(list(folder.glob(STEPS_FILES)))
            path = folder / STEPS_FILES.replace("*", f"{part:03d}")
            self._file = path.open("xb", buffering=0)
            if not part:
                (folder / ABOUT_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(about)))
        except OSError as error:
            raise RecordingError(f"{folder}: {error.strerror}") from None

    def advanced(self, steps: list[DecidedStep], took_ns: int) -> None:
        recorded = [RecordedStep(s.moment, s.spatial, s.temporal) for s in steps]
        self._write(Advanced(recorded, took_ns))

    def interrupted(self, camera: str, reason: str, at_ns: int, *, forget: bool = False) -> None:
        self._write(Interrupted(camera, reason, at_ns, forget))

    def said(self, transition: Transition) -> None:
        self._write(Said(transition))

    def _write(self, entry: Entry) -> None:
        data = _encoder.encode(entry)
        self._file.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)

    def close(self) -> None:
        self._file.close()


def check_new(folder: Path) -> None:
    """Raises :class:`RecordingError` where there is a recording already."""
    if (folder / ABOUT_FILE).exists() or list(folder.glob(STEPS_FILES)):
        raise RecordingError(f"{folder}: holds a recording already; name a new folder")


class Recording:
    """Reads a recording; raises :class:`RecordingError` for what isn't one."""

    def __init__(self, folder: Path) -> None:
        about = folder / ABOUT_FILE
        self._parts = sorted(folder.glob(STEPS_FILES))
        try:
            self.about = msgspec.json.decode(about.read_bytes(), type=About)
        except OSError as error:
            raise RecordingError(f"{error.filename}: {error.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RecordingError(f"{about}: {error}") from None
        if self.about.schema != SCHEMA_VERSION:
            raise RecordingError(f"{about}: schema {self.about.schema}, not {SCHEMA_VERSION}")

    def parts(self) -> list[Iterator[Entry]]:
        """The entries of each life of fusion."""
        return [_entries(path) for path in self._parts]


def _entries(path: Path) -> Iterator[Entry]:
    """An entry that was cut off, as by a kill, ends them."""
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
                yield _decoder.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise RecordingError(f"{where}: {error}") from None
