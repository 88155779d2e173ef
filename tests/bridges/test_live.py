"""Whole bridges on a real publish stage: killed, cut off, and left alone for long."""

import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.public.event_log import newest_seq, read_since
from testbed.bridge import wait_for
from testbed.program import PROJECT, free_port, scratch_folder
from testbed.publisher import Publisher
from testbed.receiving_server import Answer, Posted, ReceivingServer
from tests.bridges.parts import LONG_S, add_evidence, bridge_in, fill

pytestmark = pytest.mark.slow


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch_folder() as path:
        yield path


def seqs(path: Path) -> list[int]:
    """The events in a file of a bridge, as far as its lines are whole."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    records = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [record["seq"] for record in records if "type" in record]


def posted(server: ReceivingServer) -> list[int]:
    return [json.loads(one.body)["seq"] for one in server.taken]


def test_nothing_is_missing_after_both_sides_were_killed_again_and_again(folder: Path) -> None:
    chance = random.Random(4)
    out = folder / "out.jsonl"
    settings = {"kind": "file", "path": str(out), "from": "oldest"}
    with Publisher(folder, every_s=0.02) as publisher, bridge_in(folder, settings) as bridge:
        wait_for(lambda: seqs(out), LONG_S, "the first line")
        for turn in range(4):
            time.sleep(chance.uniform(0.05, 0.6))
            victim = publisher if turn == 2 else bridge
            victim.kill()
            victim.start()
        publisher.kill()
        newest = newest_seq(publisher.log)
        publisher.every_s = None
        publisher.start()
        wait_for(lambda: newest_seq(publisher.log) in seqs(out), LONG_S, "the newest event")
        assert bridge.stop() == 0
    found = seqs(out)
    assert newest > 50
    # What stands in the file already is not written again, so none is there twice.
    assert found == list(range(1, newest_seq(publisher.log) + 1))
    assert [json.loads(line) for line in out.read_bytes().splitlines()] == [
        json.loads(body) for body in read_since(publisher.log, 0)
    ]


def test_a_webhook_that_is_away_and_a_bridge_that_is_killed_lose_nothing(folder: Path) -> None:
    chance = random.Random(7)
    kinds = [Answer(503), Answer(hang_up=True), Answer(429, (("Retry-After", "0"),))]

    def answer(_: Posted) -> Answer:
        return chance.choice(kinds) if chance.random() < 0.06 else Answer()

    with ReceivingServer(answer) as server:
        settings = {
            "kind": "webhook", "url": server.url, "from": "oldest", "retry_max_s": 0.05,
        }  # fmt: skip
        fill(folder / "events.sqlite", 120)
        with Publisher(folder), bridge_in(folder, settings) as bridge:
            wait_for(lambda: len(server.taken) > 20, LONG_S, "some events")
            bridge.kill()
            bridge.start()
            wait_for(lambda: len(server.taken) > 60, LONG_S, "more events")
            server.stop()
            time.sleep(0.5)
            server.start()
            newest = newest_seq(folder / "events.sqlite")
            wait_for(lambda: newest in posted(server), LONG_S, "the newest event")
            assert bridge.stop() == 0
    found = posted(server)
    without_doubles = list(dict.fromkeys(found))
    assert without_doubles == list(range(1, newest + 1))
    assert len(found) - len(without_doubles) <= 64
    keys = {one.headers["Idempotency-Key"] for one in server.taken}
    assert len(keys) == newest


def test_another_log_is_read_from_its_first_event_and_the_first_one_goes_on(folder: Path) -> None:
    """As with a run on another config for a while. The second is longer than the first."""
    out = folder / "out.jsonl"
    fill(folder / "a.sqlite", 5)
    fill(folder / "b.sqlite", 9, label="right")
    settings = {"kind": "file", "path": str(out), "from": "oldest"}
    with bridge_in(folder, settings) as bridge:
        for turn, name in enumerate(("a", "b", "a", "b")):
            log = folder / f"{name}.sqlite"
            with Publisher(folder, log_name=log.name):
                newest = newest_seq(log)
                last = json.loads(read_since(log, newest - 1)[0])
                wait_for(partial(has, out, json.dumps(last)), LONG_S, f"the end of {name}")
            # Between the runs both sides are restarted, or the publisher alone.
            if turn == 2:
                bridge.kill()
                bridge.start()
    for log in (folder / "a.sqlite", folder / "b.sqlite"):
        bodies = [json.dumps(json.loads(body)) for body in read_since(log, 0)]
        assert [line for line in parsed(out) if line in bodies] == bodies
    assert "has another event log now" in bridge.log()


def has(path: Path, line: str) -> bool:
    return line in parsed(path)


def parsed(path: Path) -> list[str]:
    if not path.exists():
        return []
    whole = path.read_bytes().splitlines(keepends=True)
    return [json.dumps(json.loads(line)) for line in whole if line.endswith(b"\n")]


def test_a_new_bridge_owes_what_comes_after_its_first_look(folder: Path) -> None:
    """Also when it is killed before anything has come."""
    out = folder / "out.jsonl"
    fill(folder / "events.sqlite", 3)
    with bridge_in(folder, {"kind": "file", "path": str(out)}) as bridge:
        cursor = folder / "one.cursor"
        with Publisher(folder) as publisher:
            wait_for(cursor.exists, LONG_S, "the cursor")
            before = newest_seq(publisher.log)
            bridge.kill()
            publisher.act("start")
            bridge.start()
            wait_for(lambda: seqs(out), LONG_S, "the event")
    assert seqs(out)[0] == before + 1


def test_what_the_log_forgot_is_counted_and_said(folder: Path) -> None:
    out, port = folder / "out.jsonl", free_port()
    log = folder / "events.sqlite"
    fill(log, 5)
    settings = {
        "kind": "file", "path": str(out), "from": "oldest", "metrics": f"127.0.0.1:{port}",
    }  # fmt: skip
    with bridge_in(folder, settings) as bridge:
        with Publisher(folder):
            wait_for(lambda: 5 in seqs(out), LONG_S, "the first events")
            bridge.kill()
        fill(log, 10)
        db = sqlite3.connect(log)
        newest = newest_seq(log)
        with db:
            db.execute("DELETE FROM events WHERE seq BETWEEN 9 AND ?", (newest - 2,))
        db.close()
        gone = newest - 2 - 8
        with Publisher(folder):
            bridge.start()
            wait_for(lambda: newest in seqs(out), LONG_S, "the newest")
            names = '{bridge="one",kind="file"}'
            wait_for(lambda: f"lag_events{names} 0.0" in metrics(port), LONG_S, "no lag")
            assert f"two_stream_bridge_forgotten_total{names} {gone}" in metrics(port)
            assert f"had deleted {gone} events before they could be sent" in bridge.log()


def metrics(port: int) -> str:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        return str(page.read().decode())


def test_evidence_comes_after_its_event_and_survives_restarts(folder: Path) -> None:
    log = folder / "events.sqlite"
    fill(log, 3)
    picture = folder / "1.jpg"
    picture.write_bytes(b"\xff\xd8picture")
    add_evidence(log, 2, path=str(picture))
    add_evidence(log, 3, state="lost", reason="the disk is full", path=None)
    with ReceivingServer() as server:
        settings = {"kind": "webhook", "url": server.url, "from": "oldest", "body": "multipart"}
        with bridge_in(folder, settings) as bridge:
            with Publisher(folder):
                wait_for(lambda: len(server.taken) >= 5, LONG_S, "events and evidence")
                wait_for(lambda: '"' in cursor_text(folder, evidence=2), LONG_S, "the cursor")
                bridge.kill()
            add_evidence(log, 1)
            bridge.start()
            with Publisher(folder):
                wait_for(
                    lambda: b'"number":3' in server.taken[-1].body, LONG_S, "evidence after it"
                )
    order = [one.headers["Idempotency-Key"].partition("/")[2] for one in server.taken]
    assert order.index("evidence/1") > order.index("2")
    assert order.index("evidence/2") > order.index("3")
    assert len(set(order)) == len(order)
    with_file = [one for one in server.taken if b"picture" in one.body]
    assert [one.headers["Idempotency-Key"].endswith("evidence/1") for one in with_file] == [True]


def cursor_text(folder: Path, evidence: int) -> str:
    path = folder / "one.cursor"
    text = path.read_text() if path.exists() else ""
    return text if f",{evidence}]" in text else ""


def test_the_checks_say_what_is_wrong_and_connect_to_nothing(folder: Path) -> None:
    settings: dict[str, Any] = {"kind": "webhook", "url": "https://example.invalid/hook-TOKEN"}
    with bridge_in(folder, settings, ("--check",)) as bridge:
        assert bridge.process.wait(60) == 0
    assert "TOKEN" not in bridge.log()
    assert not (folder / "one.cursor").exists()
    broken = {**settings, "ca_file": str(folder / "none.pem")}
    with bridge_in(folder, broken, ("--check",)) as bridge:
        assert bridge.process.wait(60) == 2
    assert "bridges.one: ca_file: " in bridge.log()
    assert "Traceback" not in bridge.log()


@pytest.mark.parametrize("kind", ["webhook", "notify"])
def test_no_log_shows_a_token(folder: Path, kind: str) -> None:
    """Not even that of a library, at the level that says most."""
    fill(folder / "events.sqlite", 3)
    with ReceivingServer() as server:
        where = f"127.0.0.1:{server.port}/hook-TOKEN"
        settings: dict[str, Any] = {"kind": kind, "from": "oldest", "retry_max_s": 0.1}
        if kind == "webhook":
            settings |= {"url": f"http://user:TOKEN@{where}", "headers": {"X-Key": "TOKEN"}}
        else:
            settings |= {"urls": f"json://user:TOKEN@{where}", "on": ["end"]}
        answers = iter([Answer(500), Answer(hang_up=True), Answer(404)])
        server.answer = lambda _: next(answers, Answer())
        arguments = ("--log-level", "DEBUG")
        with Publisher(folder), bridge_in(folder, settings, arguments) as bridge:
            wait_for(lambda: len(server.taken) >= 3, LONG_S, "the events")
            assert bridge.stop() == 0
        assert "TOKEN" in server.taken[0].path
    assert "waiting" in bridge.log()
    assert "TOKEN" not in bridge.log()


def test_a_second_process_of_the_same_bridge_is_refused(folder: Path) -> None:
    settings = {"kind": "file", "path": str(folder / "out.jsonl")}
    with bridge_in(folder, settings) as first:
        wait_for(lambda: "begins" in first.log(), LONG_S, "the first")
        assert psutil.Process(first.process.pid).children() == []
        with bridge_in(folder, settings) as second:
            assert second.process.wait(60) == 2
        assert "another process runs the bridge one" in second.log()
        assert first.stop() == 0


def test_a_bridge_ends_with_who_started_it_if_told_to(folder: Path) -> None:
    config = folder / "bridges.yaml"
    config.write_text(f"bridges: {{one: {{kind: file, path: {folder}/out.jsonl}}}}")
    command = [sys.executable, "-m", "bridges", "-c", str(config), "--with-parent"]
    program = f"import os, subprocess; subprocess.Popen([*{command!r}, str(os.getpid())]).wait()"
    with (folder / "log").open("wb") as errors:
        parent = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, stderr=errors)
    wait_for(lambda: "begins" in (folder / "log").read_text(), LONG_S, "the bridge")
    (bridge,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    assert bridge.wait(30) is None  # it isn't our child, so its exit code isn't known
    assert not bridge.is_running()
