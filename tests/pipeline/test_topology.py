"""Topology: one capture per camera, flow sharded, the rest once."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import CameraConfig, Config, FlowConfig
from pipeline.topology import StageSpec, flow_shards, stages
from pipeline.transport.topics import STAGES


def config(cameras: int, workers: int = 1) -> Config:
    return Config(
        cameras={f"c{i}": CameraConfig() for i in range(cameras)}, flow=FlowConfig(workers=workers)
    )


@given(st.integers(1, 20), st.integers(1, 20))
def test_flow_workers_share_out_the_cameras(cameras: int, workers: int) -> None:
    shards = flow_shards(config(cameras, workers))
    dealt = [camera for shard in shards.values() for camera in shard]
    assert sorted(dealt) == sorted(f"c{i}" for i in range(cameras))
    sizes = [len(shard) for shard in shards.values()]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert len(shards) == min(cameras, workers)


def test_the_stages_of_three_cameras() -> None:
    names = [spec.name for spec in stages(config(3, workers=2))]
    assert names == [
        "capture:c0",
        "capture:c1",
        "capture:c2",
        "flow:0",
        "flow:1",
        "spatial",
        "temporal",
        "fusion",
        "publish",
    ]


@given(st.integers(1, 10), st.integers(1, 4))
def test_names_are_unique_and_in_the_order_of_the_data(cameras: int, workers: int) -> None:
    specs = stages(config(cameras, workers))
    assert len({spec.name for spec in specs}) == len(specs)
    order = [STAGES.index(spec.kind) for spec in specs]
    assert order == sorted(order)
    assert set(order) == set(range(len(STAGES)))


def test_a_stage_without_an_instance_goes_by_its_kind() -> None:
    assert StageSpec("fusion", "", ()).name == "fusion"
    assert StageSpec("flow", "0", ()).name == "flow:0"
