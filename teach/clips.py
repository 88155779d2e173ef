"""The clips that a person brings: class folders or a list, background beside them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.evaluate.clip_list import Entry, read, shown, videos
from pipeline.model.labels import normal
from teach.pack import TeachError

BACKGROUND = "background"
REST_NAMES = frozenset({"background", "normal", "nothing", "none", "other", "rest", "idle"})
"""Labels that mean no action, if nobody says otherwise."""
LEAST_CLIPS = 2
MOST_LABELS = 100


@dataclass(frozen=True)
class Clips:
    """Entries by content: each clip is there once. ``rest`` are the labels of no action."""

    entries: tuple[Entry, ...]
    labels: tuple[str, ...]
    rest: tuple[str, ...]
    twice: tuple[str, ...] = ()
    """Clips whose content is that of another."""

    @property
    def actions(self) -> tuple[str, ...]:
        return tuple(label for label in self.labels if label not in self.rest)


def gathered(
    data: Path,
    background: Sequence[Path] = (),
    rest: Sequence[str] = (),
    root: Path | None = None,
    only: Sequence[str] = (),
) -> Clips:
    """Read what there is; raises :class:`TeachError` with all that is wrong with it.

    ``background`` are videos, or folders of them, that show none of the actions. ``rest`` names
    labels of no action; by default those called as in :data:`REST_NAMES`. ``only`` keeps these
    actions and the background.
    """
    entries = read(data, root)
    names = {entry.label for entry in entries}
    said = {normal(name) for name in rest}
    if unknown := sorted(said - names):
        raise TeachError(f"--rest {', '.join(unknown)}: no clip has it; there are {_list(names)}")
    quiet = said or {name for name in names if name.casefold() in REST_NAMES}
    if only:
        wanted = {normal(name) for name in only}
        if unknown := sorted(wanted - names):
            raise TeachError(
                f"--labels {', '.join(unknown)}: no clip has it; there are {_list(names)}"
            )
        entries = [entry for entry in entries if entry.label in wanted | quiet]
    if not quiet:
        quiet = {BACKGROUND}
    first = sorted(quiet)[0]
    for path in background:
        entries += [
            Entry(video, first, where=f"--background {shown(path)}") for video in videos(path)
        ]
    entries, twice = _without_copies(entries)
    actions = sorted({entry.label for entry in entries} - quiet)
    _check(data, entries, actions)
    return Clips(tuple(entries), (*sorted(quiet), *actions), tuple(sorted(quiet)), tuple(twice))


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _without_copies(entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """Clips whose content came before under the same label are left out.

    Raises :class:`TeachError` for one content under two labels, and for files that are missing.
    """
    known: dict[str, Entry] = {}
    kept, twice, problems = [], [], []
    for entry in entries:
        try:
            with entry.path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            problems.append(f"{entry.where}: {shown(entry.path)}: {error.strerror}")
            continue
        before = known.setdefault(content, entry)
        if before is entry:
            kept.append(entry)
        elif before.label != entry.label:
            problems.append(
                f"{shown(entry.path)} is {entry.label!r} and {shown(before.path)}, the same clip, "
                f"is {before.label!r}; take one of them out"
            )
        else:
            twice.append(shown(entry.path))
    if problems:
        raise TeachError("\n".join(problems))
    return kept, twice


def _check(data: Path, entries: Sequence[Entry], actions: Sequence[str]) -> None:
    problems = []
    if not actions:
        problems.append(f"{data}: has no action, only background")
    if len(actions) > MOST_LABELS:
        problems.append(
            f"{data}: has {len(actions)} labels, and {MOST_LABELS} at most can be taught. Is each "
            "clip in a folder of its own? A folder is a label, and holds all its clips"
        )
    else:
        for label in actions:
            count = sum(entry.label == label for entry in entries)
            if count < LEAST_CLIPS:
                problems.append(
                    f"{data}: {label} has {count} clip; one must be left out to see whether the "
                    f"others teach it, so record at least {LEAST_CLIPS}, better five to ten"
                )
    if problems:
        raise TeachError("\n".join(problems))
