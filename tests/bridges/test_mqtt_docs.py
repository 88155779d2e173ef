"""What docs/home_assistant.md shows is good, and all that can be set stands there."""

import re
import textwrap
from pathlib import Path

import pytest
from pydantic import BaseModel

from bridges.mqtt_settings import HomeAssistant, MqttSettings, Tls
from bridges.mqtt_topics import Topics
from bridges.settings import BridgeSettings, load
from tests.structure import PROJECT

TEXT = (PROJECT / "docs" / "home_assistant.md").read_text(encoding="utf-8")
CONFIGS = re.findall(r"<!-- config -->\n *```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_each_config_is_a_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "a password")
    (tmp_path / "mqtt.password").write_text("a password")
    path = tmp_path / "config.yaml"
    path.write_text(textwrap.dedent(config))
    found = load(path, {"mqtt": MqttSettings})
    assert list(found.by_name) == ["home"]
    assert found.warnings == ()


def test_every_key_stands_there() -> None:
    keys: list[str] = []
    own: list[tuple[str, type[BaseModel]]] = [
        ("", MqttSettings), ("tls.", Tls), ("home_assistant.", HomeAssistant),
    ]  # fmt: skip
    for start, model in own:
        keys += [start + name for name in model.model_fields]
    for name in {*keys} - {*BridgeSettings.model_fields, "tls"}:
        assert f"`{name}`" in TEXT, name


def test_every_topic_stands_there() -> None:
    topics = Topics("two-stream")
    found = {topics.program, topics.state("CAMERA", "LABEL")}
    for of in (topics.camera, topics.details, topics.event, topics.evidence, topics.snapshot):
        found.add(of("CAMERA"))
    assert {topic for topic in found if f"| `{topic}` |" not in TEXT} == set()
