"""Reads discovery messages as Home Assistant's own package does.

Run by a Python that has it, and nothing of this project::

    python3.14 -m venv ha && ha/bin/pip install homeassistant
    python -m tests.bridges.home_assistant_messages > messages
    ha/bin/python tests/bridges/home_assistant_schemas.py < messages

Standard input has one JSON object a line: ``topic``, ``payload`` (text). Prints what each became;
exit code 1 when one is refused.
"""

import asyncio
import json
import re
import sys
import tempfile
from importlib import import_module
from typing import Any


def entities(topic: str, payload: str) -> dict[str, dict[str, Any]]:
    """Each component with its options, as its platform's schema returns them."""
    from homeassistant.components.mqtt import discovery, schemas

    match = re.fullmatch(r"homeassistant/device/([a-zA-Z0-9_-]+)/config", topic)
    assert match, f"{topic} is no topic of a device"
    device = discovery.MQTTDiscoveryPayload(json.loads(payload))
    discovery._replace_all_abbreviations(device)
    checked = schemas.DEVICE_DISCOVERY_SCHEMA(device)
    if validate := getattr(discovery, "validate_device_discovery_components", None):
        checked = validate(checked) or checked
    found = {}
    for name, component in checked["components"].items():
        platform = component["platform"]
        if len(component) == 1:
            found[name] = {"platform": platform}  # taken away
            continue
        # As Home Assistant does: what the device has in common, and what it is.
        whole = {
            **component, "device": checked["device"], "origin": checked["origin"],
            "platform": "mqtt",
        }  # fmt: skip
        for option in schemas.SHARED_OPTIONS:
            if option in checked and option not in whole:
                whole[option] = checked[option]
        module = import_module(f"homeassistant.components.mqtt.{platform}")
        known = module.DISCOVERY_SCHEMA(dict(whole))
        ignored = set(whole) - set(known) - {"platform"}
        assert not ignored, f"{topic}: {name}: Home Assistant doesn't know {sorted(ignored)}"
        found[name] = {"platform": platform, "default_entity_id": known["default_entity_id"]}
    return found


async def main() -> int:
    from homeassistant.const import __version__
    from homeassistant.core import HomeAssistant

    # Templates are read within a running Home Assistant; this one has no integration.
    with tempfile.TemporaryDirectory() as folder:
        home = HomeAssistant(folder)
        try:
            return _check(__version__)
        finally:
            await home.async_stop(force=True)


def _check(version: str) -> int:
    print(f"Home Assistant {version}")
    bad = 0
    for line in sys.stdin:
        message = json.loads(line)
        try:
            found = entities(message["topic"], message["payload"])
        except Exception as error:  # its schemas raise several kinds
            bad += 1
            print(f"{message['topic']}: {type(error).__name__}: {error}")
        else:
            print(f"{message['topic']}: {found}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
