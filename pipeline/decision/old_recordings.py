"""Recordings of earlier programs: version 1, and version 2, which knew one pack for all cameras."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from pipeline.model.watch import Watch
from pipeline.transport.messages import (
    Change,
    Feature,
    Message,
    Moment,
    PackId,
    Stamp,
    StreamScores,
    Transition,
    WindowInfo,
)


class OldAbout(msgspec.Struct, frozen=True, kw_only=True):
    """``recording.json`` of versions 1 and 2."""

    schema: int
    model: str
    name: str
    version: str
    sha256: str
    log: str = ""
    cameras: dict[str, str]
    thresholds: dict[str, dict[str, float]]
    update_every_s: float
    media_timed: bool
    wall_minus_monotonic_ns: int


class _Entry(msgspec.Struct, frozen=True, tag=True, tag_field="is"):
    pass


class _Feature(Message, frozen=True, kw_only=True, tag="Feature"):
    moment: Moment
    stream: Literal["spatial", "temporal"]
    vector: bytes | None
    trail: tuple[Stamp, ...]


class _Step(msgspec.Struct, frozen=True):
    moment: Moment
    spatial: _Feature | None
    temporal: _Feature | None


class Advanced(_Entry, frozen=True):
    steps: list[_Step]
    took_ns: int


class Interrupted(_Entry, frozen=True):
    camera: str
    reason: str
    at_ns: int
    forget: bool


class _Transition2(Message, frozen=True, kw_only=True, tag="Transition"):
    camera: str
    change: Change
    window: WindowInfo
    streams: StreamScores
    captured_ns: int
    trail: tuple[Stamp, ...]


class _Transition1(Message, frozen=True, kw_only=True, tag="Transition"):
    """Version 1 had the change among the transition's own fields."""

    key: str
    type: Literal["start", "update", "end"]
    camera: str
    label: str
    score: float
    top_score: float
    start_ns: int
    end_ns: int | None
    start_pts_ns: int | None
    end_pts_ns: int | None
    reason: str | None
    window: WindowInfo
    streams: StreamScores
    captured_ns: int
    trail: tuple[Stamp, ...]

    @property
    def change(self) -> Change:
        fields = msgspec.structs.asdict(self)
        known = {name: fields[name] for name in Change.__struct_fields__ if name in fields}
        return Change(number=int(self.key.rpartition("/")[2]), **known)


class _Made1(_Entry, frozen=True, tag="Said"):
    transition: _Transition1


class _Made2(_Entry, frozen=True, tag="Said"):
    transition: _Transition2


_DECODERS = {
    1: msgspec.msgpack.Decoder(Advanced | Interrupted | _Made1),
    2: msgspec.msgpack.Decoder(Advanced | Interrupted | _Made2),
}


@dataclass(frozen=True)
class OldEntries:
    """Reads entries of ``version`` as if ``watch``, the recording's only pack, had made them."""

    version: int
    watch: Watch
    pack: PackId

    def decode(self, data: bytes) -> "Advanced | Interrupted | _Made1 | _Made2":
        """The entry in ``data``; raises :class:`msgspec.DecodeError`."""
        entry: Advanced | Interrupted | _Made1 | _Made2 = _DECODERS[self.version].decode(data)
        return entry

    def feature(self, feature: _Feature | None) -> Feature | None:
        """A stream's feature by its network."""
        if feature is None:
            return None
        network = self.watch.spatial if feature.stream == "spatial" else self.watch.temporal
        return Feature(
            moment=feature.moment,
            stream=feature.stream,
            vectors={network: feature.vector},
            trail=feature.trail,
        )

    def transition(self, old: _Transition1 | _Transition2) -> Transition:
        """A transition of the pack."""
        return Transition(
            camera=old.camera,
            pack=self.pack,
            change=old.change,
            window=old.window,
            streams=old.streams,
            captured_ns=old.captured_ns,
            trail=old.trail,
        )
