"""Window statistics, and the linear classifier of them, on tiny data."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from tests.training.tiny import linear_config, still_or_moving, tiny_clip
from training.aggregators import WindowStatistics
from training.linear import FixedStreams, LinearTrainer, Windows, clip_weights, fitted, spans
from training.lite0 import PooledHead, load_imagenet
from training.measure import stream_scores
from training.spatial import SpatialNetwork
from training.temporal import PooledMotion


def test_statistics_are_the_mean_and_the_mean_change_of_the_steps_that_are_there() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((1, 6, 3)).astype(np.float32)
    mask = np.array([[0, 1, 1, 0, 1, 1]], np.float32)
    x *= mask[..., None]
    values, known = WindowStatistics(3, 8).measured(
        torch.from_numpy(x), torch.from_numpy(mask[..., None])
    )
    there = x[0, [1, 2, 4, 5]]
    change = (np.abs(x[0, 2] - x[0, 1]) + np.abs(x[0, 5] - x[0, 4])) / 2
    expected = np.concatenate([there.mean(0), np.log(change + 0.01)])
    np.testing.assert_allclose(values[0, -1], expected, rtol=1e-5)
    assert known[0, :, 0].tolist() == [0, 1, 1, 1, 1, 1]
    assert known[0, :, 3].tolist() == [0, 0, 1, 1, 1, 1]


def test_what_no_step_tells_is_the_average() -> None:
    aggregate = WindowStatistics(2, 8)
    aggregate.calibrate(torch.rand(50, 4) + 3.0, torch.ones(50, 4))
    states = aggregate(torch.zeros(1, 3, 2), torch.zeros(1, 3))
    assert states.abs().max() == 0.0


def test_padding_before_a_window_changes_nothing() -> None:
    aggregate = WindowStatistics(4, 8)
    x = torch.rand(1, 5, 4)
    padded = torch.cat([torch.zeros(1, 3, 4), x], 1)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1.0]])
    torch.testing.assert_close(aggregate(padded, mask)[:, 3:], aggregate(x, torch.ones(1, 5)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["concat", "weighted", "attention", "score"])
def test_a_linear_classifier_tells_motion_from_stillness_and_is_the_same_again(
    kind: str, linear_streams: FixedStreams
) -> None:
    config = linear_config(fusion={"kind": kind, "aggregator": "statistics"})
    trained = []
    for _ in range(2):
        clips = still_or_moving(4)
        trainer = LinearTrainer(config, linear_streams, clips, 0)
        trained.append(trainer.train(lambda _, loss: None))
        assert trainer.curves.loss[-1] < trainer.curves.loss[0]
        assert trainer.iteration == trainer.total
    model = trained[0]
    for clip in (tiny_clip(0, 99), tiny_clip(2, 99)):
        scores = stream_scores(model, clip, config.window)
        assert scores.fused[-1].argmax() == clip.label
        assert scores.temporal[-1].argmax() == clip.label
    for a, b in zip(trained[0].parameters(), trained[1].parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_streams_that_stay_as_they_are_are_the_same_again(linear_streams: FixedStreams) -> None:
    clip = tiny_clip(2)
    again = FixedStreams(linear_config()).of(clip)
    for ours, theirs in zip(linear_streams.of(clip), again, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("seed", range(3))
def test_a_fit_ends_where_the_objective_is_flat(seed: int) -> None:
    """Features of very different sizes: a line search that is cut short ends long before."""
    config = linear_config(optimiser={"iterations": 60}, linear={"decay": 2.0})
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(60, 200, generator=rng) * torch.linspace(0.3, 9.0, 200)
    label = torch.arange(60) % 2
    x[:, 0] += 2.0 * label
    classify = torch.nn.Linear(200, 2)
    rows = torch.zeros(60, 1, 1)
    windows = Windows(rows, rows, rows, label, torch.full((60,), 1 / 60))
    logits = partial(classify, x)
    *_, last = fitted([*classify.parameters()], logits, windows, config)
    for parameter in classify.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() < 5e-4
    assert last < 0.25


def test_all_labels_count_the_same_and_negatives_for_their_share() -> None:
    config = linear_config(linear={"negatives": 0.25})
    clips = [tiny_clip(0, 0), tiny_clip(0, 1), tiny_clip(1, 0), tiny_clip(2, 0), tiny_clip(0, 9)]
    weights = clip_weights(config, clips, negatives=1)
    np.testing.assert_allclose(weights, [0.125, 0.125, 1 / 3, 1 / 3, 1 / 12], rtol=1e-6)


def test_windows_end_with_the_clip_or_lie_within_it() -> None:
    config = linear_config(linear={"windows": 30, "shortest": 5})
    parts = spans(20, config, np.random.default_rng(0))
    assert parts[0] == slice(12, 20)
    assert all(part.start >= 0 and part.stop <= 20 for part in parts)
    assert {part.stop - part.start for part in parts} == {5, 6, 7, 8}
    assert spans(3, config, np.random.default_rng(0)) == [slice(0, 3)] * 30


def test_the_pooled_head_does_not_tell_places_apart() -> None:
    network = SpatialNetwork(linear_config().spatial, 1280, "pooled").eval()
    assert isinstance(network.head, PooledHead)
    load_imagenet(network.backbone, network.head)
    grid = torch.rand(2, 320, 3, 4)
    pooled = network.head(grid)
    assert pooled.shape == (2, 1280)
    torch.testing.assert_close(network.head(grid.flip(-1)), pooled, rtol=1e-4, atol=1e-5)


def test_motion_of_the_camera_itself_is_left_out() -> None:
    network = PooledMotion(6, (16, 16), 1280).eval()
    planes = torch.rand(1, 6, 16, 16)
    drift = torch.tensor([0.5, -0.2] * 3)[None, :, None, None]
    torch.testing.assert_close(network.resize(planes + drift), network.resize(planes))


def test_statistics_are_refused_where_they_mean_nothing() -> None:
    with pytest.raises(ValueError, match="spatial_head pooled"):
        linear_config(spatial_head="grid")


@pytest.mark.slow
@pytest.mark.parametrize("deaf", ["spatial", "temporal"])
def test_late_fusion_learns_which_stream_is_worth_something_elsewhere(
    deaf: str, linear_streams: FixedStreams
) -> None:
    """One stream's clips are shuffled, so that it tells its own clips by heart and no others."""
    clips = [
        replace(c, group=f"g{n}", grid=c.grid + np.float16(0.5 * c.label))
        for n, c in enumerate(still_or_moving(8))
    ]
    shuffled = np.random.default_rng(3).permutation(len(clips))
    parts = ("grid",) if deaf == "spatial" else ("fields", "moving")
    clips = [
        replace(clip, **{part: getattr(clips[other], part) for part in parts})
        for clip, other in zip(clips, shuffled, strict=True)
    ]
    config = linear_config(fusion={"kind": "score", "aggregator": "statistics"})
    model = LinearTrainer(config, linear_streams, clips, 0).train(lambda *_: None)
    share = torch.sigmoid(model.fusion.balance).item()
    assert share < 0.35 if deaf == "spatial" else share > 0.65
