"""The verdict as a page: one HTML file with pictures of the clips, which loads nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pipeline.clock import NS_PER_S
from pipeline.errors import EvaluationError, SourceError, needs_extra
from pipeline.evaluate.clip_list import shown
from teach.clips import Clips
from teach.pack import TeachError
from teach.run import Result
from teach.thresholds import RULE_OF_THREE
from teach.verdict import LabelVerdict, Told, Verdict

with needs_extra("report", ("matplotlib", "jinja2", "markupsafe")):
    from pipeline.evaluate.page import charts, template, write_page
    from pipeline.evaluate.page.strips import Film, film
    from pipeline.evaluate.recogniser import file_frames

MOST_OF_A_LABEL, LEAST_OF_A_LABEL = 6, 2
"""Clips of a label that the page shows; fewer where there are many labels."""
MOST_CLIPS = 200
MOST_ODD, MOST_PAIRS, MOST_OF_A_PAIR = 12, 8, 3
MOST_PATHS = 100
LONGEST_NS = 30 * NS_PER_S
"""Of a longer clip, the page shows the beginning."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A clip on the page. ``kind`` says why it is there."""

    told: Told
    film: Film
    times: tuple[str, ...]
    kind: str = ""

    @property
    def right(self) -> bool:
        return self.told.said == self.told.label

    @property
    def name(self) -> str:
        return shown(self.told.path)


@dataclass(frozen=True, slots=True)
class Gallery:
    """Clips of one label: ``count`` in all, and some of them, the surest first."""

    verdict: LabelVerdict
    shots: list[Shot]

    @property
    def label(self) -> str:
        return self.verdict.label


@dataclass(frozen=True, slots=True)
class Odd:
    """A clip that looks like another label, and a usual one of both."""

    shot: Shot
    beside: list[Shot]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two labels that can't be told apart, with clips of each."""

    labels: tuple[str, str]
    share: float
    sides: tuple[list[Shot], list[Shot]]


PageWriter = Callable[[Result, Clips], Path]


def writer(folder: Path) -> PageWriter:
    """Make ``folder``, and return what writes the page into it.

    Raises :class:`TeachError`: better now than when all is taught.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TeachError(f"--report {folder}: {error.strerror}") from None

    def write(result: Result, clips: Clips) -> Path:
        data = msgspec.json.encode(result.verdict)
        try:
            return write_page(folder, render(result, clips), data)
        except EvaluationError as error:
            raise TeachError(str(error)) from None

    return write


def render(result: Result, clips: Clips) -> str:
    """The page as HTML; labels and paths in it are escaped."""
    verdict = result.verdict
    album = Album(verdict, clips)
    return template(__package__ or "teach", "page.html.jinja").render(
        verdict=verdict,
        contract=None if result.pack is None else result.pack.contract,
        unreadable=[shown(line) for line in result.unreadable.values()],
        charts=_charts(verdict),
        galleries=album.galleries(),
        odd=album.odd(),
        pairs=album.pairs(),
        clips=sum(one.clips for one in verdict.labels),
        sure_days=RULE_OF_THREE,
        longest_s=LONGEST_NS / NS_PER_S,
        most_paths=MOST_PATHS,
        most_labels=charts.MOST_LABELS,
    )


def _charts(verdict: Verdict) -> dict[str, str]:
    """The charts by name; the curve only where half of the clips could be taught."""
    drawn = {
        "confusion": charts.confusion(verdict.confusion, verdict.names),
        "tried": charts.bars(verdict.tried, verdict.looks, verdict.top1_error, verdict.chance),
    }
    if verdict.with_half is not None and verdict.with_twice is not None:
        drawn["curve"] = charts.curve(
            [
                ("half of the clips", verdict.with_half, True),
                ("all", verdict.top1, True),
                ("twice as many", verdict.with_twice, False),
            ],
            verdict.chance,
        )
    return drawn


class Album:
    """Strips of the clips that the page shows; a clip is read once."""

    def __init__(self, verdict: Verdict, clips: Clips) -> None:
        self._verdict = verdict
        real = {(str(entry.path), entry.label) for entry in clips.entries}
        # Without background, first pictures that stand still are taught as some: no clips.
        self._told = [one for one in verdict.told if (one.path, one.label) in real]
        self._films: dict[str, Film | None] = {}

    def galleries(self) -> list[Gallery]:
        """Of each label some clips from the surest to the least sure."""
        labels = self._verdict.labels
        most = max(LEAST_OF_A_LABEL, min(MOST_OF_A_LABEL, MOST_CLIPS // max(1, len(labels))))
        return [Gallery(one, self._shots(_spread(self._of(one.label), most))) for one in labels]

    def odd(self) -> list[Odd]:
        """Clips that look like another label, the surest first."""
        found = []
        told = {(one.path, one.label): one for one in self._told}
        for one in self._verdict.odd[:MOST_ODD]:
            clip = told.get((one.path, one.label))
            shot = clip and self._shot(clip, "this clip")
            if not shot:
                continue
            usual = [
                self._shot(self._typical(label), f"a usual {label}")
                for label in (one.label, one.looks_like)
            ]
            found.append(Odd(shot, [beside for beside in usual if beside is not None]))
        return found

    def pairs(self) -> list[Pair]:
        """Labels that can't be told apart, the worst first; mistaken clips stand first."""
        return [
            Pair((a, b), share, (self._mistaken(a, b), self._mistaken(b, a)))
            for a, b, share in self._verdict.pairs[:MOST_PAIRS]
        ]

    def _mistaken(self, label: str, partner: str) -> list[Shot]:
        clips = sorted(self._of(label), key=lambda one: one.said != partner)
        return self._shots(clips[:MOST_OF_A_PAIR])

    def _of(self, label: str) -> list[Told]:
        """A label's clips, the surest first."""
        clips = [one for one in self._told if one.label == label]
        return sorted(clips, key=lambda one: -one.true_score)

    def _typical(self, label: str) -> Told | None:
        clips = self._of(label)
        return clips[0] if clips and clips[0].said == label else None

    def _shots(self, clips: Sequence[Told]) -> list[Shot]:
        return [shot for one in clips if (shot := self._shot(one)) is not None]

    def _shot(self, told: Told | None, kind: str = "") -> Shot | None:
        """None for a clip that can't be read again."""
        if told is None:
            return None
        if told.path not in self._films:
            try:
                self._films[told.path] = film(file_frames(Path(told.path)), LONGEST_NS)
            except SourceError:
                self._films[told.path] = None
        strip = self._films[told.path]
        if strip is None:
            return None
        return Shot(told, strip, tuple(f"{ns / NS_PER_S:.1f} s" for ns in strip.times_ns), kind)


def _spread(clips: Sequence[Told], most: int) -> list[Told]:
    """At most ``most``, evenly from the first to the last."""
    if len(clips) <= most:
        return list(clips)
    return [clips[place * (len(clips) - 1) // (most - 1)] for place in range(most)]
