"""Settings of bridges: each mistake is named by its key, and no secret is shown."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bridges.kinds import KINDS
from bridges.settings import Bridges, load
from pipeline.config import load as load_config
from pipeline.errors import ConfigError

SETTINGS = {kind: row.settings for kind, row in KINDS.items()}
HOOK: dict[str, Any] = {"kind": "webhook", "url": "https://example.org/hook"}


def loaded(folder: Path, data: Any) -> Bridges:
    path = folder / "config.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return load(path, SETTINGS)


def test_a_file_of_its_own(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        {
            "connect": {
                "events": "tcp://server:5555",
                "replay": "tcp://server:5556",
                "key": "a.key",
            },
            "bridges": {
                "log": {"kind": "file", "path": "out/events.jsonl"},
                "hook": {**HOOK, "connect": {"key": "b.key"}, "cursor": "state/hook"},
            },
        },
    )
    log, hook = found.by_name["log"], found.by_name["hook"]
    assert (log.events, log.replay, log.key) == (
        "tcp://server:5555", "tcp://server:5556", tmp_path / "a.key",
    )  # fmt: skip
    assert (hook.key, hook.events) == (tmp_path / "b.key", "tcp://server:5555")
    assert log.cursor == tmp_path / "log.cursor"
    assert hook.cursor == tmp_path / "state" / "hook"
    assert log.settings.model_dump()["path"] == tmp_path / "out" / "events.jsonl"
    assert found.warnings == ()


def test_the_programs_own_config(tmp_path: Path) -> None:
    data = {
        "cameras": {"door": {"source": "demo"}},
        "publish": {"events": "tcp://127.0.0.1:7001", "replay": "tcp://127.0.0.1:7002"},
        "bridges": {"hook": {**HOOK, "secret": "x" * 20}},
    }
    found = loaded(tmp_path, data)
    assert found.by_name["hook"].events == "tcp://127.0.0.1:7001"
    assert "events.log isn't set" in found.warnings[0]
    found = loaded(tmp_path, {**data, "events": {"log": "data/events.sqlite"}})
    assert found.warnings == ()
    assert found.by_name["hook"].cursor == tmp_path / "data" / "hook.cursor"
    # The program keeps the section as it is, and doesn't show it.
    config = load_config(tmp_path / "config.yaml")
    assert config.bridges == data["bridges"]
    assert "x" * 20 not in repr(config)


def test_a_camera_that_the_program_lacks_is_found(tmp_path: Path) -> None:
    data = {"cameras": {"door": {"source": "demo"}}, "bridges": {"a": {**HOOK, "cameras": ["dor"]}}}
    with pytest.raises(ConfigError, match=r"bridges\.a\.cameras: there is no camera dor; .*door\?"):
        loaded(tmp_path, data)
    assert loaded(tmp_path, {"bridges": data["bridges"]}).by_name["a"].settings.cameras == ["dor"]


def test_the_programs_sockets_are_reached_from_this_machine(tmp_path: Path) -> None:
    publish = {"events": "tcp://*:7001", "replay": "tcp://[::]:7002", "keys": "keys"}
    data = {"cameras": {"door": {"source": "demo"}}, "publish": publish, "bridges": {"hook": HOOK}}
    with pytest.raises(ConfigError, match=r"bridges\.hook\.connect\.key: missing; .* new hook"):
        loaded(tmp_path, data)
    data["bridges"] = {"hook": {**HOOK, "connect": {"key": "keys/issued/hook.key"}}}
    hook = loaded(tmp_path, data).by_name["hook"]
    assert (hook.events, hook.replay) == ("tcp://127.0.0.1:7001", "tcp://[::1]:7002")
    assert hook.key == tmp_path / "keys" / "issued" / "hook.key"


@pytest.mark.parametrize(
    ("bridge", "says"),
    [
        ({}, r"config.yaml:2:3: bridges\.one\.kind: missing; there are file, "),
        ({"kind": "webhok"}, r"bridges\.one\.kind: there is no such kind; .*mean webhook\?"),
        ({"kind": 4}, r"bridges\.one\.kind: there is no such kind"),
        ({"kind": "file"}, r"bridges\.one\.path: Field required"),
        ({"kind": "file", "path": "tcp://x"}, r"bridges\.one\.path: it must be a path"),
        ({**HOOK, "urll": "x"}, r"bridges\.one\.urll: unknown key; known here: .*from.*url"),
        ({**HOOK, "url": "ftp://host"}, r"bridges\.one\.url: must look like https://host/path"),
        ({**HOOK, "url": "https://h/#x"}, r"bridges\.one\.url: the part after #"),
        ({**HOOK, "secret": "short"}, r"bridges\.one\.secret: it has fewer than 16 characters"),
        ({**HOOK, "secret": {"env": "NO_SUCH_1"}}, r"variable NO_SUCH_1 isn't set"),
        ({**HOOK, "secret": {"file": "none"}}, r"file .*/none: No such file"),
        ({**HOOK, "secret": {"vault": "x"}}, r"\{env: NAME\}, or \{file: PATH\}"),
        ({**HOOK, "headers": {"Content-Type": "x"}}, r"the bridge sets this header itself"),
        ({**HOOK, "headers": {"X-A": "a\nb"}}, r"X-A: its value holds a line break"),
        ({**HOOK, "from": "start"}, r"bridges\.one\.from: Input should be 'now' or 'oldest'"),
        ({**HOOK, "metrics": "0.0.0.0:9110"}, r"bridges\.one\.metrics: must be a loopback"),
        ({**HOOK, "connect": {"events": "5555"}}, r"connect\.events: must look like tcp://"),
        ({**HOOK, "cameras": []}, r"bridges\.one\.cameras: "),
        ({"kind": "notify", "urls": ["mailto"]}, r"urls: number 1 doesn't look like service://"),
        (
            {"kind": "notify", "urls": ["json://h"], "message": {"body": "$camra"}},
            r"message\.body: there is no field \$camra; there are camera,",
        ),
        (
            {"kind": "notify", "urls": ["json://h"], "message": {"body": "5 $ at"}},
            r"message\.body: a \$ stands alone",
        ),
        ({"kind": "notify", "urls": ["json://h"], "quiet": "25:00-6"}, r"quiet: "),
        ({"kind": "notify", "urls": ["json://h"], "types": ["end"]}, r"`on` says what"),
    ],
)
def test_each_mistake_is_named_by_its_key(tmp_path: Path, bridge: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        loaded(tmp_path, {"bridges": {"one": bridge}})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it has no bridges"),
        ("bridges: {}", "bridges"),
        ("bridges: 4", "bridges: must hold keys"),
        ("bridges: {one: file}", r"bridges\.one: must hold keys"),
        ("bridges: {'a b': {kind: file, path: x}}", "a bridge's name has 1 to 32 characters"),
        ("connect: {keys: x}\nbridges: {a: {kind: file, path: x}}", r"connect\.keys: unknown key"),
        (
            "bridges: {a: {kind: file, path: x, cursor: c}, b: {kind: file, path: y, cursor: c}}",
            r"bridges\.b\.cursor: it is that of bridges\.a",
        ),
    ],
)
def test_so_is_each_mistake_around_them(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        loaded(tmp_path, text)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    bad = {"a": {"kind": "x"}, "b": {"kind": "file"}, "c": {**HOOK, "timeout_s": -1}}
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, {"bridges": bad})
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "hunter2"},
        {"url": "https://u:hunter2@host:99999/"},
        {"secret": "hunter2"},
        {"secret": ["hunter2"]},
        {"headers": {"X": "hunter2\n"}},
        {"headers": "hunter2"},
        {"timeout_s": "hunter2"},
        {"hunter2://x": 1},
    ],
)
def test_no_message_repeats_a_secret(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, {"bridges": {"one": {**HOOK, **settings}}})
    assert "hunter2" not in str(caught.value)


def test_secrets_come_from_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_URL", "https://example.org/token")
    (tmp_path / "secret").write_text("0123456789abcdef\n")
    data = {**HOOK, "url": {"env": "HOOK_URL"}, "secret": {"file": "secret"}}
    settings: Any = loaded(tmp_path, {"bridges": {"one": data}}).by_name["one"].settings
    assert settings.url.get_secret_value() == "https://example.org/token"
    assert settings.secret.get_secret_value() == "0123456789abcdef"
    assert "token" not in repr(settings)
