"""Cross-validation: the data of a run, the trainer of each fold, and its held-out figures.

Each fold holds out whole groups. Next: :mod:`training.session`, which calls these functions fold by
fold and then for all clips.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import flow
from pipeline.evaluate.protocol import stream_order
from pipeline.model.watch import WHOLE_PICTURE
from training.clip_list_formats import NEVER_HELD_OUT, DataError
from training.config import TrainConfig
from training.data import (
    NOBODY,
    Clip,
    Stroke,
    Unreadable,
    check_labels,
    check_readable,
    labelled_entries,
    load_clips,
    load_episodes,
)
from training.linear import FixedStreams, LinearTrainer
from training.measure import (
    STREAMS,
    Features,
    best_scores,
    confusion,
    predict,
    stream_scores,
)
from training.model import TwoStream
from training.optimise import Run, Trainer
from training.sequences import Composer, Join, chained, make_pools
from training.stream_figures import (
    CHOICES,
    Choice,
    ScoredStream,
    Sweeps,
    Tally,
    Thresholds,
    added,
    fit_thresholds,
    hours_of,
    quiet_figures,
    stream_figures,
    sweep,
    total,
)
from training.subjects import by_clip, computed, trained_on

HELD_OUT_EPISODES = 24
FITTED_TO_ITSELF = "The thresholds were fitted to these very streams."
FITTED_TO_OTHERS = "The thresholds were fitted to the streams of the other folds."
FITTED_TO_ALL = (
    "Each fold's streams ran under thresholds that were fitted to the other folds; the pack's own "
    "are fitted to all of them."
)
GIVEN = "The thresholds are those of the recipe, the same for all folds."


@dataclass(frozen=True)
class Data:
    """Everything a run trains and measures on.

    ``episodes`` are trained on; ``held_out`` are episodes with other seeds. ``unreadable`` are the
    listed files that were skipped. ``streams`` computes features if the streams aren't trained.
    """

    clips: list[Clip]
    negatives: list[Clip]
    episodes: list[Clip]
    held_out: list[Clip]
    unreadable: tuple[Unreadable, ...] = ()
    streams: FixedStreams | None = None
    trained_on: Callable[[Sequence[Clip]], list[Clip]] = list
    """Chooses the subjects that are trained on; with a view of the whole frame, all clips."""

    @property
    def folds(self) -> list[int]:
        """The folds that can be held out."""
        return sorted({clip.fold for clip in self.clips} - {NEVER_HELD_OUT})

    def without(self, fold: int | None) -> tuple[list[Clip], list[Clip]]:
        """Clips and negatives to train on, except those of ``fold``; all of them for None."""
        clips, negatives = (
            self.trained_on([clip for clip in part if clip.fold != fold])
            for part in (self.clips, self.negatives)
        )
        return clips, negatives

    @property
    def digest(self) -> str:
        """Changes with the clips, their labels and their folds."""
        rows = [
            (c.name, c.label, c.group, c.fold, len(c), c.content, *_which_subject(c))
            for c in (*self.clips, *self.negatives)
        ]
        return hashlib.sha256(repr((rows, len(self.episodes))).encode()).hexdigest()[:16]

    def counts(self, config: TrainConfig) -> dict[str, object]:
        """The number of clips of each label, and the unreadable files by name."""
        labels = [group[0].label for group in by_clip(self.clips)]
        return {
            "clips": {name: labels.count(number) for number, name in enumerate(config.labels)},
            "negatives": len(by_clip(self.negatives)),
            **self._subjects(),
            "unreadable": len(self.unreadable),
            "unreadable_clips": {str(clip.path): clip.reason for clip in self.unreadable},
        }

    def _subjects(self) -> dict[str, object]:
        """How many subjects there are, and the clips without any; nothing for whole frames."""
        every = [*self.clips, *self.negatives]
        if all(clip.subject == WHOLE_PICTURE for clip in every):
            return {}
        empty = [clip.name for clip in every if clip.subject == NOBODY]
        return {"subjects": len(every) - len(empty), "clips_without_subjects": empty}


def _which_subject(clip: Clip) -> tuple[object, ...]:
    return () if clip.subject == WHOLE_PICTURE else (clip.subject, clip.start)


def load_data(
    config: TrainConfig, data: Path, cache: Path, advance: Callable[[], None] = lambda: None,
    held_out_episodes: int = HELD_OUT_EPISODES,
) -> Data:  # fmt: skip
    """Read the clips and episodes of a recipe from the cache, or compute them; raises DataError.

    Up to ``held_out_episodes`` more episodes are rendered to measure on, at most as many as the
    recipe trains on.
    """
    check_labels(config, (x for _, x in labelled_entries(config, data, config.clips)), "the lists")
    made = computed(config, cache)
    lists = [load_clips(config, data, cache, config.clips, advance, computed=made)]
    for quiet in config.quiet_lists:
        lists.append(load_clips(config, data, cache, quiet, advance, "background", made))
    check_readable(config, lists)
    clips, negatives = lists[0].clips, [clip for part in lists[1:] for clip in part.clips]
    held_out = min(held_out_episodes, config.episodes)
    episodes = load_episodes(config, cache, config.episodes + held_out, advance)
    return Data(
        clips, negatives, episodes[: config.episodes], episodes[config.episodes :],
        tuple(clip for part in lists for clip in part.unreadable),
        FixedStreams(config) if is_linear(config) else None,
        lambda clips: trained_on(clips, config),
    )  # fmt: skip


def is_linear(config: TrainConfig) -> bool:
    """Whether only linear classifiers of window statistics are trained."""
    return config.fusion.aggregator == "statistics"


def listed(config: TrainConfig, data: Path, held_out_episodes: int = HELD_OUT_EPISODES) -> int:
    """The number of clips and episodes that :func:`load_data` will load; raises DataError."""
    count = len(labelled_entries(config, data, config.clips))
    for quiet in config.quiet_lists:
        count += len(labelled_entries(config, data, quiet, "background"))
    return count + config.episodes + min(held_out_episodes, config.episodes)


def check_fold(config: TrainConfig, data: Data, fold: int) -> None:
    """Raises DataError naming the labels without a clip outside ``fold``."""
    clips, _ = data.without(fold)
    _check_rest(config, (clip.label for clip in clips), fold)


def check_lists(config: TrainConfig, data: Path, chosen: Callable[[list[int]], list[int]]) -> None:
    """Raises DataError for lists that can't be trained on, before anything is decoded.

    ``chosen`` picks the folds to hold out from those that the lists have.
    """
    entries = labelled_entries(config, data, config.clips)
    check_labels(config, (label for _, label in entries), "the lists")
    known = sorted({entry.fold for entry, _ in entries} - {NEVER_HELD_OUT})
    for fold in chosen(known):
        _check_rest(config, (label for entry, label in entries if entry.fold != fold), fold)


def _check_rest(config: TrainConfig, labels: Iterable[int], fold: int) -> None:
    try:
        check_labels(config, labels, f"with fold {fold} held out")
    except DataError as error:
        raise DataError(
            f"{error}; list clips of other groups too, or hold nothing out (--folds none)"
        ) from None


def trainer_for(
    config: TrainConfig, data: Data, fold: int | None, run: Run
) -> Trainer | LinearTrainer:
    """The trainer for all clips except those of ``fold``; for all clips if None."""
    if data.streams is not None:
        clips, negatives = data.without(fold)
        return LinearTrainer(config, data.streams, [*clips, *negatives], len(negatives), run.stop)
    return Trainer(config, composer_for(config, data, fold), run)


def composer_for(config: TrainConfig, data: Data, fold: int | None) -> Composer:
    """Composes sequences of all clips and negatives, except those of ``fold``."""
    clips, negatives = data.without(fold)
    return Composer(config, make_pools(config, clips, negatives, data.episodes))


def accuracy(model: TwoStream, config: TrainConfig, clips: Sequence[Clip]) -> float:
    """The share of clips whose label the fused streams predict."""
    predicted = predict(model, config, clips)[:, 0]
    return float(np.mean(predicted == np.array([group[0].label for group in by_clip(clips)])))


@dataclass(frozen=True)
class Measured:
    """One model on held-out data: true and predicted labels of clips, and scores of streams.

    * ``predicted``: the fused, spatial and temporal label of each clip
    * ``rendered``: episodes of the demo camera
    * ``looped``: the held-out clips one after the other, as the stream protocol plays them
    * ``quiet``: the held-out negatives
    """

    truth: list[int]
    predicted: list[list[int]]
    names: list[str]
    rendered: list[ScoredStream]
    looped: list[ScoredStream]
    quiet: list[ScoredStream]


def measure_fold(model: TwoStream, config: TrainConfig, data: Data, fold: int) -> Measured:
    """:func:`measure` on the held-out data of a model that was trained without ``fold``."""
    clips, quiet = (
        [clip for clip in part if clip.fold == fold] for part in (data.clips, data.negatives)
    )
    features = None if data.streams is None else data.streams.of
    return measure(model, config, clips, data.held_out, quiet, features)


def measure(
    model: TwoStream, config: TrainConfig, clips: Sequence[Clip], episodes: Sequence[Clip],
    quiet: Sequence[Clip] = (), features: Features | None = None,
) -> Measured:  # fmt: skip
    """Predict the labels of held-out clips, and score the held-out streams.

    ``features`` may supply the features of a clip; by default they are computed here.
    """

    def scored(clip: Clip) -> ScoredStream:
        scores = stream_scores(model, clip, config.window, features)
        return ScoredStream(scores.fused, clip.strokes)

    def stream_of(subjects: Sequence[Clip]) -> ScoredStream:
        return subjects_stream(model, config, subjects, features)

    groups = by_clip(clips)
    actions = [config.labels[group[0].label] not in config.background for group in groups]
    order = [place for place in stream_order(actions, config.seed) if place is not None]
    if config.view == WHOLE_PICTURE:
        method, joins = flow.create(config.temporal.method), [Join.CUT] * (len(order) - 1)
        loop = scored(chained([clips[i] for i in order], joins, method, config))
        silent = [scored(clip) for clip in quiet]
    else:
        loop = one_after_the_other([stream_of(groups[i]) for i in order])
        silent = [stream_of(group) for group in by_clip(quiet)]
    return Measured(
        [group[0].label for group in groups],
        predict(model, config, clips, features).tolist(),
        [group[0].name for group in groups],
        [scored(clip) for clip in episodes],
        [loop],
        silent,
    )


def subjects_stream(
    model: TwoStream, config: TrainConfig, subjects: Sequence[Clip],
    features: Features | None = None,
) -> ScoredStream:  # fmt: skip
    """A clip's scores: at each step of each label the best subject's.

    A subject's window begins with the subject, as it does live for somebody new.
    """
    first = subjects[0]
    means_nothing = config.labels[first.label] in config.background
    strokes = () if means_nothing else (Stroke(first.label, 0, first.steps),)
    return ScoredStream(best_scores(model, config, subjects, features), strokes)


def one_after_the_other(streams: Sequence[ScoredStream]) -> ScoredStream:
    """Streams joined to one."""
    strokes, start = [], 0
    for stream in streams:
        strokes += [Stroke(s.label, s.first + start, s.past + start) for s in stream.strokes]
        start += len(stream.scores)
    return ScoredStream(np.concatenate([stream.scores for stream in streams]), tuple(strokes))


def fold_thresholds(config: TrainConfig, measured: Sequence[Measured]) -> list[Thresholds]:
    """For each fold, the thresholds fitted to the other folds; then those fitted to all folds.

    A single fold's thresholds are fitted to itself, so its figures are too good. Thresholds that
    the recipe sets are never fitted.
    """
    if are_given(config):
        return [config.thresholds] * (len(measured) + 1)
    sweeps = [_sweeps(fold, config, CHOICES) for fold in measured]
    everyone = list(range(len(measured)))
    fitted: list[Thresholds] = []
    for left_out in [*everyone, None]:
        kept = [fold for fold in everyone if fold != left_out] or everyone
        kept_sweeps = _together([sweeps[fold] for fold in kept])
        fitted.append({**fit_thresholds(config, kept_sweeps), **config.thresholds})
    return fitted


def are_given(config: TrainConfig) -> bool:
    """Whether the recipe sets the thresholds of all labels, so that none is fitted."""
    return set(config.labels) <= {*config.background, *config.thresholds}


def _sweeps(measured: Measured, config: TrainConfig, choices: Sequence[Choice]) -> Sweeps:
    parts = (measured.looped, measured.rendered, measured.quiet)
    return Sweeps(*(sweep(part, config, choices) for part in parts))


def _together(sweeps: Sequence[Sweeps]) -> Sweeps:
    return Sweeps(
        added([part.real for part in sweeps]),
        added([part.rendered for part in sweeps]),
        added([part.quiet for part in sweeps]),
    )


def summary(
    config: TrainConfig, measured: Sequence[Measured], fitted: Sequence[Thresholds],
    note: str = FITTED_TO_ITSELF,
) -> dict[str, object]:  # fmt: skip
    """Metrics over folds: accuracy of each stream, confusion, stream figures, thresholds.

    ``fitted`` are the :func:`fold_thresholds`; the last of them become the metrics' thresholds, and
    ``note`` says which streams they were fitted to.
    """
    truth = np.array([label for fold in measured for label in fold.truth])
    predicted = np.array([row for fold in measured for row in fold.predicted])
    right = predicted == truth[:, None]
    per_fold = [
        float(np.mean([row[0] == label for row, label in zip(f.predicted, f.truth, strict=True)]))
        for f in measured
    ]
    names = [name for fold in measured for name in fold.names]
    mistakes = {
        name: config.labels[row[0]]
        for name, row, ok in zip(names, predicted.tolist(), right[:, 0], strict=True) if not ok
    }  # fmt: skip
    return {
        "protocol": "clip: the window that ends with each held-out clip, groups kept apart",
        "clips": len(truth),
        "folds": len(measured),
        "top1": {name: round(float(right[:, i].mean()), 4) for i, name in enumerate(STREAMS)},
        "top1_per_fold": [round(value, 4) for value in per_fold],
        "confusion": confusion(truth, predicted[:, 0], len(config.labels)).tolist(),
        "mistakes": mistakes,
        **stream_figures_of(config, measured, fitted),
        "thresholds": {label: value.model_dump() for label, value in fitted[-1].items()},
        "thresholds_note": GIVEN if are_given(config) else note,
    }


def stream_figures_of(
    config: TrainConfig, measured: Sequence[Measured], fitted: Sequence[Thresholds]
) -> dict[str, object]:
    """Figures of all folds' streams; each fold is decided with its own entry of ``fitted``."""

    def counted(part: Callable[[Measured], list[ScoredStream]]) -> tuple[Tally, float]:
        counts = [
            count
            for fold, thresholds in zip(measured, fitted, strict=False)
            for count in total(part(fold), config, thresholds).values()
        ]
        return sum(counts, Tally()), sum(hours_of(part(fold), config) for fold in measured)

    return {
        "rendered_streams": stream_figures(*counted(lambda fold: fold.rendered)),
        "looped_clips": stream_figures(*counted(lambda fold: fold.looped)),
        "negatives": quiet_figures(*counted(lambda fold: fold.quiet)),
    }
