"""Config files as people write them: YAML's pitfalls, each named by line and column or accepted."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config, json_schema, load
from pipeline.config.paths import stray_address
from pipeline.errors import ConfigError


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(folder: Path, text: str | bytes) -> str:
    """The error that a file is refused with, without the file's own path."""
    path = written(folder, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert all(line.startswith(str(path)) for line in str(caught.value).splitlines())
    return str(caught.value).replace(str(path), "config.yaml")


def sources(config: Config) -> dict[str, str]:
    return {name: camera.source for name, camera in config.cameras.items()}


TWICE = [
    (
        "cameras:\n  door: demo\n  hall: demo\n  door: demo:2\n",
        "config.yaml:4:3: cameras.door: the key stands in line 2 already; keep one of the two",
    ),
    (
        "cameras:\n  a: demo\nmodel: x\ncameras:\n  b: demo\n",
        "config.yaml:4:1: cameras: the key stands in line 1 already; keep one of the two",
    ),
    (
        "events:\n  log: a\n  keep_days: 3\n  log: b\n",
        "config.yaml:4:3: events.log: the key stands in line 2 already; keep one of the two",
    ),
    (
        "cameras: {door: {source: demo, fps: 3, fps: 4}}\n",
        "config.yaml:1:40: cameras.door.fps: the key stands in line 1 already; keep one of the two",
    ),
    (
        "cameras:\n  door: demo\n  'door': demo\n",
        "config.yaml:3:3: cameras.door: the key stands in line 2 already; keep one of the two",
    ),
]


@pytest.mark.parametrize(("text", "says"), TWICE)
def test_a_key_given_twice_is_an_error_with_both_lines(
    tmp_path: Path, text: str, says: str
) -> None:
    assert refused(tmp_path, text) == says


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    text = "flow: {workers: 0}\ncameras:\n  front door: demo\n  hall: {fps: x}\nnonsense: 1\n"
    lines = refused(tmp_path, text).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "config.yaml:3:3", "config.yaml:4:10", "config.yaml:1:8", "config.yaml:5:1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cameras:\n  door: rtsp://cam/s\n", {"door": "rtsp://cam/s"}),
        ("cameras:\n  door: rtsp://cam/s # ask me@home.org", {"door": "rtsp://cam/s"}),
        ("cameras:\n  door: 0\n  hall: 1\n", {"door": "0", "hall": "1"}),
        ("cameras: {no: demo, on: demo, 010: demo, 7: demo}\n",
         {"no": "demo", "on": "demo", "010": "demo", "7": "demo"}),
        ("cameras: {y: demo, true: demo, null: demo, 1e3: demo}\n",
         {"y": "demo", "true": "demo", "null": "demo", "1e3": "demo"}),
        ("cameras: {door: {source: ' rtsp://cam/s '}}\n", {"door": "rtsp://cam/s"}),
        ("defaults: &d {source: demo}\ncameras: {a: *d}\n", None),
        ("cameras:\n  a: &d {source: demo, fps: 5}\n  b: {<<: *d, source: 'demo:2'}\n  c: *d\n",
         {"a": "demo", "b": "demo:2", "c": "demo"}),
        ("cameras:\n  a: &d {source: demo}\n  b:\n    <<: [*d, {fps: 3}]\n    fps: 4\n",
         {"a": "demo", "b": "demo"}),
        ("%YAML 1.1\n---\ncameras: {no: demo}\n", {"no": "demo"}),
        (b"\xef\xbb\xbfcameras:\r\n  door: demo\r\n", {"door": "demo"}),
        ("cameras:\n  door: demo\n".encode("utf-16"), {"door": "demo"}),
        ("---\ncameras: {door: demo}\n...\n", {"door": "demo"}),
        ("# nothing\n", {"demo": "demo"}),
        ("---\n", {"demo": "demo"}),
    ],
)  # fmt: skip
def test_cameras_as_people_write_them(
    tmp_path: Path, text: str | bytes, found: dict[str, str] | None
) -> None:
    if found is None:
        assert "defaults: unknown key" in refused(tmp_path, text)
    else:
        assert sources(load(written(tmp_path, text))) == found


@pytest.mark.parametrize("word", ["yes", "on", "true", "True", "y", "'yes'", "1"])
@pytest.mark.parametrize("key", ["loop"])
def test_what_means_true(tmp_path: Path, key: str, word: str) -> None:
    config = load(written(tmp_path, f"cameras: {{door: {{source: a.mp4, {key}: {word}}}}}\n"))
    assert config.cameras["door"].loop is True


@pytest.mark.parametrize("word", ["no", "off", "false", "FALSE", "n", "0"])
def test_what_means_false(tmp_path: Path, word: str) -> None:
    config = load(written(tmp_path, f"publish: {{scores: {word}}}\n"))
    assert config.publish.scores is False


def test_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    text = """
    runtime: {latency_ms: 1e3, gather_ms: .5, ring_slots: 010, threads: 0o10}
    supervisor: {memory_mb: 1_000, stall_s: +2.5, restarts: 0}
    """
    config = load(written(tmp_path, text))
    runtime = config.runtime
    assert (runtime.latency_ms, runtime.gather_ms, runtime.ring_slots) == (1000.0, 0.5, 10)
    assert (runtime.threads, config.supervisor.memory_mb) == (8, 1000)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("runtime: {latency_ms: 1:30}", "1:11: runtime.latency_ms: .*valid number"),
        ("runtime: {latency_ms: .nan}", "runtime.latency_ms: "),
        ("supervisor: {restart_window_s: .inf}", "supervisor.restart_window_s: .*finite"),
        ("runtime: {ring_slots: 8.5}", "ring_slots: .*integer"),
        ("cameras: {door: {source: a.mp4, loop: maybe}}", "1:33: cameras.door.loop: .*boolean"),
        ("cameras:\n  door:\n", "2:3: cameras.door: it is empty; write its source"),
        ("cameras:\n", "1:1: cameras: it is empty"),
        ("cameras: {}\n", "1:1: cameras: .*at least 1"),
        ("cameras:\n  door: {loop: yes}\n", "2:3: cameras.door: it has no source; give it one"),
        ("cameras: [demo]\n", "1:1: cameras: must hold keys, each with a value, not a list"),
        ("cameras: demo\n", "1:1: cameras: must hold keys, each with a value, not a text"),
        ("cameras:\n  door: [demo]\n", "2:3: cameras.door: must hold keys, .* not a list"),
        ("cameras:\n  door: true\n", "2:3: cameras.door: must hold keys, .* not true or false"),
        ("events: 3\n", "1:1: events: must hold keys, each with a value, not a number"),
        ("events: {keep_days: }\nmodel:\n", "2:1: model: it is empty; give it a value"),
        ("cameras:\n  Tür zum Hof: demo\n", "2:3: .*1 to 32 characters: .*example Tur_zum_Hof"),
        ("cameras:\n  _governor: demo\n", "the first is a letter or a digit, for example governor"),
        ("cameras:\n  'a/b': demo\n", r"2:3: cameras\.\*\*\*: a camera's name has 1 to 32"),
        (f"cameras:\n  {'a' * 33}: demo\n", "1 to 32 characters"),
        ("cameras: {door: {source: rtsp://u:a,b@cam/s}}", "needs quotes"),
        ("cameras:\n  door: rtsp://me:1234 #5@cam/s\n", "2:9: cameras.door: ' #' begins a comment"),
        ("runtime: {providers: CPU}\n", "1:11: runtime.providers: must be a list, not a text"),
        ("cameras:\n\tdoor: demo\n", "2:1: not YAML: a tab; indent with spaces"),
        ("a: 1\n---\nb: 2\n", "2:1: not YAML: a second document begins"),
        ("cameras: {door: @x}\n", "1:17: not YAML: a value can't begin with @; put it in quotes"),
        ("model: a: b\n", "1:9: not YAML: a ':' where none may stand"),
        ("model: 'a\n", "not YAML: a quote that is never closed"),
        ("model: *x\n", "1:8: not YAML: an alias .* whose anchor"),
        ("model: !secret pw\n", "1:8: model: tags .* aren't understood here"),
        ("model: !!python/object:os.system x\n", "1:8: model: tags .* aren't understood here"),
        ("model: !%zz x\n", "not YAML: a tag"),
        ("? [a, b]\n: c\n", "1:3: a key must be a single name"),
        ("<<: 3\n", "<< takes over keys"),
        ("a: \x07\n", ":1: not YAML: a control character"),
        (b"model: caf\xe9\n", ":1: it isn't UTF-8; save the file as UTF-8"),
        ("model: x\n".encode("utf-16-le"), "it isn't text in UTF-8"),
        (b"\xff\xfea", "it isn't UTF-16"),
        ("[" * 200, "nested deeper than 50 levels"),
        ("x: " + "{a: " * 60 + "1" + "}" * 60, "nested deeper than 50 levels"),
        ("a: &x [*x]\n", "nested deeper than 50 levels"),
        ("x" * (1 << 19), "larger than 256 KiB"),
        ("model: $HOME/pack\n", "1:1: model: environment variables aren't expanded"),
        ("events: {log: '${LOGS}/a'}\n", "events.log: environment variables aren't expanded"),
        ("cameras: {door: '${CAMERA}'}\n", "cameras.door.source: environment variables"),
        ("model: https://host/pack\n", "model: it must be a path on this machine"),
        ("model: ''\n", "model: it is empty; give a path"),
        ('events: {log: "a\\nb"}\n', "events.log: it holds a line break"),
        ('cameras: {door: "a\\nERROR b.mp4"}\n', "cameras.door.source: it holds a line break"),
        ("publish: {events: 'tcp://me:pw@127.0.0.1:5555'}\n", "publish.events: must look like"),
        ("publish: {events: 'tcp://127.0.0.1:5555/x'}\n", "publish.events: must look like"),
        (f"publish: {{events: 'ipc:///{'x' * 120}'}}\n", "a socket's path may have 107"),
    ],
)
def test_what_is_refused_is_named_by_its_place(
    tmp_path: Path, text: str | bytes, says: str
) -> None:
    error = refused(tmp_path, text)
    lines = error.splitlines()
    assert any(re.search(says, line) for line in lines), error
    assert "hunter" not in error


def test_a_million_laughs_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 12):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    assert "more than 20000 values" in refused(tmp_path, "\n".join(lines))


def test_empty_sections_are_their_defaults(tmp_path: Path) -> None:
    text = "events:\nflow:\npublish:\nruntime: {providers: }\nsupervisor:\n"
    assert load(written(tmp_path, text)) == load(written(tmp_path, ""))
    text = "events:\n  thresholds:\n  log:\n"
    assert load(written(tmp_path, text)).events.thresholds == {}


@pytest.mark.parametrize("what", ["folder", "missing", "unreadable name"])
def test_what_is_no_file_is_named(tmp_path: Path, what: str) -> None:
    names = {"folder": tmp_path, "missing": tmp_path / "none", "unreadable name": Path("a\0b")}
    with pytest.raises(ConfigError, match="can't be read"):
        load(names[what])


def test_a_tilde_is_the_home_wherever_a_path_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    text = """
    cameras: {door: ~/a.mp4, hall: {source: ~/b.mp4}, here: ./~/c.mp4}
    model: ~/pack
    events: {log: ~/log}
    publish: {keys: ~/keys, events: ipc://~/events}
    runtime: {run_dir: ~/run, record: ~/record}
    """
    config = load(written(tmp_path, text))
    assert sources(config) == {
        "door": "/home/me/a.mp4", "hall": "/home/me/b.mp4", "here": f"{tmp_path}/~/c.mp4",
    }  # fmt: skip
    runtime = config.runtime
    found = [config.model, config.events.log, config.publish.keys, runtime.run_dir, runtime.record]
    assert found == [Path(f"/home/me/{name}") for name in ("pack", "log", "keys", "run", "record")]
    assert config.publish.events == "ipc:///home/me/events"


def test_a_tilde_alone_is_nothing(tmp_path: Path) -> None:
    assert load(written(tmp_path, "events: {log: ~}\n")).events.log is None


@pytest.mark.parametrize(
    ("arguments", "stray"),
    [
        (["--source", "rtsp://u:p@h/x"], False),
        (["--source=rtsp://u:p@h/x", "--loop"], False),
        (["rtsp://u:p@h/x"], True),
        (["-c", "rtsp://u:p@h/x"], True),
        (["--model=http://h/x"], True),
        (["--sorce", "rtsp://u:p@h/x"], True),
        (["--source", "demo", "me:pw@10.0.0.1/s"], True),
        (["-c", "a@b.yaml", "--camera", "x"], False),
    ],
)
def test_an_address_in_another_options_place_is_found(arguments: list[str], stray: bool) -> None:
    assert (stray_address(arguments, takes={"--source"}) is not None) == stray


def paths_in(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from paths_in(part)


def test_every_relative_path_starts_from_the_folder_of_the_file(tmp_path: Path) -> None:
    text = """
        model: m
        cameras: {a: {source: clip.mp4, packs: [p]}}
        events: {log: l}
        publish: {keys: k}
        runtime: {run_dir: r, record: n}
        people: {model: d}
        evidence: {folder: e}
        memory: {folder: y}
    """
    file = tmp_path / "config.yaml"
    file.write_text(textwrap.dedent(text))
    config = load(file)
    found = {str(path.relative_to(tmp_path)) for path in paths_in(config.model_dump())}
    assert found == set("mplkrndey")
    assert config.cameras["a"].source == str(tmp_path / "clip.mp4")
    # A new key that holds a path belongs into the text above.
    assert json_schema().count('"format": "path"') == len(found)
