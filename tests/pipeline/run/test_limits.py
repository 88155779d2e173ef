"""What a run needs of the machine, from its config."""

from typing import Any

from pipeline.config import validate
from pipeline.run.limits import files_needed


def needed(cameras: int, workers: int = 1) -> int:
    names: dict[str, Any] = {f"c{number}": {} for number in range(cameras)}
    return max(files_needed(validate({"cameras": names, "flow": {"workers": workers}})).values())


def test_one_camera_fits_into_the_smallest_limit_in_use() -> None:
    assert needed(1) <= 64


def test_more_cameras_and_workers_need_more() -> None:
    counts = [needed(1), needed(2), needed(16), needed(16, 8), needed(256, 8)]
    assert counts == sorted(counts)
    assert needed(256) > 1024  # the usual soft limit
