"""The pieces of one camera that have come in, while somebody needs them."""

from collections.abc import Iterable

from pipeline.sources.packet_roll import Kept, StreamForm
from pipeline.transport.messages import Piece, PieceForm, Pieces

LONG_AGO_NS, NEVER_NS = -(1 << 62), 1 << 62
Run = tuple[PieceForm, list[Piece]]
"""Pieces of one stream, in order."""


class CameraFeed:
    """Keeps a camera's pieces. They may come twice, and older ones after newer ones."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[int, int], tuple[PieceForm, Piece]] = {}
        """By the opening of their stream and their number."""
        self.newest = -1
        """Number of the newest piece; -1: none."""
        self.newest_ns = LONG_AGO_NS
        self.since_ns = NEVER_NS
        """All pieces since then have come. What a camera goes on sending may come before them."""
        self.bytes = 0

    def add(self, message: Pieces) -> None:
        """Take in what has come."""
        form = message.form
        for piece in message.pieces:
            key = form.opened_ns, piece.number
            if key not in self._pieces:
                self._pieces[key] = form, piece
                self.newest = piece.number
                self.newest_ns = max(self.newest_ns, piece.time_ns)
                self.bytes += len(piece.data)
        if message.since_ns is not None:
            self.since_ns = min(self.since_ns, message.since_ns)

    def between(self, first_ns: int, last_ns: int) -> list[Run]:
        """The pieces from the last key frame up to ``first_ns`` to ``last_ns``, by stream."""
        runs: list[Run] = []
        for _, (form, piece) in sorted(self._pieces.items(), key=lambda item: item[0]):
            if not runs or runs[-1][0] != form:
                runs.append((form, []))
            runs[-1][1].append(piece)
        parts = [(form, cut(pieces, first_ns, last_ns)) for form, pieces in runs]
        return [(form, pieces) for form, pieces in parts if pieces]

    def forget(self, before_ns: int | None) -> None:
        """Drop what is older, but for the key frame that is needed; None: all, nobody needs it."""
        if before_ns is None:
            self._pieces.clear()
            self.newest, self.newest_ns, self.bytes = -1, LONG_AGO_NS, 0
            self.since_ns = NEVER_NS
            return
        self.since_ns = max(self.since_ns, before_ns)
        keys = [
            key
            for key, (_, piece) in self._pieces.items()
            if piece.key and piece.time_ns <= before_ns
        ]
        if keys:
            begin = max(keys)
            for key in [key for key in self._pieces if key < begin]:
                self.bytes -= len(self._pieces.pop(key)[1].data)


def as_form(form: StreamForm) -> PieceForm:
    """What is sent of a stream's form."""
    return PieceForm(form.opened_ns, form.codec, form.size, form.time_base, form.extradata)


def as_piece(kept: Kept, time_ns: int) -> Piece:
    """A kept packet that was taken at ``time_ns``, with a copy of its bytes."""
    packet = kept.packet
    return Piece(
        kept.number, time_ns, packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe,
        bytes(packet),
    )  # fmt: skip


def cut(pieces: list[Piece], first_ns: int, last_ns: int) -> list[Piece]:
    """From the last key frame up to ``first_ns``, or the first one after it, to ``last_ns``."""
    begin = None
    end = 0
    for at, piece in enumerate(pieces):
        if piece.key and (begin is None or piece.time_ns <= first_ns):
            begin = at
        if piece.time_ns <= last_ns:
            # With all before it: packets come in the order of decoding, not of time.
            end = at + 1
    return [] if begin is None else pieces[begin:end]


def size(runs: Iterable[Run]) -> int:
    """Bytes of the pieces."""
    return sum(len(piece.data) for _, pieces in runs for piece in pieces)
