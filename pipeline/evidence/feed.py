"""The pieces of one camera that have come in, while somebody needs them."""

from collections import deque
from collections.abc import Iterable

from pipeline.transport.messages import Piece, PieceForm, Pieces

LONG_AGO_NS = -(1 << 62)
Run = tuple[PieceForm, list[Piece]]
"""Pieces of one stream, in order."""


class CameraFeed:
    """Keeps a camera's pieces, each once; they may come twice, or of one stream after another."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[PieceForm, Piece]] = deque()
        self.newest = -1
        """Number of the newest piece; -1: none."""
        self.newest_ns = LONG_AGO_NS
        self.bytes = 0

    def add(self, message: Pieces) -> None:
        """Take in what has come. A capture that was restarted counts from 0 again."""
        known = self._pieces[-1][0] if self._pieces else None
        if known is not None and message.form.opened_ns > known.opened_ns:
            first = message.pieces[0].number if message.pieces else 0
            self.newest = self.newest if first > self.newest else -1
        for piece in message.pieces:
            if piece.number > self.newest:
                self._pieces.append((message.form, piece))
                self.newest = piece.number
                self.newest_ns = max(self.newest_ns, piece.time_ns)
                self.bytes += len(piece.data)

    def between(self, first_ns: int, last_ns: int) -> list[Run]:
        """The pieces from the last key frame up to ``first_ns`` to ``last_ns``, by stream."""
        runs: list[Run] = []
        for form, piece in self._pieces:
            if not runs or runs[-1][0] != form:
                runs.append((form, []))
            runs[-1][1].append(piece)
        cut = [(form, _cut(pieces, first_ns, last_ns)) for form, pieces in runs]
        return [(form, pieces) for form, pieces in cut if pieces]

    def forget(self, before_ns: int | None) -> None:
        """Drop what is older, but for the key frame that is needed; None: all, nobody needs it."""
        if before_ns is None:
            self._pieces.clear()
            self.newest, self.newest_ns, self.bytes = -1, LONG_AGO_NS, 0
            return
        keys = [at for at, (_, p) in enumerate(self._pieces) if p.key and p.time_ns <= before_ns]
        for _ in range(keys[-1] if keys else 0):
            self.bytes -= len(self._pieces.popleft()[1].data)


def _cut(pieces: list[Piece], first_ns: int, last_ns: int) -> list[Piece]:
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
