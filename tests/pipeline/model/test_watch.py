"""Which packs share a network or flow, and at which steps."""

from collections.abc import Iterable
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.model.pack import ModelPack, bytes_sha256, graph_sha256
from pipeline.model.watch import Watch, network_names, watches
from pipeline.stages.features import Look, Uses
from testbed import tiny_pack

OTHER = {
    "name": "other",
    "labels": ("background", "west", "east", "north", "south"),
    "thresholds": {},
}


def pack(folder: Path, **changes: object) -> ModelPack:
    name = str(changes.get("name", "tiny"))
    return ModelPack.load(tiny_pack.make(folder / f"{name}{changes.get('step_hz', '')}", **changes))


def test_a_graph_is_the_same_under_another_contract(tmp_path: Path) -> None:
    one, other = pack(tmp_path), pack(tmp_path, **OTHER)
    assert one.contract.sha256["spatial.onnx"] != other.contract.sha256["spatial.onnx"]
    for network in ("spatial", "temporal", "fusion"):
        assert one.graph(network) == other.graph(network)
    assert len({one.graph(network) for network in ("spatial", "temporal", "fusion")}) == 3


@pytest.mark.parametrize("network", ["spatial", "temporal", "fusion"])
def test_a_changed_weight_is_another_graph(tmp_path: Path, network: str) -> None:
    content = pack(tmp_path).path(network).read_bytes()
    graph = graph_sha256(content)
    differing = 0
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1
        differing += graph_sha256(bytes(changed)) != graph
    props = onnx.load_from_string(content).metadata_props
    metadata = sum(len(prop.key) + len(prop.value) for prop in props)
    # Every byte counts that isn't the metadata's.
    assert differing >= len(range(0, len(content), 7)) * (1 - (metadata + 20) / len(content)) - 1


@given(st.binary(max_size=200))
def test_any_bytes_have_a_graph_hash(content: bytes) -> None:
    assert len(graph_sha256(content)) == len(bytes_sha256(content))


def test_packs_on_one_base_share_networks_and_flow(tmp_path: Path) -> None:
    one, other = watches([pack(tmp_path), pack(tmp_path, **OTHER)])
    assert (one.every, other.every) == (1, 1)
    assert (one.spatial, one.temporal, one.flow) == (other.spatial, other.temporal, other.flow)
    assert network_names("spatial", [one, other]) == {one.spatial: "tiny/spatial"}


def test_a_slower_pack_shares_appearance_and_has_its_own_motion(tmp_path: Path) -> None:
    slow, fast = watches([pack(tmp_path, step_hz=2.5), pack(tmp_path)])
    assert (slow.every, fast.every) == (4, 1)
    assert slow.spatial == fast.spatial
    assert slow.temporal != fast.temporal
    assert [step for step in range(9) if slow.takes(step)] == [0, 4, 8]
    assert network_names("temporal", [slow, fast]) == {
        slow.temporal: "tiny/temporal",
        fast.temporal: "tiny/temporal",
    }


def test_flow_is_shared_where_it_is_computed_alike(tmp_path: Path) -> None:
    one = pack(tmp_path)
    temporal = one.contract.temporal.model_copy(update={"bound": 9.0})
    other = pack(tmp_path, name="other", temporal=temporal)
    assert Watch(one).flow != Watch(other).flow
    assert Watch(one).temporal != Watch(other).temporal
    assert Watch(one, flow_method="farneback").flow.key != Watch(one).flow.key
    assert Watch(one, flow_method="dis").flow.key == Watch(one).flow.key


def test_rates_that_do_not_divide_and_packs_that_repeat_are_refused(tmp_path: Path) -> None:
    one = pack(tmp_path)
    with pytest.raises(ConfigError, match=r"cameras\.door\.packs: tiny takes 10 .* odd 4;"):
        watches([one, pack(tmp_path, name="odd", step_hz=4)], where="cameras.door.packs")
    with pytest.raises(ConfigError, match="tiny is there twice"):
        watches([one, one])


def test_a_network_is_due_when_some_pack_takes_the_step(tmp_path: Path) -> None:
    three = watches([pack(tmp_path, step_hz=step_hz) for step_hz in (30.0, 15.0, 10.0)])
    spatial, temporal = Uses("spatial", three), Uses("temporal", three)
    assert networks(spatial.due(5, {})) == [three[0].spatial]
    assert spatial.every(three[0].spatial) == 1
    assert networks(temporal.due(5, {})) == [three[0].temporal]
    assert networks(temporal.due(6, {})) == [watch.temporal for watch in three]
    assert networks(temporal.due(4, {})) == [three[0].temporal, three[1].temporal]
    assert temporal.every(three[2].temporal) == 3


def networks(looks: Iterable[Look]) -> list[str]:
    return [look.network for look in looks]


def test_a_network_looks_at_each_subject_of_its_view(tmp_path: Path) -> None:
    two = watches([pack(tmp_path), pack(tmp_path, name="who", view="person")])
    uses = Uses("spatial", two)
    box = (0.1, 0.1, 0.4, 0.9)
    looks = uses.due(3, {"person": {"p1": box, "p2": box}, "moving": {"moving": box}})
    # One network, three looks: at the picture and at two persons.
    assert list(looks) == [Look(two[0].spatial, name) for name in ("frame", "p1", "p2")]
    assert [look.key for look in looks] == [
        two[0].spatial, f"{two[0].spatial}/p1", f"{two[0].spatial}/p2",
    ]  # fmt: skip
    assert list(uses.due(3, {})) == [Look(two[0].spatial, "frame")]


def test_the_view_is_a_part_of_the_kind_of_flow(tmp_path: Path) -> None:
    whole, person = watches([pack(tmp_path), pack(tmp_path, name="who", view="person")])
    assert whole.flow.key != person.flow.key
    assert whole.spatial == person.spatial
