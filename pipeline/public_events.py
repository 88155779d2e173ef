"""Public events: a transition in the words of ``docs/messages.md``. Pure."""

from collections.abc import Callable

import msgspec

from pipeline.clock import NS_PER_MS, NS_PER_S
from pipeline.messages import Event, ModelInfo, Transition


def public_event(
    transition: Transition,
    *,
    seq: int,
    event_id: str,
    model: ModelInfo,
    log: str,
    wall_of: Callable[[int], str],
    latency_ms: dict[str, float],
) -> Event:
    """The event; ``wall_of`` tells the time of day of a monotonic time."""
    end_ns, streams = transition.end_ns, transition.streams
    return Event(
        seq=seq,
        id=event_id,
        type=transition.type,
        camera=transition.camera,
        label=transition.label,
        score=rounded(transition.score),
        top_score=rounded(transition.top_score),
        start_time=wall_of(transition.start_ns),
        end_time=None if end_ns is None else wall_of(end_ns),
        media_time=(seconds(transition.start_pts_ns), seconds(transition.end_pts_ns)),
        reason=transition.reason,
        window=transition.window,
        streams=msgspec.structs.replace(
            streams,
            spatial=rounded_or_none(streams.spatial),
            temporal=rounded_or_none(streams.temporal),
            alpha=rounded_or_none(streams.alpha),
        ),
        latency_ms=latency_ms,
        model=model,
        log=log,
    )


def new_id(seq: int, camera: str, start_ns: int) -> str:
    """Sorts by time within a camera, like a ULID; of media time for files, so it is repeatable."""
    return f"{camera}-{base32(start_ns // NS_PER_MS, 10)}{base32(seq, 6)}"


_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def base32(number: int, digits: int) -> str:
    """Crockford's base 32, as ULIDs use it."""
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


def rounded_all(scores: dict[str, float]) -> dict[str, float]:
    return {label: rounded(score) for label, score in scores.items()}
