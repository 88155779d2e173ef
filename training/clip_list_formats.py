"""Readers of the five formats of clip lists; each returns entries.

Next: :mod:`training.data`, which decodes the clip of an entry.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from pipeline.config.suggestion import did_you_mean
from pipeline.model.labels import normal
from training.config import ClipList, ListFormat

VIDEO_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm"}
)
NEVER_HELD_OUT = -1
NAMED_AT_MOST = 8
COLUMNS = ("path", "label", "group", "fold", "start", "end")
MAP_NAMES = ("label_map.txt", "labels.txt", "classes.txt", "classInd.txt")
UCF_SPLIT = re.compile(r"(train|test)list(\d+)\.txt$")
UCF_GROUP = re.compile(r"_(g\d+)_c\d+$")


class DataError(Exception):
    """Data that can't be used; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Entry:
    """A clip of a list: a whole file, or the part of it from ``start_s`` up to ``end_s``.

    Clips of one ``group`` (a scene, a source video) are never in two folds. Clips of fold
    :data:`NEVER_HELD_OUT` are always trained on. ``filler`` marks a part between the segments of a
    list; it may lie beyond the end of its file. ``where`` is the place that gives its label.
    """

    path: Path
    label: str
    group: str
    fold: int
    start_s: float = 0.0
    end_s: float | None = None
    filler: bool = False
    where: str = field(default="", compare=False)

    @property
    def is_whole(self) -> bool:
        return self.start_s == 0.0 and self.end_s is None

    @property
    def name(self) -> str:
        """The file's stem, followed by the seconds of a segment."""
        if self.is_whole:
            return self.path.stem
        end = "" if self.end_s is None else f"{self.end_s:g}"
        return f"{self.path.stem}@{self.start_s:g}-{end}"


class Listing(NamedTuple):
    """The entries of a list; ``has_folds`` is false if the list doesn't assign folds."""

    entries: list[Entry]
    has_folds: bool


def named(names: Iterable[str]) -> str:
    """The first few of many names, and the number of the others."""
    listed = list(names)
    more = len(listed) - NAMED_AT_MOST
    return ", ".join(listed[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def read_format(path: Path, data: Path, wanted: ClipList) -> Listing:
    """The clips of one list; raises :class:`DataError`."""
    try:
        reader = READERS[_format_of(path, wanted.format)]
        listing = reader(path, data, wanted)
    except OSError as error:
        raise DataError(f"{error.filename or path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: can't be read as a list: {error}") from None
    if not listing.entries:
        raise DataError(f"{path}: lists no clip")
    entries = [replace(entry, label=normal(entry.label)) for entry in listing.entries]
    return Listing(entries, listing.has_folds)


def _format_of(path: Path, given: ListFormat) -> str:
    if given != "auto":
        return given
    if path.is_dir():
        return "ucf101" if any(path.glob("t*list*.txt")) else "folder"
    if path.suffix == ".txt":
        return "ucf101" if UCF_SPLIT.search(path.name) else "mmaction2"
    by_suffix = {".csv": "csv", ".json": "activitynet"}
    if path.suffix not in by_suffix:
        raise DataError(
            f"{path}: can't recognise the format of this list; name its `format`: "
            + ", ".join(sorted(READERS))
        )
    return by_suffix[path.suffix]


def group_of(path: Path, label: str, otherwise: str) -> str:
    """The group of a clip named as in UCF101, else ``otherwise``.

    UCF101 cuts several clips from one video: ``v_Archery_g08_c01`` is of group 8 of Archery.
    """
    found = UCF_GROUP.search(path.stem)
    return f"{label}_{found[1]}" if found else otherwise


def _folder(path: Path, data: Path, wanted: ClipList) -> Listing:
    """A folder with a folder of clips for each label."""
    classes = sorted(x for x in path.iterdir() if x.is_dir() and not x.name.startswith("."))
    if not classes:
        raise DataError(f"{path}: has no folders; needs one for each label, with its clips")
    entries, empty = [], []
    for folder in classes:
        clips = sorted(x for x in folder.rglob("*") if x.suffix.lower() in VIDEO_SUFFIXES)
        if not clips:
            empty.append(folder.name)
        for clip in clips:
            group = group_of(clip, folder.name, str(clip.relative_to(path)))
            entries.append(Entry(clip, folder.name, group, 0, where=str(folder)))
    if empty:
        kinds = ", ".join(sorted(VIDEO_SUFFIXES))
        raise DataError(f"{path}: folders without a clip ({kinds}): {named(empty)}")
    return Listing(entries, has_folds=False)


def _csv(path: Path, data: Path, wanted: ClipList) -> Listing:
    """Columns ``path,label``; optional: ``group``, ``fold``, ``start`` and ``end`` in seconds."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        columns = list(reader.fieldnames or ())
        _check_columns(path, columns)
        entries = []
        for row in reader:
            try:
                entry = _csv_entry(row, data / wanted.videos)
                entries.append(replace(entry, where=f"{path}: line {reader.line_num}"))
            except ValueError as error:
                raise DataError(f"{path}: line {reader.line_num}: {error}") from None
    return Listing(entries, has_folds="fold" in columns)


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    """Columns of the user's own pass; a name that is nearly one of ours is refused."""
    if not {"path", "label"} <= set(columns):
        raise DataError(
            f"{path}: columns must be path, label and optionally group, fold, start, end; "
            f"got {', '.join(columns) or 'none'}"
        )
    absent = set(COLUMNS) - set(columns)
    for column in set(columns) - set(COLUMNS):
        if hint := did_you_mean(column, absent):
            raise DataError(f"{path}: column {column}{hint} If not, give it another name")


def _csv_entry(row: Mapping[str, str | None], videos: Path) -> Entry:
    if None in row or None in row.values():
        raise ValueError("wrong number of columns")
    text = {key: (value or "").strip() for key, value in row.items()}
    for column in ("path", "label"):
        if not text[column]:
            raise ValueError(f"no {column}")
    start, end = text.get("start"), text.get("end")
    return _entry(
        videos / text["path"], text["label"], text.get("group") or text["path"],
        int(text.get("fold", "0")), float(start or 0.0), float(end) if end else None,
    )  # fmt: skip


def _entry(
    path: Path, label: str, group: str, fold: int, start_s: float, end_s: float | None
) -> Entry:
    if not (start_s >= 0.0 and (end_s is None or start_s < end_s < float("inf"))):
        raise ValueError(f"must be 0 <= start < end in seconds, got {start_s:g} to {end_s}")
    if fold < NEVER_HELD_OUT:
        raise ValueError(f"fold must be 0 or more, or {NEVER_HELD_OUT}, got {fold}")
    return Entry(path, label, group, fold, start_s, end_s)


def _ucf101(path: Path, data: Path, wanted: ClipList) -> Listing:
    """UCF101's split lists: the clips of ``testlist0N.txt`` are fold N, others never held out.

    ``path`` is the folder of the lists, or one list to use its split alone.
    """
    lists = [path] if path.is_file() else sorted(path.glob("*.txt"))
    splits = sorted({found[2] for x in lists if (found := UCF_SPLIT.search(x.name))})
    folder = path.parent if path.is_file() else path
    if not splits:
        raise DataError(f"{path}: has no trainlist01.txt, testlist01.txt and so on")
    numbers = _label_map(folder, data, wanted, first=1)
    held_out: dict[str, int] = {}
    trained: set[str] = set()
    for split in splits:
        tested = _ucf_names(folder / f"testlist{split}.txt", numbers)
        train = _ucf_names(folder / f"trainlist{split}.txt", numbers)
        if both := sorted({*tested} & {*train}):
            raise DataError(
                f"{folder}: in both the train and the test list of split {split}: {named(both)}"
            )
        if both := sorted(held_out.keys() & tested):
            raise DataError(f"{folder}: in the test lists of two splits: {named(both)}")
        held_out |= dict.fromkeys(tested, int(split))
        trained |= {*train}
    videos = data / wanted.videos
    entries = []
    for name in sorted({*held_out} | trained):
        label = name.split("/")[0]
        group = group_of(Path(name), label, name)
        fold = held_out.get(name, NEVER_HELD_OUT)
        entries.append(Entry(videos / name, label, group, fold, where=f"{folder}: {name}"))
    return Listing(entries, has_folds=True)


def _ucf_names(path: Path, numbers: Mapping[int, str]) -> list[str]:
    """The ``Class/clip.avi`` of a list; checks its class, and its number if it has one."""
    names = []
    for line, text in _lines(path):
        name, _, number = text.partition(" ")
        label = name.split("/")[0]
        if "/" not in name or label not in numbers.values():
            raise DataError(f"{path}: line {line}: {name}: its class isn't in classInd.txt")
        if number and numbers.get(_whole_number(path, line, number)) != label:
            raise DataError(
                f"{path}: line {line}: {name}: number {number} isn't the number of {label}"
            )
        names.append(name)
    return names


def _mmaction2(path: Path, data: Path, wanted: ClipList) -> Listing:
    """mmaction2's lists: lines ``path number``, with numbers of labels from 0."""
    names = _label_map(path.parent, data, wanted, first=0)
    entries, seen = [], set()
    for line, text in _lines(path):
        clip, _, number = text.rpartition(" ")
        if not clip:
            raise DataError(f"{path}: line {line}: must be `path number`, got {text!r}")
        label = _whole_number(path, line, number)
        if re.search(r" \d+$", clip):
            raise DataError(
                f"{path}: line {line}: three columns mean a list of frame folders; only lists of "
                "videos are read"
            )
        seen.add(label)
        group = group_of(Path(clip), names.get(label, ""), clip)
        video, name = data / wanted.videos / clip, names.get(label, str(label))
        entries.append(Entry(video, name, group, 0, where=f"{path}: line {line}"))
    _check_numbers(path, seen, names)
    return Listing(entries, has_folds=False)


def _check_numbers(path: Path, seen: set[int], names: Mapping[int, str]) -> None:
    if unknown := sorted(seen - names.keys()):
        if 0 not in seen and unknown == [max(names) + 1]:
            raise DataError(
                f"{path}: labels go from {min(seen)} to {unknown[0]}, counted from 1; "
                f"must be 0 to {max(names)}"
            )
        raise DataError(f"{path}: labels {named(map(str, unknown))} aren't in the label map")


def _whole_number(path: Path, line: int, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{path}: line {line}: must be a label's number, got {text!r}") from None


def _lines(path: Path) -> list[tuple[int, str]]:
    """(line number, text) of the lines that aren't empty."""
    lines = enumerate(path.read_text("utf-8-sig").splitlines(), 1)
    return [(number, text.strip()) for number, text in lines if text.strip()]


def _label_map(beside: Path, data: Path, wanted: ClipList, first: int) -> dict[int, str]:
    """Number -> label, numbers from ``first``, of a file with one label per line.

    Lines may begin with numbers of their own, from 0 or 1; these only order the labels.
    """
    path = data / wanted.label_map if wanted.label_map else _map_beside(beside)
    rows = [text for _, text in _lines(path)]
    if not rows:
        raise DataError(f"{path}: lists no label")
    pairs = [found for row in rows if (found := re.fullmatch(r"(\d+)\s+(\S.*)", row))]
    if len(pairs) == len(rows):
        numbered = sorted((int(pair[1]), pair[2]) for pair in pairs)
        numbers, rows = [x for x, _ in numbered], [label for _, label in numbered]
        if numbers not in (list(range(len(rows))), list(range(1, len(rows) + 1))):
            raise DataError(f"{path}: labels must be numbered from 0 or 1 without gaps")
    if twice := [label for label, count in Counter(rows).items() if count > 1]:
        raise DataError(f"{path}: labels listed more than once: {named(twice)}")
    return dict(enumerate(rows, first))


def _map_beside(folder: Path) -> Path:
    maps = [x for name in (*MAP_NAMES, "label_map_*.txt") for x in sorted(folder.glob(name))]
    if len(maps) != 1:
        found = "has " + " and ".join(x.name for x in maps) if maps else "has none of them"
        raise DataError(
            f"{folder}: must have exactly one of {', '.join(MAP_NAMES)} beside the list, unless "
            f"`label_map` names the file; it {found}"
        )
    return maps[0]


def _activitynet(path: Path, data: Path, wanted: ClipList) -> Listing:
    """ActivityNet's JSON: segments of untrimmed videos; each video is a group.

    If there are several subsets, the ones called training are never held out, and each of the
    others is a fold.
    """
    try:
        database = json.loads(path.read_text("utf-8"))["database"]
        subsets = {video: str(about["subset"]) for video, about in database.items()}
        filled = {subsets[video] for video, about in database.items() if about.get("annotations")}
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    except (KeyError, TypeError, AttributeError):
        shape = '{"database": {video: {"subset", "annotations": [{"segment", "label"}]}}}'
        raise DataError(f"{path}: must be of the form {shape}") from None
    held_out = sorted(x for x in filled if not x.lower().startswith("train"))
    folds = {subset: fold for fold, subset in enumerate(held_out)}
    files = _by_stem(data / wanted.videos)
    entries: dict[Entry, None] = {}
    for video, about in database.items():
        clip = files.get(video) or files.get(f"v_{video}") or data / wanted.videos / video
        fold = folds.get(subsets[video], NEVER_HELD_OUT)
        try:
            for part in about.get("annotations") or ():
                start_s, end_s = map(float, part["segment"])
                # A dictionary drops duplicates: annotators marked some segments twice.
                entry = _entry(clip, str(part["label"]), video, fold, start_s, end_s)
                entries[replace(entry, where=f"{path}: {video}")] = None
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: {video}: not a segment and its label: {error}") from None
    return Listing([*entries], has_folds=len(filled) > 1)


def _by_stem(folder: Path) -> dict[str, Path]:
    files = sorted(folder.rglob("*"))
    return {x.stem: x for x in files if x.suffix.lower() in VIDEO_SUFFIXES}


READERS: dict[str, Callable[[Path, Path, ClipList], Listing]] = {
    "folder": _folder,
    "csv": _csv,
    "ucf101": _ucf101,
    "mmaction2": _mmaction2,
    "activitynet": _activitynet,
}
