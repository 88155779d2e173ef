"""Topology: one capture per camera, flow sharded, the rest once; and the ways that steps take."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import CameraConfig, Config, FlowConfig, validate
from pipeline.people.regions import VIEWS
from pipeline.topology import (
    BESIDE,
    PEOPLE_VIEWS,
    Route,
    Routes,
    StageSpec,
    flow_shards,
    inlets,
    readers,
    routes,
    stages,
    watched,
)
from pipeline.transport import topics
from pipeline.transport.topics import STAGES
from testbed import tiny_pack


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


@given(st.integers(1, 10), st.integers(1, 4), st.booleans())
def test_names_are_unique_and_in_the_order_of_the_data(
    cameras: int, workers: int, people: bool
) -> None:
    specs = stages(config(cameras, workers), ["c0"] if people else [])
    assert len({spec.name for spec in specs}) == len(specs)
    order = [STAGES.index(spec.kind) for spec in specs]
    assert order == sorted(order)
    assert {STAGES[place] for place in order} == set(STAGES) - BESIDE - (
        set() if people else {"people"}
    )


def test_evidence_is_a_stage_of_the_cameras_that_have_any() -> None:
    off = validate({"cameras": {"a": {}, "b": {"evidence": "none"}}})
    on = validate({**off.model_dump(), "evidence": {"folder": "/evidence"}})
    assert "evidence" not in {spec.kind for spec in stages(off)}
    assert [spec.cameras for spec in stages(on) if spec.kind == "evidence"] == [("a",)]
    none = validate({"cameras": {"b": {"evidence": "none"}}, "evidence": {"folder": "/evidence"}})
    assert "evidence" not in {spec.kind for spec in stages(none)}


def test_a_stage_without_an_instance_goes_by_its_kind() -> None:
    assert StageSpec("fusion", "", ()).name == "fusion"
    assert StageSpec("flow", "0", ()).name == "flow:0"


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packs")
    return {view: tiny_pack.make(folder / view, view=view) for view in VIEWS}


def routes_of(packs: dict[str, Path], *views: str, **settings: Any) -> Routes:
    camera = {"packs": [str(packs[view]) for view in views], **settings.pop("camera", {})}
    whole = Config.model_validate({"cameras": {"door": camera}, **settings})
    return routes(whole, watched(whole))


@pytest.mark.parametrize(
    ("views", "settings", "route"),
    [
        (["frame"], {}, Route()),
        (["moving"], {}, Route(flow_first=True)),
        (["person"], {}, Route(people=True, people_first=True, flow_first=True)),
        (["frame", "person"], {}, Route(people=True, people_first=True, flow_first=True)),
        (["frame"], {"publish": {"people": True}}, Route(people=True)),
        (["moving"], {"publish": {"people": True}}, Route(people=True, flow_first=True)),
        (["frame"], {"events": {"rules": {"left": {"needs_person": True}}}}, Route(people=True)),
        (["frame"], {"events": {"rules": {"left": {"min_size": 0.1}}}}, Route(people=True)),
        (["frame"], {"events": {"rules": {"left": {"cooldown_s": 3}}}}, Route()),
        (
            ["frame"],
            {
                "camera": {"rules": {"left": {"needs_person": False}}},
                "events": {"rules": {"left": {"needs_person": True}}},
            },
            Route(),
        ),
    ],
)
def test_steps_go_by_people_and_flow_only_where_somebody_asks_for_it(
    packs: dict[str, Path], views: list[str], settings: dict[str, Any], route: Route
) -> None:
    assert routes_of(packs, *views, **settings) == {"door": route}


ROUTES = [
    Route(people=people, people_first=first, flow_first=flow)
    for people, first, flow in product((False, True), repeat=3)
    if (people or not first) and (flow or not first)
]
"""All that there can be."""


@pytest.mark.parametrize("route", ROUTES)
def test_as_many_are_awaited_as_subscribe(route: Route) -> None:
    read = [
        inlet.topic.name
        for kind in ("people", "flow", "spatial", "temporal")
        if kind != "people" or route.people
        for inlet in inlets(kind, {"door": route}, ["door"])
    ]
    # Fusion reads people, too.
    read += ["people"] if route.people else []
    for topic in (topics.FRAME, topics.FLOW):
        assert readers(topic, route) == read.count(topic.name)
    if route.people:
        assert readers(topics.PEOPLE, route) == read.count("people")


@given(st.lists(st.sampled_from(ROUTES), min_size=1, max_size=6))
def test_each_camera_comes_by_one_way(several: list[Route]) -> None:
    by_camera = {f"c{number}": route for number, route in enumerate(several)}
    for kind in ("flow", "spatial", "temporal"):
        found = [
            camera for inlet in inlets(kind, by_camera, list(by_camera)) for camera in inlet.cameras
        ]
        assert sorted(found) == sorted(by_camera)


def test_views_that_need_people_are_known_to_the_topology() -> None:
    assert {name for name, view in VIEWS.items() if view.needs_people} == PEOPLE_VIEWS
