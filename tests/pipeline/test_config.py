"""Config: what is wrong is named by its key, what is secret is never repeated."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import (
    DEFAULT_MODEL,
    CameraConfig,
    Config,
    json_schema,
    load,
    validate,
)
from pipeline.errors import ConfigError
from pipeline.sources.base import is_file

PROJECT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((PROJECT / "configs").glob("*.yaml"))
SECRET = "hunter2"


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_runs_the_demo(tmp_path: Path) -> None:
    config = load(written(tmp_path, ""))
    assert config.cameras == {"demo": CameraConfig()}
    assert config.model == DEFAULT_MODEL
    assert not config.lossless


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            {"camera": {}},
            r"config: camera: unknown key; known here: bridges, cameras, events, .*model",
        ),
        (
            {"cameras": {"door": {"sorce": "demo"}}},
            r"config: cameras\.door\.sorce: unknown key; known here: .*source, transport",
        ),
        (
            {"events": {"thresholds": {"wave": {"strat": 0.5}}}},
            r"events\.thresholds\.wave\.strat: unknown key; "
            r"known here: cooldown_s, end, min_duration_s, start$",
        ),
        ({"flow": {"workers": 0}}, r"flow\.workers: .*greater than or equal to 1 \(got 0\)"),
        ({"flow": {"method": "magic"}}, r"flow\.method: must be one of .*dis.*lucas_kanade"),
        ({"runtime": {"delivery": "fast"}}, r"runtime\.delivery: .*'live' or 'lossless'.*'fast'"),
        ({"runtime": {"ring_slots": "many"}}, r"runtime\.ring_slots: .*integer.*'many'"),
        ({"cameras": {}}, r"cameras: .*at least 1"),
        (
            {"cameras": {"front door": {}}},
            r"cameras\.front door: a camera's name has 1 to 32 .*example front_door",
        ),
        ({"cameras": {"door": {"fps": 0}}}, r"cameras\.door\.fps: .*greater than 0 \(got 0\)"),
        (
            {"events": {"thresholds": {"wave": {"start": 0.3, "end": 0.6}}}},
            r"events\.thresholds\.wave: end \(0\.6\) must not exceed start \(0\.3\)",
        ),
        ({"supervisor": {"stop_s": 0.1}}, r"supervisor\.stop_s: .*greater than 0\.5"),
        (
            {"cameras": {"door": {"source": "rtsp://h/c"}}, "runtime": {"delivery": "lossless"}},
            r"cameras\.door: lossless delivery is for files",
        ),
        (
            {
                "cameras": {"door": {"source": "a.mp4", "loop": True}},
                "runtime": {"delivery": "lossless"},
            },
            r"cameras\.door: .*a\.mp4 in a loop",
        ),
    ],
)
def test_each_mistake_is_named_by_its_key(data: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        validate(data)


def test_every_mistake_has_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        validate({"flow": {"workers": 0}, "nonsense": 1}, origin="my.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("my.yaml: ") for line in lines)


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://0.0.0.0:5555",
        "tcp://*:5555",
        "tcp://192.168.1.4:5555",
        "tcp://example.org:5555",
        "tcp://[::]:5555",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:99999",
        "udp://127.0.0.1:5555",
        "ipc://",
        "5555",
    ],
)
@pytest.mark.parametrize("key", ["events", "replay"])
def test_public_sockets_bind_to_this_machine_only(endpoint: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"publish\.{key}: (binds beyond|must look like)"):
        validate({"publish": {key: endpoint}})


@pytest.mark.parametrize("key", ["events", "replay"])
def test_with_keys_they_may_bind_anywhere(key: str) -> None:
    config = validate({"publish": {key: "tcp://0.0.0.0:7000", "keys": "keys"}})
    assert getattr(config.publish, key) == "tcp://0.0.0.0:7000"


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:7000", "tcp://localhost:7000", "ipc:///run/me/events"]
)
def test_loopback_and_ipc_are_taken(endpoint: str) -> None:
    assert validate({"publish": {"events": endpoint}}).publish.events == endpoint


def test_the_public_sockets_need_an_endpoint_each() -> None:
    with pytest.raises(ConfigError, match="both ipc:///x; they must differ"):
        validate({"publish": {"events": "ipc:///x", "replay": "ipc:///x"}})


@pytest.mark.parametrize(
    "address", ["0.0.0.0:9108", ":9108", "127.0.0.1", "127.0.0.1:70000", "x:1"]
)
def test_metrics_are_served_to_this_machine_only(address: str) -> None:
    with pytest.raises(ConfigError, match=r"supervisor\.metrics: must be a loopback address"):
        validate({"supervisor": {"metrics": address}})


def test_metrics_are_served_to_others_on_request() -> None:
    for address in ("0.0.0.0:9108", "[::]:9108", "cam-host:9108", "127.0.0.1:9108"):
        given = {"metrics": address, "metrics_open": True}
        assert validate({"supervisor": given}).supervisor.metrics == address
    for address in (":9108", "0.0.0.0", "0.0.0.0:70000", "0.0.0.0:0"):
        with pytest.raises(ConfigError, match=r"supervisor\.metrics: must be"):
            validate({"supervisor": {"metrics": address, "metrics_open": True}})


URL = f"rtsp://user:{SECRET}@cam.local/stream"


@pytest.mark.parametrize(
    "data",
    [
        {"cameras": URL},
        {"cameras": {"door": [URL]}},
        {"cameras": {"door": {"source": [URL]}}},
        {"cameras": {"door": {"source": URL, "transport": URL}}},
        {"cameras": {"door": {"source": URL, "fps": -1}}},
        {"cameras": {"door": {"source": URL}}, "runtime": {"delivery": "lossless"}},
        {"cameras": {"door": {"transport": f"http://cam/video?token={SECRET}"}}},
        {"cameras": {URL: {}}},
        {"cameras": {"door": {URL: None}}},
        {"cameras": {"door": {"source": "demo", "password": SECRET}}},
        {"publish": {"events": f"tcp://user:{SECRET}@10.0.0.1:5555"}},
        {URL: 1},
    ],
)
def test_a_secret_is_never_repeated(data: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(data)
    assert SECRET not in str(caught.value)


def test_bad_yaml_is_named_by_its_line_without_the_line(tmp_path: Path) -> None:
    path = written(tmp_path, f"cameras:\n  door:\n    source: [{URL}\n  x: }}\n")
    with pytest.raises(ConfigError, match=rf"{path}:4:4: not YAML") as caught:
        load(path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2]", "just words", "3"])
def test_yaml_that_holds_no_keys_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="must hold keys such as 'cameras:'"):
        load(written(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path}/none.yaml: .*No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"model: caf\xe9")
    with pytest.raises(ConfigError, match=r"latin\.yaml:1: it isn't UTF-8"):
        load(tmp_path / "latin.yaml")


def test_relative_paths_mean_the_files_folder(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    text = """
    cameras:
      clip: {source: clips/a.mp4}
      fixed: {source: /data/b.mp4}
      cam: {source: "rtsp://h/c"}
      web: {source: 0}
      demo: {source: "demo:3"}
    model: ../packs/fights
    events: {log: events.sqlite}
    runtime: {run_dir: run}
    """
    config = load(written(folder, text))
    sources = {name: camera.source for name, camera in config.cameras.items()}
    assert sources == {
        "clip": str(folder / "clips/a.mp4"),
        "fixed": "/data/b.mp4",
        "cam": "rtsp://h/c",
        "web": "0",
        "demo": "demo:3",
    }
    assert config.model.resolve() == tmp_path / "packs/fights"
    assert config.events.log == folder / "events.sqlite"
    assert config.runtime.run_dir == folder / "run"


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("clip.mp4", True),
        ("/data/images", True),
        ("demo.mp4", True),
        ("demo", False),
        ("demo:7", False),
        ("0", False),
        ("/dev/video0", False),
        ("rtsp://h/c", False),
        ("http://h/c.mp4", False),
    ],
)
def test_what_is_a_file(source: str, file: bool) -> None:
    assert is_file(source) == file


def test_a_config_survives_the_way_to_a_stage() -> None:
    config = validate({"cameras": {"door": {"source": URL}}, "events": {"log": "/x/y"}})
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_the_configs_that_come_along_load(path: Path) -> None:
    config = load(path)
    assert config.cameras
    assert set(yaml.safe_load(path.read_text()) or {}) <= set(Config.model_fields)


def test_there_are_configs_to_load() -> None:
    assert "demo.yaml" in {path.name for path in CONFIGS}


def test_the_schema_names_no_folder_of_this_machine() -> None:
    assert str(PROJECT) not in json_schema()


def test_the_schema_is_up_to_date() -> None:
    stored = (PROJECT / "configs" / "schema.json").read_text()
    assert stored == json_schema(), (
        "write it anew: python -c 'from pipeline.config import json_schema; "
        'print(json_schema(), end="")\' > configs/schema.json'
    )
