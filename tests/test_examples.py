"""Each example runs, or is read by the program that it is for."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bridges.home_assistant import Discovery
from bridges.measures import Measures
from bridges.mqtt_topics import Topics
from testbed.bridge import wait_for
from testbed.program import scratch_folder
from testbed.publisher import Publisher
from tests.pipeline.run.watched import Watched
from tests.structure import PROJECT
from tests.test_deploy import says, tool

EXAMPLES = PROJECT / "examples"
LONG_S = 60.0


@pytest.fixture(scope="module")
def publisher() -> Iterator[Publisher]:
    with scratch_folder() as folder, Publisher(folder) as made:
        for number in range(1, 6):
            made.act("start", number=number)
            made.act("end", number=number)
        yield made


class Printing:
    """A command whose output is collected."""

    def __init__(self, folder: Path, *command: str, **environment: str) -> None:
        self._path = folder / "printed.txt"
        with self._path.open("wb") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, cwd=folder, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
            )  # fmt: skip

    def text(self) -> str:
        return self._path.read_text(errors="replace")

    def seqs(self) -> list[int]:
        return [int(line.split()[0]) for line in self.text().splitlines() if line[:1].isdigit()]

    def __enter__(self) -> "Printing":
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, 9)
        self.process.wait()


def last_seq(publisher: Publisher) -> int:
    from pipeline.public.event_log import read_since

    return int(max(json.loads(body)["seq"] for body in read_since(publisher.log, 0)))


@pytest.mark.slow
def test_the_python_subscriber_prints_each_event_and_goes_on_after_a_restart(
    publisher: Publisher, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    command = (
        sys.executable, str(EXAMPLES / "subscriber.py"), *publisher.endpoints, str(state),
    )  # fmt: skip
    log = json.loads(next(iter(_bodies(publisher))))["log"]
    state.write_text(json.dumps([log, 0]))
    with Printing(tmp_path, *command) as run:
        wait_for(lambda: len(run.seqs()) == last_seq(publisher), LONG_S, run.text)
        publisher.act("start", number=100)
        newest = last_seq(publisher)
        wait_for(lambda: run.seqs()[-1:] == [newest], LONG_S, run.text)
        assert run.seqs() == list(range(1, newest + 1))
    publisher.act("end", number=100)
    with Printing(tmp_path, *command) as run:
        wait_for(lambda: run.seqs()[-1:] == [newest + 1], LONG_S, run.text)
        assert run.seqs() == [newest + 1]


def _bodies(publisher: Publisher) -> Iterator[bytes]:
    from pipeline.public.event_log import read_since

    return iter(list(read_since(publisher.log, 0)))


def node_modules() -> Path:
    """Where the npm package zeromq is."""
    tool("node", "Debian: nodejs")
    found = Path(os.environ.get("TWO_STREAM_NODE_MODULES", "/nowhere"))
    if not (found / "zeromq").is_dir():
        pytest.skip("the npm package zeromq isn't in TWO_STREAM_NODE_MODULES")
    return found


@pytest.mark.slow
def test_the_node_subscriber_prints_each_event(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(node_modules())
    # A module finds packages beside itself.
    shutil.copy(EXAMPLES / "subscriber.mjs", tmp_path)
    command = ("node", str(tmp_path / "subscriber.mjs"), *publisher.endpoints, "0")
    with Printing(tmp_path, *command) as run:
        wait_for(lambda: last_seq(publisher) in run.seqs(), LONG_S, run.text)
        publisher.act("start", number=200)
        newest = last_seq(publisher)
        wait_for(lambda: newest in run.seqs(), LONG_S, run.text)
        assert run.seqs() == list(range(1, newest + 1))
        publisher.act("end", number=200)


@pytest.mark.slow
def test_the_shell_subscriber_runs_a_command_for_each_action_once(
    publisher: Publisher, tmp_path: Path
) -> None:
    tool("jq", "Debian: jq")
    events, replay = publisher.endpoints
    label = "it's a label"
    command = (str(EXAMPLES / "subscriber.sh"), "state", "sh", "-c", 'echo "$ID|$CAMERA|$LABEL"')
    environment = {
        "TWO_STREAM": f"{sys.executable} -m two_stream",
        "SUBSCRIBE": f"--connect {events} --replay {replay}",
    }
    starts = [e for e in map(json.loads, _bodies(publisher)) if e["type"] == "start"]
    with Printing(tmp_path, *command, **environment) as run:
        wait_for(lambda: len(run.text().splitlines()) == len(starts), LONG_S, run.text)
        assert run.text().splitlines()[0] == f"{starts[0]['id']}|door|left"
        newest = last_seq(publisher)
        state = tmp_path / "state"
        wait_for(lambda: state.read_text().strip() == str(newest), LONG_S, run.text)
    with Printing(tmp_path, *command, **environment) as run:
        publisher.act("start", number=300, label=label)
        wait_for(lambda: run.text().count("|") >= 2, LONG_S, run.text)
        lines = run.text().splitlines()
        assert len(lines) == 1
        assert lines[0].endswith(f"|door|{label}")
        publisher.act("end", number=300, label=label)


@pytest.mark.slow
def test_the_analysis_draws_what_the_log_has(publisher: Publisher, tmp_path: Path) -> None:
    picture = tmp_path / "report.png"
    code, text = says(
        sys.executable, str(EXAMPLES / "analyse_log.py"), str(publisher.log), str(picture)
    )
    assert code == 0, text
    assert re.search(r"\d+  door  left", text)
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, text = says(sys.executable, str(EXAMPLES / "analyse_log.py"), "missing", str(picture))
    assert code != 0


# Home Assistant.


def automations() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load(
        (EXAMPLES / "home_assistant" / "automations.yaml").read_text()
    )
    return loaded


def test_the_automations_have_home_assistants_form_of_today() -> None:
    for one in automations():
        assert {"id", "alias", "triggers", "conditions", "actions", "mode"} <= one.keys()
        assert not {"trigger", "condition", "action", "platform", "service"} & one.keys()
        for trigger in one["triggers"]:
            assert trigger["trigger"] == "state"
    text = json.dumps(automations())
    assert '"service"' not in text
    assert '"platform"' not in text


def test_the_automations_use_entities_that_the_bridge_announces() -> None:
    message = Discovery(Topics("two-stream"), snapshots=True).camera("door", ["fall"])
    announced = {
        entity["default_entity_id"] for entity in json.loads(message.payload)["cmps"].values()
    }
    used = set(re.findall(r"\b(?:binary_sensor|event|image)\.door_\w+", json.dumps(automations())))
    assert used
    assert used <= announced


# Node-RED.


def flow() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((EXAMPLES / "node-red.json").read_text())
    return loaded


def test_the_flow_is_whole_and_listens_where_the_bridge_speaks() -> None:
    nodes = {node["id"]: node for node in flow()}
    assert len(nodes) == len(flow())
    for node in nodes.values():
        assert node.get("z", node["id"]) in nodes
        assert (
            node.get("broker", "") in nodes or node["type"] == "mqtt-broker" or "broker" not in node
        )
        for wires in node.get("wires", []):
            assert set(wires) <= nodes.keys()
    listens = next(node for node in nodes.values() if node["type"] == "mqtt in")
    from paho.mqtt.client import topic_matches_sub

    assert topic_matches_sub(listens["topic"], Topics("two-stream").event("door"))
    assert listens["qos"] == "1"
    broker = nodes[listens["broker"]]
    # A session that lasts: what comes while Node-RED is away isn't lost.
    assert (broker["cleansession"], bool(broker["clientid"])) == (False, True)


@pytest.mark.slow
def test_the_flows_functions_take_each_event_once() -> None:
    tool("node", "Debian: nodejs")
    functions = {node["name"]: node["func"] for node in flow() if node["type"] == "function"}
    event = {
        "log": "a", "seq": 4, "type": "start", "camera": "door", "label": "fall", "score": 0.931,
        "zone": "stairs",
    }  # fmt: skip
    script = f"""
    const kept = {{}};
    const context = {{ get: (k) => kept[k], set: (k, v) => {{ kept[k] = v; }} }};
    const functions = {json.dumps(functions)};
    const make = (text) => new Function("msg", "context", text);
    const once = make(functions["each once"]), words = make(functions["words"]);
    const event = {json.dumps(event)};
    console.log(JSON.stringify([4, 4, 3, 5].map((seq) =>
      once({{ payload: {{ ...event, seq }} }}, context) !== null)));
    console.log(words({{ payload: event }}).payload);
    """
    code, text = says("node", "-e", script)
    assert (code, text.splitlines()) == (
        0, ["[true,false,false,true]", "fall at door (stairs), 93 %"],
    )  # fmt: skip


# Prometheus and Grafana.


@cache
def known_metrics() -> frozenset[str]:
    """Every name that the program's page and a bridge's have."""
    from prometheus_client import generate_latest

    pages = [Watched().text(), generate_latest(Measures("home", "mqtt").registry).decode()]
    return frozenset(
        sample.name
        for page in pages
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    )


def used_metrics(expression: str) -> set[str]:
    return set(re.findall(r"\b(two_stream_\w+)", expression))


def expressions() -> list[str]:
    """The dashboard's, with its variables filled in."""
    board = json.loads((EXAMPLES / "grafana.json").read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [expression.replace("$instance", ".*") for expression in found]


def test_the_dashboard_shows_metrics_that_exist() -> None:
    for expression in expressions():
        assert used_metrics(expression), expression
        assert used_metrics(expression) <= known_metrics(), expression


def test_the_dashboards_panels_do_not_overlap() -> None:
    board = json.loads((EXAMPLES / "grafana.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert {"uid", "title", "schemaVersion", "templating"} <= board.keys()


def test_the_alerts_watch_metrics_that_exist() -> None:
    rules = yaml.safe_load((EXAMPLES / "alerts.yaml").read_text())
    found = [rule for group in rules["groups"] for rule in group["rules"]]
    for rule in found:
        assert used_metrics(rule["expr"]) <= known_metrics(), rule["alert"]
        assert rule["annotations"]["summary"]
    assert len({rule["alert"] for rule in found}) == len(found)


@pytest.mark.slow
def test_prometheus_takes_the_alerts_and_the_dashboards_queries(tmp_path: Path) -> None:
    promtool = tool("promtool", "Debian: prometheus")
    code, text = says(promtool, "check", "rules", str(EXAMPLES / "alerts.yaml"))
    assert code == 0, text
    as_rules = [
        {"record": f"panel:{number}", "expr": expression}
        for number, expression in enumerate(expressions())
    ]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": as_rules}]}))
    code, text = says(promtool, "check", "rules", str(path))
    assert code == 0, text


@pytest.mark.slow
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """Prometheus itself computes them on made-up series."""
    promtool = tool("promtool", "Debian: prometheus")
    camera, bridge = '{camera="door"}', '{bridge="home", kind="mqtt"}'
    test = {
        "rule_files": [str(EXAMPLES / "alerts.yaml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": f"two_stream_camera_up{camera}", "values": "1x5 0x30"},
                    {"series": f"two_stream_bridge_connected{bridge}", "values": "0x40"},
                    {"series": f"two_stream_bridge_lag_seconds{bridge}", "values": "0+60x40"},
                    {"series": f"two_stream_bridge_refused_total{bridge}", "values": "0x20 1x20"},
                ],
                "alert_rule_test": [
                    _fires("CameraDown", "4m", None),
                    _fires(
                        "CameraDown", "9m", {"camera": "door", "severity": "warning"},
                        "camera door is down",
                    ),
                    _fires("BridgeLags", "4m", None),
                    _fires("BridgeCannotDeliver", "5m", None),
                    _fires(
                        "BridgeCannotDeliver", "12m",
                        {"bridge": "home", "kind": "mqtt", "severity": "warning"},
                        "what bridge home sends isn't taken; its log says why",
                    ),
                    _fires("BridgeRefused", "15m", None),
                    _fires(
                        "BridgeRefused", "25m",
                        {"bridge": "home", "kind": "mqtt", "severity": "warning"},
                        "bridge home: records in the dead letters",
                    ),
                ],
            }
        ],
    }  # fmt: skip
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(test))
    code, text = says(promtool, "test", "rules", str(path))
    assert code == 0, text


def _fires(alert: str, at: str, labels: dict[str, str] | None, summary: str = "") -> dict[str, Any]:
    expected = (
        [] if labels is None else [{"exp_labels": labels, "exp_annotations": {"summary": summary}}]
    )
    return {"eval_time": at, "alertname": alert, "exp_alerts": expected}


def test_the_readme_names_every_example() -> None:
    page = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert f"]({path.relative_to(EXAMPLES)})" in page, path
