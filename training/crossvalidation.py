"""Training and measuring: fold by fold on held-out groups, and once on everything to ship."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import flow
from pipeline.model_pack import Threshold
from training.compose import Composer, Join, chained, make_pools
from training.config import TrainConfig
from training.data import Clip, load_clips, load_episodes
from training.evaluation import STREAMS, confusion, predict, stream_scores
from training.model import TwoStream
from training.optimise import train_model
from training.streams import ScoredStream, Tally, fit_thresholds, total

Report = Callable[[int, float], None]
HELD_OUT_EPISODES = 8


@dataclass(frozen=True)
class Data:
    """Everything a run trains and measures on; ``episodes`` and ``held_out`` share no seed."""

    clips: list[Clip]
    negatives: list[Clip]
    episodes: list[Clip]
    held_out: list[Clip]

    @property
    def folds(self) -> list[int]:
        return sorted({clip.fold for clip in self.clips})


def load_data(
    config: TrainConfig, data: Path, cache: Path, advance: Callable[[], None] = lambda: None
) -> Data:
    """Read, or decode and cache, what the configuration names; raises DataError."""
    clips = load_clips(config, data, cache, config.clips, advance)
    negatives = []
    if config.negatives is not None:
        negatives = load_clips(config, data, cache, config.negatives, advance)
    held_out = min(HELD_OUT_EPISODES, config.episodes)
    episodes = load_episodes(config, cache, config.episodes + held_out, advance)
    return Data(clips, negatives, episodes[: config.episodes], episodes[config.episodes :])


def train_on(config: TrainConfig, data: Data, fold: int | None, report: Report) -> TwoStream:
    """Train on all clips but those of ``fold``; on all of them for None."""
    clips = [clip for clip in data.clips if clip.fold != fold]
    composer = Composer(config, make_pools(config, clips, data.negatives, data.episodes))
    return train_model(config, composer, report)


@dataclass(frozen=True)
class Measured:
    """What held-out data said of one model: true and predicted labels, scores of streams.

    ``rendered`` are episodes of the demo camera, ``looped`` the held-out clips played one after
    the other, as a test camera plays them.
    """

    truth: list[int]
    predicted: list[list[int]]
    names: list[str]
    rendered: list[ScoredStream]
    looped: list[ScoredStream]


def measure(
    model: TwoStream, config: TrainConfig, clips: Sequence[Clip], episodes: Sequence[Clip]
) -> Measured:
    """Predict held-out clips: ``predicted`` holds fused, spatial and temporal labels of each."""

    def scored(clip: Clip) -> ScoredStream:
        return ScoredStream(stream_scores(model, clip, config.window).fused, clip.strokes)

    order = np.random.default_rng(config.seed).permutation(len(clips))
    method = flow.create(config.temporal.method)
    loop = chained([clips[i] for i in order], [Join.CUT] * (len(clips) - 1), method, config)
    return Measured(
        [clip.label for clip in clips],
        predict(model, config, clips).tolist(),
        [clip.name for clip in clips],
        [scored(clip) for clip in episodes],
        [scored(loop)],
    )


def stream_figures(
    streams: Sequence[ScoredStream], config: TrainConfig, thresholds: Mapping[str, Threshold]
) -> dict[str, object]:
    """Gestures in streams, how many events found, and false events per minute."""
    counts = sum(total(streams, config, thresholds).values(), Tally())
    minutes = sum(len(stream.scores) for stream in streams) / config.step_hz / 60
    return {
        "minutes": round(minutes, 1),
        "gestures": counts.strokes,
        "found": counts.found,
        "false_events_per_minute": round(counts.false / minutes, 2) if minutes else None,
    }


def summary(config: TrainConfig, measured: Sequence[Measured]) -> dict[str, object]:
    """Metrics over all folds: accuracy of each stream, confusion, thresholds, stream figures."""
    truth = np.array([label for fold in measured for label in fold.truth])
    predicted = np.array([row for fold in measured for row in fold.predicted])
    right = predicted == truth[:, None]
    per_fold = [
        float(np.mean([row[0] == label for row, label in zip(f.predicted, f.truth, strict=True)]))
        for f in measured
    ]
    rendered = [stream for fold in measured for stream in fold.rendered]
    looped = [stream for fold in measured for stream in fold.looped]
    thresholds = fit_thresholds([*rendered, *looped], config)
    names = [name for fold in measured for name in fold.names]
    mistakes = {
        name: config.labels[row[0]]
        for name, row, ok in zip(names, predicted.tolist(), right[:, 0], strict=True) if not ok
    }  # fmt: skip
    return {
        "protocol": "clip: the sliding window over each held-out clip, groups kept apart",
        "clips": len(truth),
        "folds": len(measured),
        "top1": {name: round(float(right[:, i].mean()), 4) for i, name in enumerate(STREAMS)},
        "top1_per_fold": [round(value, 4) for value in per_fold],
        "confusion": confusion(truth, predicted[:, 0], len(config.labels)).tolist(),
        "mistakes": mistakes,
        "rendered_streams": stream_figures(rendered, config, thresholds),
        "looped_clips": stream_figures(looped, config, thresholds),
        "thresholds": {label: value.model_dump() for label, value in thresholds.items()},
    }
