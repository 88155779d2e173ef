"""Fixtures of the live tests: short folders, clips, packs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import tiny_pack
from testbed.cameras import has_rtsp_server
from testbed.footage import panning_clip
from testbed.program import scratch_folder


@pytest.fixture
def scratch() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack that recognises which way a picture moves."""
    return tiny_pack.make(tmp_path_factory.mktemp("pack") / "tiny")


@pytest.fixture(scope="session")
def panning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of a picture that moves left and right in turn."""
    return panning_clip(tmp_path_factory.mktemp("clips") / "panning.mp4", 60)


@pytest.fixture(scope="session")
def data() -> Path:
    """The shared clips; a test that needs them is skipped without."""
    folder = os.environ.get("TWO_STREAM_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("TWO_STREAM_DATA does not name the folder of clips")
    return Path(folder)


@pytest.fixture(scope="session")
def rtsp() -> None:
    if not has_rtsp_server():
        pytest.skip("GStreamer's RTSP server is not installed (CONTRIBUTING.md)")
