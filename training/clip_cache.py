"""The cache of computed clips: which file holds what, and how it is read and written.

A file's name is a hash of everything that determines its arrays: the bytes of the video, the
recipe, and the code and libraries that compute them. So a clip that was replaced, another folder
with the same names, or another version of the program never gets arrays that aren't its own. Next:
:mod:`training.data`, which computes the arrays.
"""

import ast
import fcntl
import hashlib
import inspect
import logging
import textwrap
import uuid
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from training.clip_list_formats import DataError

CACHE_VERSION = 4
PARTIAL = ".partial"
DIGEST_BYTES = 16
_DAMAGED = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)

Arrays = dict[str, npt.NDArray[Any]]
Source = ModuleType | Callable[..., object] | type

log = logging.getLogger(__name__)


class _Identity(NamedTuple):
    """What changes when a file is replaced or written. The kernel alone sets ``ctime_ns``."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> "_Identity":
        about = path.stat()
        return cls(about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


class FileContents:
    """Hashes of files. One that is asked for again is read again only if it was changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[_Identity, str]] = {}

    def of(self, path: Path) -> str:
        """BLAKE2b of the file's bytes; raises :class:`DataError`."""
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        try:
            identity = _Identity.of(path)
            known = self._known.get(path)
            if known is None or known[0] != identity:
                with path.open("rb") as file:
                    known = identity, hashlib.file_digest(file, "blake2b").hexdigest()
                self._known[path] = known
        except OSError as error:
            raise DataError(f"{path}: can't be read: {error.strerror}") from None
        return known[1]

    def check_unchanged(self, path: Path) -> None:
        """Raises :class:`DataError` if the file isn't the one any more that was hashed."""
        try:
            unchanged = self._known[path][0] == _Identity.of(path)
        except OSError:
            unchanged = False
        if not unchanged:
            raise DataError(f"{path}: was changed while it was read")


def digest_of(*words: object) -> str:
    """A hash of some words and numbers."""
    return hashlib.blake2b(repr(words).encode(), digest_size=DIGEST_BYTES).hexdigest()


def code_digest(*sources: Source) -> str:
    """A hash of what the code of modules, classes and functions does.

    Comments, docstrings and layout don't count. Without the sources, only the version of the cache
    tells one version of the code from another.
    """
    trees = []
    for source in sources:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(source)))
        except (OSError, SyntaxError):
            continue
        for node in ast.walk(tree):
            _drop_docstring(node)
        trees.append(ast.dump(tree))
    return digest_of(trees)


def _drop_docstring(node: ast.AST) -> None:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        node.body = [
            part
            for part in node.body
            if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        ]


def library_versions(*names: str) -> tuple[str, ...]:
    """The versions of installed packages, and OpenCV's build with its decoders."""
    found = [digest_of(cv2.getBuildInformation())]
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(name)
    return tuple(found)


class ArrayFiles:
    """A folder of named arrays. Several processes may fill it at once.

    A file appears whole or not at all. A damaged one is computed again. A folder that can't be
    written costs only time: the arrays are computed each time, and a warning says so once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writable = True
        self._remove_abandoned()

    def get(self, name: str, keys: Sequence[str], make: Callable[[], Arrays]) -> Arrays:
        """The arrays ``keys`` of a file; computed by ``make`` and stored if it lacks them."""
        path = self._folder / f"{name}.npz"
        stored = self._read(path, keys)
        if stored is not None:
            return stored
        arrays = make()
        if self._writable:
            self._write(path, arrays)
        return arrays

    def _read(self, path: Path, keys: Sequence[str]) -> Arrays | None:
        try:
            with np.load(path) as stored:
                # Reading a member checks its CRC.
                return {key: stored[key] for key in keys}
        except FileNotFoundError:
            return None
        except _DAMAGED as error:
            if path.is_file():
                log.warning("%s: can't be read, so it is computed again: %s", path, error)
            return None

    def _write(self, path: Path, arrays: Arrays) -> None:
        unfinished = self._folder / f"{path.stem}.{uuid.uuid4().hex}{PARTIAL}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with unfinished.open("xb") as file:
                # Held while this process lives: see _remove_abandoned.
                fcntl.flock(file, fcntl.LOCK_EX)
                np.savez(file, **arrays)  # type: ignore[arg-type]
                file.flush()
                unfinished.replace(path)
        except OSError as error:
            self._writable = False
            log.warning(
                "%s: can't be written, so what is computed now isn't kept: %s",
                self._folder, error.strerror or error,
            )  # fmt: skip
        finally:
            with suppress(OSError):  # the folder may be none
                unfinished.unlink(missing_ok=True)

    def _remove_abandoned(self) -> None:
        """Remove what processes left that were killed while they wrote."""
        for path in self._folder.glob(f"*{PARTIAL}*"):
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
            except OSError:
                continue  # its process lives, or removed it just now
