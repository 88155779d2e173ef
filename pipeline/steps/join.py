"""Joining: the two streams of a camera come together, step by step."""

from dataclasses import dataclass, field

from pipeline.model.watch import Watch
from pipeline.transport.messages import Feature, Moment


@dataclass(slots=True)
class DecidedStep:
    """A step that fusion may process: both streams have come, or waited long enough."""

    moment: Moment
    spatial: Feature | None
    temporal: Feature | None


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


class StepJoin:
    """Joins the two streams of one camera, step by step and in order.

    A step is decided when each stream has sent a feature of it or of a later step. Live, it is also
    decided when ``patience_ns`` has passed since its first feature; fusion then goes on with the
    stream that has come. Lossless (``patience_ns`` None) waits for both.
    """

    def __init__(self, patience_ns: int | None) -> None:
        self._patience_ns = patience_ns
        self._pending: dict[int, _Pending] = {}
        self._seen = {"spatial": -1, "temporal": -1}
        self._decided = -1
        self._ended: set[str] = set()
        self.late = 0

    def push(self, feature: Feature, now_ns: int) -> None:
        step = feature.moment.step_id
        if feature.stream in self._ended:
            # A restarted capture goes on after the end of the previous one.
            self._seen.update(dict.fromkeys(self._ended, self._decided))
            self._ended.clear()
        self._seen[feature.stream] = max(step, self._seen[feature.stream])
        if step <= self._decided:
            self.late += 1
            return
        pending = self._pending.get(step)
        if pending is None:
            pending = self._pending[step] = _Pending(feature.moment, now_ns)
        pending.features[feature.stream] = feature

    def end(self, stream: str) -> bool:
        """``stream`` has ended; True when both have and nothing is pending."""
        self._ended.add(stream)
        self._seen[stream] = 1 << 62
        return self.ended

    @property
    def waiting(self) -> bool:
        """Whether a step has come that is not decided yet."""
        return bool(self._pending)

    @property
    def ended(self) -> bool:
        return len(self._ended) == 2 and not self._pending

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
            steps.append(DecidedStep(pending.moment, get("spatial"), get("temporal")))
        return steps

    def next_deadline_ns(self) -> int | None:
        """When the oldest pending step has waited long enough; None if nothing is pending."""
        if not self._pending or self._patience_ns is None:
            return None
        return self._pending[min(self._pending)].since_ns + self._patience_ns
