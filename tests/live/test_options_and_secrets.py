"""The command line as its users write it: options, configs, and secrets in every place."""

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pytest

from pipeline.clock import SYSTEM_CLOCK
from pipeline.errors import SourceError
from pipeline.sources import create
from testbed.cameras import http_mjpeg_server, rtsp_server
from testbed.program import PROJECT, PipelineRun, default_ports, free_port

SECRET = "QXJZKWQVX"
"""Letters that nothing else here has in this order."""


def run_once(*arguments: object, module: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *(["-m", module] if module else ["run_stream.py"])]
    with default_ports():
        return subprocess.run(
            [*command, *map(str, arguments)],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "COLUMNS": "200"},
        )


def errors(done: "subprocess.CompletedProcess[str]") -> list[str]:
    assert "Traceback" not in done.stderr
    return [
        line.removeprefix("error: ")
        for line in done.stderr.splitlines()
        if line.startswith("error: ")
    ]


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ("--transport udp", ["--transport: without effect without --source"]),
        ("--loop --camera x", ["--camera: without effect without --source",
                               "--loop: without effect without --source"]),
        ("--source demo --loop", ["--loop: without effect for the demo camera"]),
        ("--source rtsp://h/s --loop", ["--loop: without effect for rtsp://"]),
        ("--source 0 --loop", ["--loop: without effect for a webcam"]),
        ("--source a.mp4 --transport tcp", ["--transport: without effect for a file"]),
        ("--source http://h/s --transport tcp", ["--transport: without effect for http://"]),
        ("--source rtsp://h/s --transport smoke", ["--transport: Input should be 'tcp' or 'udp'"]),
        ("--check --duration 3", ["--duration: without effect with --check"]),
        ("--check --json", ["--json: without effect with --check"]),
        ("--replay x --record y", ["--record: without effect with --replay"]),
        ("--replay x --lossless --check -c z --source demo",
         [f"{option}: without effect with --replay" for option in
          ("--config", "--source", "--lossless", "--check")]),
        ("--duration inf", ["--duration: must be a number of seconds"]),
        ("--log-level LOUD", ["--log-level: must be DEBUG, INFO, WARNING or ERROR"]),
        ("--source demo --lossless", None),
        ("rtsp://h/s", ["an address stands where none is expected; write --source ADDRESS"]),
    ],
)  # fmt: skip
def test_options_without_effect_are_refused(arguments: str, lines: list[str] | None) -> None:
    done = run_once(*arguments.split())
    assert done.returncode == 2, done.stderr
    found = errors(done)
    assert found == lines if lines is not None else len(found) == 1


@pytest.mark.parametrize(
    ("module", "arguments", "lines"),
    [
        ("pipeline.subscribe", "--connect nonsense",
         ["--connect: must look like tcp://127.0.0.1:5555 or ipc:///path"]),
        ("pipeline.subscribe", "--connect ipc:///x --replay ipc:///x",
         ["--connect and --replay are the same; publish.events and .replay differ"]),
        ("pipeline.subscribe", "--camera a/b", ["--camera: no camera can have this name"]),
        ("pipeline.evaluate", "--model x --negatives x --seed 1 --limit 3",
         ["--limit: without effect without --data", "--seed: without effect without --data"]),
        ("pipeline.evaluate", "--model x --data . --seed 1 --root .",
         ["--seed: without effect with --protocol clip",
          "--root: without effect for folders; it is for the paths in lists"]),
        ("pipeline.keys", "list --folder none", ["none: there is no such key folder"]),
        ("pipeline.keys", "list rtsp://h/s", ["an address stands where none is expected"]),
    ],
)  # fmt: skip
def test_so_are_those_of_the_other_commands(module: str, arguments: str, lines: list[str]) -> None:
    done = run_once(*arguments.split(), module=module)
    assert done.returncode == 2, done.stderr
    assert errors(done) == lines


def test_labels_that_the_pack_does_not_have_start_nothing(scratch: Path, tiny: Path) -> None:
    config = scratch / "config.yaml"
    config.write_text(
        f"model: {tiny}\nevents: {{thresholds: {{wave: {{start: 0.5}}, jump: {{start: 0.5}}}}}}\n"
        f"publish: {{events: 'ipc://{scratch}/e', replay: 'ipc://{scratch}/r'}}\n"
    )
    done = run_once("-c", config, "--json")
    assert done.returncode == 2
    assert [line.split(";")[0] for line in errors(done)] == [
        "events.thresholds.jump: no such label",
        "events.thresholds.wave: no such label",
    ]
    assert len(done.stderr.splitlines()) == 2


def test_check_looks_at_the_bridges_too(scratch: Path, tiny: Path) -> None:
    bridges = {"lines": {"kind": "file", "path": str(scratch / "lines.jsonl")}}
    publish = {"events": f"ipc://{scratch}/e", "replay": f"ipc://{scratch}/r"}
    given = {"model": str(tiny), "cameras": {"a": "demo"}, "publish": publish, "bridges": bridges}
    config = scratch / "site.yaml"
    config.write_text(json.dumps(given))
    done = run_once("-c", config, "--check")
    assert done.returncode == 0, done.stderr
    assert f"bridge lines: file, from ipc://{scratch}/e: good" in done.stderr
    assert not (scratch / "lines.jsonl").exists()
    bridges["post"] = {"kind": "webhook", "url": f"ftp://x/{SECRET}"}
    config.write_text(json.dumps(given))
    done = run_once("-c", config, "--check")
    assert done.returncode == 2
    assert "bridges.post.url: must look like https://host/path" in done.stderr
    assert "are fine" not in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_check_shows_what_it_found(scratch: Path, tiny: Path) -> None:
    config = scratch / "config.yaml"
    config.write_text(
        f"cameras:\n  door: rtsp://me:{SECRET}@127.0.0.1/s\n  desk: {{source: demo, loop: yes}}\n"
        f"model: {tiny}\n"
        f"publish: {{events: 'ipc://{scratch}/e', replay: 'ipc://{scratch}/r'}}\n"
    )
    config.chmod(0o644)
    done = run_once("-c", config, "--check", "--log-level", "ERROR")
    assert done.returncode == 0, done.stderr
    assert "camera door  rtsp://me:***@127.0.0.1/s" in done.stderr
    assert "warning: cameras.desk: loop: without effect for the demo camera" in done.stderr
    assert f"chmod 600 {config}" in done.stderr
    assert "are fine" in done.stderr
    assert SECRET not in done.stderr + done.stdout


WAYS = [
    ("--source", f"rtsp://me:a@b/{SECRET}@127.0.0.1:9/s"),
    ("--source", f"rtsp://me:{SECRET}#x@127.0.0.1:9/s", "--check"),
    ("--source", f"rtsp://me:{SECRET}%@127.0.0.1:9/s"),
    ("--source", f"me:{SECRET}@127.0.0.1:9/s"),
    (f"rtsp://me:{SECRET}@127.0.0.1:9/s",),
    ("-c", f"rtsp://me:{SECRET}@127.0.0.1:9/s"),
    ("--model", f"http://me:{SECRET}@127.0.0.1:9/s", "--source", "demo"),
    ("--source", "demo", "--camera", f"rtsp://me:{SECRET}@127.0.0.1:9/s"),
    ("--transport", f"rtsp://me:{SECRET}@127.0.0.1:9/s", "--source", "demo"),
    ("--duration", f"rtsp://me:{SECRET}@127.0.0.1:9/s"),
    ("--sorce", f"rtsp://me:{SECRET}@127.0.0.1:9/s"),
]


@pytest.mark.parametrize("arguments", WAYS, ids=lambda way: " ".join(way).replace(SECRET, "…"))
def test_a_secret_on_the_command_line_is_not_repeated(arguments: tuple[str, ...]) -> None:
    done = run_once(*arguments)
    assert done.returncode == 2, done.stderr
    assert SECRET[:3] not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def refusing_camera() -> Iterator[int]:
    """An HTTP camera that refuses every login and repeats what it was sent in its answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401, f"no {self.path}")
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def written(folder: Path) -> bytes:
    """All that a run has written under its folder but its config."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "config.yaml"]
    return b"".join(path.read_bytes() for path in paths)


def test_a_wrong_password_is_in_no_log_status_metric_or_recording(
    scratch: Path, tiny: Path
) -> None:
    metrics = free_port()
    with refusing_camera() as port:
        source = f"http://me:{SECRET[:5]}%40{SECRET[5:]}@127.0.0.1:{port}/v?token={SECRET}"
        settings = {
            "model": str(tiny),
            "cameras": {"door": source, "desk": "demo"},
            "events": {"log": str(scratch / "log")},
            "runtime": {"record": str(scratch / "record")},
            "supervisor": {"metrics": f"127.0.0.1:{metrics}"},
        }
        with PipelineRun(scratch, settings, ("--log-level", "DEBUG")) as run:
            run.wait_for(
                lambda: any(h.body["state"] == "unauthorised" for h in run.statuses("door")),
                60,
                "the refusal",
            )
            run.wait_for(lambda: run.scores("desk"), 60, "the other camera")
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics") as answer:
                shown = answer.read()
            code, _ = run.stop()
        assert code == 0
        heard = repr(run.heard).encode() + repr(run.printed()).encode()
    everything = shown + heard + written(scratch)
    assert b"me:***@127.0.0.1" in everything
    for part in (SECRET[:5], SECRET[5:], SECRET):
        assert part.encode() not in everything


SPECIAL = "p@s:/w?r#d%ü 1"
"""A password with the characters that must be percent-encoded."""


@pytest.mark.parametrize("server", ["basic", "digest", "http"])
def test_a_percent_encoded_password_logs_in(
    request: pytest.FixtureRequest, tmp_path: Path, server: str
) -> None:
    if server != "http":
        request.getfixturevalue("rtsp")
    login = f"me:{SPECIAL}"
    encoded = f"me:{quote(SPECIAL, safe='')}"
    clip = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for level in range(20):
        writer.write(np.full((48, 64, 3), 10 * level, np.uint8))
    writer.release()
    if server == "http":
        serving = http_mjpeg_server({"door": [clip]}, login=login, size=(48, 64), fps=10)
    else:
        serving = rtsp_server(
            {"door": ["test"]}, login=login, digest=server == "digest", size=(48, 64), fps=10
        )
    with serving as camera:
        source = create(camera.url("door", login=encoded), camera="door", clock=SYSTEM_CLOCK)
        source.open()
        assert source.size == (48, 64)
        source.close()
        unencoded = camera.url("door", login=login.replace(" ", ""))
        with pytest.raises(SourceError, match="write '@' as %40 and '/' as %2F"):
            create(unencoded, camera="door", clock=SYSTEM_CLOCK)
