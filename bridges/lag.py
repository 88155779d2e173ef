"""How late a bridge is."""

from bridges.records import Record, happened_ns
from pipeline.clock import NS_PER_S, Clock


class Lag:
    """The age of the oldest record that isn't acknowledged."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._behind_since_ns: int | None = None

    def seconds(self, behind: int, owed: Record | None) -> float:
        """``behind``: how many records aren't acknowledged; ``owed``: the oldest that is known.

        It is how long the bridge has been behind, or since what the record tells happened, if that
        is longer: a bridge that was off for an hour is an hour late as soon as it starts.
        """
        if not behind:
            self._behind_since_ns = None
            return 0.0
        now_ns = self._clock.monotonic_ns()
        if self._behind_since_ns is None:
            self._behind_since_ns = now_ns
        waited_ns = now_ns - self._behind_since_ns
        happened = happened_ns(owed) if owed is not None else None
        if happened is not None:
            waited_ns = max(waited_ns, self._clock.wall_ns() - happened)
        return waited_ns / NS_PER_S
