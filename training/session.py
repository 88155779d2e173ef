"""One call of ``train``: trains the model of each fold and the final one, and writes ``runs/NAME``.

A model whose checkpoint is there already is read instead of trained. Next: the training loop,
:mod:`training.optimise`; for recipes that train only linear layers, :mod:`training.linear`.
"""

import json
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType, TracebackType

import numpy as np

from training.config import TrainConfig
from training.crossvalidation import (
    FITTED_TO_ALL,
    FITTED_TO_ITSELF,
    FITTED_TO_OTHERS,
    Data,
    Measured,
    accuracy,
    fold_thresholds,
    measure_fold,
    summary,
    trainer_for,
)
from training.files import write_whole
from training.linear import LinearTrainer
from training.model import TwoStream, load_checkpoint, save_checkpoint
from training.optimise import Curves, Interrupted, Report, Run, Trainer, identity_of, settings_of
from training.plots import confusion_matrix, learning_curves, save
from training.resume import Identity, check_identity
from training.stream_figures import Thresholds

Metrics = Mapping[str, object]
FINAL = "final"
STOPPING = (signal.SIGINT, signal.SIGTERM)


def fold_name(fold: int) -> str:
    return f"fold{fold}"


@dataclass(frozen=True)
class TrainingFolder:
    """``runs/NAME``: the files of a run.

    Each model (``fold0``, ``final``) has a checkpoint and its learning curves. Until it is
    finished, it has a state to resume from instead.
    """

    path: Path

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    def checkpoint(self, name: str) -> Path:
        return self.path / f"{name}.pt"

    def state(self, name: str) -> Path:
        return self.path / f"{name}.state"

    def clear(self, name: str) -> None:
        """Delete a model and its state, so that it is trained from scratch."""
        self.checkpoint(name).unlink(missing_ok=True)
        self.state(name).unlink(missing_ok=True)

    def finished(self, name: str, wanted: Identity) -> tuple[TwoStream, dict[str, object]] | None:
        """The model and its metrics, or None if it has no checkpoint yet.

        Raises CheckpointError for an invalid file, StateError for the checkpoint of another run.
        """
        path = self.checkpoint(name)
        if not path.exists():
            return None
        model, config, metrics = load_checkpoint(path)
        run = metrics.get("run")
        stored = run if isinstance(run, dict) else {}
        identity = Identity(settings_of(config), stored.get("data", ""), stored.get("processes", 1))
        check_identity(path, identity, wanted)
        return model, metrics

    def save_model(
        self, name: str, model: TwoStream, config: TrainConfig, metrics: Metrics, wanted: Identity
    ) -> None:
        """Write a finished model and delete its state."""
        run = {"data": wanted.data, "processes": wanted.processes}
        save_checkpoint(self.checkpoint(name), model, config, {**metrics, "run": run})
        self.state(name).unlink(missing_ok=True)

    def save_curves(self, name: str, curves: Curves) -> None:
        save(learning_curves(curves, name), self.path / f"{name}_curves.png")

    def save_metrics(self, config: TrainConfig, metrics: Metrics) -> None:
        """Write ``metrics.json``, and ``confusion.png`` if a fold was measured."""
        text = json.dumps(metrics, indent=2, ensure_ascii=False) + "\n"
        write_whole(self.metrics, text.encode("utf-8", "replace"))
        if "confusion" in metrics:
            counts = np.array(metrics["confusion"], np.int64)
            title = f"{config.name}: {counts.sum()} held-out clips"
            save(confusion_matrix(counts, config.labels, title), self.path / "confusion.png")


@dataclass(frozen=True)
class Session:
    """Trains and measures the models of one run; ``log`` prints a line for the user."""

    data: Data
    folder: TrainingFolder
    run: Run
    reporter: Callable[[str, Trainer | LinearTrainer], Report]
    log: Callable[[str], None]

    @property
    def leads(self) -> bool:
        """Whether this process measures, writes and prints; exactly one of several does."""
        return bool(self.run.accelerator.is_main_process)

    def model(self, name: str, config: TrainConfig, fold: int | None) -> TwoStream:
        """The model trained without ``fold``, or on all clips for None.

        Read from its checkpoint if it is finished, else trained. Raises Interrupted, StateError
        and CheckpointError.
        """
        if self.run.stop():
            raise Interrupted(f"stopped before {name}")
        if found := self.folder.finished(name, identity_of(config, self.run)):
            self.log(f"{name}: finished before, not trained again")
            return weighed(found[0], config)
        run = replace(self.run, state=self.folder.state(name))
        held_out = [clip for clip in self.data.clips if clip.fold == fold]
        if held_out:
            run = replace(run, measure=lambda model: accuracy(model, config, held_out))
        trainer = trainer_for(config, self.data, fold, run)
        if trainer.iteration:
            done = f"{trainer.iteration} of {trainer.total}"
            self.log(f"{name}: resuming after {done} iterations")
        model = trainer.train(self.reporter(name, trainer))
        run.accelerator.free_memory()
        if self.leads:
            self.folder.save_curves(name, trainer.curves)
        return weighed(model, config)

    def fold(self, config: TrainConfig, fold: int) -> list[Measured]:
        """Train without a fold and measure on it; returns [] in processes that don't lead."""
        name = fold_name(fold)
        model = self.model(name, config, fold)
        if not self.leads:
            return []
        measured = measure_fold(model, config, self.data, fold)
        fitted = fold_thresholds(config, [measured])
        top1 = self._save_fold(fold, model, config, measured, fitted, FITTED_TO_ITSELF)
        self.log(f"fold {fold}: {top1}")
        return [measured]

    def _save_fold(
        self, fold: int, model: TwoStream, config: TrainConfig, measured: Measured,
        fitted: Sequence[Thresholds], note: str,
    ) -> object:  # fmt: skip
        figures, identity = summary(config, [measured], fitted, note), identity_of(config, self.run)
        self.folder.save_model(fold_name(fold), model, config, figures, identity)
        return figures["top1"]

    def _summary(
        self, config: TrainConfig, folds: Sequence[int], measured: Sequence[Measured]
    ) -> dict[str, object]:
        """Figures of all folds.

        Writes each fold's model again, with thresholds fitted to the other folds.
        """
        fitted = fold_thresholds(config, measured)
        if len(measured) == 1:
            return summary(config, measured, fitted)
        for fold, part, thresholds in zip(folds, measured, fitted, strict=False):
            found = self.folder.finished(fold_name(fold), identity_of(config, self.run))
            assert found is not None
            self._save_fold(fold, found[0], config, part, [thresholds], FITTED_TO_OTHERS)
        return summary(config, measured, fitted, FITTED_TO_ALL)

    def final(self, config: TrainConfig, metrics: dict[str, object]) -> None:
        """Train on all clips; the checkpoint carries the figures of the folds."""
        model = self.model(FINAL, config, None)
        if self.leads and (metrics or not self.folder.checkpoint(FINAL).exists()):
            self.folder.save_model(FINAL, model, config, metrics, identity_of(config, self.run))

    def everything(self, config: TrainConfig, folds: list[int], final: bool) -> dict[str, object]:
        """Train and measure all models of the run; returns its metrics."""
        measured = [part for fold in folds for part in self.fold(config, fold)]
        metrics = self._summary(config, folds, measured) if measured else {}
        if final:
            self.final(config.for_all_clips(), metrics)
        metrics["data"] = self.data.counts(config)
        if self.leads and (measured or not self.folder.metrics.exists()):
            self.folder.save_metrics(config, metrics)
        return metrics


def weighed(model: TwoStream, config: TrainConfig) -> TwoStream:
    """The model, with α of late fusion set to ``fusion.alpha`` of the recipe, if that is given.

    A learned α says little about which stream to trust on new clips: it is learned on the clips
    that the streams were trained on, where both are right (Wolpert 1992, on stacking). So it may be
    set after training.
    """
    if config.fusion.kind == "score" and config.fusion.alpha is not None:
        model.fusion.set_share(config.fusion.alpha)
    return model


class StopRequest:
    """Remembers SIGINT or SIGTERM for the loop to act on; a second signal has its usual effect."""

    def __init__(self) -> None:
        self.number = 0
        self._before = {number: signal.getsignal(number) for number in STOPPING}

    def __call__(self) -> bool:
        return self.number != 0

    def __enter__(self) -> "StopRequest":
        for number in STOPPING:
            signal.signal(number, self._remember)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        signal.signal(number, self._before[signal.Signals(number)])
