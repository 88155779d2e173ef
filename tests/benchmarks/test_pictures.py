"""The pictures of figures."""

from pathlib import Path

import cv2
import pytest

from benchmarks import pictures
from benchmarks.__main__ import BENCHMARKS
from benchmarks.live_cameras import TOTAL
from benchmarks.profile import ProfileResult
from benchmarks.soak import SoakResult
from testbed.resources import Sample


@pytest.mark.slow
def test_figures_become_pictures(tmp_path: Path) -> None:
    ms = {TOTAL: {"p50": 12.0, "p99": 30.0}}
    trials = [{"cameras": n, "ms": ms, "cores": n / 10, "server_cores": 0.1} for n in (1, 2, 3)]
    stages = {"capture": 40.0, "flow": 17.0}
    rows = [
        {"transport": name, "size": size, "fps": fps}
        for size in ("640×480", "1920×1080")
        for name, fps in (("ring", 9000.0), ("queue", 90.0))
    ]
    pictures.overhead(
        {"cameras": 4, "overhead": 1.1, "floor_ms": stages, "pipeline_ms": {**stages, "fusion": 3}},
        tmp_path / "overhead.png",
    )
    pictures.latency(trials, tmp_path / "latency.png")
    pictures.density({"held": 2, "seconds": 60, "trials": trials}, tmp_path / "density.png")
    pictures.transport(rows, tmp_path / "transport.png")
    pictures.peers(
        {"two-stream": {"cameras": 12}, "loop": {"cameras": 0.3}}, tmp_path / "peers.png"
    )
    pictures.profile(
        ProfileResult(4, {"flow": {"OpenCV": 9.0, "kernel": 1.0}, "fusion": {"Python": 3.0}}),
        tmp_path / "profile.png",
    )
    taken: dict[str, Sample] = {"fusion": {"pid": 7, "uss_mb": 40.0, "files": 20, "cpu_s": 1.0}}
    pictures.soak(SoakResult({}, [(10.0, taken), (20.0, taken)]), tmp_path / "soak.png")
    found = sorted(tmp_path.glob("*.png"))
    assert [path.stem for path in found] == sorted(
        name for name, row in BENCHMARKS.items() if row.picture
    )
    for path in found:
        picture = cv2.imread(str(path))
        assert picture is not None
        assert picture.std() > 5.0
