"""Finds clips and their labels: a CSV list, a folder of class folders, or videos without labels."""

import csv
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import EvaluationError
from pipeline.model.labels import RULE, alike, normal, problem_of

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm"})


def shown(name: Path | str) -> str:
    """Return a file's name, or a message with one, as text that any output accepts.

    Linux allows names that aren't UTF-8; the bytes that can't be written become ``?``.
    """
    return str(name).encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True)
class Entry:
    """A clip and its label; ``fold`` is None where the list has none."""

    path: Path
    label: str
    group: str | None = None
    fold: int | None = None
    where: str = ""
    """Where the entry comes from, for messages: the list and its line, or the folder."""


def read(data: Path, root: Path | None = None) -> list[Entry]:
    """Read a CSV list or a folder of class folders; raises :class:`EvaluationError`."""
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
    if missing := [name for name in ("path", "label") if name not in found]:
        raise EvaluationError(
            f"{path}: no column {' and no column '.join(map(repr, missing))}; its first line must "
            f"name the columns path,label[,group][,fold], but has {','.join(found) or 'nothing'}"
        )
    if not rows:
        raise EvaluationError(f"{path}: lists no clip")
    return [_entry(row, root, f"{path}:{line}") for line, row in rows]


def _entry(row: dict[str, str], root: Path, where: str) -> Entry:
    for name in ("path", "label"):
        if not (row[name] or "").strip():
            raise EvaluationError(f"{where}: {name} is empty")
    text = row.get("fold")
    try:
        fold = int(text) if text else None
    except ValueError:
        raise EvaluationError(f"{where}: fold must be a whole number, got {text!r}") from None
    label = normal(row["label"].strip())
    return Entry(root / row["path"], label, row.get("group") or None, fold, where)


def _from_folder(folder: Path) -> list[Entry]:
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    entries = [
        Entry(path, normal(directory.name), where=str(directory))
        for directory in classes
        for path in _videos(directory)
    ]
    if not entries:
        raise EvaluationError(
            f"{folder}: holds no class folders with videos ({', '.join(sorted(SUFFIXES))})"
        )
    return entries


def videos(path: Path) -> list[Path]:
    """List a video file itself, or all videos in a folder and its subfolders.

    Raises :class:`EvaluationError` when it finds no video.
    """
    if path.is_file():
        return [path]
    found = _videos(path) if path.is_dir() else []
    if not found:
        problem = "holds no videos" if path.is_dir() else "no such file or folder"
        raise EvaluationError(f"{path}: {problem}")
    return found


def _videos(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def negatives(path: Path, known: Sequence[str], root: Path | None = None) -> list[Path]:
    """List a video, the videos of a folder, or the clips of a CSV list without ``known`` labels.

    Raises :class:`EvaluationError` when it finds none, or when the list has a known label.
    """
    if path.suffix.lower() != ".csv":
        return videos(path)
    entries = _from_list(path, root or path.parent)
    for entry in entries:
        if entry.label in known:
            raise EvaluationError(
                f"{entry.where}: shows {entry.label!r}, which the pack knows; footage for "
                "--negatives must show no action of the pack (use --data for clips with labels)"
            )
    return [entry.path for entry in entries]


def check_labels(entries: Sequence[Entry], labels: Sequence[str]) -> None:
    """Raise :class:`EvaluationError` that names the labels that the pack does not have."""
    unknown: dict[str, str] = {}  # and where each first occurs
    for entry in entries:
        if entry.label not in labels:
            unknown.setdefault(entry.label, entry.where)
    if not unknown:
        return
    named = ", ".join(f"{label!r} ({where})" for label, where in unknown.items())
    hint = ""
    first = next(iter(unknown))
    meant = {alike(label): label for label in labels}.get(alike(first))
    if meant is not None:
        hint = f"; write {meant!r}"
    elif all(label.lstrip("-").isdecimal() for label in unknown):
        hint = "; use names, because numbers may count from 0 or from 1"
    elif near := difflib.get_close_matches(first, labels, 1):
        hint = f"; did you mean {near[0]!r}?"
    elif problem := problem_of(first):
        hint = f"; {first!r} {problem}: {RULE}"
    raise EvaluationError(
        f"labels that the pack does not have: {named}; it has {', '.join(labels)}{hint}"
    )


def chosen(entries: Sequence[Entry], fold: int | None, limit: int | None) -> list[Entry]:
    """The entries of ``fold`` (None: all), at most ``limit``, taken evenly over the list.

    Raises :class:`EvaluationError` for a fold that no entry has.
    """
    folds = sorted({entry.fold for entry in entries if entry.fold is not None})
    if fold is not None and fold not in folds:
        known = ", ".join(map(str, folds)) or "no fold column"
        raise EvaluationError(f"no clip has fold {fold}; the list has {known}")
    kept = [entry for entry in entries if fold is None or entry.fold == fold]
    if limit is None or limit >= len(kept):
        return kept
    return [kept[place * len(kept) // limit] for place in range(limit)]
