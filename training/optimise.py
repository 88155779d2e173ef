"""The training loop, its loss, and the state that it resumes from.

:meth:`Trainer.train` runs the loop: :class:`Learner` turns each batch into a loss
(:func:`features_of`, then the fusion, then :func:`loss_of`). Next: how a batch is composed,
:mod:`training.batches`; the networks, :mod:`training.model`.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator, InitProcessGroupKwargs  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.aggregators import MaskedGRU
from training.batches import Prepared, batches_from
from training.config import ConfigError, OptimiserConfig, TrainConfig
from training.fusion import StepLogits
from training.model import TwoStream, new_model
from training.processor import has_bfloat16
from training.resume import Identity, read_state, write_state
from training.sequences import Composer

LARGEST_GRADIENT = 5.0
APPLIED_LATER = ("version", "licence", "provenance", "limits", "thresholds")
"""Settings that are written into a model's card or contract after training."""
# The first of several processes decodes and measures while the others wait.
LONGEST_WAIT = timedelta(hours=12)
Report = Callable[[int, float], None]


class Interrupted(Exception):
    """Training was asked to stop; the message names the iteration."""


def jittered(planes: Tensor, warp: Tensor, gain: Tensor, noise: float) -> Tensor:
    """Shift and scale each sequence's picture; its motion shifts and grows with it.

    ``planes`` (N, T, 2, h, w) float32, 0 where nothing moves; beyond the old border it is 0 too.
    ``noise`` is the standard deviation of what is added to every value.
    """
    flat = planes.flatten(1, 2)
    grid = functional.affine_grid(warp, list(flat.shape), align_corners=False)
    moved = functional.grid_sample(flat, grid, align_corners=False)
    moved = moved * gain[:, None, None, None]
    moved = moved + noise * torch.randn_like(moved)
    return moved.reshape_as(planes)


def planes_of(fields: Tensor, model: TwoStream) -> Tensor:
    """(N, T, h, w, 2) uint8 -> (N, T, 2, h', w') float32: single fields, not yet stacked."""
    count = len(fields)
    planes = model.temporal.resized(fields.permute(0, 1, 4, 2, 3).flatten(0, 1).float())
    return planes.reshape(count, -1, *planes.shape[1:])


def loss_of(outputs: StepLogits, batch: Prepared, config: TrainConfig) -> Tensor:
    """Cross-entropy of fusion and, weighted, of each stream.

    Each of the three has two terms: the label at every step, and the gesture being drawn
    (foresight).
    """
    settings = config.optimiser
    everywhere = torch.ones_like(batch.gain)[:, None]
    # A sequence with another's pictures teaches the spatial stream nothing: they don't show its
    # gestures.
    rows = torch.arange(len(batch.scene), device=batch.scene.device)
    own_scene = (batch.scene == rows).float()[:, None]
    total = torch.zeros((), device=batch.gain.device)
    for now, ahead, part, where in (
        (outputs.fused, outputs.ahead.fused, 1.0, everywhere),
        (outputs.spatial, outputs.ahead.spatial, settings.stream_loss, own_scene),
        (outputs.temporal, outputs.ahead.temporal, settings.stream_loss, everywhere),
    ):
        labels = _weighted(now, batch.target, batch.weight * where, settings.label_smoothing)
        foresight = _weighted(ahead, batch.drawn, batch.progress * where, 0.0)
        total = total + part * (labels + settings.foresight_loss * foresight)
    return total


def _weighted(logits: Tensor, target: Tensor, weight: Tensor, smoothing: float) -> Tensor:
    each: Tensor = functional.cross_entropy(
        logits.flatten(0, 1), target.flatten(), reduction="none", label_smoothing=smoothing
    )
    return (each * weight.flatten()).sum() / weight.sum().clamp(min=1.0)


def fix_gates(model: TwoStream) -> None:
    """Restore the fixed weights of all :class:`MaskedGRU`, which the optimiser has changed."""
    for module in model.modules():
        if isinstance(module, MaskedGRU):
            module.fix_gate()


@cache
def half_precision(kind: str) -> torch.dtype:
    """bfloat16, or float16 on GPUs that only emulate bfloat16."""
    emulated = kind == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.float16 if emulated else torch.bfloat16


def is_half(setting: bool | Literal["auto"], kind: str) -> bool:
    """Whether convolutions on a ``kind`` of device are in half precision.

    ``setting`` is ``optimiser.bfloat16``.
    """
    return setting if isinstance(setting, bool) else kind != "cpu" or has_bfloat16()


def accelerator_for(device: str, half: bool | Literal["auto"] = "auto") -> Accelerator:
    """The accelerator for ``device`` (auto, cpu or cuda), in a single process or one of several.

    Raises ConfigError for cuda if torch finds no CUDA device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch finds no CUDA device; use auto or cpu")
    cpu = device == "cpu" or not torch.cuda.is_available()
    # features_of decides where autocast applies; "fp16" here only scales the loss for float16.
    scaled = is_half(half, "cuda") and not cpu and half_precision("cuda") is torch.float16
    return Accelerator(
        cpu=cpu, mixed_precision="fp16" if scaled else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
    )  # fmt: skip


def features_of(model: TwoStream, batch: Prepared, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Both streams' features of a batch, (N, T, d) float32 each, after its random variations."""
    kind = batch.grid.device.type
    half = is_half(config.optimiser.bfloat16, kind)
    planes = planes_of(batch.fields, model)
    planes = jittered(planes, batch.warp, batch.gain, config.composition.noise)
    # bfloat16 halves the time of convolutions on CPUs that have it, but not that of the fusion.
    # CPUs without it imitate it, and take many times as long.
    with torch.autocast(kind, half_precision(kind), enabled=half):
        spatial, temporal = model.step_features(batch.grid.float(), planes)
    return spatial.float()[batch.scene], temporal.float()


class Learner(nn.Module):
    """From a batch to its loss in one call, as data-parallel training requires."""

    def __init__(self, model: TwoStream, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self._config = config

    def forward(self, batch: Prepared) -> Tensor:
        spatial, temporal = features_of(self.model, batch, self._config)
        with torch.autocast(batch.grid.device.type, enabled=False):
            outputs = self.model.fusion.steps(spatial, temporal, batch.mask)
            return loss_of(outputs, batch, self._config)


@dataclass
class Curves:
    """Learning curves: the loss of each iteration, and (iteration, held-out accuracy)."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """How training is carried out. Of this, only the number of processes changes the weights.

    * ``state``: a file to resume from, written every ``save_every`` iterations
    * ``data``: identifies the clips, so that a state isn't used with others
    * ``stop``: called after each iteration; true ends training
    * ``measure``: returns a model's held-out accuracy; called every ``measure_every`` iterations
    """

    accelerator: Accelerator = field(default_factory=lambda: accelerator_for("cpu"))
    workers: int = 0
    state: Path | None = None
    save_every: int = 100
    data: str = ""
    stop: Callable[[], bool] = lambda: False
    measure_every: int = 0
    measure: Callable[[TwoStream], float] | None = None


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """The settings that trained weights depend on.

    Texts of the model card, thresholds and α of late fusion are applied after training, so they
    aren't among them.
    """
    settings = config.model_dump(mode="json", exclude=set(APPLIED_LATER))
    # The final model's recipe has this value as its iterations; the folds don't depend on it.
    del settings["optimiser"]["final_iterations"]
    if config.fusion.kind == "score":
        del settings["fusion"]["alpha"]
    return settings


def identity_of(config: TrainConfig, run: Run) -> Identity:
    """The identity that a state or a checkpoint must have to belong to this run."""
    return Identity(settings_of(config), run.data, run.accelerator.num_processes)


def adamw(
    parameters: list[nn.Parameter], settings: OptimiserConfig, iterations: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.OneCycleLR]:
    """AdamW (Loshchilov and Hutter 2019); its rate rises and falls once (Smith and Topin 2018)."""
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=iterations, pct_start=0.15
    )
    return optimiser, schedule


class Trainer:
    """Trains one model, from random weights or from the state in ``run.state``."""

    def __init__(self, config: TrainConfig, composer: Composer, run: Run) -> None:
        self._config, self._composer, self._run = config, composer, run
        settings, self._accelerator = config.optimiser, run.accelerator
        self._model = new_model(config).to(run.accelerator.device)
        average = get_ema_multi_avg_fn(settings.average_decay)  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(self._model, multi_avg_fn=average)
        self._learned = [p for p in self._model.parameters() if p.requires_grad]
        optimiser, self._schedule = adamw(self._learned, settings, settings.iterations)
        self._learner, self._optimiser = run.accelerator.prepare(
            Learner(self._model, config), optimiser
        )
        self._identity = identity_of(config, run)
        self.iteration, self.total = 0, settings.iterations
        self.curves = Curves()
        if run.state is not None and run.state.exists():
            self._restore(read_state(run.state, self._identity))

    def train(self, report: Report) -> TwoStream:
        """The averaged model in evaluation mode; raises :class:`Interrupted`.

        ``report`` is called after each iteration with its number, from 1, and its loss.
        """
        self._learner.train()
        for batch in self._batches():
            self.curves.loss.append(self._learn(batch))
            self.iteration += 1
            report(self.iteration, self.curves.loss[-1])
            self._measure()
            self._save_or_stop()
        return self.averaged()

    def averaged(self) -> TwoStream:
        """A copy with the averaged weights, in evaluation mode, on the CPU.

        Running statistics are buffers, which aren't averaged; they are copied from the trained
        model.
        """
        model = deepcopy(self._model).cpu()
        buffers = dict(model.named_buffers())
        model.load_state_dict({**self._averaged.module.state_dict(), **buffers})
        return model.eval()

    def _batches(self) -> Iterator[Prepared]:
        """The batches of this process; P processes share the numbers, every P-th each."""
        rank, processes = self._accelerator.process_index, self._accelerator.num_processes
        indices = range(
            self.iteration * processes + rank,
            self.total * processes,
            processes,
        )
        pin = self._accelerator.device.type == "cuda"
        return batches_from(self._composer, self._config, indices, self._run.workers, pin)

    def _learn(self, batch: Prepared) -> float:
        # Noise and dropout are seeded by the batch's number, as the batch itself is.
        words = np.random.SeedSequence([self._config.seed, int(batch.number)]).generate_state(2)
        torch.manual_seed(int(words[0]) << 32 | int(words[1]))
        loss = self._learner(batch.to(self._accelerator.device))
        self._optimiser.zero_grad()
        self._accelerator.backward(loss)
        self._accelerator.clip_grad_norm_(self._learned, LARGEST_GRADIENT)
        self._optimiser.step()
        # If the scaled loss overflowed, the optimiser skipped its step; the schedule waits too.
        if not self._accelerator.optimizer_step_was_skipped:
            self._schedule.step()
        fix_gates(self._model)
        self._averaged.update_parameters(self._model)
        return float(loss.detach())

    def _measure(self) -> None:
        run = self._run
        if run.measure is None or not run.measure_every or self.iteration % run.measure_every:
            return
        if self._accelerator.is_main_process:
            self.curves.accuracy.append((self.iteration, run.measure(self.averaged())))

    def _save_or_stop(self) -> None:
        stop = self._asked_to_stop()
        due = self.iteration % self._run.save_every == 0
        state = self._run.state
        if state is not None and (stop or due) and self._accelerator.is_main_process:
            write_state(state, self._identity, self._state())
        if stop:
            saved = f", saved in {state}" if state is not None else ""
            raise Interrupted(f"stopped after {self.iteration} of {self.total} iterations{saved}")

    def _asked_to_stop(self) -> bool:
        """Whether any process was asked to stop: all must stop at the same iteration."""
        stop = self._run.stop()
        if self._accelerator.num_processes == 1:
            return stop
        asked = torch.tensor(int(stop), device=self._accelerator.device)
        return bool(self._accelerator.reduce(asked).item())

    def _state(self) -> dict[str, Any]:
        """Everything that the next iteration depends on; its random numbers are seeded by its
        number."""
        scaler = self._accelerator.scaler
        return {
            "iteration": self.iteration,
            "model": self._model.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "loss": self.curves.loss,
            "accuracy": self.curves.accuracy,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.iteration = state["iteration"]
        self._model.load_state_dict(state["model"])
        self._averaged.load_state_dict(state["averaged"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        self.curves = Curves(state["loss"], state["accuracy"])


def train_model(
    config: TrainConfig, composer: Composer, report: Report, run: Run | None = None
) -> TwoStream:
    """:meth:`Trainer.train` in one call, by default without a state and on the CPU."""
    return Trainer(config, composer, run or Run()).train(report)
