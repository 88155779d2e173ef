"""Media time: the place of a frame in its file."""

from collections.abc import Iterable


class MediaTime:
    """Turns a file's stamps into media time: nanoseconds that strictly increase.

    Good stamps are taken as they are, so media time never drifts from the file's own. Stamps that
    repeat, go back, run ahead or are missing are told from good ones by those that follow. Their
    frames are placed between their neighbours, or one frame period after the frame before.
    """

    def __init__(self, nominal_period_ns: int) -> None:
        self._period_ns = nominal_period_ns
        self._now_ns: int | None = None
        self._shift_ns = 0
        self._jumped = False

    def jump(self) -> None:
        """Ignore the distance to the next stamp, as when a file starts again."""
        self._jumped = True

    def advance(self, stamp_ns: int | None, later: Iterable[int | None] = ()) -> int:
        """The media time of the next frame.

        ``stamp_ns`` is its stamp, counted from the file's start; None if it has none. ``later`` are
        the stamps of some frames after it, in any order.
        """
        if self._now_ns is None or self._jumped:
            self._begin(stamp_ns, later)
        else:
            self._now_ns = self._next(self._now_ns, stamp_ns, list(later))
        assert self._now_ns is not None
        return self._now_ns

    def _begin(self, stamp_ns: int | None, later: Iterable[int | None]) -> None:
        """Place the first frame, and the first one after a jump."""
        start_ns = 0 if self._now_ns is None else self._now_ns + self._period_ns
        known = [stamp for stamp in (stamp_ns, *later) if stamp is not None]
        # A first frame far from the start has a bad stamp, or the file's timeline starts there.
        origin_ns = min(known, default=0)
        if stamp_ns is not None and stamp_ns == origin_ns and self._now_ns is None:
            start_ns, origin_ns = (stamp_ns, stamp_ns) if stamp_ns >= 0 else (0, stamp_ns)
        elif stamp_ns != origin_ns and known:
            origin_ns -= self._period_ns  # the next frame has the first good stamp
        self._shift_ns = start_ns - origin_ns
        self._now_ns, self._jumped = start_ns, False

    def _next(self, now_ns: int, stamp_ns: int | None, later: list[int | None]) -> int:
        ahead = [stamp + self._shift_ns for stamp in later if stamp is not None]
        following = min((time for time in ahead if time > now_ns), default=None)
        placed = None if stamp_ns is None else stamp_ns + self._shift_ns
        if placed is not None and now_ns < placed and (following is None or placed <= following):
            if placed - now_ns < 4 * self._period_ns:
                self._period_ns = placed - now_ns
            return placed
        if following is not None:
            # This frame, and those after it that have no place of their own, share the gap.
            homeless = sum(
                1 for stamp in later if stamp is None or stamp + self._shift_ns <= now_ns
            )
            return now_ns + max(1, (following - now_ns) // (homeless + 2))
        at_ns = now_ns + self._period_ns
        if placed is not None:  # no stamp goes on from here: the timeline has begun again
            self._shift_ns += at_ns - placed
        return at_ns
