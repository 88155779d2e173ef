"""Lists of clips: the file, label, time segment, group and fold of each clip.

If a list has no folds, they are made from its groups. Next: the readers of the formats,
:mod:`training.clip_list_formats`, then decoding, :mod:`training.data`.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from training.clip_list_formats import (
    NEVER_HELD_OUT,
    DataError,
    Entry,
    Listing,
    named,
    read_format,
)
from training.config import ClipList

FOLD_SEED = 0
SHORTEST_BETWEEN_S = 1.0
LONGEST_BETWEEN_S = 10.0


def as_clip_list(source: str | ClipList) -> ClipList:
    """Expand ``clips: gestures.csv``, which is short for ``clips: {path: gestures.csv}``."""
    return ClipList(path=source) if isinstance(source, str) else source


def read_list(data: Path, source: str | ClipList) -> list[Entry]:
    """The clips of a list in the folder ``data``; raises :class:`DataError` with file and reason.

    Videos aren't opened: a missing one is noticed when it is decoded.
    """
    wanted = as_clip_list(source)
    path = data / wanted.path
    listing, other = read_format(path, data, wanted), []
    if wanted.held_out is not None:
        other = read_format(data / wanted.held_out, data, wanted).entries
    groups = {entry.group for entry in (*listing.entries, *other)}
    left_out = _left_out(path, groups, wanted.leave_out)
    listing = listing._replace(entries=_without(listing.entries, left_out))
    entries = _with_folds(listing, wanted)
    if wanted.held_out is not None:
        entries = [replace(entry, fold=NEVER_HELD_OUT) for entry in entries]
        entries += [replace(entry, fold=0) for entry in _without(other, left_out)]
    _check_entries(path, entries)
    if wanted.between is not None:
        return [*entries, *_between(entries, wanted.between)]
    return entries


def _left_out(path: Path, groups: set[str], patterns: Sequence[str]) -> set[str]:
    """The groups that match a pattern; raises DataError for a pattern that matches none, and where
    no group is left."""
    found = {pattern: {x for x in groups if fnmatchcase(x, pattern)} for pattern in patterns}
    if unused := [pattern for pattern, matched in found.items() if not matched]:
        raise DataError(
            f"{path}: leave_out: no group matches {named(unused)}; "
            f"the groups are {named(sorted(groups))}"
        )
    left_out = set[str]().union(*found.values())
    if left_out and left_out == groups:
        raise DataError(f"{path}: leave_out: no group is left")
    return left_out


def _without(entries: Sequence[Entry], groups: set[str]) -> list[Entry]:
    return [entry for entry in entries if entry.group not in groups]


def _check_entries(path: Path, entries: Sequence[Entry]) -> None:
    times = Counter((entry.path, entry.start_s, entry.end_s) for entry in entries)
    if twice := [str(key[0]) for key, count in times.items() if count > 1]:
        raise DataError(f"{path}: listed more than once: {named(twice)}")
    folds: dict[str, set[int]] = defaultdict(set)
    for entry in entries:
        folds[entry.group].add(entry.fold)
    if split := [f"{group} (folds {sorted(has)})" for group, has in folds.items() if len(has) > 1]:
        raise DataError(
            f"{path}: groups in more than one fold (all clips of a group must be in one): "
            f"{named(split)}"
        )


def _with_folds(listing: Listing, wanted: ClipList) -> list[Entry]:
    """Entries with the list's folds, or with folds that keep groups whole and spread labels evenly.

    The same groups and labels give the same folds, whatever the order of the list.
    """
    if listing.has_folds or wanted.held_out is not None:
        return listing.entries
    entries = sorted(listing.entries, key=lambda entry: (str(entry.path), entry.start_s))
    labels, groups = [x.label for x in entries], [x.group for x in entries]
    # The library refuses more folds than the commonest label has clips; for rarer labels it warns.
    count = min(wanted.folds, len({*groups}), max(Counter(labels).values()))
    folds = dict.fromkeys(groups, 0)
    if count > 1:
        from sklearn.model_selection import StratifiedGroupKFold

        split = StratifiedGroupKFold(count, shuffle=True, random_state=FOLD_SEED)
        with warnings.catch_warnings(category=UserWarning, action="ignore"):
            for fold, (_, held_out) in enumerate(split.split(labels, labels, groups)):
                folds |= {groups[i]: fold for i in held_out}
    return [replace(entry, fold=folds[entry.group]) for entry in entries]


def _between(entries: Sequence[Entry], label: str) -> Iterator[Entry]:
    """What no segment of a file covers, in pieces of at most :data:`LONGEST_BETWEEN_S`.

    The lists don't say where a file ends, so one piece after the last segment is tried.
    """
    files: dict[Path, list[Entry]] = defaultdict(list)
    for entry in entries:
        files[entry.path].append(entry)
    for segments in files.values():
        segments.sort(key=lambda entry: entry.start_s)
        at = 0.0
        for entry in segments:
            yield from _pieces(entry, label, at, entry.start_s)
            at = float("inf") if entry.end_s is None else max(at, entry.end_s)
        if at < float("inf"):
            yield from _pieces(segments[-1], label, at, at + LONGEST_BETWEEN_S)


def _pieces(like: Entry, label: str, start_s: float, end_s: float) -> Iterator[Entry]:
    while end_s - start_s >= SHORTEST_BETWEEN_S:
        stop = min(end_s, start_s + LONGEST_BETWEEN_S)
        yield replace(like, label=label, start_s=start_s, end_s=stop, filler=True)
        start_s = stop
