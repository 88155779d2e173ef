"""The shipped base: its file, and networks that packs can be made of."""

import json
import shutil
from pathlib import Path

import onnxruntime as ort
import pytest

from pipeline.errors import PackError
from pipeline.program import PROJECT
from teach.base import BASE_FILE, Base

SHIPPED = PROJECT / "models" / "base"
STREAMS = ("body", "flow", "hands", "still")


def test_the_shipped_base_has_its_streams() -> None:
    base = Base.load(SHIPPED)
    assert (set(base.appearances), set(base.motions)) == ({"body", "hands", "still"}, {"flow"})
    assert sorted(base.streams) == list(STREAMS)


@pytest.mark.slow
@pytest.mark.parametrize("name", STREAMS)
def test_a_network_has_the_tensors_that_the_loader_of_packs_wants(name: str) -> None:
    base = Base.load(SHIPPED)
    stream = base.streams[name]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        str(SHIPPED / stream.file), options, providers=["CPUExecutionProvider"]
    )
    (features,) = session.get_outputs()
    assert (features.name, features.type) == ("features", "tensor(float)")
    assert features.shape[1] == stream.feature_size
    (pictures,) = session.get_inputs()
    assert pictures.type == "tensor(uint8)"
    if stream.kind == "spatial":
        assert (pictures.name, pictures.shape[1:]) == ("frames", [*stream.size, 3])
    else:
        assert (pictures.name, pictures.shape[1:]) == ("flow", [stream.stack, *stream.size, 2])


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, folder / "base"))


def test_a_changed_network_is_refused(tmp_path: Path) -> None:
    base = copied(tmp_path)
    (base / "flow.onnx").write_bytes(b"changed")
    with pytest.raises(PackError, match=r"flow\.onnx: its sha256 isn't the one in base\.json"):
        Base.load(base)


def test_a_missing_network_is_named(tmp_path: Path) -> None:
    base = copied(tmp_path)
    (base / "still.onnx").unlink()
    with pytest.raises(PackError, match=r"still\.onnx of still is missing"):
        Base.load(base)


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": 2}'])
def test_a_file_that_is_no_base_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / BASE_FILE).write_text(text)
    with pytest.raises(PackError, match=BASE_FILE):
        Base.load(tmp_path)


def test_blocks_lie_inside_the_features(tmp_path: Path) -> None:
    content = json.loads((SHIPPED / BASE_FILE).read_text())
    content["streams"]["flow"]["blocks"][0]["size"] = 999
    (tmp_path / BASE_FILE).write_text(json.dumps(content))
    with pytest.raises(PackError, match="block mass: feature 998 of 172"):
        Base.load(tmp_path)
