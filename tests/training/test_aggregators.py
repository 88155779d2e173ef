"""Aggregators never look ahead, and compute the same step by step and over the whole window."""

import pytest
import torch

from training.aggregators import AGGREGATORS

N, T, D, HIDDEN = 2, 12, 6, 8
NAMES = sorted(AGGREGATORS)


def aggregator(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return AGGREGATORS[name](D, HIDDEN).eval()


def features(seed: int = 1) -> torch.Tensor:
    return torch.randn(N, T, D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
def test_a_state_knows_nothing_of_later_steps(name: str) -> None:
    model, x, mask = aggregator(name), features(), torch.ones(N, T)
    later = x.clone()
    later[:, 7:] = 5.0
    with torch.inference_mode():
        before, after = model(x, mask), model(later, mask)
    assert before.shape == (N, T, model.width)
    assert torch.allclose(before[:, :7], after[:, :7], atol=1e-6)
    assert not torch.allclose(before[:, 7:], after[:, 7:], atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_padding_at_the_old_end_changes_nothing(name: str) -> None:
    model, x, mask = aggregator(name), features(), torch.ones(N, T)
    junk = torch.full((N, 5, D), 9.0)
    with torch.inference_mode():
        plain = model(x, mask)
        padded = model(torch.cat([junk, x], 1), torch.cat([torch.zeros(N, 5), mask], 1))
    assert torch.allclose(plain, padded[:, 5:], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_at_a_masked_step_has_no_say(name: str) -> None:
    model, x, mask = aggregator(name), features(), torch.ones(N, T)
    mask[:, 4:6] = 0.0
    other = x.clone()
    other[:, 4:6] = 9.0
    with torch.inference_mode():
        one, two = model(x, mask), model(other, mask)
    assert torch.allclose(one[:, 6:], two[:, 6:], atol=1e-6)
    assert torch.allclose(one[:, :4], two[:, :4], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_of_a_long_window_matters_to_the_last(name: str) -> None:
    model, x = aggregator(name), torch.randn(1, 60, D, generator=torch.Generator().manual_seed(3))
    x.requires_grad_(True)
    model(x, torch.ones(1, 60))[0, -1].sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0].abs().sum() > 0.0


def test_attention_wants_whole_heads() -> None:
    with pytest.raises(ValueError, match="multiple of 4, got 10"):
        AGGREGATORS["attention"](D, 10)
