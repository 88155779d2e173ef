"""What an interrupted run goes on from: a file that is whole or not there."""

import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

STATE_FORMAT = 1
NAMED_CHANGES = 6


class StateError(Exception):
    """A state that can't be gone on from; the message names the file and what to do."""


class Identity(NamedTuple):
    """What must be the same for a run to go on: configuration, clips, number of processes."""

    config: Mapping[str, Any]
    data: str
    processes: int


def write_state(path: Path, identity: Identity, state: Mapping[str, Any]) -> None:
    """Replace ``path`` in one go: whoever reads it gets the old state or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    with unfinished.open("wb") as file:
        torch.save({"format": STATE_FORMAT, **identity._asdict(), "state": state}, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def read_state(path: Path, identity: Identity) -> dict[str, Any]:
    """The state in ``path``; raises :class:`StateError` when it is of another run."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if stored["format"] != STATE_FORMAT:
            raise StateError(f"{path}: format {stored['format']}, want {STATE_FORMAT}; use --fresh")
        there = Identity(stored["config"], stored["data"], stored["processes"])
        state: dict[str, Any] = stored["state"]
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from None
    except (KeyError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise StateError(f"{path}: not a training state: {error}; --fresh starts anew") from None
    check_identity(path, there, identity)
    return state


def check_identity(path: Path, there: Identity, wanted: Identity) -> None:
    """Raises :class:`StateError` that says what has changed since ``path`` was written."""
    changes = list(_changes(there.config, wanted.config))
    more = len(changes) - NAMED_CHANGES
    changes = changes[:NAMED_CHANGES] + ([f"{more} more"] if more > 0 else [])
    if there.data != wanted.data:
        changes.append("other clips")
    if there.processes != wanted.processes:
        changes.append(f"processes were {there.processes}, are {wanted.processes}")
    if changes:
        raise StateError(
            f"{path}: of a run with other settings ({'; '.join(changes)}): "
            "put them back to go on, or start anew with --fresh"
        )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in [*old, *(key for key in new if key not in old)]:
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _changes(was, now, f"{prefix}{key}.")
        elif was != now:
            yield f"{prefix}{key} was {was}, is {now}"
