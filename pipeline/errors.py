"""Errors that reach a user, and the exit codes of the program.

Each message names what is wrong, where (key, file, camera, address), and what would be right; none
holds a secret. ``run_stream.py`` and a stage's process catch :class:`TwoStreamError` once each and
end with its :attr:`~TwoStreamError.exit_code`.
"""

import errno
import sys
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

EXIT_OK, EXIT_USAGE, EXIT_NO_SOURCE, EXIT_STAGE = 0, 2, 3, 4
"""Done or stopped; bad usage or config; no source could be opened; a stage, or the program itself,
kept failing."""

SourceErrorKind = Literal["not_found", "unreadable", "unreachable", "unauthorised", "stalled"]


PLACES_SHOWN = 6
"""Calls that :func:`in_one_line` names, the innermost first."""


class TwoStreamError(Exception):
    """An error with a message for the user; ends the program with :attr:`exit_code`."""

    exit_code: ClassVar[int] = EXIT_USAGE


class ConfigError(TwoStreamError):
    """A config that can't be used; one line per problem, each names its key."""


class PackError(TwoStreamError):
    """A model pack that can't be used; names the pack, the file and the reason."""


class BusError(TwoStreamError):
    """A socket that can't be bound or connected; names the endpoint and the reason."""


class KeysError(TwoStreamError):
    """Keys that can't be read or made; names the file and shows no secret."""


class EventLogError(TwoStreamError):
    """An event log that can't be opened or written; names the file and the reason."""


class RecordingError(TwoStreamError):
    """A recording that can't be made or read; names the file and the reason."""


class FeatureMemoryError(TwoStreamError):
    """A memory of features that can't be written or read; names the file and the reason."""


class ReviewError(TwoStreamError):
    """Reviews that can't be written or read; names the file or line, and the reason."""


class MissingPackageError(TwoStreamError):
    """A package of an extra that isn't installed; says how to install it."""


@contextmanager
def needs_extra(extra: str, packages: Collection[str]) -> Iterator[None]:
    """Around what imports ``packages``, the names that ``extra`` of two-stream installs.

    Raises :class:`MissingPackageError` if one of them isn't there.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        # Another missing module is a fault of the program, not of its installation.
        if name not in packages:
            raise
        raise MissingPackageError(f"{name} is missing: pip install 'two-stream[{extra}]'") from None


@contextmanager
def ends_with_errors(exit_code: int | None = None) -> Iterator[None]:
    """Around a command: what goes wrong is a line for each problem on standard error.

    The program then ends with ``exit_code``, by default the error's own.
    """
    try:
        yield
    except TwoStreamError as error:
        for line in str(error).splitlines():
            # Linux allows file names that aren't UTF-8.
            print(f"error: {line.encode('utf-8', 'replace').decode()}", file=sys.stderr)
        raise SystemExit(error.exit_code if exit_code is None else exit_code) from None


class EvaluationError(TwoStreamError):
    """Clips or footage that can't be evaluated; says where and what would be right."""


class StartupError(TwoStreamError):
    """A stage can't start, and another try would not help."""


class RingError(TwoStreamError):
    """A ring that can't be made or attached; names it and the reason."""

    exit_code = EXIT_STAGE


class RingGone(RingError):
    """The ring was unlinked: its writer has opened another."""


class SourceError(TwoStreamError):
    """A source that can't be opened or read. The message holds no password.

    ``permanent`` means that another try can't help: the file doesn't exist or is no video.
    ``reason`` is the end of the message, which doesn't name the camera.
    """

    exit_code = EXIT_NO_SOURCE

    def __init__(
        self, message: str, *, kind: SourceErrorKind, permanent: bool = False, reason: str = ""
    ) -> None:
        super().__init__(message)
        self.reason = reason or message
        self.kind: SourceErrorKind = kind
        self.permanent = permanent


def in_one_line(error: BaseException) -> str:
    """What went wrong and where, without a traceback.

    ``KeyError: 'door' (fusion.py:88 in work < stage_process.py:40 in run_loop)``. A
    :class:`TwoStreamError` says all that in its own words.
    """
    text = " ".join(str(error).split())
    if isinstance(error, TwoStreamError):
        return text
    frames = reversed(traceback.extract_tb(error.__traceback__)[-PLACES_SHOWN:])
    places = " < ".join(f"{Path(f.filename).name}:{f.lineno} in {f.name}" for f in frames)
    kind = type(error).__name__
    return f"{kind}: {text}" + (f" ({places})" if places else "")


def os_reason(error: OSError) -> str:
    """The reason in words, without number and file name: ``Read-only file system``."""
    limit = " (ulimit -f, LimitFSIZE=)" if error.errno == errno.EFBIG else ""
    return (error.strerror or str(error)) + limit
