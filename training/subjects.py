"""The subjects of clips, for recipes with a view of regions: each subject is a clip of its own.

Regions are found as in the live pipeline (:class:`pipeline.steps.follow.SubjectFollower`). Where
people are is computed once for each clip and cached, under the detector's hash and the rules of
tracks; then the flow inside the regions and the backbone's grids of the regions' pictures.

A clip's label says what somebody does, and not who. So the label is that of the subjects who move
most, as many as the recipe's ``subjects``; the others are not trained on, because nobody knows what
they do. In a clip of background, everybody is background. Next: :mod:`training.crossvalidation`.
"""

import functools
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline import flow
from pipeline.arrays import STILL, Frame, Gray, QuantisedFlow
from pipeline.config.schema import PeopleConfig
from pipeline.model.watch import WHOLE_PICTURE
from pipeline.people import (
    assignment,
    camera_motion,
    cutting,
    decoding,
    detector,
    following,
    gate,
    geometry,
    knock,
    letterbox,
    looking,
    motion,
    moving,
    regions,
    tracks,
)
from pipeline.people.contract import NETWORK_FILE
from pipeline.people.detector import SHIPPED, PersonDetector
from pipeline.people.looking import CameraPeople, Detector
from pipeline.people.regions import VIEWS
from pipeline.people.tracks import TrackRules
from pipeline.sources.base import Grab
from pipeline.steps import region_flow
from pipeline.steps.follow import FollowedSubject, SubjectFollower, SubjectsStep, TimedFrame
from pipeline.steps.sampling import Steps
from training.clip_cache import ArrayFiles, Arrays, FileContents, code_digest, digest_of
from training.clip_list_formats import DataError, Entry
from training.config import TrainConfig
from training.data import (
    APPEARANCE,
    NOBODY,
    Clip,
    ClipCache,
    ClipFrame,
    Computed,
    Stepped,
    appearance_of,
    content_of,
    made_by,
    motion_settings,
    step_clip,
    video_frames,
    weights_hash,
    whole_frames,
)

PEOPLE = PeopleConfig()
"""What a config has by default: how often the detector looks, and how many are looked at."""
FOUND = ("times", "names", "boxes")
FOLLOWED = ("fields", "moving", "seen", "firsts", "lasts", "names", "starts", "lengths", "steps")


class Person(NamedTuple):
    """Where somebody is at a step."""

    name: str
    box: tuple[float, float, float, float]


class FoundPeople:
    """The people of a clip, as they were found before: in place of ``CameraPeople``."""

    def __init__(self, found: Arrays) -> None:
        self._at: dict[int, list[Person]] = {}
        for time_ns, name, box in zip(
            found["times"].tolist(), found["names"].tolist(), found["boxes"].tolist(), strict=True
        ):
            self._at.setdefault(time_ns, []).append(Person(name, tuple(box)))

    def look(self, frame: Frame, time_ns: int, segment: int = 0) -> Sequence[Person]:
        return self._at.get(time_ns, [])


def find_people(frames: Iterable[ClipFrame], step_hz: float, detect: Detector) -> Arrays:
    """Who is where at each step of a clip: ``times`` (n,) ns, ``names`` (n,), ``boxes`` (n, 4)."""
    steps, people = Steps("clip", step_hz, gap_s=math.inf), CameraPeople(detect, PEOPLE.hz)
    rows: list[tuple[int, Person]] = []
    for time_ns, frame in frames:
        due = steps.due(Grab(time_ns, time_ns, False), time_ns)
        if due is not None:
            moment = steps.moment(due)
            at = moment.time_ns(media=True)
            rows += [(at, Person(one.name, one.box)) for one in people.look(frame, at)]
    return {
        "times": np.array([at for at, _ in rows], np.int64),
        "names": np.array([one.name for _, one in rows], np.str_),
        "boxes": np.array([one.box for _, one in rows], np.float64).reshape(-1, 4),
    }


@dataclass
class SubjectSteps:
    """One subject of a clip in steps, as :class:`~training.data.Clip`, as long as it is there.

    ``pictures`` are for the backbone, ``still`` is a field without motion.
    """

    name: str
    start: int
    still: QuantisedFlow
    pictures: list[Frame] = field(default_factory=list)
    fields: list[QuantisedFlow] = field(default_factory=list)
    moving: list[bool] = field(default_factory=list)
    seen: list[bool] = field(default_factory=list)
    grays: list[Gray] = field(default_factory=list)

    def add(self, step: SubjectsStep, subject: FollowedSubject) -> None:
        """The next step, which follows the last one.

        Steps that were skipped are not seen. A field that spans several steps is repeated for each
        of them, as in a stack.
        """
        skipped = step.moment.skipped
        now = self.still if subject.field is None else subject.field
        before = self.pictures[-1] if self.pictures else subject.picture
        self.pictures += [*[before] * skipped, subject.picture]
        self.fields += [now] * (skipped + 1)
        self.moving += [subject.field is not None] * (skipped + 1)
        self.seen += [*[False] * skipped, True]
        self.grays = [*self.grays[:1], step.gray]

    @property
    def motion(self) -> float:
        """How much it moves: the mean size of its flow, summed over steps."""
        fields = np.stack(self.fields).astype(np.int16) - STILL
        return float(np.abs(fields).mean((1, 2, 3)).sum())


class Followed(NamedTuple):
    """The subjects of a clip of ``steps`` steps, the one that moves most first."""

    subjects: list[SubjectSteps]
    steps: int

    @property
    def pictures(self) -> npt.NDArray[np.uint8]:
        """Those of all subjects, one after the other."""
        return np.stack([picture for one in self.subjects for picture in one.pictures])

    def arrays(self) -> Arrays:
        """All but the pictures, named as in :data:`FOLLOWED`; steps one subject after the other."""
        each = self.subjects
        empty = np.empty((0, 1, 1), np.uint8)
        return {
            "fields": np.array([x for one in each for x in one.fields], np.uint8),
            "moving": np.array([x for one in each for x in one.moving], np.bool_),
            "seen": np.array([x for one in each for x in one.seen], np.bool_),
            "firsts": np.stack([one.grays[0] for one in each]) if each else empty,
            "lasts": np.stack([one.grays[-1] for one in each]) if each else empty,
            "names": np.array([one.name for one in each], np.str_),
            "starts": np.array([one.start for one in each], np.int64),
            "lengths": np.array([len(one.seen) for one in each], np.int64),
            "steps": np.array(self.steps),
        }


def follow(frames: Iterable[ClipFrame], config: TrainConfig, found: Arrays | None) -> Followed:
    """The subjects of a clip; ``found`` are the people of :func:`find_people`, if it needs them.

    Raises :class:`DataError` for a clip without frames.
    """
    steps = Steps("clip", config.step_hz, gap_s=math.inf)
    people = None if found is None else FoundPeople(found)
    method = flow.create(config.temporal.method)
    follower = SubjectFollower(steps, config, config.view, method, people, PEOPLE.subjects)
    still = np.full((*config.temporal.size, 2), STILL, np.uint8)
    known: list[SubjectSteps] = []
    there: dict[str, SubjectSteps] = {}
    number = -1
    timed = (TimedFrame(time_ns, partial(_same, frame)) for time_ns, frame in frames)
    for step in follower.follow(timed):
        number += 1 + step.moment.skipped
        # Whoever comes back begins anew, as live.
        there = {name: there[name] for name in step.subjects if name in there}
        for name, subject in step.subjects.items():
            if name not in there:
                there[name] = SubjectSteps(name, number - step.moment.skipped, still)
                known.append(there[name])
            there[name].add(step, subject)
    if number < 0:
        raise DataError("the clip has no frame")
    return Followed(sorted(known, key=lambda one: -one.motion), number + 1)


def _same(frame: Frame) -> Frame:
    return frame


def stepped(entry: Entry, config: TrainConfig, detect: Detector | None = None) -> Stepped:
    """A clip, decoded now, in the steps of the subject that moves most.

    Raises :class:`DataError`, also for a clip that shows nobody.
    """

    def frames() -> Iterator[ClipFrame]:
        return video_frames(entry.path, entry.start_s, entry.end_s)

    if config.view == WHOLE_PICTURE:
        return step_clip(frames(), config)
    found = None
    if VIEWS[config.view].needs_people:
        found = find_people(frames(), config.step_hz, detect or shipped_detector())
    subjects = follow(frames(), config, found).subjects
    if not subjects:
        raise DataError("nobody was found in the clip")
    one = subjects[0]
    return Stepped(
        np.stack(one.pictures), np.array(one.seen), np.stack(one.fields), np.array(one.moving),
        one.grays[0], one.grays[-1], np.zeros(len(one.seen)),
    )  # fmt: skip


@functools.cache
def shipped_detector() -> PersonDetector:
    return PersonDetector(score=TrackRules().faint)


class SubjectCache:
    """Subjects of clips, from the files of computed arrays if they have them.

    ``detect`` finds people, by default the shipped detector; ``detector`` identifies it.
    """

    def __init__(
        self, folder: Path, config: TrainConfig, detect: Detector | None = None, detector: str = ""
    ) -> None:
        self._files, self._config = ArrayFiles(folder), config
        self._whole = ClipCache(folder, config)  # for its backbone
        self._detect, self._detector = detect, detector

    def __call__(self, entry: Entry, contents: FileContents) -> list[Clip]:
        """The subjects of a clip, the one that moves most first, or one clip of :data:`NOBODY`."""
        config, content = self._config, content_of(entry, contents)

        def frames() -> Iterator[ClipFrame]:
            yield from video_frames(entry.path, entry.start_s, entry.end_s)
            contents.check_unchanged(entry.path)

        about = (*made_by(), _made_by(), content, config.step_hz)
        found = None
        if VIEWS[config.view].needs_people:
            about = (*about, self._detector or _shipped_hash(), PEOPLE.hz, TrackRules())
            found = self._files.get(
                digest_of(*about, "people"), FOUND,
                lambda: find_people(frames(), config.step_hz, self._detect or shipped_detector()),
            )  # fmt: skip
        about = (*about, config.view, PEOPLE.subjects, config.spatial.size, motion_settings(config))
        followed = functools.cache(lambda: follow(frames(), config, found))
        arrays = self._files.get(digest_of(*about), FOLLOWED, lambda: followed().arrays())
        if not len(arrays["names"]):
            return [nobody(entry, content, int(arrays["steps"]))]
        seed = zlib.crc32(entry.name.encode("utf-8", "surrogateescape"))
        grids = self._files.get(
            digest_of(
                *about, weights_hash(), config.spatial.model_dump_json(), config.looks, seed
            ),
            APPEARANCE,
            lambda: appearance_of(
                followed().pictures, self._whole.network(), config.looks, seed
            ),
        )  # fmt: skip
        return clips_of(entry, content, arrays, grids)


@functools.cache
def _made_by() -> str:
    """The code that finds people and regions."""
    return code_digest(
        assignment, camera_motion, cutting, decoding, detector, following, gate, geometry, knock,
        letterbox, looking, motion, moving, regions, tracks, region_flow, find_people, follow,
        FoundPeople, SubjectSteps, Followed,
    )  # fmt: skip


@functools.cache
def _shipped_hash() -> str:
    return FileContents().of(SHIPPED / NETWORK_FILE)


def clips_of(
    entry: Entry, content: str, arrays: Mapping[str, npt.NDArray[Any]],
    grids: Mapping[str, npt.NDArray[Any]],
) -> list[Clip]:  # fmt: skip
    """A clip for each subject in the arrays of :data:`FOLLOWED` and of the backbone."""
    clips = []
    places = np.cumsum(arrays["lengths"]).tolist()
    names, starts = arrays["names"].tolist(), arrays["starts"].tolist()
    for rank, (name, start, end) in enumerate(zip(names, starts, places, strict=True)):
        own = slice(end - int(arrays["lengths"][rank]), end)
        clips.append(
            Clip(
                entry.name, 0, entry.group, entry.fold, content=content, strokes=(),
                fields=arrays["fields"][own], moving=arrays["moving"][own],
                seen=arrays["seen"][own], grid=grids["grid"][own],
                looks=grids["looks"][:, own],
                first=arrays["firsts"][rank], last=arrays["lasts"][rank],
                subject=name, start=start, steps=int(arrays["steps"]), rank=rank,
            )
        )  # fmt: skip
    return clips


def nobody(entry: Entry, content: str, steps: int) -> Clip:
    """Stands for a clip of ``steps`` steps in which nobody was found."""
    none = np.zeros((1, 1, 1), np.uint8)
    return Clip(
        entry.name, 0, entry.group, entry.fold, np.full((1, 1, 1, 2), STILL, np.uint8),
        np.zeros(1, np.bool_), np.zeros((1, 1, 1, 1), np.float16), np.zeros(1, np.bool_), none[0],
        none[0], (), np.zeros((0, 1, 1, 1, 1), np.float16), content, NOBODY, 0, steps,
    )  # fmt: skip


def computed(config: TrainConfig, cache: Path) -> Computed:
    """What makes the clips of a recipe, whatever its view."""
    return (
        whole_frames(config, cache) if config.view == WHOLE_PICTURE else SubjectCache(cache, config)
    )


def by_clip(clips: Sequence[Clip]) -> list[list[Clip]]:
    """The subjects of each clip; they are neighbours in ``clips``."""
    return [list(group) for _, group in groupby(clips, key=_which)]


def _which(clip: Clip) -> tuple[object, ...]:
    # Clips of the whole frame are each a clip, even if two have a name and a content.
    alone = id(clip) if clip.subject == WHOLE_PICTURE else None
    return clip.name, clip.content, clip.group, clip.fold, alone


def trained_on(clips: Sequence[Clip], config: TrainConfig) -> list[Clip]:
    """The clips whose label is known: in a clip of an action those of the subjects who move most;
    in a clip of background everybody's. Not those of nobody."""
    return [
        clip
        for clip in clips
        if clip.subject != NOBODY
        and (clip.rank < config.subjects or config.labels[clip.label] in config.background)
    ]


def shares(clips: Sequence[Clip]) -> list[float]:
    """What each subject counts, when all subjects of a clip together count 1."""
    return [1.0 / len(group) for group in by_clip(clips) for _ in group]
