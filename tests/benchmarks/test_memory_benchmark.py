"""The benchmark of the memory, small; and the weeks that it makes."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.week import DAY_S, GAP_S, begins
from pipeline.clock import NS_PER_S
from tests.structure import PROJECT


@pytest.mark.parametrize(("days", "hours"), [(7, 1), (7, 24), (0.5, 8), (2.5, 0.1), (0.001, 1)])
def test_a_week_repeats_its_footage_in_the_hours_of_each_day(days: float, hours: float) -> None:
    at = [begin / NS_PER_S for begin in begins(0, days, hours, 300.0)]
    assert at == sorted(at)
    assert min(b - a for a, b in zip([-DAY_S, *at], at, strict=False)) >= 300 + GAP_S - 1e-6
    assert {int(begin // DAY_S) for begin in at} == set(range(-int(-days // 1)))
    whole = [begin for begin in at if begin // DAY_S < days // 1]
    assert all(begin % DAY_S + 300 <= hours * 3600 + GAP_S or begin % DAY_S == 0 for begin in whole)


@pytest.mark.slow
@pytest.mark.skipif("TWO_STREAM_DATA" not in os.environ, reason="TWO_STREAM_DATA is not set")
def test_what_was_recorded_is_said_again_and_again() -> None:
    words = ["--days", "0.02", "--cameras", "3", "--minutes", "0.4", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "memory", *words],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["recorded"]["same"] > 0
    for compared in (found["recorded"], found["week"]):
        assert (compared["new"], compared["gone"]) == (0, 0)
    assert found["week"]["same"] >= 2 * found["recorded"]["same"]
    busy, quiet = (found["rooms"][room] for room in ("busy", "quiet"))
    assert busy["kept_share"] > 0.9
    assert quiet["kept_share"] < 0.5
    assert busy["bytes_a_step"] > 0
    assert quiet["megabytes_a_day"] > 0
