"""A pack that was exported here runs in a fresh environment: onnxruntime, no torch, no checkout."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from export.pack import export_packs
from pipeline.evaluate.recogniser import OfflineRecogniser, file_frames
from pipeline.model.pack import ModelPack
from tests.export.tiny import drifting_clip, model_of, write_video
from tests.training.tiny import tiny_config

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SOURCES = ("pipeline", "training", "export", "benchmarks")
FILES = ("pyproject.toml", "README.md", "LICENSE", "constraints.txt")
INSTALL_S = 280

# Prints which of torch and onnx can be imported, and the scores of every step of a file.
PROGRAM = """
import importlib.util, json, sys
from pathlib import Path
from pipeline.model.pack import ModelPack
from pipeline.evaluate.recogniser import OfflineRecogniser, file_frames
recogniser = OfflineRecogniser(ModelPack.load(sys.argv[1]))
steps = [step.scores.tolist() for step in recogniser.steps(file_frames(Path(sys.argv[2])))]
there = [name for name in ("torch", "onnx") if importlib.util.find_spec(name)]
print(json.dumps({"there": there, "scores": steps}))
"""


@pytest.fixture(scope="module")
def fresh_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the project, without its extras."""
    folder = tmp_path_factory.mktemp("fresh")
    # Installed from a copy: a build leaves folders behind where it's made.
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / "source" / name)
    for name in FILES:
        shutil.copyfile(ROOT / name, folder / "source" / name)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check",
         "-c", "constraints.txt", "."],
        cwd=folder / "source", capture_output=True, text=True, timeout=INSTALL_S,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"pip can't install the project: {done.stderr.strip()[-300:]}")
    return python


@pytest.mark.timeout(INSTALL_S + 60)
def test_an_exported_pack_runs_without_torch(fresh_python: Path, tmp_path: Path) -> None:
    config = tiny_config()
    pack, video = tmp_path / "tiny", tmp_path / "right.mp4"
    export_packs(model_of(config), config, {}, [drifting_clip(config)], pack)
    write_video(video, 1, 2)
    done = subprocess.run(
        [fresh_python, "-I", "-c", PROGRAM, pack, video],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["there"] == []
    here = list(OfflineRecogniser(ModelPack.load(pack)).steps(file_frames(video)))
    assert "torch" in sys.modules
    np.testing.assert_allclose(result["scores"], [step.scores for step in here], atol=1e-6)
    assert len(here) == 12
