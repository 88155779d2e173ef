"""Clips that are recorded: whole under their name, or not there at all."""

import os
import re
from contextlib import suppress
from pathlib import Path

import av
import av.error

from pipeline.arrays import Frame, picture_size
from pipeline.errors import os_reason
from pipeline.evidence.clip import Encoder
from pipeline.model.labels import alike, checked
from pipeline.pictures import small_bgr
from teach.pack import TeachError

CRF = 20
"""The head learns from these pictures, so they are better than those of evidence."""
SUFFIX = ".mp4"


def label_folder(clips: Path, label: str) -> Path:
    """The folder of a label's clips, which need not exist.

    Raises :class:`TeachError` for a label that packs can't have, or that looks like another's.
    """
    try:
        name = checked(label)
    except ValueError as error:
        raise TeachError(f"--record: {error}") from None
    folder = clips / name
    if not folder.exists() and clips.is_dir():
        for other in clips.iterdir():
            if other.is_dir() and alike(other.name) == alike(name):
                raise TeachError(
                    f"--record {name}: {clips} has {other.name}, which looks the same; use that"
                )
    return folder


def next_path(folder: Path) -> Path:
    """``LABEL_N.mp4``, one more than the largest number in the folder."""
    pattern = re.compile(re.escape(folder.name) + r"_(\d+)")
    names = [path.stem for path in folder.iterdir()] if folder.is_dir() else []
    taken = [int(found[1]) for name in names if (found := pattern.fullmatch(name))]
    return folder / f"{folder.name}_{max(taken, default=0) + 1}{SUFFIX}"


class ClipFile:
    """A clip that is written aside. :meth:`keep` gives it its name, :meth:`drop` deletes it.

    All methods raise :class:`TeachError` when the file can't be written, and leave none behind.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = not folder.exists()
        # Lists of clips take files by their suffix; this one isn't theirs yet.
        self._aside = folder / f".recording-{os.getpid()}"
        self._size: tuple[int, int] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._container = av.open(
                str(self._aside), "w", format="mp4", options={"movflags": "faststart"}
            )
        except (av.error.FFmpegError, OSError) as error:
            raise self._failed(error) from None
        self._encoder = Encoder(self._container, CRF)

    def add(self, time_ns: int, frame: Frame) -> None:
        """Encode a picture. If the camera changes its size, the first one's stays."""
        size = picture_size(frame.shape)
        self._size = self._size or size
        picture = frame if size == self._size else small_bgr(frame, self._size)
        try:
            self._encoder.add(time_ns, picture)
        except (av.error.FFmpegError, OSError) as error:
            raise self._failed(error) from None

    def keep(self) -> Path:
        """Finish the file, and give it the next free name."""
        try:
            self._encoder.finish()
            self._container.close()
            with self._aside.open("rb") as file:
                os.fsync(file.fileno())
            path = next_path(self._folder)
            self._aside.replace(path)
        except (av.error.FFmpegError, OSError) as error:
            raise self._failed(error) from None
        return path

    def drop(self) -> None:
        """Delete what was written, and the folder if it was made for it and holds nothing."""
        with suppress(av.error.FFmpegError, OSError, AttributeError):
            self._container.close()
        with suppress(OSError):
            self._aside.unlink(missing_ok=True)
        if self._made:
            with suppress(OSError):
                self._folder.rmdir()

    def _failed(self, error: Exception) -> TeachError:
        self.drop()
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        return TeachError(
            f"{self._folder}: the clip can't be written: {reason}; clips that were kept before "
            "are whole"
        )
