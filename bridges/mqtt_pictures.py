"""The newest snapshot of each camera, retained at the broker for as long as its file is there."""

import hashlib
from pathlib import Path

from bridges.mqtt_memory import Memory, Picture
from bridges.mqtt_session import Session
from bridges.mqtt_settings import MqttSettings
from bridges.mqtt_topics import Topics
from bridges.receiver import Place
from pipeline.errors import os_reason
from pipeline.public.records import Evidence

_JPEG = b"\xff\xd8\xff"


class Pictures:
    """Sends the bytes of snapshots, and takes them back."""

    def __init__(
        self, settings: MqttSettings, topics: Topics, memory: Memory, place: Place
    ) -> None:
        self._settings, self._topics = settings, topics
        self._memory, self._place = memory, place

    def send(self, session: Session, evidence: Evidence) -> None:
        """Retain the snapshot, or take it back when its file was removed."""
        if not self._settings.snapshots or evidence.kind != "snapshot":
            return
        kept = self._memory.picture(evidence.camera)
        topic = self._topics.snapshot(evidence.camera)
        if evidence.state == "removed":
            if kept is not None and (kept.log, kept.id) == (evidence.log, evidence.id):
                session.publish(topic, b"", retain=True)
                self._memory.drop_picture(evidence.camera)
            return
        if evidence.state != "ready" or evidence.path is None:
            return
        picture = Picture(evidence.log, evidence.id, evidence.path, evidence.sha256 or "")
        data, problem = self._read(session, topic, picture)
        if data is None:
            self._place.warn(f"snapshot of {evidence.id}: {problem}; its bytes aren't sent")
            return
        session.publish(topic, data, retain=True)
        self._memory.keep_picture(evidence.camera, picture)

    def restore(self, session: Session, camera: str) -> None:
        """Retain a camera's newest snapshot again: the broker may have lost it."""
        picture = self._memory.picture(camera)
        if picture is None or not self._settings.snapshots:
            return
        topic = self._topics.snapshot(camera)
        data, _ = self._read(session, topic, picture)
        # A file that was removed meanwhile must not stay there.
        session.publish(topic, data or b"", retain=True)

    def _read(self, session: Session, topic: str, picture: Picture) -> tuple[bytes | None, str]:
        """Its bytes, or why there are none."""
        most = self._settings.snapshot_max_kb * 1024
        try:
            with Path(picture.path).open("rb") as file:
                data = file.read(most + 1)
        except (OSError, ValueError) as error:
            return None, os_reason(error) if isinstance(error, OSError) else "no path"
        if len(data) > most or not session.takes(topic, data):
            return None, f"it is larger than {min(most, session.largest or most)} bytes"
        if not data.startswith(_JPEG):
            return None, "it is no JPEG"
        if picture.sha256 and hashlib.sha256(data).hexdigest() != picture.sha256:
            return None, "its file isn't the one that was announced"
        return data, ""
