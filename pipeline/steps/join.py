"""Joining: the two streams of a camera come together, step by step."""

from dataclasses import dataclass, field

from pipeline.clock import NS_PER_S
from pipeline.model.watch import Watch
from pipeline.transport.messages import Box, Feature, FrameRef, Moment, Person

STREAMS = ("spatial", "temporal")
PEOPLE = "people"
PEOPLE_MEMORY_NS = 10 * NS_PER_S
"""At a step at which nobody looked, the people seen last count as there, for so long."""


@dataclass(slots=True)
class DecidedStep:
    """A step that fusion may process: all has come of it, or was waited for long enough."""

    moment: Moment
    spatial: Feature | None
    temporal: Feature | None
    people: tuple[Person, ...] | None = None
    """Who is in the picture; None where nobody has looked."""

    def regions(self, view: str) -> dict[str, Box] | None:
        """The regions of a view, by subject; None where nobody can tell."""
        for feature in (self.spatial, self.temporal):
            if feature is not None and view in feature.regions:
                return feature.regions[view]
        return None


def decided_step(
    moment: Moment, watch: Watch, spatial: bytes | None, temporal: bytes | None
) -> DecidedStep:
    """A step with the features of one pack, d float32 each, None where masked."""
    return DecidedStep(
        moment,
        Feature(moment=moment, stream="spatial", vectors={watch.spatial: spatial}, trail=()),
        Feature(moment=moment, stream="temporal", vectors={watch.temporal: temporal}, trail=()),
    )


@dataclass(slots=True)
class _Pending:
    moment: Moment
    since_ns: int
    features: dict[str, Feature] = field(default_factory=dict)
    people: tuple[Person, ...] | None = None


class StepJoin:
    """Joins the two streams of one camera, step by step and in order, and the people in them.

    A step is decided when each stream has sent a feature of it or of a later step. Live, it is also
    decided when ``patience_ns`` has passed since its first feature; fusion then goes on with the
    stream that has come. Lossless (``patience_ns`` None) waits for both. ``people``: it waits in
    the same way for those who are there. At first nobody is.
    """

    def __init__(self, patience_ns: int | None, *, people: bool = False) -> None:
        self._patience_ns = patience_ns
        self._pending: dict[int, _Pending] = {}
        self._seen = dict.fromkeys((*STREAMS, PEOPLE) if people else STREAMS, -1)
        self._decided = -1
        self._ended: set[str] = set()
        self._people: tuple[Person, ...] = ()
        self._people_ns: int | None = None
        self.late = 0

    def push(self, feature: Feature, now_ns: int) -> None:
        """Take in what a stream has found."""
        pending = self._arrived(feature.stream, feature.moment, now_ns)
        if pending is not None:
            pending.features[feature.stream] = feature

    def push_people(self, ref: FrameRef, now_ns: int) -> None:
        """Take in who is there."""
        pending = self._arrived(PEOPLE, ref.moment, now_ns)
        if pending is not None:
            pending.people = ref.people

    def _arrived(self, stream: str, moment: Moment, now_ns: int) -> _Pending | None:
        """What is pending of a step of which something has arrived; None if it is too late."""
        step = moment.step_id
        if stream in self._ended:
            # A restarted capture goes on after the end of the previous one.
            self._seen.update(dict.fromkeys(self._ended, self._decided))
            self._ended.clear()
        self._seen[stream] = max(step, self._seen[stream])
        if step <= self._decided:
            self.late += 1
            return None
        return self._pending.setdefault(step, _Pending(moment, now_ns))

    def end(self, stream: str) -> bool:
        """``stream`` has ended; True when all have and nothing is pending."""
        self._ended.add(stream)
        self._seen[stream] = 1 << 62
        return self.ended

    @property
    def waiting(self) -> bool:
        """Whether a step has come that is not decided yet."""
        return bool(self._pending)

    @property
    def ended(self) -> bool:
        return len(self._ended) == len(self._seen) and not self._pending

    def decided(self, now_ns: int) -> list[DecidedStep]:
        """Steps that are decided by ``now_ns``, in order; each is returned once."""
        steps = []
        for step in sorted(self._pending):
            pending = self._pending[step]
            heard = min(self._seen.values()) >= step
            patience = self._patience_ns
            if not heard and (patience is None or now_ns - pending.since_ns < patience):
                break
            del self._pending[step]
            self._decided = step
            get = pending.features.get
            people = self._known_people(pending)
            steps.append(DecidedStep(pending.moment, get("spatial"), get("temporal"), people))
        return steps

    def _known_people(self, pending: _Pending) -> tuple[Person, ...] | None:
        """Who is there at a step; None where that hasn't been known for long."""
        if PEOPLE not in self._seen:
            return None
        now_ns = pending.moment.captured_ns
        if pending.people is not None:
            self._people = pending.people
        if pending.people is not None or self._people_ns is None:
            self._people_ns = now_ns
        return self._people if now_ns - self._people_ns <= PEOPLE_MEMORY_NS else None

    def next_deadline_ns(self) -> int | None:
        """When the oldest pending step has waited long enough; None if nothing is pending."""
        if not self._pending or self._patience_ns is None:
            return None
        return self._pending[min(self._pending)].since_ns + self._patience_ns
