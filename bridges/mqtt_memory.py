"""What the MQTT bridge must remember over a restart: which actions go on, and what it announced.

The broker keeps retained messages. What was retained while the bridge stood still may have become
wrong; from this file it knows what it has to set right.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from bridges import durable
from pipeline.public.records import Event

FORMAT = "two-stream mqtt memory 1"
MOST_OPEN = 10_000
"""Actions that go on at once; a program that loses the ends of more is beyond belief."""
MOST_LABELS = 500
_MAX_BYTES = 16_000_000


class Open(msgspec.Struct, frozen=True):
    """An action that goes on."""

    log: str
    seq: int
    """Of its newest event."""
    camera: str
    label: str


class Picture(msgspec.Struct, frozen=True):
    """The snapshot that is retained for a camera."""

    log: str
    id: str
    path: str
    sha256: str


class _Content(msgspec.Struct):
    format: str = FORMAT
    open: dict[str, Open] = {}
    cameras: dict[str, list[str]] = {}
    pictures: dict[str, Picture] = {}


class Memory:
    """Kept in a file, which :meth:`save` writes when something has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: str | None = None
        """Why the file couldn't be used; the bridge goes on without it."""
        self._changed = False
        self._content = self._read()

    @property
    def cameras(self) -> Collection[str]:
        """The cameras that were announced."""
        return self._content.cameras.keys()

    def labels(self, camera: str) -> list[str]:
        """The actions that were seen at a camera."""
        return self._content.cameras.get(camera, [])

    def meet(self, camera: str, label: str | None = None) -> bool:
        """Remember a camera and its label; whether that is new."""
        is_new = camera not in self._content.cameras
        labels = self._content.cameras.setdefault(camera, [])
        if label is not None and label not in labels and len(labels) < MOST_LABELS:
            labels.append(label)
            is_new = True
        self._changed |= is_new
        return is_new

    def forget(self, camera: str) -> None:
        """The camera is gone."""
        content = self._content
        content.cameras.pop(camera, None)
        content.pictures.pop(camera, None)
        content.open = {name: o for name, o in content.open.items() if o.camera != camera}
        self._changed = True

    def take(self, event: Event) -> None:
        """Take in an event: its action goes on, or has ended."""
        if event.type == "end":
            self._changed |= self._content.open.pop(event.id, None) is not None
            return
        before = self._content.open.pop(event.id, None)
        self._content.open[event.id] = Open(event.log, event.seq, event.camera, event.label)
        # An update changes nothing that a restart would miss, and comes often.
        self._changed |= before is None
        while len(self._content.open) > MOST_OPEN:
            del self._content.open[next(iter(self._content.open))]

    def goes_on(self, camera: str, label: str) -> bool:
        return any(o.camera == camera and o.label == label for o in self._content.open.values())

    def settle(self, log: str, seq: int, ids: Collection[str]) -> Iterator[Open]:
        """Drop the actions whose end will never come, and yield them.

        In ``log``, after the event ``seq``, the actions ``ids`` went on and no others. Actions of
        another log have no end any more: its program runs with this one now.
        """
        for name, action in list(self._content.open.items()):
            if action.log != log or (action.seq <= seq and name not in ids):
                del self._content.open[name]
                self._changed = True
                yield action

    def other_logs(self, log: str) -> Iterator[Open]:
        """Drop the actions of other logs than this one, and yield them."""
        return self.settle(log, -1, ())

    def picture(self, camera: str) -> Picture | None:
        return self._content.pictures.get(camera)

    def keep_picture(self, camera: str, picture: Picture) -> None:
        """This snapshot is retained now."""
        self._content.pictures[camera] = picture
        self._changed = True

    def drop_picture(self, camera: str) -> None:
        self._changed |= self._content.pictures.pop(camera, None) is not None

    def save(self) -> None:
        """Write the file if something has changed; raises OSError."""
        if self._changed:
            durable.write(self.path, msgspec.json.encode(self._content))
            self._changed = False

    def _read(self) -> _Content:
        try:
            with self.path.open("rb") as file:
                content = msgspec.json.decode(file.read(_MAX_BYTES), type=_Content)
        except FileNotFoundError:
            return _Content()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.problem = str(error)
            return _Content()
        if content.format != FORMAT:
            self.problem = "another version of the program wrote it"
            return _Content()
        return content
