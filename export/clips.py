"""Real clips for comparison, calibration and measurement, decoded when they are needed."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from export.pack import Trial
from training.clip_list_formats import DataError, Entry
from training.config import TrainConfig
from training.data import Stepped, labelled_entries
from training.model import CheckpointError, TwoStream, load_checkpoint
from training.subjects import stepped
from training.terminal import Lines

log = logging.getLogger(__name__)

CALIBRATION_CLIPS = 48
FOLD_FILE = re.compile(r"fold(\d+)\.pt")
SAME_RECIPE = (
    "labels", "background", "view", "step_hz", "window", "feature_size", "spatial", "temporal",
)  # fmt: skip

Labelled = tuple[Entry, int]
Adapt = Callable[[TwoStream, TrainConfig], TrainConfig]
"""Changes a loaded model, and returns the configuration that describes it."""


def read_clips(
    entries: Sequence[Labelled], config: TrainConfig, what: str
) -> Iterator[tuple[int, Stepped]]:
    """Yield each clip in steps with the number of its label; unreadable clips are logged.

    With a view of regions, the steps are those of the subject that moves most; a clip without one
    is logged, too. So is the progress, under the name ``what``.
    """
    with Lines(log.info) as progress:
        task = progress.add_task(what, total=len(entries))
        for entry, label in entries:
            try:
                yield label, stepped(entry, config)
            except DataError as error:
                log.warning("skipped: %s: %s", entry.path, error)
            progress.advance(task)


def evenly(entries: Sequence[Labelled], count: int) -> list[Labelled]:
    """Up to ``count`` of the entries, spread evenly over the list."""
    chosen = np.linspace(0, len(entries) - 1, min(count, len(entries))).astype(int)
    return [entries[place] for place in chosen]


def sample_clips(config: TrainConfig, data: Path, per_label: int) -> list[Stepped]:
    """The first ``per_label`` real clips of each label, in steps; raises DataError."""
    taken: dict[int, list[Labelled]] = {}
    for entry, label in labelled_entries(config, data, config.clips):
        taken.setdefault(label, []).append((entry, label))
    entries = [pair for label in sorted(taken) for pair in taken[label][:per_label]]
    return [clip for _, clip in read_clips(entries, config, "clips to compare on")]


def fold_checkpoints(folder: Path) -> dict[int, Path]:
    """``fold0.pt``, ``fold1.pt``… of a training run, by fold; CheckpointError if none."""
    found = {
        int(match[1]): path
        for path in sorted(folder.glob("fold*.pt"))
        if (match := FOLD_FILE.fullmatch(path.name))
    }
    if not found:
        raise CheckpointError(f"{folder}: has no fold0.pt, fold1.pt… as training writes them")
    return found


def _load_fold(path: Path, config: TrainConfig) -> tuple[TwoStream, TrainConfig]:
    model, own, _ = load_checkpoint(path)
    for key in SAME_RECIPE:
        if getattr(own, key) != getattr(config, key):
            raise CheckpointError(
                f"{path}: its {key} differs from that of the checkpoint to export"
            )
    return model, own


def held_out_trials(folder: Path, config: TrainConfig, data: Path, adapt: Adapt) -> Iterator[Trial]:
    """Yield each fold's model with that fold's clips to measure on, and others to calibrate on.

    ``config`` is that of the checkpoint to export, before ``adapt``. Raises CheckpointError and
    DataError at once; clips are decoded while the caller iterates.
    """
    entries = labelled_entries(config, data, config.clips)
    models = {fold: _load_fold(path, config) for fold, path in fold_checkpoints(folder).items()}
    if unknown := sorted(models.keys() - {entry.fold for entry, _ in entries}):
        raise DataError(f"{folder}: has models of folds {unknown} that aren't in the list")
    return (
        _held_out(fold, model, adapt(model, own), entries) for fold, (model, own) in models.items()
    )


def _held_out(
    fold: int, model: TwoStream, config: TrainConfig, entries: Sequence[Labelled]
) -> Trial:
    held_out = [pair for pair in entries if pair[0].fold == fold]
    rest = evenly([pair for pair in entries if pair[0].fold != fold], CALIBRATION_CLIPS)
    calibration = [clip for _, clip in read_clips(rest, config, f"fold {fold}, to calibrate on")]
    return Trial(model, config, calibration, read_clips(held_out, config, f"fold {fold}"))


def own_trial(model: TwoStream, config: TrainConfig, data: Path) -> Iterator[Trial]:
    """The model itself with all clips of the list, including those that it was trained on."""
    entries = labelled_entries(config, data, config.clips)
    some = evenly(entries, CALIBRATION_CLIPS)
    calibration = [clip for _, clip in read_clips(some, config, "clips to calibrate on")]
    yield Trial(model, config, calibration, read_clips(entries, config, "clips to measure on"))
