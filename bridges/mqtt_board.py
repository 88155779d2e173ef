"""What the broker retains of cameras and their actions, and what Home Assistant is told of them."""

from collections.abc import Iterable

from bridges.home_assistant import Announcement, Discovery
from bridges.mqtt_memory import Memory, Open
from bridges.mqtt_pictures import Pictures
from bridges.mqtt_session import Session
from bridges.mqtt_settings import MqttSettings
from bridges.mqtt_topics import OFF, ON, Topics
from bridges.receiver import Place
from pipeline.clock import NS_PER_S

GONE_S = 60.0
"""A camera that the running program hasn't named for so long is gone."""


class Board:
    """One row for each camera: announced, its actions on or off, gone in the end."""

    def __init__(
        self,
        settings: MqttSettings,
        topics: Topics,
        memory: Memory,
        pictures: Pictures,
        home: Discovery | None,
        place: Place,
    ) -> None:
        self._settings, self._topics, self._memory = settings, topics, memory
        self._pictures, self._home, self._place = pictures, home, place
        self._present: frozenset[str] | None = None
        self._missing_ns: dict[str, int] = {}
        """Since when the running program doesn't name a camera that was announced."""
        self._shown: dict[str, bytes] = {}
        """What this session has published of actions, by topic."""

    def begin(self, session: Session) -> None:
        """Bring all up to date in a new session: the broker may have lost or kept anything."""
        self._shown.clear()
        self.announce(session)
        for camera in list(self._memory.cameras):
            for label in self._labels(camera):
                self.show(session, camera, label)
            self._pictures.restore(session, camera)

    def announce(self, session: Session) -> None:
        """Tell Home Assistant of all cameras."""
        for camera in list(self._memory.cameras):
            self._announce(session, camera)

    def wants(self, camera: str) -> bool:
        return self._settings.cameras is None or camera in self._settings.cameras

    def meet(self, session: Session, camera: str, label: str | None = None) -> None:
        """Announce a camera or label that is new, before anything of it is sent."""
        if self._memory.meet(camera, label):
            self._announce(session, camera)
            for known in self._labels(camera):
                self.show(session, camera, known)

    def show(self, session: Session, camera: str, label: str) -> None:
        """Publish whether the action goes on, if that is news."""
        topic = self._topics.state(camera, label)
        word = ON if self._memory.goes_on(camera, label) else OFF
        if self._shown.get(topic) != word:
            session.publish(topic, word, retain=True)
            self._shown[topic] = word

    def show_all(self, session: Session, actions: Iterable[Open]) -> None:
        for action in list(actions):
            self.show(session, action.camera, action.label)

    def correct(self, session: Session, topic: str, payload: bytes) -> None:
        """The broker has retained ``payload``: ON of an action that isn't known is switched off.

        If it goes on, an update will say so.
        """
        if payload == ON and self._shown.get(topic) != ON:
            session.publish(topic, OFF, retain=True)

    def expect(self, session: Session, cameras: Iterable[str] | None) -> None:
        """The program has these cameras; None: it is away, and says nothing of that."""
        self._present = None if cameras is None else frozenset(cameras)
        for camera in filter(self.wants, cameras or ()):
            self.meet(session, camera)

    def remove_gone(self, session: Session) -> None:
        """Take away cameras that aren't in the program's config any more."""
        now_ns = self._place.clock.monotonic_ns()
        for camera in list(self._memory.cameras):
            is_there = self._present is None or camera in self._present
            if is_there and self.wants(camera):
                self._missing_ns.pop(camera, None)
            # At the program's start cameras come one by one.
            elif now_ns - self._missing_ns.setdefault(camera, now_ns) >= GONE_S * NS_PER_S:
                del self._missing_ns[camera]
                self._remove(session, camera)

    def _labels(self, camera: str) -> list[str]:
        """The actions of a camera: those of the settings, or those that were seen."""
        return self._settings.labels or self._memory.labels(camera)

    def _announce(self, session: Session, camera: str) -> None:
        if self._home is not None:
            labels, seen = self._labels(camera), self._memory.labels(camera)
            dropped = [label for label in seen if label not in labels]
            self._retain(session, self._home.camera(camera, labels, dropped))

    def _retain(self, session: Session, message: Announcement) -> None:
        if session.takes(message.topic, message.payload):
            session.publish(message.topic, message.payload, retain=True)
        else:
            self._place.warn(
                f"the broker takes {session.largest} bytes, fewer than the message that announces "
                "a camera has; set `labels` to those that you need"
            )

    def _remove(self, session: Session, camera: str) -> None:
        topics = self._topics
        if self._home is not None:
            self._retain(session, self._home.gone(camera))
        retained = [topics.camera(camera), topics.details(camera), topics.snapshot(camera)]
        for label in {*self._labels(camera), *self._memory.labels(camera)}:
            retained.append(topics.state(camera, label))
        for topic in retained:
            session.publish(topic, b"", retain=True)
            self._shown.pop(topic, None)
        self._memory.forget(camera)
