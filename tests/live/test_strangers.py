"""The whole program with keys: only clients with a key receive, and only until it is revoked."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.client import EventClient
from pipeline.public.key_folder import KeyFolder, read_client_keys
from testbed.program import PROJECT, PipelineRun


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def settings(pack: Path, clip: Path, keys: Path) -> dict[str, Any]:
    events, replay = (f"tcp://0.0.0.0:{port}" for port in free_ports(2))
    return {
        "model": str(pack),
        "cameras": {"a": {"source": str(clip), "loop": True}},
        "publish": {"events": events, "replay": replay, "keys": str(keys)},
    }


def connect(config: dict[str, Any], key: Path | None) -> EventClient:
    publish = config["publish"]
    events, replay = (
        publish[name].replace("0.0.0.0", "127.0.0.1") for name in ("events", "replay")
    )
    return EventClient(events, replay, since=0, key=key)


def test_only_who_has_a_key_hears(scratch: Path, tiny: Path, panning: Path) -> None:
    folder = KeyFolder(scratch / "keys")
    kept, lost = folder.new("kept"), folder.new("lost")
    config = settings(tiny, panning, folder.path)
    secrets = [read_client_keys(path).secret for path in (kept, lost)] + [folder.server().secret]
    copy = scratch / "copy.key"
    copy.write_bytes(lost.read_bytes())
    copy.chmod(0o600)
    with PipelineRun(scratch, config) as run:
        with connect(config, kept) as good, connect(config, copy) as revoked:
            assert good.receive(30) is not None
            assert revoked.receive(10) is not None
            with connect(config, None) as stranger:
                assert stranger.receive(3) is None
            command = [sys.executable, "-m", "pipeline.keys", "revoke", "lost", "--folder"]
            subprocess.run([*command, str(folder.path)], cwd=PROJECT, check=True)
            run.wait_for(lambda: "revoked: lost" in run.log(), 10, "the revocation")
            while revoked.receive(1.0) is not None:
                pass
            assert revoked.receive(4.0) is None
            # The other came back by itself, and missed nothing.
            seqs = [event.seq for _ in range(8) if (event := good.receive(10.0)) is not None]
            assert seqs == list(range(2, 10))
        assert not run.heard  # the harness itself has no key
        assert run.printed()  # what the program prints needs none
        processes = subprocess.run(["ps", "axeww"], capture_output=True, text=True).stdout
        said = run.log() + processes + json.dumps(run.printed())
        assert not any(secret in said for secret in secrets)
        assert run.log().count("its key isn't known here") <= 1
        assert run.log().count("it has no key") == 1


def test_keys_that_others_can_read_are_refused(scratch: Path, tiny: Path, panning: Path) -> None:
    folder = KeyFolder(scratch / "keys")
    folder.new("kept")
    (folder.path / "server.json").chmod(0o644)
    with PipelineRun(scratch, settings(tiny, panning, folder.path)) as run:
        assert run.process.wait(20) == 2
        assert "others may read it (mode 644)" in run.log()
