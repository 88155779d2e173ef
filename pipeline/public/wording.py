"""From internal messages to public records: times of day, rounded scores, latencies. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType

from pipeline.clock import NS_PER_MS, NS_PER_S, from_isoformat, isoformat
from pipeline.model.watch import WHOLE_PICTURE
from pipeline.public import records
from pipeline.transport import messages
from pipeline.transport.messages import Stamp, Transition

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TIME_DIGITS = 10
_LAST_TIME = 32**_TIME_DIGITS - 1


@dataclass(frozen=True, slots=True)
class Wording:
    """Words the records of one log: ``wall_ns`` turns monotonic time into nanoseconds since 1970.

    ``media_timed``: an event's id is made of media time, so that a file's is the same each time.
    """

    log: str
    wall_ns: Callable[[int], int]
    media_timed: bool

    def event(
        self,
        transition: Transition,
        seq: int,
        known_id: str | None,
        latency_ms: dict[str, float],
        start_time: str | None = None,
    ) -> records.Event:
        """The public event of a transition; ``known_id`` is the action's id if it has one.

        ``start_time`` is what the action's first event said: all of them tell the time by the
        clock as it was then, so that none ends before it starts when the clock is set.
        """
        change, streams = transition.change, transition.streams
        began_ns = self.wall_ns(change.start_ns)
        if start_time is not None:
            began_ns = from_isoformat(start_time)
        lasted_ns = None if change.end_ns is None else change.end_ns - change.start_ns
        return records.Event(
            seq=seq,
            id=known_id or self._new_id(transition, began_ns, seq),
            type=change.type,
            camera=transition.camera,
            label=change.label,
            score=rounded(change.score),
            top_score=rounded(change.top_score),
            start_time=isoformat(began_ns),
            end_time=None if lasted_ns is None else isoformat(began_ns + lasted_ns),
            media_time=(seconds(change.start_pts_ns), seconds(change.end_pts_ns)),
            reason=change.reason,
            window=window(transition.window),
            streams=records.Streams(
                spatial=rounded_or_none(streams.spatial),
                temporal=rounded_or_none(streams.temporal),
                alpha=rounded_or_none(streams.alpha),
            ),
            latency_ms=latency_ms,
            model=_model(transition.pack),
            log=self.log,
            subject=_subject(transition.subject),
            box=_box(change.box),
            top_box=_box(change.top_box),
            top_time=_after(began_ns, change.start_ns, change.top_ns),
            top_media_time=UNSET if (top := seconds(change.top_pts_ns)) is None else top,
            zone=UNSET if change.zone is None else change.zone,
        )

    def interrupted(self, last: records.Event, seq: int, now_ns: int) -> records.Event:
        """The end of an action whose ``last`` record was made by a fusion process that is gone.

        ``now_ns`` is monotonic.
        """
        # The clock may have been set back since. Times of this form sort as they follow.
        end_time = max(self._time(now_ns), last.start_time)
        return msgspec.structs.replace(
            last, seq=seq, type="end", reason="interrupted", end_time=end_time
        )

    def camera_status(
        self, status: messages.CameraStatus, people: int | UnsetType = UNSET
    ) -> records.CameraStatus:
        return records.CameraStatus(
            camera=status.camera,
            state=status.state,
            reason=status.reason,
            time=self._time(status.at_ns),
            segment=status.segment,
            size=status.size,
            people=people,
        )

    def governor_status(self, pacing: messages.Pacing) -> records.GovernorStatus:
        return records.GovernorStatus(
            level=pacing.level,
            spatial_every=pacing.pace.spatial_every,
            fast_flow=pacing.pace.fast_flow,
            step_every=pacing.pace.step_every,
            people_every=pacing.pace.people_every,
            subjects=pacing.pace.subjects,
            reason=pacing.reason,
            time=self._time(pacing.at_ns),
        )

    def held_back(self, message: messages.HeldBack) -> records.HeldBack:
        return records.HeldBack(
            camera=message.camera,
            label=message.label,
            reason=message.reason,
            time=self._time(message.at_ns),
        )

    def log_status(self, problem: str | None, now_ns: int) -> records.LogStatus:
        """``problem`` is why the log can't be written, None while it can."""
        return records.LogStatus(
            log=self.log,
            state="online" if problem is None else "failed",
            reason=problem,
            time=self._time(now_ns),
        )

    def scores(self, message: messages.StepScores, latency_ms: dict[str, float]) -> records.Scores:
        return records.Scores(
            camera=message.camera,
            pack=message.pack,
            time=self._time(message.captured_ns),
            media_time=seconds(message.pts_ns),
            scores=_rounded_all(message.scores),
            streams={
                name: None if scores is None else _rounded_all(scores)
                for name, scores in message.streams.items()
            },
            alpha=rounded_or_none(message.alpha),
            window=window(message.window),
            latency_ms=latency_ms,
            subject=_subject(message.subject),
        )

    def _time(self, monotonic_ns: int) -> str:
        return isoformat(self.wall_ns(monotonic_ns))

    def _new_id(self, transition: Transition, began_ns: int, seq: int) -> str:
        """Sorts by time within a camera, like a ULID.

        The time fills its ten digits whatever a clock or a file says; the sequence number keeps ids
        apart.
        """
        media_ns = transition.change.start_pts_ns if self.media_timed else None
        start_ns = began_ns if media_ns is None else media_ns
        start_ms = min(max(0, start_ns // NS_PER_MS), _LAST_TIME)
        return f"{transition.camera}-{base32(start_ms, _TIME_DIGITS)}{base32(seq, 6)}"


def _subject(name: str) -> str | UnsetType:
    return UNSET if name == WHOLE_PICTURE else name


def _box(box: messages.Box | None) -> messages.Box | UnsetType:
    """A box to a thousandth of the picture."""
    if box is None:
        return UNSET
    x0, y0, x1, y1 = (round(side, 3) for side in box)
    return x0, y0, x1, y1


def _after(began_ns: int, start_ns: int, at_ns: int | None) -> str | UnsetType:
    """The time of day of ``at_ns``, where ``start_ns`` was at ``began_ns``.

    It counts from the start time as it is written, so that all records of an action say the same.
    """
    if at_ns is None:
        return UNSET
    return isoformat(from_isoformat(isoformat(began_ns)) + at_ns - start_ns)


def _model(pack: messages.PackId) -> records.Model:
    return records.Model(name=pack.name, version=pack.version, sha256=pack.sha256)


def window(info: messages.WindowInfo) -> records.Window:
    return records.Window(
        first_step=info.first_step,
        last_step=info.last_step,
        missing=info.missing,
        segment=info.segment,
    )


def latency(stamps: Iterable[Stamp]) -> dict[str, float]:
    """Milliseconds that each stage took."""
    return {stamp.stage: milliseconds(stamp.let_go_ns - stamp.took_ns) for stamp in stamps}


def base32(number: int, digits: int) -> str:
    """Crockford's base 32, as ULIDs use it. ``number`` is 0 or more; raises ValueError."""
    if number < 0:
        raise ValueError(f"must be 0 or more, got {number}")
    text = ""
    while number or len(text) < digits:
        number, digit = divmod(number, 32)
        text = _ALPHABET[digit] + text
    return text


def seconds(ns: int | None) -> float | None:
    return None if ns is None else round(ns / NS_PER_S, 3)


def milliseconds(ns: int) -> float:
    return round(ns / NS_PER_MS, 3)


def rounded(score: float) -> float:
    return round(score, 4)


def rounded_or_none(score: float | None) -> float | None:
    return None if score is None else rounded(score)


def _rounded_all(scores: dict[str, float]) -> dict[str, float]:
    return {label: rounded(score) for label, score in scores.items()}
