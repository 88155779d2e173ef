"""What corrections do: a pack is taught with few clips, reviewed day after day, and taught again.

A stream of clips is a camera's day. Clips of labels that the pack doesn't know are in it as well:
they must give no event. After each day every event is reviewed by the truth, and the pack learns
from the reviews. Another stream is never reviewed; it shows what that is worth.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypedDict

import typer
from rich.console import Console
from rich.table import Table

from pipeline.backtest.judging import Said
from pipeline.clock import NS_PER_S, SYSTEM_CLOCK, isoformat
from pipeline.evaluate.clip_list import Entry, read
from pipeline.model.pack import ModelPack
from pipeline.model.watch import Watch
from pipeline.reviews.records import Review
from pipeline.reviews.store import ReviewStore, path_beside
from teach.clips import BACKGROUND, Clips
from teach.features import ClipFeatures, Job, extracted
from teach.from_reviews import ReviewOrder, learn
from teach.lesson_file import load
from teach.place import Place
from teach.run import STEP_HZ, Order, teach
from teach.streams import LATEST_S
from testbed.program import scratch_folder
from testbed.remembered import remember

LABELS = "circle,left,square,tick,up"
DAYS = 3
CAMERA, HELD_OUT = "door", "held-out"
DAY_NS = 86_400 * NS_PER_S
LATEST_NS = round(LATEST_S * NS_PER_S)
PARTS = (3, 4, 7)
"""Groups of clips that are taught, that a day shows, that the held-out stream shows."""


class CorrectResult(TypedDict):
    """Of the held-out streams, after each round of corrections; round 0 is the pack as taught."""

    round: int
    reviews: int
    actions: int
    found: int
    false: int
    minutes: float


@dataclass(frozen=True)
class Shown:
    """An action of a stream; ``label`` None: one that the pack doesn't know."""

    label: str | None
    first_ns: int
    last_ns: int

    def has(self, said: Said) -> bool:
        return self.first_ns <= said.start_ns <= self.last_ns + LATEST_NS


class World:
    """A camera whose memory, log and reviews are in a folder, and the clips that it shows."""

    def __init__(self, folder: Path, clips: Path, base: Path, cache: Path, labels: Sequence[str]):
        self._folder, self._base, self._cache = folder, base, cache
        self._labels = tuple(labels)
        self._entries = read(clips)
        self.pack = folder / "pack"
        self.config = folder / "config.yaml"
        self._reviews = ReviewStore(path_beside(folder / "events.sqlite"))
        self._features: dict[Path, ClipFeatures] = {}

    def taught(self, groups: Sequence[str], looks: Sequence[str]) -> None:
        """Teach the pack with the clips of some groups."""
        names = {BACKGROUND, *self._labels}
        entries = [e for e in self._entries if e.label in names and e.group in groups]
        clips = Clips(tuple(entries), (BACKGROUND, *self._labels), (BACKGROUND,))
        teach(Order(clips, self.pack, self._base, self._cache, tuple(looks)))
        self.config.write_text(
            f"memory: {{folder: {self._folder / 'memory'}}}\n"
            f"events: {{log: {self._folder / 'events.sqlite'}}}\n"
        )

    def show(self, camera: str, day: int, groups: Sequence[str], seed: int) -> list[Shown]:
        """Let a camera see the clips of some groups; returns the actions in them."""
        rng = random.Random(seed)
        entries = [e for e in self._entries if e.group in groups and e.label != BACKGROUND]
        quiet = [e for e in self._entries if e.group in groups and e.label == BACKGROUND]
        rng.shuffle(entries)
        order = [one for entry in entries for one in (rng.choice(quiet), entry)]
        pack = ModelPack.load(self.pack)
        looks = load(pack).looks
        streams = (looks.appearance, looks.motion)
        self._see(order, streams)
        start_ns = SYSTEM_CLOCK.wall_ns() // DAY_NS * DAY_NS + day * DAY_NS
        clips = [self._features[entry.path] for entry in order]
        times = remember(
            self._folder / "memory", camera, Watch(pack), clips, looks, start_ns, segment=day
        )
        return [
            Shown(entry.label if entry.label in self._labels else None, first, last)
            for entry, (first, last) in zip(order, times, strict=True)
            if entry.label != BACKGROUND
        ]

    def _see(self, entries: Sequence[Entry], streams: tuple[str, ...]) -> None:
        missing = [e.path for e in dict.fromkeys(entries) if e.path not in self._features]
        job = Job(self._base, streams, STEP_HZ, self._cache)
        for path, found in extracted(job, missing, 1):
            if isinstance(found, ClipFeatures):
                self._features[path] = found

    def said(self, camera: str, shown: Sequence[Shown]) -> list[Said]:
        """The events of the pack as it is now, in the time of some actions."""
        span = shown[0].first_ns - DAY_NS // 4, shown[-1].last_ns + DAY_NS // 4
        return Place(self.config).said(camera, ModelPack.load(self.pack), span)

    def correct(self, day: int, shown: Sequence[Shown]) -> int:
        """Review each event of a day by the truth, and teach that; returns the reviews."""
        said = self.said(CAMERA, shown)
        reviews = [
            _reviewed(one, shown, f"{CAMERA}-{day}-{number}") for number, one in enumerate(said)
        ]
        for one in shown:
            if one.label is not None and not any(one.has(event) for event in said):
                reviews.append(_review("missed", one.first_ns, one.last_ns, one.label, None, None))
        self._reviews.add(reviews)
        learn(ReviewOrder(self.config, self.pack, switch=True))
        return len(reviews)


def _reviewed(said: Said, shown: Sequence[Shown], event: str) -> Review:
    there = [one.label for one in shown if one.has(said)]
    if said.label in there:
        return _review("right", said.start_ns, said.end_ns, said.label, said.label, event)
    label = next((one for one in there if one is not None), None)
    verdict = "wrong" if label is None else "other"
    return _review(verdict, said.start_ns, said.end_ns, label, said.label, event)


def _review(
    verdict: str, first_ns: int, last_ns: int, label: str | None, said: str | None,
    event: str | None,
) -> Review:  # fmt: skip
    return Review(
        camera=CAMERA, verdict=verdict, label=label, said=said, start_time=isoformat(first_ns),  # type: ignore[arg-type]
        end_time=isoformat(last_ns), event=event, by="benchmark",
        time=isoformat(SYSTEM_CLOCK.wall_ns()),
    )  # fmt: skip


def counts(said: Sequence[Said], shown: Sequence[Shown]) -> tuple[int, int, int]:
    """Actions, those that were found, and events too many."""
    left = list(said)
    actions = [one for one in shown if one.label is not None]
    found = 0
    for one in actions:
        hit = next((event for event in left if event.label == one.label and one.has(event)), None)
        if hit is not None:
            left.remove(hit)
            found += 1
    return len(actions), found, len(left)


def measure(
    clips: Annotated[Path, typer.Option(help="list or folder of clips, with groups")],
    base: Annotated[Path, typer.Option(help="folder of the base")] = Path("models/base"),
    labels: Annotated[str, typer.Option(help="the pack's; others must give no event")] = LABELS,
    looks: Annotated[str, typer.Option(help="networks to try, as of teach; empty: all")] = "",
    cache: Annotated[
        Path | None, typer.Option(help="folder for what the networks saw; default: for this run")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="choices of clips")] = 3,
) -> list[CorrectResult]:
    """Teach, and correct three times; the figures are of a stream that is never corrected."""
    rounds: list[CorrectResult] = [
        {"round": n, "reviews": 0, "actions": 0, "found": 0, "false": 0, "minutes": 0.0}
        for n in range(DAYS + 1)
    ]
    with scratch_folder() as scratch:
        for seed in range(seeds):
            folder = scratch / str(seed)
            folder.mkdir()
            world = World(folder, clips, base, cache or scratch / "cache", labels.split(","))
            for result, one in zip(rounds, _rounds(world, clips, seed, looks), strict=True):
                reviews, (actions, found, false), minutes = one
                result["reviews"] += reviews
                result["actions"] += actions
                result["found"] += found
                result["false"] += false
                result["minutes"] += minutes
    return rounds


def _rounds(
    world: World, clips: Path, seed: int, looks: str
) -> Iterator[tuple[int, tuple[int, int, int], float]]:
    groups = sorted({entry.group for entry in read(clips) if entry.group})
    random.Random(seed).shuffle(groups)
    few, day, rest = PARTS
    world.taught(groups[:few], [one for one in looks.split(",") if one])
    held_out = world.show(HELD_OUT, 0, groups[few + DAYS * day :][:rest], seed)
    minutes = (held_out[-1].last_ns - held_out[0].first_ns) / NS_PER_S / 60
    yield 0, counts(world.said(HELD_OUT, held_out), held_out), minutes
    for number in range(DAYS):
        first = few + number * day
        shown = world.show(CAMERA, number, groups[first : first + day], seed)
        reviews = world.correct(number, shown)
        yield reviews, counts(world.said(HELD_OUT, held_out), held_out), minutes


def show(results: Sequence[CorrectResult]) -> None:
    """Print a row for each round."""
    table = Table("round", "reviews", "found", "recall", "false", "false an hour", "F1")
    for one in results:
        both = one["found"] + one["false"] + one["actions"]
        table.add_row(
            str(one["round"]),
            str(one["reviews"]),
            f"{one['found']} of {one['actions']}",
            f"{one['found'] / one['actions']:.2f}",
            str(one["false"]),
            f"{60 * one['false'] / one['minutes']:.0f}",
            f"{2 * one['found'] / both:.2f}",
        )
    Console().print(table)
