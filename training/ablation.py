"""The ablation: each stream alone and each kind of fusion, on the same trained streams.

The streams of a fold are trained once, with the fusion that the recipe names. Then they are frozen,
and a fusion of every kind is trained on them from scratch, all on the same batches. So two columns
of the table differ by the fusion alone. For linear recipes, whose streams aren't trained, each kind
is fitted.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import nn

from training.batches import batches_from
from training.config import FusionKind, TrainConfig
from training.crossvalidation import Data, composer_for, is_linear
from training.data import Clip
from training.files import write_whole
from training.fusion import FusionNetwork
from training.linear import HEADS, FixedStreams, LinearTrainer
from training.measure import (
    STREAMS,
    ClipFeatures,
    clip_features,
    predict,
)
from training.model import TwoStream
from training.optimise import Report, adamw, features_of, fix_gates, loss_of
from training.sequences import Composer
from training.subjects import by_clip

KINDS: tuple[FusionKind, ...] = get_args(FusionKind)
COLUMNS = (*STREAMS[1:], *KINDS)
SHARE = 0.5
Counts = dict[str, int]


def rival_iterations(config: TrainConfig) -> int:
    """Iterations for training the fusions, once the streams are trained."""
    if is_linear(config):
        return len(KINDS) * HEADS * config.optimiser.iterations
    return max(1, round(SHARE * config.optimiser.iterations))


def with_flow(config: TrainConfig, method: str) -> TrainConfig:
    """The recipe with another flow method."""
    return config.model_copy(
        update={"temporal": config.temporal.model_copy(update={"method": method})}
    )


def shortened(config: TrainConfig, iterations: int | None, episodes: int | None) -> TrainConfig:
    """The recipe with other ``iterations``, and with at most ``episodes`` rendered episodes.

    None keeps the recipe's own value.
    """
    if iterations is not None:
        optimiser = config.optimiser.model_copy(update={"iterations": iterations})
        config = config.model_copy(update={"optimiser": optimiser})
    if episodes is not None:
        config = config.model_copy(update={"episodes": min(episodes, config.episodes)})
    return config


def with_fusion(config: TrainConfig, kind: FusionKind) -> TrainConfig:
    """The recipe with another kind of fusion, whose weights are all learned."""
    fusion = config.fusion.model_copy(update={"kind": kind, "alpha": None})
    return config.model_copy(update={"fusion": fusion})


def rivals(model: TwoStream, config: TrainConfig) -> dict[FusionKind, TwoStream]:
    """A model for each kind of fusion.

    Streams and their heads are those of ``model``, frozen; the fusion has random weights.
    """
    made: dict[FusionKind, TwoStream] = {}
    for kind in KINDS:
        torch.manual_seed(config.seed)
        rival = deepcopy(model).requires_grad_(False).eval()
        fusion = FusionNetwork(
            with_fusion(config, kind).fusion, config.feature_size, len(config.labels)
        )
        for name in ("spatial_head", "temporal_head"):
            head = getattr(rival.fusion, name)
            setattr(fusion, name, head)
        rival.fusion = fusion
        made[kind] = rival
    return made


def _learning(rival: TwoStream) -> list[nn.Parameter]:
    """Put the fusion, without the streams' heads, into training mode; returns its parameters."""
    rival.fusion.train()
    for head in (rival.fusion.spatial_head, rival.fusion.temporal_head):
        head.eval()
    return [p for p in rival.fusion.parameters() if p.requires_grad]


def train_rivals(
    models: Mapping[FusionKind, TwoStream], config: TrainConfig, composer: Composer,
    workers: int, report: Report,
) -> None:  # fmt: skip
    """Train every fusion on the same batches, for :data:`SHARE` of the streams' iterations.

    ``report`` is called with each iteration and its loss, averaged over the fusions.
    """
    settings, iterations = config.optimiser, rival_iterations(config)
    learned = [p for rival in models.values() for p in _learning(rival)]
    optimiser, schedule = adamw(learned, settings, iterations)
    streams = next(iter(models.values()))
    # Batches that the streams weren't trained on.
    numbers = range(settings.iterations, settings.iterations + iterations)
    for batch in batches_from(composer, config, numbers, workers):
        with torch.no_grad():
            features = (*features_of(streams, batch, config), batch.mask)
        losses = [loss_of(r.fusion.steps(*features), batch, config) for r in models.values()]
        loss = torch.stack(losses).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        for rival in models.values():
            fix_gates(rival)
        report(int(batch.number) - settings.iterations + 1, loss.item() / len(models))
    for rival in models.values():
        rival.eval()


def right(
    models: Mapping[FusionKind, TwoStream], config: TrainConfig, clips: list[Clip],
    features: Callable[[Clip], ClipFeatures],
) -> Counts:  # fmt: skip
    """How many clips each of :data:`COLUMNS` predicts correctly; the models share their streams."""
    truth = np.array([group[0].label for group in by_clip(clips)])
    counts: Counts = {}
    for kind, rival in models.items():
        correct = predict(rival, config, clips, features) == truth[:, None]
        hits = dict(zip(STREAMS, correct.sum(0).tolist(), strict=True))
        counts |= {"spatial": hits["spatial"], "temporal": hits["temporal"], kind: hits["fused"]}
    return counts


def ablate_fold(
    model: TwoStream, config: TrainConfig, data: Data, fold: int, workers: int, report: Report
) -> Counts:
    """Count correct predictions per column in ``fold``, which was held out from ``model``."""
    models = rivals(model, config)
    train_rivals(models, config, composer_for(config, data, fold), workers, report)
    held_out = [clip for clip in data.clips if clip.fold == fold]
    streams = partial(clip_features, model)
    return right(models, config, held_out, streams) | {"clips": len(by_clip(held_out))}


def ablate_linear(config: TrainConfig, data: Data, fold: int, report: Report) -> Counts:
    """:func:`ablate_fold` for a recipe whose streams aren't trained."""
    assert data.streams is not None
    models = fitted_rivals(config, data, data.streams, fold, report)
    held_out = [clip for clip in data.clips if clip.fold == fold]
    return right(models, config, held_out, data.streams.of) | {"clips": len(by_clip(held_out))}


def fitted_rivals(
    config: TrainConfig, data: Data, streams: FixedStreams, fold: int, report: Report
) -> dict[FusionKind, TwoStream]:
    """A linear model for each kind of fusion; all have the same stream heads."""
    clips, negatives = data.without(fold)
    models, done = {}, 0
    for kind in KINDS:
        recipe = with_fusion(config, kind)
        trainer = LinearTrainer(recipe, streams, [*clips, *negatives], len(negatives))
        models[kind] = trainer.train(partial(_after, report, done))
        done += trainer.total
    return models


def _after(report: Report, done: int, iteration: int, loss: float) -> None:
    report(done + iteration, loss)


_LEDGER = TypeAdapter(dict[str, Counts])


class LedgerError(Exception):
    """A ledger that can't be read; the message names the file and what to do."""


class Ledger:
    """Counts of finished folds in a JSON file, so that an interrupted ablation can resume."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            text = path.read_text("utf-8") if path.exists() else "{}"
            self.rows: dict[str, Counts] = _LEDGER.validate_json(text)
        except ValueError:  # also pydantic's and Unicode's
            raise LedgerError(
                f"{path}: isn't what an ablation wrote; move it away to start again"
            ) from None

    @staticmethod
    def key(config: TrainConfig, data: Data, fold: int) -> str:
        """A name that changes with the recipe, the clips and the fold."""
        digest = hashlib.sha256((config.model_dump_json() + data.digest).encode()).hexdigest()[:12]
        return f"{config.name}, {config.temporal.method}, fold {fold}, {digest}"

    def add(self, key: str, counts: Counts) -> None:
        self.rows[key] = counts
        write_whole(self._path, (json.dumps(self.rows, indent=2) + "\n").encode())


def table(rows: Mapping[str, Sequence[Counts]]) -> str:
    """A Markdown table in percent, with a line for each of ``rows``: set and flow -> folds'
    counts."""
    lines = [
        "| set, flow | clips | " + " | ".join(COLUMNS) + " |",
        "| --- | --- |" + " --- |" * len(COLUMNS),
    ]
    for name, folds in rows.items():
        clips = sum(fold["clips"] for fold in folds)
        shares = [100 * sum(fold[column] for fold in folds) / clips for column in COLUMNS]
        lines.append(f"| {name} | {clips} | " + " | ".join(f"{x:.1f}" for x in shares) + " |")
    return "\n".join(lines)
