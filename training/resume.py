"""The state file that an interrupted run resumes from; it is written whole or not at all."""

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from training.files import tensors, write_whole

STATE_FORMAT = 1
NAMED_CHANGES = 6


class StateError(Exception):
    """A state that can't be resumed from; the message names the file and what to do."""


class Identity(NamedTuple):
    """What must be unchanged to resume a run: configuration, clips, number of processes."""

    config: Mapping[str, Any]
    data: str
    processes: int


def write_state(path: Path, identity: Identity, state: Mapping[str, Any]) -> None:
    """Replace ``path`` atomically: a reader gets either the old state or the new one."""
    content = {"format": STATE_FORMAT, **identity._asdict(), "state": state}
    write_whole(path, tensors(content))


def read_state(path: Path, identity: Identity) -> dict[str, Any]:
    """The state in ``path``; raises :class:`StateError` if another run wrote it."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if stored["format"] != STATE_FORMAT:
            raise StateError(
                f"{path}: format {stored['format']}, must be {STATE_FORMAT}; use --fresh"
            )
        found = Identity(stored["config"], stored["data"], stored["processes"])
        state: dict[str, Any] = stored["state"]
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from None
    except (KeyError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise StateError(
            f"{path}: not a training state: {error}; --fresh starts from scratch"
        ) from None
    check_identity(path, found, identity)
    return state


def check_identity(path: Path, found: Identity, wanted: Identity) -> None:
    """Raises :class:`StateError` naming what has changed since ``path`` was written."""
    changes = list(_changes(found.config, wanted.config))
    more = len(changes) - NAMED_CHANGES
    changes = changes[:NAMED_CHANGES] + ([f"{more} more"] if more > 0 else [])
    if found.data != wanted.data:
        changes.append("other clips")
    if found.processes != wanted.processes:
        changes.append(f"processes were {found.processes}, are {wanted.processes}")
    if changes:
        raise StateError(
            f"{path}: written by a run with other settings ({'; '.join(changes)}): "
            "restore them to resume, or start from scratch with --fresh"
        )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in [*old, *(key for key in new if key not in old)]:
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _changes(was, now, f"{prefix}{key}.")
        elif was != now:
            yield f"{prefix}{key} was {was}, is {now}"
