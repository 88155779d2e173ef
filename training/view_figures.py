"""Which view, and which flow of a region: logistic regression on frozen features of clips.

``python -m training views`` prints the table. A clip's features are the mean and the standard
deviation over its steps (:mod:`training.view_features`). Folds keep groups whole; several seeds of
them show how much of a difference is chance.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.people import camera_motion, cutting, following, moving, regions, tracks
from pipeline.people.contract import NETWORK_FILE
from pipeline.people.detector import SHIPPED, PersonDetector
from training import lite0, temporal, view_features
from training.clip_cache import (
    CACHE_VERSION,
    ArrayFiles,
    Arrays,
    FileContents,
    code_digest,
    digest_of,
    library_versions,
)
from training.clip_list_formats import Entry
from training.config import TrainConfig
from training.data import LIBRARIES, labelled_entries, motion_settings, video_frames
from training.view_features import LESS, Costs, Networks, clip_view_features

VIEWS = ("frame", "moving", "person")
FOLDS = 5
Row = npt.NDArray[np.float32]
_STORED = ("columns", "rows", "parts", "spent")


@dataclass
class ClipTable:
    """Features of clips by column, such as ``moving|cuts|camera`` and ``person|appearance``."""

    shows: list[bool] = field(default_factory=list)
    """For each clip whether it shows an action."""
    groups: list[str] = field(default_factory=list)
    rows: list[dict[str, list[Row]]] = field(default_factory=list)
    """For each clip and column the features of its subjects, the one that moves most first."""
    costs: Costs = field(default_factory=Costs)


def load_table(
    config: TrainConfig, data: Path, cached: Path, advance: Callable[[], None]
) -> ClipTable:
    """The features of the recipe's clips, from the cache if it has them; raises DataError."""
    files, contents, table = ArrayFiles(cached), FileContents(), ClipTable()
    networks = cache(lambda: (Networks(config), PersonDetector()))
    for entry, label in labelled_entries(config, data, config.clips):
        what = contents.of(entry.path), entry.start_s, entry.end_s

        def made(
            path: Path = entry.path, start: float = entry.start_s, end: float | None = entry.end_s
        ) -> Arrays:
            return _stored(
                *clip_view_features(video_frames(path, start, end), config, *networks(), VIEWS)
            )

        arrays = files.get(digest_of(*_made_by(), _settings(config), *what), _STORED, made)
        rows: dict[str, list[Row]] = {}
        for column, row in zip(arrays["columns"].tolist(), arrays["rows"], strict=True):
            rows.setdefault(column, []).append(row)
        table.shows.append(config.labels[label] not in config.background)
        table.groups.append(entry.group)
        table.rows.append(rows)
        for part, (seconds, calls) in zip(arrays["parts"].tolist(), arrays["spent"], strict=True):
            table.costs.seconds[part] += float(seconds)
            table.costs.calls[part] += int(calls)
        advance()
    return table


def _made(
    entry: Entry, config: TrainConfig, networks: Callable[[], tuple[Networks, PersonDetector]]
) -> Arrays:
    frames = video_frames(entry.path, entry.start_s, entry.end_s)
    return _stored(*clip_view_features(frames, config, *networks(), VIEWS))


def _stored(columns: Arrays, costs: Costs) -> Arrays:
    named = [(name, row) for name, rows in columns.items() for row in rows]
    return {
        "columns": np.array([name for name, _ in named]),
        "rows": np.array([row for _, row in named], np.float32),
        "parts": np.array([*costs.calls]),
        "spent": np.array([(costs.seconds[part], costs.calls[part]) for part in costs.calls]),
    }


@cache
def _made_by() -> tuple[object, ...]:
    code = code_digest(
        view_features, temporal, lite0, camera_motion, cutting, following, moving, regions, tracks
    )
    return (
        CACHE_VERSION,
        code,
        library_versions(*LIBRARIES),
        FileContents().of(SHIPPED / NETWORK_FILE),
    )


def _settings(config: TrainConfig) -> str:
    return f"{config.step_hz} {config.spatial} {config.spatial_head} {motion_settings(config)}"


class Figures(NamedTuple):
    """A row of the table, means over the seeds."""

    auc: float
    auc_spread: float
    """Standard deviation over the seeds."""
    top1: float
    without: int
    """Clips without a subject, whose whole picture was taken instead."""


def column_rows(table: ClipTable, column: str, subjects: int) -> tuple[list[list[Row]], int]:
    """The features of each clip's first ``subjects`` in a column; those of the whole picture, and
    a count of such clips, where nobody was found."""
    less = column.split("|")[-1]
    whole = "frame|appearance" if less == "appearance" else f"frame|whole|{less}"
    found, without = [], 0
    for rows in table.rows:
        own = rows.get(column, [])
        without += not own
        # A clip of fewer than three steps has no motion at all.
        found.append((own or rows.get(whole, []))[:subjects])
    return found, without


def figures(
    table: ClipTable, columns: Sequence[str], decay: float, seeds: Sequence[int], subjects: int = 1
) -> Figures:
    """Figures of classifying by the columns together.

    With several ``subjects``, each is an example of its clip's label, and a clip's score is that of
    its best subject. Clips without any features in a column are left out.
    """
    from sklearn.metrics import roc_auc_score

    parts = [column_rows(table, column, subjects) for column in columns]
    each: list[list[Row]] = []
    for clip in zip(*(rows for rows, _ in parts), strict=True):
        most = min(map(len, clip))
        each.append([np.concatenate([rows[k] for rows in clip]) for k in range(most)])
    kept = [number for number, rows in enumerate(each) if rows]
    shows = np.array([table.shows[number] for number in kept])
    groups = [table.groups[number] for number in kept]
    aucs, rights = [], []
    for seed in seeds:
        scores = _held_out([each[number] for number in kept], shows, groups, decay, seed)
        aucs.append(float(roc_auc_score(shows, scores)))
        rights.append(float(((scores > 0) == shows).mean()))
    return Figures(
        float(np.mean(aucs)), float(np.std(aucs)), float(np.mean(rights)),
        max(without for _, without in parts),
    )  # fmt: skip


def _held_out(
    clips: Sequence[Sequence[Row]], shows: npt.NDArray[np.bool_], groups: Sequence[str],
    decay: float, seed: int,
) -> npt.NDArray[np.float64]:  # fmt: skip
    """The score of each clip (0: undecided) by a classifier that was fitted without its fold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.preprocessing import StandardScaler

    scores = np.zeros(len(clips))
    splits = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for learned, held in splits.split(shows, shows, groups):
        examples = np.concatenate([clips[number] for number in learned])
        counts = np.array([len(clips[number]) for number in learned])
        labels, share = np.repeat(shows[learned], counts), np.repeat(1 / counts, counts)
        for value in (False, True):  # both labels weigh the same
            share[labels == value] /= share[labels == value].sum()
        scale = StandardScaler().fit(examples)
        # The recipe's objective: the mean loss, plus ``decay`` times the sum of squares of two
        # opposite rows of weights.
        fitted = LogisticRegression(C=1 / decay, max_iter=1000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted.fit(scale.transform(examples), labels, sample_weight=share / share.sum())
        for number in held:
            scores[number] = fitted.decision_function(scale.transform(clips[number])).max()
    return scores


def compared(config: TrainConfig, table: ClipTable, seeds: Sequence[int]) -> dict[str, Any]:
    """All figures: motion alone, appearance alone, both together, and what each part costs."""

    def row(columns: Sequence[str], subjects: int = 1) -> dict[str, Any]:
        found = figures(table, columns, config.linear.decay, seeds, subjects)
        return {"columns": list(columns), "subjects": subjects, **found._asdict()}

    people = [column for column in motion_columns() if column.startswith("person")]
    looks = [f"{view}|appearance" for view in VIEWS]
    ways = "frame|whole|median", "moving|cuts|camera", "person|cuts|camera"
    together = [(way, look) for way in ways for look in looks]
    return {
        "clips": len(table.shows),
        "actions": sum(table.shows),
        "seeds": list(seeds),
        "motion": [*(row([x]) for x in motion_columns()), *(row([x], 2) for x in people)],
        "appearance": [*(row([x]) for x in looks), row([looks[-1]], 2)],
        "together": [*(row(x) for x in together), row([ways[-1], looks[-1]], 2)],
        "milliseconds": {
            part: round(1000 * table.costs.seconds[part] / calls, 2)
            for part, calls in table.costs.calls.items()
            if calls
        },
    }


def motion_columns() -> Iterator[str]:
    """The ways of motion that are compared."""
    for view in VIEWS:
        for way, every in LESS.items():
            if view != "frame" or way == "whole":
                yield from (f"{view}|{way}|{less}" for less in every)


def tables(result: Mapping[str, Any]) -> str:
    """The figures in Markdown."""
    actions, clips = result["actions"], result["clips"]
    seeds = len(result["seeds"])
    lines = [f"{clips} clips, {actions} of an action; {seeds} seeds of {FOLDS} folds"]
    for kind in ("motion", "appearance", "together"):
        lines += [
            "",
            f"| {kind} | subjects | AUC | its spread | top-1 | without a subject |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for row in result[kind]:
            name = " + ".join(column.replace("|", ", ") for column in row["columns"])
            lines.append(
                f"| {name} | {row['subjects']} | {row['auc']:.3f} | {row['auc_spread']:.3f} | "
                f"{100 * row['top1']:.1f} % | {row['without']} |"
            )
    lines += ["", "| part | CPU ms |", "| --- | ---: |"]
    lines += [f"| {part} | {spent:.2f} |" for part, spent in result["milliseconds"].items()]
    return "\n".join(lines)
