"""What a pack would say against what was said. Pure."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.backtest.judging import Said
from pipeline.clock import NS_PER_S, from_isoformat
from pipeline.public.records import Event

SLACK_NS = NS_PER_S
"""Events that lie this near to each other are the same."""


@dataclass(frozen=True, slots=True)
class Logged:
    """An event that was said. ``id`` and ``pack`` are those of the log."""

    said: Said
    id: str
    pack: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Events that only the tested pack says, those that both say, those that are gone."""

    new: list[Said]
    same: list[tuple[Said, Logged]]
    gone: list[Logged]


def logged(events: Iterable[Event], began_ns: Mapping[str, int] | None = None) -> list[Logged]:
    """The events of records of a log, in the order of their starts; open ones have no length.

    ``began_ns`` is the time of day of media time 0, for cameras that are files read without loss:
    a file is read faster than it was filmed.
    """
    newest: dict[str, Event] = {}
    for event in events:
        newest[event.id] = event
    found = [
        Logged(
            Said(
                event.camera,
                event.label,
                *_times(event, (began_ns or {}).get(event.camera)),
                event.top_score,
            ),
            event.id,
            event.model.name,
        )
        for event in newest.values()
    ]
    return sorted(found, key=lambda one: one.said.start_ns)


def _times(event: Event, began_ns: int | None) -> tuple[int, int]:
    start_s, end_s = event.media_time
    if began_ns is not None and start_s is not None:
        last_s = start_s if end_s is None else end_s
        return began_ns + round(start_s * NS_PER_S), began_ns + round(last_s * NS_PER_S)
    start_ns = from_isoformat(event.start_time)
    return start_ns, start_ns if event.end_time is None else from_isoformat(event.end_time)


def compared(tested: Sequence[Said], before: Sequence[Logged]) -> Comparison:
    """Pair events of one label of a camera that overlap, each with one other at most.

    ``before`` comes in the order of its starts.
    """
    waiting: dict[tuple[str, str], deque[int]] = defaultdict(deque)
    for place, one in enumerate(before):
        waiting[one.said.camera, one.said.label].append(place)
    new, same, paired = [], [], set()
    for said in sorted(tested, key=lambda said: said.start_ns):
        queue = waiting[said.camera, said.label]
        while queue and before[queue[0]].said.end_ns + SLACK_NS < said.start_ns:
            queue.popleft()  # over before this one, and so before all that come
        found = _first(said, queue, before)
        if found is None:
            new.append(said)
        else:
            queue.remove(found)
            paired.add(found)
            same.append((said, before[found]))
    return Comparison(new, same, [one for n, one in enumerate(before) if n not in paired])


def _first(said: Said, queue: Iterable[int], before: Sequence[Logged]) -> int | None:
    """The place of the first event of ``queue`` that overlaps ``said``."""
    for place in queue:
        other = before[place].said
        if other.start_ns > said.end_ns + SLACK_NS:
            return None
        if _overlap(said, other):
            return place
    return None


def _overlap(one: Said, other: Said) -> bool:
    return one.start_ns <= other.end_ns + SLACK_NS and other.start_ns <= one.end_ns + SLACK_NS
