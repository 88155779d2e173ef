"""The compressed packets of a stream's last seconds, kept for clips.

Nothing is copied: a packet's memory is FFmpeg's own, which lives as long as somebody refers to it.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import av

Packet: TypeAlias = "av.Packet[av.VideoStream]"


@dataclass(frozen=True, slots=True)
class StreamForm:
    """What a reader of packets must know of their stream."""

    opened_ns: int
    """When it was opened; packets of another stream can't follow in one file."""
    codec: str
    size: tuple[int, int]
    """(height, width) in pixels."""
    time_base: tuple[int, int]
    """Seconds of a stamp's unit, as a fraction."""
    extradata: bytes
    """The codec's headers, where the stream has them beside the packets."""


class Kept(NamedTuple):
    """A packet of the roll."""

    number: int
    """Counts all packets that were ever added."""
    packet: Packet
    stamp_ns: int | None
    """From the stream's start, as :attr:`pipeline.sources.stream.Decoded.stamp_ns`."""
    arrived_ns: int


class PacketRoll:
    """Keeps a stream's packets of the last ``seconds``, from a key frame on.

    At most ``max_bytes`` are kept. Whole groups of pictures go, the oldest first: without its key
    frame no packet is any use.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._keep_ns = int(seconds * 1e9)
        self._max_bytes = max_bytes
        self._kept: deque[Kept] = deque()
        self._keys: deque[tuple[int, int]] = deque()
        """Number and arrival of each key frame that is kept."""
        self._number = 0
        self.bytes = 0
        self.form: StreamForm | None = None
        self.offset_ns: int | None = None
        """What to add to a stamp to get the machine's monotonic time; None: go by arrival."""

    def begin(self, form: StreamForm) -> None:
        """A stream was opened. What is kept of another one goes."""
        self._kept.clear()
        self._keys.clear()
        self.bytes = 0
        self.form, self.offset_ns = form, None

    def add(self, packet: Packet, stamp_ns: int | None, arrived_ns: int) -> None:
        """Keep a packet that has just arrived."""
        if packet.is_keyframe:
            self._keys.append((self._number, arrived_ns))
        elif not self._keys:
            return
        self._kept.append(Kept(self._number, packet, stamp_ns, arrived_ns))
        self._number += 1
        self.bytes += packet.size
        # The second key frame begins what is left when the first group goes.
        while len(self._keys) > 1 and (
            self.bytes > self._max_bytes or arrived_ns - self._keys[1][1] > self._keep_ns
        ):
            self._drop_group()
        if self.bytes > self._max_bytes:
            self._drop_group()

    def since(self, time_ns: int) -> Iterator[Kept]:
        """The packets from the last key frame that arrived by ``time_ns``, oldest first."""
        begin = next(iter(self._keys), (self._number, 0))[0]
        for number, arrived_ns in self._keys:
            if arrived_ns > time_ns:
                break
            begin = number
        return self.after(begin - 1)

    def after(self, number: int) -> Iterator[Kept]:
        """The packets after ``number``, oldest first."""
        newer: deque[Kept] = deque()
        for kept in reversed(self._kept):
            if kept.number <= number:
                break
            newer.appendleft(kept)
        return iter(newer)

    def time_ns(self, kept: Kept) -> int:
        """When the packet's picture was taken, on the machine's monotonic clock."""
        if kept.stamp_ns is None or self.offset_ns is None:
            return kept.arrived_ns
        return kept.stamp_ns + self.offset_ns

    def _drop_group(self) -> None:
        """Drop the oldest key frame and what follows it, up to the next one."""
        self._keys.popleft()
        end = self._keys[0][0] if self._keys else self._number
        while self._kept and self._kept[0].number < end:
            self.bytes -= self._kept.popleft().packet.size
