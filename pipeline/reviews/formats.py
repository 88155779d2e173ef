"""Reviews as files that labelling tools read: ActivityNet's JSON, and CSV. Pure.

In ActivityNet's JSON a camera's day is a video, whose segments are seconds since midnight UTC. An
annotation's label is what really happened. What was wrong has the label :data:`NOTHING`.
"""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

import msgspec

from pipeline.clock import NS_PER_S, from_isoformat, isoformat
from pipeline.errors import ReviewError
from pipeline.reviews.records import Review

NOTHING = "no action"
DAY_S = 86_400
COLUMNS = (
    "camera", "start_time", "end_time", "label", "verdict", "said", "event", "log", "by", "time",
    "note",
)  # fmt: skip


def to_activitynet(reviews: Iterable[Review]) -> str:
    """A JSON object with a ``database`` of days."""
    database: dict[str, Any] = {}
    for review in reviews:
        day = review.start_time[:10]
        midnight_ns = from_isoformat(f"{day}T00:00:00.000Z")
        video = database.setdefault(
            f"{review.camera}@{day}",
            {"duration": DAY_S, "subset": "training", "url": "", "annotations": []},
        )
        segment = [
            round((from_isoformat(at) - midnight_ns) / NS_PER_S, 3)
            for at in (review.start_time, review.end_time)
        ]
        annotation = {"label": review.label or NOTHING, "segment": segment}
        video["annotations"].append(annotation | {"review": msgspec.to_builtins(review)})
    return json.dumps({"version": "two-stream 1", "taxonomy": [], "database": database}, indent=1)


def from_activitynet(text: str, by: str, time: str) -> list[Review]:
    """The reviews of such a file. Segments that a tool has added are actions that were missed.

    A segment whose label or times a tool has changed keeps the event that it is of. ``by`` and
    ``time`` are those of what is new. Raises :class:`ReviewError`.
    """
    try:
        database = json.loads(text)["database"]
        found = []
        for name, video in database.items():
            camera, _, day = name.rpartition("@")
            midnight_ns = from_isoformat(f"{day}T00:00:00.000Z")
            for one in video["annotations"]:
                start, end = (
                    isoformat(midnight_ns + round(float(at) * NS_PER_S)) for at in one["segment"]
                )
                found.append(_review(camera, str(one["label"]), (start, end), one, by, time))
        return found
    except (KeyError, TypeError, ValueError, AttributeError, msgspec.ValidationError) as error:
        raise ReviewError(f"not ActivityNet's JSON of camera days: {error}") from None


def _review(
    camera: str, label: str, times: tuple[str, str], annotation: dict[str, Any], by: str, time: str
) -> Review:
    action = None if label == NOTHING else label
    known = annotation.get("review")
    if known is None:
        return Review(
            camera=camera, verdict="missed" if action else "wrong", label=action,
            start_time=times[0], end_time=times[1], by=by, time=time,
        )  # fmt: skip
    before = msgspec.convert(known, Review)
    if (before.label, before.start_time, before.end_time) == (action, *times):
        return before
    return msgspec.structs.replace(
        before, verdict=verdict_of(before.said, action), label=action, start_time=times[0],
        end_time=times[1], by=by, time=time,
    )  # fmt: skip


def verdict_of(said: str | None, label: str | None) -> Any:
    """The verdict that follows from what was said and what really happened."""
    if label is None:
        return "wrong"
    if said is None:
        return "missed"
    return "right" if said == label else "other"


def to_csv(reviews: Iterable[Review]) -> str:
    """A table with a header, a line for each review."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for review in reviews:
        table.writerow([getattr(review, name) or "" for name in COLUMNS])
    return out.getvalue()


def from_csv(text: str, by: str, time: str) -> list[Review]:
    """The reviews of such a table. ``verdict``, ``by`` and ``time`` may be empty, and columns that
    aren't needed may be missing. Raises :class:`ReviewError`, which names the line."""
    table = csv.DictReader(io.StringIO(text))
    missing = {"camera", "start_time", "end_time"} - set(table.fieldnames or ())
    if missing:
        raise ReviewError(f"line 1: no column {', '.join(sorted(missing))}")
    found = []
    for row in table:
        try:
            filled = {name: row[name] for name in COLUMNS if row.get(name)}
            if filled.get("label") == NOTHING:
                del filled["label"]
            filled.setdefault("verdict", verdict_of(filled.get("said"), filled.get("label")))
            review = msgspec.convert({"by": by, "time": time, **filled}, Review)
            if from_isoformat(review.end_time) < from_isoformat(review.start_time):
                raise ValueError("end_time is before start_time")
        except (ValueError, msgspec.ValidationError) as error:
            raise ReviewError(f"line {table.line_num}: {error}") from None
        found.append(review)
    return found
