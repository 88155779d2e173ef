"""What heartbeats carry: a stage's counters by name, and how names hold labels and buckets.

A counter is one entry of a plain mapping. Counts that differ by camera or label have one entry
each, ``steps/door``; :func:`key` makes such a name. What the names mean to Prometheus stands in
:mod:`pipeline.run.measures`.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

from pipeline.clock import NS_PER_MS

BUCKETS_MS = (1, 2.5, 5, 10, 25, 50, 75, 100, 150, 200, 300, 500, 1000, 2500, 5000)
"""Upper bounds of the buckets of all timings."""
SUM = "sum"
_BOUNDS_NS = tuple(int(bound * NS_PER_MS) for bound in BUCKETS_MS)


def key(name: str, *labels: str) -> str:
    """The name of a count with these label values; only the last value may hold a slash."""
    return "/".join((name, *labels))


def total(counters: Mapping[str, float], name: str) -> float:
    """The sum of ``name`` over all label values."""
    prefix = key(name, "")
    return sum(n for entry, n in counters.items() if entry == name or entry.startswith(prefix))


class Timing:
    """Counts durations by bucket: two entries of the counters change with each of them.

    Bucket *n* counts durations of at most ``BUCKETS_MS[n]`` that fit in no smaller one; a last
    bucket counts the rest. ``sum`` is in nanoseconds.
    """

    def __init__(self, counters: "Counter[str]", name: str, *labels: str) -> None:
        self._counters = counters
        self._buckets = [key(name, *labels, str(n)) for n in range(len(BUCKETS_MS) + 1)]
        self._sum = key(name, *labels, SUM)

    def add(self, ns: int) -> None:
        self._counters[self._buckets[bisect_left(_BOUNDS_NS, ns)]] += 1
        self._counters[self._sum] += ns
