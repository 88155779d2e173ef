"""Makes the files of a task: clips and pictures, painted over where the config asks for it."""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av.error
import msgspec

from pipeline.arrays import Frame, picture_size
from pipeline.clock import NS_PER_S, isoformat
from pipeline.config import CameraConfig
from pipeline.config.evidence import EvidenceConfig
from pipeline.evidence import pictures
from pipeline.evidence.actions import Task
from pipeline.evidence.clip import NoClip, Paint, shown, write_clip
from pipeline.evidence.feed import Run
from pipeline.evidence.store import EvidenceStore
from pipeline.people.detector import PersonDetector
from pipeline.steps.ignore_mask import IgnoreMask
from pipeline.transport.messages import Box, EvidenceKind, EvidenceMade

LOOK_NS = NS_PER_S // 10
"""People are looked for this often in what is made unrecognisable."""
FAINT = 0.2
"""Scores from which somebody counts as a person there: too many rather than one too few."""
MOTION_NS = NS_PER_S // 10
"""The motion picture shows what moved in about this time before the best moment."""

NOTHING_KEPT = (
    "nothing is kept of that time: the camera was away, the program was stopped, or it is too "
    "long ago"
)

log = logging.getLogger(__name__)


class Renderer:
    """Makes evidence of tasks; one thread uses it. Never raises: what can't be made is lost."""

    def __init__(
        self,
        settings: EvidenceConfig,
        store: EvidenceStore,
        detector_folder: Path,
    ) -> None:
        self._settings, self._store = settings, store
        self._detector_folder = detector_folder
        self._detector: PersonDetector | None = None

    def render(self, task: Task, runs: Sequence[Run], camera: CameraConfig) -> list[EvidenceMade]:
        """The records of what was made, and of what is lost."""
        kinds = self.kinds(task)
        if not runs:
            return [lost(task, kind, NOTHING_KEPT) for kind in kinds]
        made: list[EvidenceMade] = []
        try:
            steps = self._clips if task.work == "clip" else self._pictures
            made.extend(steps(task, runs, camera))
        except NoClip as error:
            reason = str(error)
        except av.error.FFmpegError as error:
            reason = error.strerror or str(error)
        except (OSError, sqlite3.Error, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        else:
            return made
        missing = [kind for kind in kinds if kind not in {one.kind for one in made}]
        log.warning("camera %s: no %s: %s", task.event.camera, " and ".join(missing), reason)
        return [*made, *(lost(task, kind, reason) for kind in missing)]

    def kinds(self, task: Task) -> list[EvidenceKind]:
        """What is made in a task."""
        if task.work == "clip":
            return ["clip"]
        kinds: list[EvidenceKind] = []
        if "snapshot" in self._settings.kinds:
            kinds += ["snapshot", "clean"]
        return [*kinds, "motion"] if "motion" in self._settings.kinds else kinds

    def _clips(
        self, task: Task, runs: Sequence[Run], camera: CameraConfig
    ) -> Iterator[EvidenceMade]:
        """A clip of each stream: a camera that came back may send in another form."""
        for place, (form, pieces) in enumerate(runs):
            # Parts after a break are numbered beside those that come after a time.
            part = task.part if place == 0 else task.part * 100 + place
            paint = self._paint(camera)

            def write(path: Path, run: Run = (form, pieces), paint: Paint | None = paint) -> Any:
                clip = write_clip(path, *run, paint)
                return {
                    **_times(task, clip.first_ns, clip.last_ns),
                    "codec": clip.codec, "encoded": clip.encoded, "size": clip.size,
                    "reason": _told(clip.codec, clip.encoded, camera, self._settings),
                }  # fmt: skip

            record = _record(task, "clip", "video/mp4", part)
            yield self._store.put(record, f".{part}.mp4", write)

    def _pictures(
        self, task: Task, runs: Sequence[Run], camera: CameraConfig
    ) -> Iterator[EvidenceMade]:
        """The best moment with and without marks, and its motion."""
        before, best, best_ns = _frames_at(task, runs)
        paint = self._paint(camera)
        if paint is not None:
            before, best = paint(before, best_ns - MOTION_NS), paint(best, best_ns)
        picture = pictures.as_bgr(best)
        drawn: dict[EvidenceKind, Callable[[], pictures.Picture]] = {
            "snapshot": lambda: pictures.snapshot(picture, task.event),
            "clean": lambda: picture,
            "motion": lambda: pictures.motion(before, best, task.event),
        }
        for kind in self.kinds(task):
            image = drawn[kind]()

            def write(path: Path, image: pictures.Picture = image) -> Any:
                path.write_bytes(pictures.jpeg(image))
                size = picture_size(image.shape)
                return {**_times(task, best_ns, best_ns), "codec": "jpeg", "size": size}

            record = _record(task, kind, "image/jpeg")
            suffix = f".{task.event.seq}.{kind}.jpg"
            yield self._store.put(record, suffix, write)

    def _paint(self, camera: CameraConfig) -> Paint | None:
        """What paints over a camera's pictures; None: nothing has to be."""
        mask = IgnoreMask(camera.ignore, black=True)
        if self._settings.pixelate:
            if self._detector is None:
                self._detector = PersonDetector(self._detector_folder, FAINT)
            return _Pixelated(self._detector, mask)
        if not mask:
            return None

        def paint(frame: Frame, _time_ns: int) -> Frame:
            mask.paint(frame)
            return frame

        return paint


class _Pixelated:
    """Makes the people in a clip unrecognisable. Call it with its pictures in order."""

    def __init__(self, detector: PersonDetector, mask: IgnoreMask) -> None:
        self._detector, self._mask = detector, mask
        self._looked_ns: int | None = None
        self._boxes: list[Box] = []
        self._before: list[Box] = []

    def __call__(self, frame: Frame, time_ns: int) -> Frame:
        if self._looked_ns is None or abs(time_ns - self._looked_ns) >= LOOK_NS:
            people = self._detector(frame)
            # Those of the look before too: people move on between two looks.
            self._before, self._boxes = self._boxes, [tuple(p[:4].tolist()) for p in people]
            self._looked_ns = time_ns
        picture = pictures.as_bgr(frame)
        pictures.pixelate(picture, [*self._before, *self._boxes])
        self._mask.paint(picture)
        return picture


def _frames_at(task: Task, runs: Sequence[Run]) -> tuple[Frame, Frame, int]:
    """A picture a little before the best moment, the picture of that moment, and its time."""
    near: list[tuple[int, Callable[[], Frame]]] = []
    for form, pieces in runs:
        for time_ns, picture in shown(form, pieces):
            near.append((time_ns, picture))
            # The newest picture up to what the motion needs goes on being needed.
            while len(near) > 1 and near[1][0] <= task.best_ns - MOTION_NS:
                near.pop(0)
            if time_ns > task.best_ns + MOTION_NS:
                break
    if not near:
        raise NoClip("no picture could be decoded")
    best_ns, best = min(near, key=lambda one: abs(one[0] - task.best_ns))
    _, before = min(near, key=lambda one: abs(one[0] - (best_ns - MOTION_NS)))
    return before(), best(), best_ns


def lost(task: Task, kind: EvidenceKind, reason: str) -> EvidenceMade:
    """The record that says that there is no such file, and won't be."""
    record = _record(task, kind, None, task.part)
    return msgspec.structs.replace(record, state="lost", reason=reason)


def _record(task: Task, kind: EvidenceKind, media_type: str | None, part: int = 1) -> EvidenceMade:
    event = task.event
    return EvidenceMade(
        id=event.id, seq=event.seq, camera=event.camera, label=event.label, kind=kind,
        state="ready", part=part, media_type=media_type,
    )  # fmt: skip


def _times(task: Task, first_ns: int, last_ns: int) -> dict[str, Any]:
    wall = [isoformat(ns + task.offset_ns) for ns in (first_ns, last_ns)]
    return {"first_time": wall[0], "last_time": wall[1]}


def _told(codec: str, encoded: bool, camera: CameraConfig, settings: EvidenceConfig) -> str | None:
    """What is worth saying of a clip."""
    if codec == "hevc":
        return "H.265, which not every browser plays; set the camera to H.264 for one that all do"
    if encoded and settings.pixelate:
        return "encoded again, because people are made unrecognisable"
    if encoded and camera.ignore:
        return "encoded again, because parts of the picture are ignored"
    return None
