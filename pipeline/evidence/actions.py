"""What evidence an action needs, and when it can be made. Pure.

Times are nanoseconds on the action's own axis: the machine's monotonic clock, or a file's media
time in a lossless run. ``offset_ns`` leads from there to the time of day.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET

from pipeline.clock import NS_PER_MS, NS_PER_S, from_isoformat
from pipeline.config.evidence import EvidenceConfig
from pipeline.public.records import Event, Evidence

PATIENCE_NS = 3 * NS_PER_S
"""Longest wait for pictures of a time that has passed: cameras and networks are late."""
SAME_NS = 150 * NS_PER_MS
"""A picture is this near to its moment, as pictures come one after the other."""
NEARLY_NS = NS_PER_S
"""A clip that ends this much too early is whole."""
BEFORE_BEST_NS = NS_PER_S // 8
"""Its motion is that from a tenth of a second before; what is not wanted needn't be decoded."""
AFTER_BEST_NS = NS_PER_S // 5
"""A decoder gives a picture out when it has some of those that follow it."""

Work = Literal["pictures", "clip"]


@dataclass(frozen=True, slots=True)
class Task:
    """Something to be made of an action's pieces from ``first_ns`` to ``last_ns``."""

    work: Work
    event: Event
    """The record that it belongs to."""
    first_ns: int
    last_ns: int
    best_ns: int
    offset_ns: int
    part: int = 1


@dataclass(slots=True)
class Action:
    """An action of which evidence is made."""

    event: Event
    """Its newest record."""
    offset_ns: int
    media: bool
    settings: EvidenceConfig
    seen_ns: int = 0
    """When it was first heard of: what was kept of a time before has to be asked for."""
    part: int = 1
    part_from_ns: int = 0
    shown_ns: int | None = None
    """The best moment of which there is a picture."""

    @classmethod
    def begin(
        cls,
        event: Event,
        settings: EvidenceConfig,
        wall_minus_monotonic_ns: int,
        media: bool,
        now_ns: int = 0,
    ) -> "Action":
        """An action whose first record is ``event``; ``media``: its times are a file's own."""
        offset_ns = wall_minus_monotonic_ns
        if media and event.media_time[0] is not None:
            offset_ns = from_isoformat(event.start_time) - round(event.media_time[0] * NS_PER_S)
        action = cls(event, offset_ns, media, settings, seen_ns=now_ns)
        action.part_from_ns = action.start_ns - round(settings.clips.pre_s * NS_PER_S)
        return action

    def resume(self, made: Sequence[Evidence]) -> None:
        """Go on after ``made``, which a process before this one has made of the action."""
        end_ns = self.wanted_to_ns
        for one in made:
            if one.kind == "clip":
                self.part = max(self.part, one.part + 1)
                if one.last_time is not None:
                    self.part_from_ns = from_isoformat(one.last_time) - self.offset_ns
                elif end_ns is not None:
                    self.part_from_ns = end_ns  # it was lost once
            elif self._is_of_best(one):
                self.shown_ns = self.best_ns
        if end_ns is not None and self.part_from_ns + NEARLY_NS > end_ns:
            self.part_from_ns = end_ns

    def _is_of_best(self, one: Evidence) -> bool:
        """Whether a picture is of the best moment, or its record says that there is none."""
        if one.first_time is None:
            return one.seq == self.event.seq
        return abs(from_isoformat(one.first_time) - self.offset_ns - self.best_ns) < SAME_NS

    @property
    def start_ns(self) -> int:
        return from_isoformat(self.event.start_time) - self.offset_ns

    @property
    def end_ns(self) -> int | None:
        """When the action ended; None while it goes on."""
        if self.event.type != "end" or self.event.end_time is None:
            return None
        if self.media and (end_s := self.event.media_time[1]) is not None:
            return round(end_s * NS_PER_S)
        return from_isoformat(self.event.end_time) - self.offset_ns

    def ended_before(self, wall_ns: int) -> bool:
        """Whether it ended before a time of day."""
        end_time = self.event.end_time
        return (
            self.event.type == "end"
            and end_time is not None
            and (from_isoformat(end_time) < wall_ns)
        )

    @property
    def best_ns(self) -> int:
        """When the score was highest."""
        event = self.event
        if self.media and event.top_media_time is not UNSET:
            return round(event.top_media_time * NS_PER_S)
        if event.top_time is UNSET:
            return self.start_ns
        return from_isoformat(event.top_time) - self.offset_ns

    @property
    def wanted_from_ns(self) -> int:
        """The earliest time of which pieces are still needed."""
        clip = "clip" in self.settings.kinds
        best_ns = self.best_ns - NS_PER_S
        return min(self.part_from_ns, best_ns) if clip else best_ns

    @property
    def wanted_to_ns(self) -> int | None:
        """The latest; None while the action goes on."""
        end_ns = self.end_ns
        if end_ns is None:
            return None
        if "clip" not in self.settings.kinds:
            return self.best_ns + AFTER_BEST_NS
        return end_ns + round(self.settings.clips.post_s * NS_PER_S)

    @property
    def over(self) -> bool:
        """Whether all its evidence has been asked for."""
        done = self.wanted_to_ns is not None and self.part_from_ns >= self.wanted_to_ns
        return (done or "clip" not in self.settings.kinds) and self._pictures_are_made

    @property
    def _pictures_are_made(self) -> bool:
        wants = {"snapshot", "motion"} & set(self.settings.kinds)
        return not wants or (self.shown_ns == self.best_ns and self.event.type == "end")

    def due(self, newest_ns: int, now_ns: int) -> Iterator[Task]:
        """What can be made when pieces up to ``newest_ns`` have come; it is ``now_ns``."""
        if task := self._pictures(newest_ns, now_ns):
            yield task
        while task := self._clip(newest_ns, now_ns):
            yield task

    def _pictures(self, newest_ns: int, now_ns: int) -> Task | None:
        """The pictures of the best moment: soon after the start, and again if it gets better."""
        best_ns, first_time = self.best_ns, self.shown_ns is None
        if not {"snapshot", "motion"} & set(self.settings.kinds) or self.shown_ns == best_ns:
            return None
        if not (first_time or self.event.type == "end"):
            return None
        if not self._there(best_ns + AFTER_BEST_NS, newest_ns, now_ns):
            return None
        self.shown_ns = best_ns
        return Task(
            "pictures", self.event, best_ns - BEFORE_BEST_NS, best_ns + AFTER_BEST_NS, best_ns,
            self.offset_ns,
        )  # fmt: skip

    def _clip(self, newest_ns: int, now_ns: int) -> Task | None:
        """The next part of the clip, when it is complete."""
        to_ns = self.wanted_to_ns
        longest_ns = self.part_from_ns + round(self.settings.clips.max_s * NS_PER_S)
        if "clip" not in self.settings.kinds or (to_ns is not None and self.part_from_ns >= to_ns):
            return None
        part_to_ns = longest_ns if to_ns is None else min(longest_ns, to_ns)
        if not self._there(part_to_ns, newest_ns, now_ns):
            return None
        task = Task(
            "clip", self.event, self.part_from_ns, part_to_ns, self.best_ns, self.offset_ns,
            self.part,
        )  # fmt: skip
        self.part += 1
        self.part_from_ns = part_to_ns
        return task

    def _there(self, wanted_ns: int, newest_ns: int, now_ns: int) -> bool:
        """Whether what is wanted has come, or won't any more."""
        return newest_ns >= wanted_ns or now_ns > max(wanted_ns, self.seen_ns) + PATIENCE_NS
