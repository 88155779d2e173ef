"""The loader of packs: each way in which contract and files can disagree is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.errors import PackError
from pipeline.model.pack import (
    CONTRACT_FILE,
    NETWORKS,
    ModelPack,
    Threshold,
    ViewName,
)
from pipeline.model.session import Network
from pipeline.people.regions import VIEWS
from pipeline.program import PROJECT
from testbed import tiny_pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_pack.make(tmp_path / "tiny")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / CONTRACT_FILE
    stated = json.loads(path.read_text())
    change(stated)
    path.write_text(json.dumps(stated))


def test_a_good_pack_loads(folder: Path) -> None:
    pack = ModelPack.load(str(folder))
    assert pack.contract.name == "tiny"
    assert pack.path("fusion") == folder / "fusion.onnx"
    assert pack.sha256 == ModelPack.load(folder).sha256
    assert len(pack.sha256) == 64


def test_another_network_is_another_pack(folder: Path, tmp_path: Path) -> None:
    other = tiny_pack.make(tmp_path / "other", version="1.0.1")
    assert ModelPack.load(folder).sha256 != ModelPack.load(other).sha256


@pytest.mark.parametrize("network", NETWORKS)
def test_a_tampered_byte_is_found(folder: Path, network: str) -> None:
    path = folder / f"{network}.onnx"
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    with pytest.raises(PackError, match=rf"{path}: sha256 is \w{{12}}…, but pack.json says"):
        ModelPack.load(folder)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_missing_network_is_named(folder: Path, network: str) -> None:
    (folder / f"{network}.onnx").unlink()
    with pytest.raises(PackError, match=rf"{folder}: {network}\.onnx is missing"):
        ModelPack.load(folder)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=rf"{tmp_path}/none: no such folder"):
        ModelPack.load(tmp_path / "none")
    with pytest.raises(PackError, match=rf"{tmp_path}: no pack.json in it"):
        ModelPack.load(tmp_path)
    (tmp_path / CONTRACT_FILE).mkdir()
    with pytest.raises(PackError, match="directory"):
        ModelPack.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(license="MIT"), r"pack\.json: license: Extra inputs"),
        (lambda c: c["spatial"].update(crop=1), r"pack\.json: spatial\.crop: Extra inputs"),
        (lambda c: c.pop("window"), r"pack\.json: window: Field required"),
        (lambda c: c.update(schema_version=2), r"schema_version: Input should be 1"),
        (lambda c: c.update(step_hz=0), r"step_hz: .*greater than 0"),
        (lambda c: c.update(version="1.0"), r"version: .*pattern"),
        (lambda c: c.update(name="My Pack"), r"name: .*pattern"),
        (lambda c: c.update(labels=["left"]), r"labels: .*at least 2"),
        (lambda c: c.update(labels=["left", "left"]), "labels must differ"),
        (lambda c: c.update(labels=["left/up", "right"]), r"labels\.0: .*pattern"),
        (lambda c: c.update(labels=["", "right"]), r"labels\.0: .*pattern"),
        (lambda c: c.update(background=["nothing"]), r"background names .*\['nothing'\]"),
        (
            lambda c: c["thresholds"].update(wave=c["thresholds"]["left"]),
            r"thresholds name labels that 'labels' omits: \['wave'\]",
        ),
        (
            lambda c: c["thresholds"]["left"].update(end=0.9),
            r"thresholds\.left: .*end \(0\.9\) must not exceed start \(0\.7\)",
        ),
        (lambda c: c["thresholds"]["left"].update(start=1.5), r"thresholds\.left\.start"),
        (lambda c: c["parity"].update(spatial=0.1), r"parity: .*spatial differs by 0\.1"),
        (lambda c: c["temporal"].update(stack=0), r"temporal\.stack: .*greater than or equal"),
        (lambda c: c["temporal"].update(bound=0), r"temporal\.bound: .*greater than 0"),
        (lambda c: c["fusion"].update(kind="sum"), r"fusion\.kind: .*'attention'"),
        (lambda c: c["sha256"].pop("temporal.onnx"), r"sha256 has no temporal\.onnx"),
    ],
)
def test_a_bad_contract_is_named_by_its_key(
    folder: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(PackError, match=says) as caught:
        ModelPack.load(folder)
    assert str(folder / CONTRACT_FILE) in str(caught.value)


def test_a_parity_that_is_no_number_is_refused(folder: Path) -> None:
    text = (folder / CONTRACT_FILE).read_text()
    (folder / CONTRACT_FILE).write_text(text.replace('"fusion": 0.0', '"fusion": NaN'))
    with pytest.raises(PackError, match=r"pack\.json: parity: .*fusion differs by nan"):
        ModelPack.load(folder)


def test_what_is_no_json_is_refused(folder: Path) -> None:
    for body in (b"{", b"\xff\xfe", b"[]", b""):
        (folder / CONTRACT_FILE).write_bytes(body)
        with pytest.raises(PackError, match=r"pack\.json: whole file: "):
            ModelPack.load(folder)


def test_labels_without_thresholds_get_the_defaults() -> None:
    contract = tiny_pack.contract(thresholds={"left": Threshold(start=0.9, end=0.1)})
    assert contract.threshold("left").start == 0.9
    assert contract.threshold("right") == Threshold()


def test_the_views_of_contracts_are_those_that_exist() -> None:
    assert set(get_args(ViewName)) == set(VIEWS)


def test_a_pack_of_the_whole_frame_is_written_as_before_views(tmp_path: Path) -> None:
    folder = tiny_pack.make(tmp_path / "tiny", view="frame")
    assert "view" not in json.loads((folder / CONTRACT_FILE).read_text())
    contract = ModelPack.load(folder).contract
    assert contract.view == "frame"
    assert "view" not in contract.metadata_json()
    shipped = PROJECT / "models" / "gestures" / CONTRACT_FILE
    again = ModelPack.load(shipped.parent).contract.model_dump_json(indent=2) + "\n"
    assert again.encode() == shipped.read_bytes()


@pytest.mark.parametrize("view", ["moving", "person"])
def test_a_view_is_kept(tmp_path: Path, view: str) -> None:
    pack = ModelPack.load(tiny_pack.make(tmp_path / "tiny", view=view))
    assert pack.contract.view == view
    Network(pack, "fusion")  # its metadata agree
    rewrite(pack.folder, lambda stated: stated.pop("view"))
    with pytest.raises(PackError, match=r"disagrees with pack.json about 'view'"):
        Network(ModelPack.load(pack.folder), "fusion")


def test_a_view_that_does_not_exist_is_named(folder: Path) -> None:
    rewrite(folder, lambda stated: stated.update(view="people"))
    with pytest.raises(PackError, match="view: Input should be 'frame', 'moving' or 'person'"):
        ModelPack.load(folder)
