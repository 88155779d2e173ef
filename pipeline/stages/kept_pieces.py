"""What a capture keeps of its camera for evidence, and sends to it when asked."""

from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from pipeline import topology
from pipeline.arrays import Frame, is_planar, picture_size
from pipeline.config.evidence import EvidenceConfig
from pipeline.evidence.feed import as_form, as_piece
from pipeline.sources.packet_roll import Kept, PacketRoll, StreamForm
from pipeline.stages.base import Context
from pipeline.transport import topics
from pipeline.transport.messages import Piece, Pieces, Record

AT_ONCE_BYTES = 1 << 22
"""Packets travel in messages of about this size at most."""


class KeptPieces:
    """The last seconds of one camera: packets where it sends any, else the pictures of its steps.

    Nothing is sent, and nothing is compressed, unless evidence asks for it.
    """

    def __init__(self, context: Context, camera: str, settings: EvidenceConfig) -> None:
        max_bytes = int(settings.memory_mb * 1_000_000)
        self.packets = PacketRoll(settings.keep_s, max_bytes)
        self._pictures = _PictureRoll(settings.keep_s, max_bytes)
        self._context, self._camera = context, camera
        self._until_ns = 0
        self._sent = -1
        """Number of the newest piece that was sent."""
        self._push = context.bus.push(topics.PIECES)
        self._asked = context.bus.subscriber(topics.RECORD, [""], [camera])
        context.bus.watch(self._asked, self._on_request)

    def add_picture(self, frame: Frame, time_ns: int) -> None:
        """Keep the picture of a step, unless the camera sends packets."""
        if self.packets.form is None:
            self._pictures.add(frame, time_ns)
            if time_ns < self._until_ns:
                self.send_new()

    def send_new(self) -> None:
        """Send what is new, while it is asked for."""
        if not self._until_ns:
            return
        if self._context.clock.monotonic_ns() > self._until_ns:
            self._until_ns = 0
            return
        self._send(self._after(self._sent))

    def _on_request(self) -> None:
        for request in self._asked.drain():
            if not isinstance(request, Record):
                continue
            if not self._until_ns or request.after < 0:
                wanted = (piece for piece in self._since(request) if piece[0] > request.after)
                self._send(wanted, request.since_ns if request.after < 0 else None)
            self._until_ns = max(self._until_ns, request.until_ns)

    def _since(self, request: Record) -> Iterator[tuple[int, Piece]]:
        if self.packets.form is None:
            return self._pictures.since(request.since_ns)
        return map(self._piece, self.packets.since(request.since_ns))

    def _after(self, number: int) -> Iterator[tuple[int, Piece]]:
        if self.packets.form is None:
            return self._pictures.after(number)
        return map(self._piece, self.packets.after(number))

    def _piece(self, kept: Kept) -> tuple[int, Piece]:
        return kept.number, as_piece(kept, self.packets.time_ns(kept))

    def _send(self, pieces: Iterable[tuple[int, Piece]], since_ns: int | None = None) -> None:
        """Send pieces; ``since_ns``: they are all since then, and there may be none."""
        form = as_form(self.packets.form or self._pictures.form)
        batch: list[Piece] = []
        size = 0
        for number, piece in pieces:
            self._sent = max(self._sent, number)
            batch.append(piece)
            size += len(piece.data)
            if size >= AT_ONCE_BYTES:
                self._push.send(Pieces(camera=self._camera, form=form, pieces=tuple(batch)))
                batch, size = [], 0
        if batch or since_ns is not None:
            last = Pieces(camera=self._camera, form=form, pieces=tuple(batch), since_ns=since_ns)
            self._push.send(last)


class _PictureRoll:
    """Pictures of the last seconds, as planes where their size allows it: half the bytes of BGR."""

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._keep_ns, self._max_bytes = int(seconds * 1e9), max_bytes
        self._kept: deque[tuple[int, int, bytes]] = deque()
        self._number = 0
        self._bytes = 0
        self.form = StreamForm(0, "bgr24", (0, 0), (1, 1_000_000_000), b"")

    def add(self, frame: Frame, time_ns: int) -> None:
        size = picture_size(frame.shape)
        codec = "yuv420p" if is_planar(frame) or not (size[0] % 2 or size[1] % 2) else "bgr24"
        if (codec, size) != (self.form.codec, self.form.size):
            self._kept.clear()
            self._bytes = 0
            self.form = StreamForm(time_ns, codec, size, (1, 1_000_000_000), b"")
        if codec == "yuv420p" and not is_planar(frame):
            frame = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420), np.uint8)
        data = frame.tobytes()
        self._kept.append((self._number, time_ns, data))
        self._number += 1
        self._bytes += len(data)
        while self._kept and (
            self._bytes > self._max_bytes or time_ns - self._kept[0][1] > self._keep_ns
        ):
            self._bytes -= len(self._kept.popleft()[2])

    def since(self, time_ns: int) -> Iterator[tuple[int, Piece]]:
        return (_picture(kept) for kept in list(self._kept) if kept[1] >= time_ns)

    def after(self, number: int) -> Iterator[tuple[int, Piece]]:
        return (_picture(kept) for kept in list(self._kept) if kept[0] > number)


def _picture(kept: tuple[int, int, bytes]) -> tuple[int, Piece]:
    number, time_ns, data = kept
    return number, Piece(number, time_ns, time_ns, time_ns, 0, True, data)


class NothingKept:
    """In the place of :class:`KeptPieces` where nobody wants evidence."""

    packets = None

    def add_picture(self, frame: Frame, time_ns: int) -> None: ...

    def send_new(self) -> None: ...


def kept_pieces(context: Context, camera: str) -> KeptPieces | NothingKept:
    """What is kept of a camera: nothing where there is no evidence, or it is read from the file."""
    config = context.config
    if context.lossless or not topology.has_evidence(config, camera):
        return NothingKept()
    return KeptPieces(context, camera, config.evidence)
