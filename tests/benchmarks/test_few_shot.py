"""How the benchmark of few clips splits them."""

from pathlib import Path

import numpy as np

from benchmarks.few_shot import split
from teach.examples import Example
from teach.features import ClipFeatures


def test_groups_that_teach_are_not_told() -> None:
    clip = ClipFeatures(Path("clip"), np.zeros(1, np.int64), {}, {})
    examples = [
        Example(clip, label, f"group {group}", f"{label} {group}")
        for group in range(10)
        for label in range(3)
    ]
    taught, told = split(examples, 4, np.random.default_rng(0))
    assert [examples[place].label for place in taught] == [0] * 4 + [1] * 4 + [2] * 4
    groups = [{examples[place].group for place in places} for places in (taught, told)]
    assert not groups[0] & groups[1]
    assert len(told) == 15
