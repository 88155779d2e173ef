"""A review, and which reviews count. Pure."""

from collections.abc import Iterable
from typing import Literal

import msgspec

Verdict = Literal["right", "wrong", "other", "missed", "withdrawn"]
"""``other``: there was an action, but of another label. ``missed``: nothing was said of it.
``withdrawn``: what was said of the event before doesn't count."""


class Review(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody says of an event, or of an action without one.

    It holds all that it needs: the log may have deleted the event since. Times are ISO 8601, UTC.
    """

    camera: str
    verdict: Verdict
    label: str | None = None
    """What really happened; None: no action."""
    said: str | None = None
    """The label of the event; None: there was none."""
    start_time: str
    end_time: str
    event: str | None = None
    """Its id in the log."""
    log: str | None = None
    by: str
    time: str
    """When it was said."""
    note: str = ""

    @property
    def key(self) -> str:
        """What the review is of."""
        return self.event or f"{self.camera}/{self.start_time}/{self.label}"


def in_force(reviews: Iterable[Review]) -> list[Review]:
    """The newest review of each event, in order of time; ``reviews`` are in the order in which
    they were made."""
    newest: dict[str, Review] = {}
    for review in reviews:
        newest[review.key] = review
    kept = [one for one in newest.values() if one.verdict != "withdrawn"]
    return sorted(kept, key=lambda one: (one.start_time, one.camera))
