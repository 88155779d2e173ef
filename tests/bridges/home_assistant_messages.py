"""Prints discovery messages of all kinds of names, one a line: ``home_assistant_schemas.py``."""

import json

from bridges.home_assistant import Discovery
from bridges.mqtt_topics import Topics

NAMES = ("door", "Eingang Süd", "падение", 'a"b\\c', "{{ 7 * 7 }}", "a/b+c#", "x" * 64, "🙂", "\n")
"""Of cameras and labels: more than the program allows."""


def lines() -> list[str]:
    found = []
    for prefix in ("two-stream", "house/cameras"):
        made = Discovery(Topics(prefix), name="House", version="0.1.0", snapshots=True)
        for camera in NAMES:
            message = made.camera(camera, NAMES, dropped=["old"])
            found.append(json.dumps({"topic": message.topic, "payload": message.payload.decode()}))
    return found


if __name__ == "__main__":
    print("\n".join(lines()))
