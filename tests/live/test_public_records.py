"""What a real run publishes keeps to the schema in docs, and its sockets to the table of topics."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import zmq

from pipeline.config import load
from pipeline.public import records
from pipeline.topology import stages
from pipeline.transport.public_sockets import PublicTopic
from pipeline.transport.topics import TABLE, Topic, Wire
from testbed.program import PROJECT, PipelineRun

SCHEMA = json.loads((PROJECT / "docs" / "messages.schema.json").read_text(encoding="utf-8"))


def ask(run: PipelineRun, request: bytes) -> Any:
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(run.endpoints["replay"])
        socket.send(request)
        assert socket.poll(10_000)
        return json.loads(socket.recv())


def validate(body: Any, record: type) -> None:
    jsonschema.validate(body, {"$ref": f"#/$defs/{record.__name__}", "$defs": SCHEMA["$defs"]})


def topic_of(name: str) -> PublicTopic:
    """The row of the table that a topic on the wire belongs to; the longest name wins."""
    fits = [topic for topic in records.TOPICS if name.startswith(f"{topic.name}/")]
    return max(fits, key=lambda topic: len(topic.name))


def test_everything_on_the_public_sockets_keeps_to_the_schema(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    camera = {"source": str(panning), "loop": True}
    settings = {
        "model": str(tiny),
        "cameras": {"a": camera, "gone": {"source": str(scratch / "gone.mp4")}},
        "events": {"update_every_s": 0.3},
        # No machine is as fast as that, so the governor publishes its state.
        "runtime": {"latency_ms": 0.01},
    }
    with PipelineRun(scratch, settings) as run:
        run.wait_for(lambda: len(run.events()) >= 8, 60, "eight events")
        run.wait_for(
            lambda: any(h.topic == "status/_governor/" for h in run.heard), 60, "the governor"
        )
        for request, record in (
            (b'{"request": "snapshot"}', records.Snapshot),
            (b'{"request": "replay", "since": 2}', records.Replay),
            (b'{"request": "nonsense"}', records.Error),
            (b"\xff", records.Error),
        ):
            validate(ask(run, request), record)
        heard = list(run.heard)
    seen: Counter[str] = Counter()
    for message in heard:
        topic = topic_of(message.topic)
        validate(message.body, topic.record)
        levels = message.topic.removeprefix(f"{topic.name}/").split("/")[:-1]
        assert levels == [message.body[level] for level in topic.levels]
        seen[topic.name] += 1
    assert seen.keys() >= {"action", "status", "status/_governor", "score"}


def expected_sockets(config_path: Path) -> set[str]:
    """The socket files that the table of topics asks for."""
    found = {"own-public.sock"}
    for topic in TABLE:
        name = topic.name.replace("/", "-")
        if topic.wire is not Wire.PUBLISH:
            found.add(f"{name}.sock")
            continue
        for instance in instances(config_path, topic):
            found.add(f"{name}.{instance}.sock" if instance else f"{name}.sock")
    return found


def instances(config_path: Path, topic: Topic) -> list[str]:
    return [s.instance for s in stages(load(config_path)) if s.kind in topic.writers]


def test_a_run_opens_the_sockets_of_the_table_and_no_other(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    camera = {"source": str(panning), "loop": True}
    settings = {
        "model": str(tiny),
        "cameras": {"a": camera, "b": camera},
        "flow": {"workers": 2},
        "evidence": {"folder": str(scratch / "files")},
        "memory": {"folder": str(scratch / "memory")},
    }
    with PipelineRun(scratch, settings) as run:
        run.wait_for(lambda: run.scores("a") and run.scores("b"), 60, "steps")
        run.wait_for(lambda: "evidence is ready" in run.log(), 60, "evidence")
        run.wait_for(lambda: "memory is ready" in run.log(), 60, "memory")
        folder = next(run.runs.glob("two-stream-*"))
        assert {p.name for p in folder.glob("*.sock")} == expected_sockets(scratch / "config.yaml")
        time.sleep(0.5)
        # A wire that carries anything else is a TopicError, which kills its stage.
        assert "TopicError" not in run.log()
        assert "does not belong here" not in run.log()
