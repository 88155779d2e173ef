"""What docs/bridges.md shows works as it stands there."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bridges.kinds import KINDS
from bridges.measures import Measures
from bridges.notify_settings import FIELDS
from bridges.settings import load
from testbed.bridge import wait_for
from tests.bridges.parts import LONG_S
from tests.structure import PROJECT

TEXT = (PROJECT / "docs" / "bridges.md").read_text(encoding="utf-8")
CONFIGS = re.findall(r"<!-- config -->\n```yaml\n(.*?)```", TEXT, re.S)
COMMANDS = re.findall(r"<!-- commands -->\n```sh\n(.*?)```", TEXT, re.S)


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_each_config_is_a_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    monkeypatch.setenv("HOOK_URL", "https://example.org/hook")
    monkeypatch.setenv("NTFY_URL", "ntfys://ntfy.sh/topic")
    (tmp_path / "hook.secret").write_text("0" * 64)
    path = tmp_path / "config.yaml"
    path.write_text(config)
    found = load(path, {kind: row.settings for kind, row in KINDS.items()})
    assert len(found.by_name) == 1
    assert found.warnings == ()


@pytest.mark.slow
def test_the_commands_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIGS[0])
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    check, run = COMMANDS[0].splitlines()
    python = [sys.executable, "-m", "two_stream"]
    arguments = [*python, *shlex.split(check)[1:]]
    done = subprocess.run(
        arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (
        0, "lines: file, from tcp://127.0.0.1:5555: good\n",
    )  # fmt: skip
    with (tmp_path / "log").open("wb") as errors:
        process = subprocess.Popen(
            [*python, *shlex.split(run)[1:]], cwd=tmp_path, env=environment, stderr=errors
        )
    wait_for(lambda: "begins" in (tmp_path / "log").read_text(), LONG_S, "the bridge")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_every_field_and_every_metric_is_named() -> None:
    for field in FIELDS:
        assert f"`${field}`" in TEXT, field
    for family in Measures("x", "x").registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        assert f"`{name}`" in TEXT, name


def test_every_kind_and_every_common_key_is_named() -> None:
    for kind in KINDS:
        assert f"`{kind}`" in TEXT, kind
