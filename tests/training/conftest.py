"""Fixtures that several tests of training share and none changes."""

from pathlib import Path

import pytest

from tests.training.tiny import linear_config, tiny_config, write_data
from training.crossvalidation import load_data
from training.linear import FixedStreams


@pytest.fixture(scope="session")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the clips of ``write_data``, for any folder they are written to.

    A cache finds a clip by its content, wherever its file lies.
    """
    folder = tmp_path_factory.mktemp("decoded")
    load_data(tiny_config(), write_data(folder / "data", clips=4), folder / "cache")
    return folder / "cache"


@pytest.fixture(scope="session")
def linear_streams() -> FixedStreams:
    """The streams of ``linear_config``, with any fusion."""
    return FixedStreams(linear_config())
