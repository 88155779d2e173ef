"""Fitting linear classifiers of window statistics; everything else keeps its weights.

A network trained on a few hundred clips from as many places learns the places. So both streams keep
their ImageNet weights, and :class:`~training.aggregators.WindowStatistics` summarises a window.
What remains is logistic regression, whose single solution is found in seconds.

:class:`LinearTrainer` takes the place of :class:`training.optimise.Trainer`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.aggregators import WindowStatistics
from training.config import TrainConfig
from training.data import Clip
from training.frozen import Frozen
from training.fusion import Classifier, FusionNetwork, StreamHead
from training.measure import ClipFeatures, clip_features
from training.model import TwoStream, new_model
from training.optimise import Curves, Interrupted, Report
from training.subjects import shares
from training.temporal import STILL

Rng = np.random.Generator
AT_ONCE = 16
LEFT_OUT = 5
"""Parts of the groups that are left out in turn to measure the streams on groups new to them."""


class FixedStreams:
    """Features of clips from the frozen streams; each clip is computed once."""

    def __init__(self, config: TrainConfig) -> None:
        self._model = new_model(config).eval()
        backbone = self._model.temporal.backbone
        self._motion = Frozen(backbone, _stacks_of_nothing(self._model, config))
        self._known: dict[int, tuple[Clip, ClipFeatures]] = {}

    def of(self, clip: Clip) -> ClipFeatures:
        """The features of a clip's steps."""
        # Keeping the clip alive beside its features keeps its id from being reused.
        if id(clip) not in self._known:
            self._known[id(clip)] = clip, clip_features(self._model, clip, self._motion)
        return self._known[id(clip)][1]


def _stacks_of_nothing(model: TwoStream, config: TrainConfig) -> Tensor:
    """A few stacks without motion, as input for the motion network's :meth:`features`."""
    fields = torch.full((1, AT_ONCE, 2, *config.temporal.size), STILL)
    planes = model.temporal.resized(fields.flatten(0, 1))
    return model.stacks(planes.reshape(1, AT_ONCE, *planes.shape[1:]))[0]


@dataclass(frozen=True)
class Windows:
    """N training windows of T steps.

    ``spatial`` and ``temporal`` features (N, T, d), ``mask`` (N, T, 2), ``label`` (N,) int64, and
    ``weight`` (N,) float32, which sums to 1.
    """

    spatial: Tensor
    temporal: Tensor
    mask: Tensor
    label: Tensor
    weight: Tensor

    def of(self, rows: Tensor) -> "Windows":
        """The windows of some rows (int64), with their weights again summing to 1."""
        share = self.weight[rows]
        return Windows(
            self.spatial[rows], self.temporal[rows], self.mask[rows], self.label[rows],
            share / share.sum(),
        )  # fmt: skip


def spans(steps: int, config: TrainConfig, rng: Rng) -> list[slice]:
    """Parts of a clip of ``steps`` steps: the window that ends with it, and random others."""
    parts = [slice(max(0, steps - config.window), steps)]
    shortest = min(config.linear.shortest, steps)
    for _ in range(config.linear.windows - 1):
        length = int(rng.integers(shortest, min(steps, config.window) + 1))
        first = int(rng.integers(steps - length + 1))
        parts.append(slice(first, first + length))
    return parts


def clip_weights(config: TrainConfig, clips: Sequence[Clip], negatives: int) -> list[float]:
    """The weight of each clip; the last ``negatives`` of ``clips`` are the negatives.

    All labels have the same weight, shared equally by their clips, and a clip's by its subjects. In
    the first background label the negatives together have the share ``linear.negatives``.
    """
    own = len(clips) - negatives
    labels, parts = [clip.label for clip in clips[:own]], shares(clips)
    counts = np.bincount(labels, parts[:own], len(config.labels))
    each = 1.0 / np.count_nonzero(counts) / np.where(counts > 0, counts, 1.0)
    weights = [float(each[label]) * part for label, part in zip(labels, parts, strict=False)]
    if negatives:
        share, background = config.linear.negatives, config.labels.index(config.background[0])
        weights = [
            weight * (1.0 - share) if clip.label == background else weight
            for clip, weight in zip(clips, weights, strict=False)
        ]
        one = share / np.count_nonzero(counts) / sum(parts[own:])
        weights += [float(one) * part for part in parts[own:]]
    return weights


def windows_of(
    config: TrainConfig, streams: FixedStreams, clips: Sequence[Clip], weights: Sequence[float]
) -> Windows:
    """Windows of all clips, padded at their old end like the windows of a new stream."""
    rng = np.random.default_rng(config.seed)
    rows, labels, shares = [], [], []
    for clip, weight in zip(clips, weights, strict=True):
        features = streams.of(clip)
        parts = spans(len(clip), config, rng)
        for part in parts:
            missing = config.window - (part.stop - part.start)
            rows.append([functional.pad(x[part], (0, 0, missing, 0)) for x in features])
            labels.append(clip.label)
            shares.append(weight / len(parts))
    spatial, temporal, mask = (torch.stack(column) for column in zip(*rows, strict=True))
    share = torch.tensor(shares)
    return Windows(spatial, temporal, mask, torch.tensor(labels), share / share.sum())


@torch.no_grad()
def window_states(head: StreamHead, x: Tensor, mask: Tensor) -> Tensor:
    """States (N, 1, 2 d) at the end of windows; first calibrates the head on these windows.

    ``x`` (N, T, d), ``mask`` (N, T, 1).
    """
    aggregate = head.aggregate
    assert isinstance(aggregate, WindowStatistics)
    parts = [
        [y[:, -1:] for y in aggregate.measured(a, b)]
        for a, b in zip(torch.split(x, AT_ONCE), torch.split(mask, AT_ONCE), strict=True)
    ]
    values, known = (torch.cat(column) for column in zip(*parts, strict=True))
    aggregate.calibrate(values[:, 0], known[:, 0])
    return (values - aggregate.centre) * aggregate.scale * known


class LinearTrainer:
    """Fits the heads of a model with frozen streams; like Trainer, but always from scratch."""

    def __init__(
        self,
        config: TrainConfig,
        streams: FixedStreams,
        clips: Sequence[Clip],
        negatives: int,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """``clips`` to train on, of which the last ``negatives`` show no label.

        ``stop`` is called after each clip and each iteration; true ends training.
        """
        self._stop = stop
        self._config, self._streams = config, streams
        self._clips, self._negatives = clips, negatives
        total = HEADS * config.optimiser.iterations
        self.iteration, self.total = 0, total
        self.curves = Curves()

    def train(self, report: Report) -> TwoStream:
        """The model in evaluation mode; ``report`` is called with each iteration and its loss.

        Raises Interrupted. A fit takes seconds, so no state is kept.
        """
        config, model = self._config, new_model(self._config).eval()
        weights = clip_weights(config, self._clips, self._negatives)
        for done, clip in enumerate(self._clips, 1):
            self._streams.of(clip)
            if self._stop():
                raise Interrupted(
                    f"stopped after the features of {done} of {len(self._clips)} clips"
                )
        windows = windows_of(config, self._streams, self._clips, weights)
        groups = [clip.group for clip in self._clips for _ in range(config.linear.windows)]
        parts = learned(model.fusion, windows, groups, config)
        for number, (parameters, logits) in enumerate(parts, 1):
            for loss in fitted(parameters, logits, windows, config):
                self.curves.loss.append(loss)
                self.iteration += 1
                report(self.iteration, loss)
                if self._stop():
                    raise Interrupted(f"stopped after {self.iteration} of {self.total} iterations")
            self.iteration = number * config.optimiser.iterations
        return model


HEADS = 3
"""The parts that are fitted: the classifier of each stream, and their fusion."""


def learned(
    fusion: FusionNetwork, windows: Windows, groups: Sequence[str], config: TrainConfig
) -> Iterator[tuple[list[nn.Parameter], Callable[[], Tensor]]]:
    """The parts to fit, one after the other: their parameters, and a function of them that returns
    the windows' logits (N, C). ``groups`` are the windows' groups.

    The two numbers of late fusion are fitted to the streams' outputs for groups that the streams
    weren't fitted to (stacking: Wolpert 1992). A stream's accuracy on its own training windows
    doesn't show how good it is elsewhere.
    """
    mask = windows.mask
    spatial = window_states(fusion.spatial_head, windows.spatial, mask[..., 0:1])
    temporal = window_states(fusion.temporal_head, windows.temporal, mask[..., 1:2])
    for head, states in ((fusion.spatial_head, spatial), (fusion.temporal_head, temporal)):
        yield [*head.classify.parameters()], partial(_final_logits, head, states)
    if fusion.kind == "score":
        outputs = [
            out_of_group(head, states, windows, groups, config)
            for head, states in ((fusion.spatial_head, spatial), (fusion.temporal_head, temporal))
        ]
        yield [fusion.balance, fusion.log_sharpness], lambda: _product(fusion, *outputs)
    else:
        seen = mask.amax(1, keepdim=True)
        known = {"foresee", "spatial_head", "temporal_head"}
        yield (
            [p for name, p in fusion.named_parameters()
             if p.requires_grad and known.isdisjoint(name.split("."))],
            lambda: _final_logits(fusion.fused_head, fusion.mixed(spatial, temporal, seen)[0]),
        )  # fmt: skip


def _product(fusion: FusionNetwork, spatial: Tensor, temporal: Tensor) -> Tensor:
    share = torch.sigmoid(fusion.balance)
    return torch.exp(fusion.log_sharpness) * (share * spatial + (1.0 - share) * temporal)


def out_of_group(
    head: StreamHead, states: Tensor, windows: Windows, groups: Sequence[str], config: TrainConfig
) -> Tensor:
    """Log probabilities (N, C) of each window, from a classifier fitted without its group.

    With a single group, from the head's own classifier.
    """
    # Imported here: it takes a second to load, and only late fusion needs it.
    from sklearn.model_selection import StratifiedGroupKFold

    own = torch.log_softmax(head.classify(states[:, -1]), -1).detach()
    parts = min(LEFT_OUT, len(set(groups)))
    if parts < 2:
        return own
    outputs = own.clone()
    splits = StratifiedGroupKFold(parts, shuffle=True, random_state=config.seed)
    for kept, left_out in splits.split(states[:, -1], windows.label, groups):
        classify = nn.Linear(head.classify.in_features, head.classify.out_features)
        rows = windows.of(torch.from_numpy(kept))
        logits = partial(_logits, classify, states[torch.from_numpy(kept), -1])
        for _ in fitted([*classify.parameters()], logits, rows, config):
            pass
        left = states[torch.from_numpy(left_out), -1]
        outputs[torch.from_numpy(left_out)] = torch.log_softmax(classify(left), -1).detach()
    return outputs


def _logits(classify: nn.Linear, states: Tensor) -> Tensor:
    y: Tensor = classify(states)
    return y


def _final_logits(head: Classifier, states: Tensor) -> Tensor:
    logits: Tensor = head.classify(states)[:, -1]
    return logits


def fitted(
    parameters: Sequence[nn.Parameter], logits: Callable[[], Tensor], windows: Windows,
    config: TrainConfig,
) -> Iterable[float]:  # fmt: skip
    """Fit linear layers by L-BFGS (Liu and Nocedal 1989); yields the objective per iteration."""
    for parameter in parameters:
        torch.nn.init.zeros_(parameter)
    weights = [parameter for parameter in parameters if parameter.dim() > 1]
    # Unless it may evaluate more often than its one iteration suggests, torch cuts the line search
    # short, takes a step of length 0, and from then on no other.
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=1, max_eval=25, history_size=20, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimiser.zero_grad()
        each = functional.cross_entropy(logits(), windows.label, reduction="none")
        loss = (each * windows.weight).sum()
        for weight in weights:
            loss = loss + config.linear.decay * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(config.optimiser.iterations):
        yield optimiser.step(objective).item()  # type: ignore[no-untyped-call]
