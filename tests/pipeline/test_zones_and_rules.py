"""Zones, ignored parts and rules in a config: mistakes are named, and the rest is explained."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import NS_PER_S
from pipeline.config import Config, load, validate
from pipeline.config.rules import LabelRule, rules_of
from pipeline.config.zones import unknown_zone
from pipeline.errors import ConfigError
from pipeline.run.options import build_config
from pipeline.run.preflight import examine, summary
from pipeline.run.rule_words import rules
from pipeline.topology import watched
from testbed import tiny_pack

TRIANGLE = [[0, 0], [0.5, 0], [0.5, 0.5]]

NO_PORTS = {"events": "ipc:///none/events", "replay": "ipc:///none/replay"}
"""In place of the default ports, which a program may have that another test runs."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pack.make(tmp_path_factory.mktemp("pack") / "tiny")


def camera(**keys: Any) -> dict[str, Any]:
    return {"cameras": {"door": {"source": "demo", **keys}}}


def refused(data: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(data)
    return str(caught.value)


@pytest.mark.parametrize(
    ("polygon", "says"),
    [
        ([[0, 0], [1, 1]], "it has 2 points; a polygon has at least 3"),
        ([], "it has 0 points"),
        ([[0, 0], [1, 0], [0, 0]], "it has 2 points"),
        ([[0, 0], [0.5, 1.2], [1, 1]], "point 2: its y is 1.2; x and y go from 0 to 1"),
        ([[-0.1, 0], [0.5, 1], [1, 1]], "point 1: its x is -0.1; x and y go from 0 to 1"),
        ([[0, 0], [640, 0], [640, 480]], "point 2: its x is 640; .* for pixels, divide x by"),
        ([[0, 0], [float("nan"), 1], [1, 1]], r"point 2: its x is no finite number \(nan\)"),
        ([[0, 0], [1, 0], [1, float("inf")]], r"point 3: its y is no finite number \(inf\)"),
        ([[0, 0], [10**400, 1], [1, 1]], "point 2: its x is far outside"),
        ([[0, 0], [1, 0], [1]], r"point 3 has 1 numbers; a point is \[x, y\]"),
        ([[0, 0], [1, 0], [1, 1, 1]], "point 3 has 3 numbers"),
        ([[0, 0], [1, 0], ["1", 1]], "point 3: its x is no number"),
        ([[0, 0], [1, 0], [True, 1]], "point 3: its x is no number"),
        ([[0, 0], [1, 0], None], "point 3 is no point; write a list of at least 3 points"),
        ("0,0,1,0,1,1", "it is no polygon; write a list of at least 3 points"),
        (None, "it is no polygon"),
        ({"x": 1}, "it is no polygon"),
        ([0, 0, 1, 0, 1, 1], "point 1 is no point"),
        ([[0, 0], [1, 1], [1, 0], [0, 1]], "its side from point 1 to point 2 crosses or touches "
         "the one from point 3 to point 4; give the points in their order"),
        ([[0, 0], [0, 0], [1, 0], [1, 1]], "points 1 and 2 are the same; leave one out"),
        ([[0, 0], [0.5, 0], [1, 0]], ".* crosses or touches"),
        ([[0, 0], [0.01, 0], [0, 0.01]], "it covers 0.005 % of the picture; at least 0.01 %"),
        ([[n / 100, (n % 2) / 100] for n in range(90)], "it has 90 points; at most 64"),
    ],
)  # fmt: skip
def test_what_is_no_polygon_is_named_by_its_point(polygon: object, says: str) -> None:
    zone = refused(camera(zones={"gate": polygon}))
    assert zone.startswith("config: cameras.door.zones.gate: ")
    with pytest.raises(ConfigError, match=rf"^config: cameras\.door\.ignore\.1: {says}"):
        validate(camera(ignore=[TRIANGLE, polygon]))


@pytest.mark.parametrize(
    "polygon",
    [
        TRIANGLE,
        TRIANGLE[::-1],  # either way around
        [*TRIANGLE, TRIANGLE[0]],  # closed, as GeoJSON has it
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.5, 0.3], [0.1, 0.9]],  # with a notch
    ],
)
def test_polygons_may_go_either_way_around_and_be_closed(polygon: list[list[float]]) -> None:
    config = validate(camera(zones={"gate": polygon}, ignore=[polygon]))
    (ignored,) = config.cameras["door"].ignore
    assert config.cameras["door"].zones["gate"] == ignored
    assert len(ignored) == len({tuple(point) for point in polygon})


def test_one_polygon_where_a_list_of_them_belongs() -> None:
    assert "ignore: it is a single polygon; put it into a list" in refused(camera(ignore=TRIANGLE))
    assert "ignore: must be a list, not keys" in refused(camera(ignore={"tv": TRIANGLE}))


@pytest.mark.parametrize("name", ["a/b", "", " gate", "x" * 65, "rtsp://me:hunter2@host/"])
def test_a_zone_has_a_name_that_events_can_carry(name: str) -> None:
    says = refused(camera(zones={name: TRIANGLE}))
    assert "a zone's name is letters, digits, spaces and _ . + -" in says
    assert "hunter2" not in says


def test_a_zone_that_is_not_there_is_named_with_the_likely_one() -> None:
    zones = validate(camera(zones={"gate": TRIANGLE, "yard": TRIANGLE})).cameras["door"].zones
    assert unknown_zone("gate", zones) is None
    assert unknown_zone("gaet", zones) == (
        "no such zone; the camera has gate, yard; did you mean gate?"
    )
    assert unknown_zone("gate", {}) == "no such zone; the camera has none"


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"hours": "22-6"}, r"hours: 22 is no time of day; write 22:00-06:00"),
        ({"hours": ["08:00-09:00", "Mo 22:00-06:00"]}, "hours: Mo is no day of the week"),
        ({"hours": []}, "hours: it is empty; leave the key out for any time"),
        ({"hours": [7]}, r"hours\.0: Input should be a valid string"),
        ({"hours": {"from": 7}}, "hours: must be a list, not keys"),
        ({"hours": "22:00-06:00", "timezone": "Europe/Berln"}, "did you mean Europe/Berlin"),
        ({"hours": "22:00-06:00"}, "hours need a time zone; set events.timezone, for example"),
        ({"cooldown_s": -1}, "cooldown_s: .*greater than or equal to 0"),
        ({"cooldown_s": float("nan")}, "cooldown_s: "),
        ({"hour": "22:00-06:00"}, "hour: unknown key; known here: cooldown_s, hours, min_size"),
        (None, "it is empty; give it a value, or leave the key out"),
        ("22:00-06:00", "must hold keys, each with a value, not a text"),
    ],
)
def test_what_is_wrong_with_a_rule_is_named_wherever_it_stands(rule: object, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"^config: events\.rules\.left.*{says}"):
        validate({"events": {"rules": {"left": rule}}})
    with pytest.raises(ConfigError, match=rf"^config: cameras\.door\.rules\.left.*{says}"):
        validate(camera(rules={"left": rule}))


def test_an_address_in_place_of_a_label_is_not_repeated() -> None:
    general: dict[str, Any] = {"events": {"rules": {"a@b": {}}}}
    for data in (camera(rules={"rtsp://me:hunter2@h/": {}}), general):
        says = refused(data)
        assert "one of its labels is an address" in says
        assert "hunter2" not in says


def test_hours_without_a_zone_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        "cameras:\n  door:\n    source: demo\n    rules:\n      left: {hours: 22:00-06:00}\n"
        "  yard: {source: demo, rules: {left: {timezone: UTC}}}\n"
        "events:\n  rules:\n    left:\n      hours: [08:00-09:00]\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    assert [line.partition(" hours need")[0] for line in lines] == [
        f"{path}:10:7: events.rules.left.hours:", f"{path}:5:14: cameras.door.rules.left.hours:",
    ]  # fmt: skip


def two_cameras(**events: Any) -> Config:
    return validate(
        {
            "cameras": {
                "door": {"source": "demo", "rules": {"left": {"cooldown_s": 60}, "up": {}}},
                "yard": "demo:2",
            },
            "events": events,
        }
    )


def test_a_cameras_keys_replace_the_general_ones_one_by_one() -> None:
    general = {"hours": "22:00-06:00", "cooldown_s": 5}
    config = two_cameras(rules={"left": general, "right": {}}, timezone="Europe/Berlin")
    door, yard = (rules_of(config, name) for name in ("door", "yard"))
    assert list(door) == list(yard) == ["left"]  # a rule without keys is none
    assert (door["left"].cooldown_s, yard["left"].cooldown_s) == (60, 5)
    assert door["left"].hours == yard["left"].hours
    assert str(door["left"].hours) == "22:00-06:00 Europe/Berlin"
    assert rules_of(validate({}), "demo") == {}
    assert not LabelRule()


def test_a_camera_elsewhere_has_a_time_zone_of_its_own() -> None:
    config = validate(
        {
            **camera(rules={"left": {"timezone": "Asia/Tokyo"}}),
            "events": {"rules": {"left": {"hours": ["22:00-06:00"]}}},
        }
    )
    assert str(rules_of(config, "door")["left"].hours) == "22:00-06:00 Asia/Tokyo"


def test_all_of_it_survives_the_way_to_the_stages(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        "cameras:\n  door:\n    source: demo\n    zones: {gate: [[0, 0], [1, 0], [1, 1]]}\n"
        "    ignore: [[[0, 0], [0.1, 0], [0.1, 0.1]]]\n"
        "    rules: {left: {hours: [Sat 8:00–24:00, Fri 22:00-6:00]}}\n"
        "events: {timezone: Europe/Berlin}\n"
    )
    config = build_config(path, {"publish.scores": True})
    again = Config.model_validate_json(config.model_dump_json())
    assert again == config
    assert again.cameras["door"].rules["left"].hours == ["Sat 08:00-24:00", "Fri 22:00-06:00"]
    assert rules_of(again, "door") == rules_of(load(path), "door")


def test_rules_for_labels_that_make_no_events_are_refused(tiny: Path) -> None:
    config = validate(
        {
            **camera(rules={"lfet": {}, "background": {}}),
            "model": str(tiny),
            "publish": NO_PORTS,
            "events": {"rules": {"rigth": {"cooldown_s": 1}, "left": {}}},
        }
    )
    found = [str(p) for p in examine(config, thorough=False).problems if "label" in str(p)]
    assert found == [
        "events.rules.rigth: no events have this label; they have left, right, up, down; "
        "did you mean right?",
        "cameras.door.rules.lfet: no events have this label; they have left, right, up, down; "
        "did you mean left?",
        "cameras.door.rules.background: no events have this label; they have left, right, up, down",
    ]


WEDNESDAY = int(datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()) * NS_PER_S


def test_rules_are_explained_in_words() -> None:
    general = {
        "left": {"hours": "22:00-06:00", "cooldown_s": 60},
        "right": {"hours": "Mon-Fri 08:00-18:00"},
        "up": {"cooldown_s": 5},
        "down": {"hours": "00:00-24:00"},
    }
    config = two_cameras(rules=general, timezone="Europe/Berlin")
    assert list(rules(config, ["left", "right", "up", "down", "still"], WEDNESDAY)) == [
        ("rule left", "22:00-06:00 Europe/Berlin (off now, on from Wed 22:00 CET), "
         "at most one in 60 s"),
        ("rule right", "Mon-Fri 08:00-18:00 Europe/Berlin (on now, until Wed 18:00 CET)"),
        ("rule up", "at any time, at most one in 5 s"),
        ("rule down", "00:00-24:00 Europe/Berlin (always on)"),
        ("other labels", "at any time"),
    ]  # fmt: skip


def test_a_rule_of_one_camera_names_it() -> None:
    config = two_cameras()
    assert list(rules(config, ["left"], WEDNESDAY)) == [
        ("rule left", "door: at any time, at most one in 60 s"),
        ("rule left", "yard: at any time"),
    ]
    assert list(rules(validate({}), ["left"], WEDNESDAY)) == []


def test_the_check_tells_what_is_masked(tiny: Path) -> None:
    half = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
    config = validate({"model": str(tiny), **camera(ignore=[half, half], zones={"gate": half})})
    rows = dict(summary(config, watched(config)))
    assert rows["camera door"] == "demo"
    assert rows["ignore door"] == "2 polygons: 50 % of the picture"
    assert rows["zones door"] == "gate 50 %"


def test_what_has_no_effect_or_hides_everything_is_warned_of(tiny: Path, tmp_path: Path) -> None:
    whole = [[0, 0], [1, 0], [1, 1], [0, 1]]
    config = validate(
        {
            **camera(ignore=[whole], zones={"gate": whole}),
            "model": str(tiny),
            "publish": NO_PORTS,
            "events": {"timezone": "UTC"},
        }
    )
    warnings = examine(config, thorough=False).warnings
    assert warnings == [
        "cameras.door.ignore: it covers the whole picture, so nothing can be seen",
        "cameras.door.zones: without effect; no rule asks for a zone, and no pack looks at people "
        "or at what moves",
        "events.timezone: without effect without hours in a rule",
    ]
    (tmp_path / "a.mp4").touch()
    lossless = validate(
        {
            "cameras": {"a": str(tmp_path / "a.mp4")},
            "runtime": {"delivery": "lossless"},
            "model": str(tiny),
            "publish": NO_PORTS,
            "events": {"timezone": "UTC", "rules": {"left": {"hours": "22:00-06:00"}}},
        }
    )
    (warning,) = examine(lossless, thorough=False).warnings
    assert "so another run may give other events" in warning
