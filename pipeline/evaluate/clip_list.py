"""Which clips there are and what they show: a CSV list, a folder of class folders, plain video."""

import csv
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import EvaluationError

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm"})


def shown(name: Path | str) -> str:
    """A file's name, or a message with one, as text that any output takes.

    Linux allows names that are no UTF-8; what can't be written of them becomes ``?``.
    """
    return str(name).encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True)
class Entry:
    """A clip and the label of what it shows; ``fold`` is None where the list has none."""

    path: Path
    label: str
    group: str | None = None
    fold: int | None = None
    where: str = ""
    """Where this was said, for messages: the list and its line, or the folder."""


def read(data: Path, root: Path | None = None) -> list[Entry]:
    """The clips of a CSV list or of a folder of class folders; raises :class:`EvaluationError`."""
    if data.is_dir():
        return _from_folder(data)
    return _from_list(data, root or data.parent)


def _from_list(path: Path, root: Path) -> list[Entry]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            found = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise EvaluationError(f"{path}: no such list or folder") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{path}: can't be read as a CSV list: {error}") from None
    if lacking := [name for name in ("path", "label") if name not in found]:
        raise EvaluationError(
            f"{path}: no column {' and no column '.join(map(repr, lacking))}; its first line must "
            f"name the columns path,label[,group][,fold], it has {','.join(found) or 'nothing'}"
        )
    if not rows:
        raise EvaluationError(f"{path}: lists no clip")
    return [_entry(row, root, f"{path}:{line}") for line, row in rows]


def _entry(row: dict[str, str], root: Path, where: str) -> Entry:
    for name in ("path", "label"):
        if not row[name]:
            raise EvaluationError(f"{where}: {name} is empty")
    text = row.get("fold")
    try:
        fold = int(text) if text else None
    except ValueError:
        raise EvaluationError(f"{where}: fold must be a whole number, got {text!r}") from None
    return Entry(root / row["path"], row["label"], row.get("group") or None, fold, where)


def _from_folder(folder: Path) -> list[Entry]:
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    entries = [
        Entry(path, directory.name, where=str(directory))
        for directory in classes
        for path in _videos(directory)
    ]
    if not entries:
        raise EvaluationError(
            f"{folder}: holds no class folders with videos ({', '.join(sorted(SUFFIXES))})"
        )
    return entries


def videos(path: Path) -> list[Path]:
    """A video file itself, or all those in a folder and its folders.

    Raises :class:`EvaluationError` when there is none.
    """
    if path.is_file():
        return [path]
    found = _videos(path) if path.is_dir() else []
    if not found:
        what = "holds no videos" if path.is_dir() else "no such file or folder"
        raise EvaluationError(f"{path}: {what}")
    return found


def _videos(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def negatives(path: Path, known: Sequence[str], root: Path | None = None) -> list[Path]:
    """The files of a video, a folder, or a CSV list whose clips show none of ``known`` labels.

    Raises :class:`EvaluationError` when there is none, or a clip is listed with a known label.
    """
    if path.suffix.lower() != ".csv":
        return videos(path)
    entries = _from_list(path, root or path.parent)
    for entry in entries:
        if entry.label in known:
            raise EvaluationError(
                f"{entry.where}: shows {entry.label!r}, which the pack knows; what --negatives "
                "names must show nothing that it knows (--data takes clips with labels)"
            )
    return [entry.path for entry in entries]


def check_labels(entries: Sequence[Entry], labels: Sequence[str]) -> None:
    """Raise :class:`EvaluationError` naming the labels that the pack does not have."""
    strange: dict[str, str] = {}
    for entry in entries:
        if entry.label not in labels:
            strange.setdefault(entry.label, entry.where)
    if not strange:
        return
    named = ", ".join(f"{label!r} ({where})" for label, where in strange.items())
    hint = ""
    if all(label.lstrip("-").isdecimal() for label in strange):
        hint = "; numbers, which may count from 0 or from 1, don't say which label is meant"
    elif near := difflib.get_close_matches(next(iter(strange)), labels, 1):
        hint = f"; did you mean {near[0]!r}?"
    raise EvaluationError(
        f"labels that the pack does not have: {named}; it has {', '.join(labels)}{hint}"
    )


def chosen(entries: Sequence[Entry], fold: int | None, limit: int | None) -> list[Entry]:
    """The entries of ``fold`` (None: all), at most ``limit``, taken evenly over the list.

    Raises :class:`EvaluationError` for a fold that is not there.
    """
    there = sorted({entry.fold for entry in entries if entry.fold is not None})
    if fold is not None and fold not in there:
        has = ", ".join(map(str, there)) or "no fold column"
        raise EvaluationError(f"no clip has fold {fold}; the list has {has}")
    kept = [entry for entry in entries if fold is None or entry.fold == fold]
    if limit is None or limit >= len(kept):
        return kept
    return [kept[place * len(kept) // limit] for place in range(limit)]
