"""The benchmark's own arithmetic, on a clock that the test moves."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.flow import load_pairs, median_ms, zero
from pipeline.arrays import FlowField, Gray


class Scripted:
    """A clock, and methods that take a scripted time on it."""

    def __init__(self) -> None:
        self.now = 0
        self.order: list[str] = []

    def method(self, name: str, *nanoseconds: int) -> "Scripted.Method":
        return Scripted.Method(self, name, list(nanoseconds))

    class Method:
        def __init__(self, clock: "Scripted", name: str, times: list[int]) -> None:
            self._clock, self._name, self._times = clock, name, times

        def __call__(self, prev_gray: Gray, next_gray: Gray) -> FlowField:
            self._clock.order.append(self._name)
            self._clock.now += self._times.pop(0)
            return zero(prev_gray, next_gray)


def test_the_first_round_does_not_count_and_methods_take_turns() -> None:
    clock = Scripted()
    compared = {
        "a": clock.method("a", 90_000_000, 1_000_000, 2_000_000, 9_000_000),
        "b": clock.method("b", 80_000_000, 5_000_000, 5_000_000, 4_000_000),
    }
    frame = np.zeros((4, 4), np.uint8)
    found = median_ms(compared, [(frame, frame)], rounds=3, timer=lambda: clock.now)
    assert found == {"a": 2.0, "b": 5.0}
    assert clock.order == ["a", "b"] * 4


def test_a_missing_pair_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"RubberWhale.frame10\.png"):
        load_pairs(tmp_path)
