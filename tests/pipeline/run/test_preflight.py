"""What is known before a start: all problems at once, each by its key."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from pipeline.config import Config, validate
from pipeline.errors import EXIT_NO_SOURCE, EXIT_USAGE
from pipeline.public.key_folder import KeyFolder
from pipeline.run.preflight import Findings, examine, holds_secret, summary
from testbed import tiny_pack


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pack.make(tmp_path_factory.mktemp("pack") / "tiny")


def configured(tiny: Path, folder: Path, data: dict[str, Any]) -> Config:
    """A config whose public sockets are in ``folder``, so that no test needs a port."""
    publish = {"events": f"ipc://{folder}/e", "replay": f"ipc://{folder}/r"}
    return validate({"model": str(tiny), "publish": publish, **data})


def problems(config: Config, *, thorough: bool = True) -> list[str]:
    return [str(problem) for problem in examine(config, thorough=thorough).problems]


def test_a_good_config_has_no_problem(tiny: Path, tmp_path: Path) -> None:
    found = examine(configured(tiny, tmp_path, {}), thorough=True)
    assert (found.problems, found.warnings) == ([], [])
    assert found.watched is not None


def test_all_problems_are_found_at_once(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no event log, and no folder")
    data = {
        "cameras": {"a": str(tmp_path / "none.mp4"), "b": "987"},
        "events": {
            "thresholds": {"wave": {"start": 0.5}, "jump": {"start": 0.5}},
            "log": str(file),
        },
        "publish": {
            "events": f"ipc://{tmp_path}/none/e",
            "replay": f"ipc://{tmp_path}/r",
            "keys": str(tmp_path / "keys"),
        },
        "runtime": {
            "providers": ["MagicExecutionProvider"],
            "record": str(file / "record"),
            "run_dir": str(file),
        },
    }
    found = problems(configured(tiny, tmp_path, data))
    for expected in (
        "runtime.providers: this onnxruntime has no MagicExecutionProvider; it has ",
        "events.thresholds.jump: no such label; the pack has ",
        "events.thresholds.wave: no such label; the pack has ",
        "publish.events: can't bind",
        "server.json: it doesn't exist; make keys with",
        f"events.log: {file}: it isn't an event log",
        f"runtime.record: {file / 'record'}: {file} isn't a folder",
        f"runtime.run_dir: {file}: it isn't a folder",
        f"cameras.a.source: {tmp_path}/none.mp4 doesn't exist",
        "cameras.b.source: webcam /dev/video987 doesn't exist",
    ):
        assert any(expected in line for line in found), (expected, found)


def test_a_pack_that_is_not_there_does_not_hide_the_rest(tiny: Path, tmp_path: Path) -> None:
    data = {"model": str(tmp_path / "none"), "cameras": {"a": str(tmp_path / "a.mp4")}}
    found = problems(configured(tiny, tmp_path, data))
    assert len(found) == 2
    assert "no such folder" in found[0]
    assert "a.mp4 doesn't exist" in found[1]


@pytest.mark.parametrize(
    ("events", "replay", "metrics", "says"),
    [
        ("tcp://127.0.0.1:{}", "tcp://127.0.0.1:1", None, "publish.events: can't bind"),
        ("tcp://127.0.0.1:1", "tcp://localhost:{}", None, "publish.replay: can't bind"),
        ("ipc://{folder}/e", "ipc://{folder}/r", "127.0.0.1:{}", "supervisor.metrics: can't bind"),
    ],
)
def test_a_port_that_is_taken_is_named_by_its_key(
    tiny: Path, tmp_path: Path, events: str, replay: str, metrics: str | None, says: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def fill(text: str) -> str:
            return text.replace("{}", str(port)).replace("{folder}", str(tmp_path))

        data: dict[str, Any] = {"publish": {"events": fill(events), "replay": fill(replay)}}
        if metrics:
            data["supervisor"] = {"metrics": fill(metrics)}
        found = problems(configured(tiny, tmp_path, data))
    assert len([line for line in found if says in line and "already in use" in line]) == 1


@pytest.mark.parametrize(
    ("events", "replay", "metrics"),
    [
        ("tcp://127.0.0.1:7001", "tcp://localhost:7001", None),
        ("tcp://127.0.0.1:7001", "tcp://127.0.0.1:7002", "localhost:7002"),
        ("tcp://[::1]:7001", "tcp://127.0.0.1:7002", "[::1]:7001"),
        ("ipc://{folder}/x", "ipc://{folder}/./x", None),
        ("tcp://127.0.0.1:7001", "tcp://*:7001", None),
    ],
)
def test_two_settings_of_one_endpoint(
    tiny: Path, tmp_path: Path, events: str, replay: str, metrics: str | None
) -> None:
    KeyFolder(tmp_path / "keys").new("me")
    data = {
        "publish": {
            "events": events.replace("{folder}", str(tmp_path)),
            "replay": replay.replace("{folder}", str(tmp_path)),
            "keys": str(tmp_path / "keys"),
        },
        "supervisor": {"metrics": metrics},
    }
    found = [line for line in problems(configured(tiny, tmp_path, data)) if "already" in line]
    assert len(found) == 1
    assert "is the endpoint of publish.events already" in found[0] or "publish.replay" in found[0]


def test_only_missing_sources_are_exit_3(tiny: Path, tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "cameras": {"a": str(tmp_path / "a.mp4")},
        "runtime": {"delivery": "lossless"},
    }
    found = examine(configured(tiny, tmp_path, data), thorough=False)
    assert found.exit_code(cameras=1) == EXIT_NO_SOURCE
    assert found.exit_code(cameras=2) == EXIT_USAGE
    data["events"] = {"thresholds": {"wave": {}}}
    found = examine(configured(tiny, tmp_path, data), thorough=False)
    assert found.exit_code(cameras=1) == EXIT_USAGE


def test_a_live_run_starts_without_a_file_that_is_missing(tiny: Path, tmp_path: Path) -> None:
    config = configured(tiny, tmp_path, {"cameras": {"a": str(tmp_path / "a.mp4")}})
    assert problems(config, thorough=False) == []


@contextmanager
def as_nobody() -> Iterator[None]:
    """For a while, be a user who may not write everywhere; nothing to do unless this is root."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_a_log_in_a_folder_that_can_not_be_written(tiny: Path) -> None:
    with TemporaryDirectory() as outside:  # pytest's folders are for their owner only
        folder = Path(outside) / "locked"
        folder.mkdir(mode=0o555)
        Path(outside).chmod(0o755)
        config = configured(tiny, folder, {"events": {"log": str(folder / "log")}})
        with as_nobody():
            found = problems(config, thorough=False)
    assert any(f"{folder}/log" in line and "can't be written" in line for line in found)


def test_a_log_may_be_new_or_empty_or_a_log(tiny: Path, tmp_path: Path) -> None:
    from pipeline.public.event_log import EventLog

    for name in ("new/deep/log", "empty", "log"):
        path = tmp_path / name
        if name == "empty":
            path.touch()
        if name == "log":
            EventLog(path).close()
        assert problems(configured(tiny, tmp_path, {"events": {"log": str(path)}})) == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("camera", "idle"),
    [
        ({"source": "demo", "loop": True}, "loop: without effect for the demo camera"),
        ({"source": "0", "transport": "udp"}, "transport: without effect for a webcam"),
        ({"source": "rtsp://h/s", "loop": True, "fps": 5},
         "fps, loop: without effect for rtsp://"),
        ({"source": "http://h/s", "transport": "tcp"}, "transport: without effect for http://"),
        ({"source": "a.mp4", "width": 640, "read_timeout_s": 3},
         "read_timeout_s, width: without effect for a file"),
        ({"source": "/", "transport": "tcp"}, "transport: without effect for a folder of images"),
    ],
)  # fmt: skip
def test_keys_without_effect_are_named(
    tiny: Path, tmp_path: Path, camera: dict[str, Any], idle: str
) -> None:
    found = examine(configured(tiny, tmp_path, {"cameras": {"door": camera}}), thorough=False)
    assert found.warnings == [f"cameras.door: {idle}"]


def test_the_summary_shows_what_was_found_and_no_secret(tiny: Path, tmp_path: Path) -> None:
    data = {
        "cameras": {"door": {"source": "rtsp://me:hunter2@10.0.0.7/s", "transport": "udp"}},
        "events": {"log": str(tmp_path / "log")},
        "supervisor": {"metrics": "127.0.0.1:9108"},
    }
    config = configured(tiny, tmp_path, data)
    found: Findings = examine(config, thorough=False)
    assert found.watched is not None
    rows = dict(summary(config, found.watched))
    assert rows["camera door"] == "rtsp://me:***@10.0.0.7/s, transport udp"
    assert rows["log"] == str(tmp_path / "log")
    assert rows["metrics"] == "http://127.0.0.1:9108/metrics"
    assert rows["events"].startswith(f"ipc://{tmp_path}/e")
    assert "hunter2" not in str(rows)
    assert holds_secret(config)
