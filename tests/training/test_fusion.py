"""Fusion: what a missing stream does, and what padding doesn't."""

import pytest
import torch

from training.aggregators import MaskedGRU
from training.config import Aggregator, FusionConfig, FusionKind
from training.fusion import FusionNetwork

N, T, D, C = 2, 9, 6, 4
KINDS: tuple[FusionKind, ...] = ("concat", "weighted", "attention", "score")
AGGREGATORS: tuple[Aggregator, ...] = ("gru", "statistics")


def network(kind: FusionKind, aggregator: Aggregator = "gru") -> FusionNetwork:
    torch.manual_seed(0)
    return FusionNetwork(FusionConfig(kind=kind, aggregator=aggregator, hidden=8), D, C).eval()


def window(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    spatial = torch.randn(N, T, D, generator=generator)
    temporal = torch.randn(N, T, D, generator=generator)
    return spatial, temporal, torch.ones(N, T, 2)


def test_a_masked_step_leaves_the_state_as_it_was() -> None:
    gru = MaskedGRU(D, 8)
    x = torch.randn(1, 5, D)
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0, 1.0]])
    states = gru(x, mask)
    assert torch.allclose(states[:, 1], states[:, 3], atol=1e-6)
    assert torch.allclose(states[:, 4], gru(x[:, [0, 1, 4]], mask[:, [0, 1, 4]])[:, 2], atol=1e-6)
    assert not torch.allclose(states[:, 3], states[:, 4], atol=1e-3)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize("kind", KINDS)
def test_padding_at_the_old_end_changes_nothing(kind: FusionKind, aggregator: Aggregator) -> None:
    model, (spatial, temporal, mask) = network(kind, aggregator), window()
    junk = torch.full((N, 3, D), 7.0)
    padded = model(
        torch.cat([junk, spatial], 1),
        torch.cat([junk, temporal], 1),
        torch.cat([torch.zeros(N, 3, 2), mask], 1),
    )
    for plain, long in zip(model(spatial, temporal, mask)[:3], padded[:3], strict=True):
        assert torch.allclose(plain, long, atol=1e-6)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_stream_has_no_say(
    kind: FusionKind, aggregator: Aggregator, missing: int
) -> None:
    model, (spatial, temporal, mask) = network(kind, aggregator), window()
    mask[..., missing] = 0.0
    streams = [spatial, temporal]
    scores, *_, alpha = model(*streams, mask)
    streams[missing] = torch.full_like(spatial, 99.0)
    assert torch.equal(scores, model(*streams, mask)[0])
    assert torch.equal(alpha, torch.full((N, T), float(missing)))


def test_score_fusion_of_one_stream_is_that_stream() -> None:
    model, (spatial, temporal, mask) = network("score"), window()
    mask[..., 0] = 0.0
    fused, _, own, _ = model(spatial, temporal, mask)
    assert torch.allclose(fused, own, atol=1e-4)


def test_score_fusion_multiplies_what_the_streams_say() -> None:
    model, (spatial, temporal, mask) = network("score"), window()
    fused, one, other, _ = model(spatial, temporal, mask)
    product = one * other
    assert torch.allclose(fused, product / product.sum(-1, keepdim=True), atol=1e-6)
    with torch.no_grad():
        model.balance.fill_(100.0)
        model.log_sharpness.zero_()
    fused, one, _, alpha = model(spatial, temporal, mask)
    assert torch.allclose(fused, one, atol=1e-6)
    assert torch.equal(alpha, torch.ones(N, T))


@pytest.mark.parametrize("kind", ["weighted", "attention"])
def test_alpha_weighs_the_streams_where_both_are_there(kind: FusionKind) -> None:
    model, (spatial, temporal, mask) = network(kind), window()
    mask[0, 3, 0] = mask[1, 5, 1] = 0.0
    alpha = model(spatial, temporal, mask)[3]
    assert alpha[0, 3] == 0.0
    assert alpha[1, 5] == 1.0
    both = mask.prod(-1) > 0
    assert ((alpha[both] > 0.0) & (alpha[both] < 1.0)).all()


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_probabilities_even_of_an_empty_window(
    kind: FusionKind, aggregator: Aggregator
) -> None:
    model, (spatial, temporal, mask) = network(kind, aggregator), window()
    for present in (mask, torch.zeros_like(mask)):
        for scores in model(spatial, temporal, present)[:3]:
            assert torch.allclose(scores.sum(-1), torch.ones(N), atol=1e-4)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_step_sees_a_later_one(kind: FusionKind, aggregator: Aggregator) -> None:
    model, (spatial, temporal, mask) = network(kind, aggregator), window()
    before = model.steps(spatial, temporal, mask).fused[:, :5]
    spatial[:, 5:], temporal[:, 5:] = 3.0, -3.0
    assert torch.equal(before, model.steps(spatial, temporal, mask).fused[:, :5])


@pytest.mark.parametrize("kind", ["weighted", "score"])
def test_alpha_can_be_set_by_hand(kind: FusionKind) -> None:
    for alpha in (0.0, 0.3, 1.0):
        model = FusionNetwork(FusionConfig(kind=kind, alpha=alpha, hidden=8), D, C).eval()
        assert model.balance.requires_grad == (kind == "score")
        if kind == "score":
            model.set_share(alpha)
        torch.testing.assert_close(
            model(*window())[3], torch.full((N, T), alpha), atol=1e-5, rtol=0
        )


def test_alpha_is_refused_where_there_is_none_to_set() -> None:
    with pytest.raises(ValueError, match="alpha: only the kinds weighted and score have it"):
        FusionConfig(kind="attention", alpha=0.5)
