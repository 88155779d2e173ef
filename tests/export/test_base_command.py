"""``python -m export base``: the wheel, base.json, and how the head pools the features."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("spox", reason="the base is built with spox")
pytest.importorskip("tflite", reason="MediaPipe's networks are TFLite's")

from export.base import body, hands, mediapipe
from export.base.card import model_card
from export.base.layout import Block
from export.base.mediapipe import PackageError, unpacked
from export.base.store import BASE_FILE, BaseError, Stream, with_streams, written
from pipeline.model.pack import bytes_sha256, file_sha256
from tests.structure import PROJECT

SHIPPED = PROJECT / "models" / "base"


def export_base(*arguments: str, hidden: str = "") -> "subprocess.CompletedProcess[str]":
    code = (
        f"import sys, runpy; sys.modules.update(dict.fromkeys({hidden.split()!r}))\n"
        "sys.argv = ['export', 'base', *sys.argv[1:]]\n"
        "runpy.run_module('export', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_help_needs_none_of_its_packages() -> None:
    done = export_base("--help", hidden="torch onnx spox tflite")
    assert done.returncode == 0, done.stderr
    assert "--out" in done.stdout
    assert "--mediapipe" in done.stdout


@pytest.mark.slow
def test_without_its_packages_it_says_what_to_install(tmp_path: Path) -> None:
    done = export_base("--out", str(tmp_path / "out"), hidden="spox")
    assert done.returncode == 2
    assert done.stderr == "error: spox is missing: pip install 'two-stream[base]'\n"


@pytest.mark.slow
def test_another_wheel_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other/__init__.py", "")
    done = export_base("--out", str(tmp_path / "out"), "--mediapipe", str(wheel))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {wheel}: isn't a wheel of mediapipe 0.10.14")
    assert not (tmp_path / "out").exists()


def test_a_changed_network_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "changed.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in mediapipe.HASHES:
            archive.writestr(file, b"changed")
    with pytest.raises(PackageError, match=r"sha256 is .*, expected .*0\.10\.14 has the known"):
        unpacked(wheel, tmp_path)


def stream(name: str, content: bytes = b"graph") -> Stream:
    block = Block("all", 0, 3, ("mean",), 1.0)
    return Stream(name, content, "network", "MIT", "made", (48, 64), 3, (block,))


def test_streams_of_other_names_stay(tmp_path: Path) -> None:
    path = tmp_path / BASE_FILE
    flow = {"kind": "temporal", "file": "flow.onnx"}
    path.write_text(json.dumps({"schema_version": 1, "streams": {"flow": flow, "body": {}}}))
    base = with_streams(path, {"body": stream("body").entry()})
    assert list(base["streams"]) == ["body", "flow"]
    assert base["streams"]["flow"] == flow
    assert base["streams"]["body"]["sha256"] == bytes_sha256(b"graph")


def test_a_new_base_holds_the_streams_alone(tmp_path: Path) -> None:
    base = with_streams(tmp_path / BASE_FILE, {"body": stream("body").entry()})
    assert base["name"] == "base"
    assert list(base["streams"]) == ["body"]
    assert json.loads(written(base)) == json.loads(json.dumps(base))


@pytest.mark.parametrize("text", ["not json", "[]", '{"streams": []}'])
def test_a_file_that_is_no_base_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / BASE_FILE
    path.write_text(text)
    with pytest.raises(BaseError, match=BASE_FILE):
        with_streams(path, {})


@pytest.mark.parametrize(
    ("blocks", "size"), [(hands.blocks(), 2 * hands.HAND.size), (body.blocks(), body.BODY.size)]
)
def test_blocks_lie_within_the_features_and_share_them_all(blocks: list[Block], size: int) -> None:
    assert len({block.name for block in blocks}) == len(blocks)
    assert sum(block.weight for block in blocks) == pytest.approx(1)
    for block in blocks:
        assert 0 <= block.start < block.start + block.size <= size
        assert block.valid in (0, hands.HAND.size)


def test_the_shipped_base_says_what_lies_there() -> None:
    base = json.loads((SHIPPED / BASE_FILE).read_text())
    for name, blocks in (("hands", hands.blocks()), ("body", body.blocks())):
        entry = base["streams"][name]
        assert entry["sha256"] == file_sha256(SHIPPED / entry["file"])
        assert entry["blocks"] == json.loads(json.dumps([block.entry() for block in blocks]))


def test_the_card_names_each_stream() -> None:
    base = json.loads((SHIPPED / BASE_FILE).read_text())
    card = model_card(base)
    assert (SHIPPED / "MODEL_CARD.md").read_text() == card
    for name, entry in base["streams"].items():
        assert f"## {name}\n" in card
        assert entry["backbone"] in card
