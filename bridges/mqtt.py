"""The receiver of the MQTT bridge: records, states and availability, at QoS 1."""

import contextlib
import hashlib
import socket
import ssl
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from bridges.home_assistant import Announcement, Discovery
from bridges.mqtt_memory import Memory, Open, Picture
from bridges.mqtt_session import Received, Session, Will
from bridges.mqtt_settings import MqttSettings
from bridges.mqtt_suspect import Suspect
from bridges.mqtt_topics import OFF, OFFLINE, ON, ONLINE, Topics
from bridges.receiver import Away, Place, Refused
from bridges.records import Ongoing, ProgramState, Record, State, json_of, key_of
from pipeline.clock import NS_PER_S
from pipeline.errors import ConfigError, os_reason
from pipeline.public.records import Event, Evidence, to_json

GONE_S = 60.0
"""A camera that the running program hasn't named for so long is gone."""
_ROOM = 64
"""Bytes of a message beside its topic and payload, at most."""
_JPEG = b"\xff\xd8\xff"


class MqttReceiver:
    """Publishes to a broker. Connects when there is something to do."""

    def __init__(self, settings: MqttSettings, place: Place) -> None:
        self._settings, self._place = settings, place
        self._topics = Topics(settings.prefix)
        self._tls = tls_context(settings)
        self._client_id = settings.client_id or client_id(place)
        self._memory = Memory(place.file("mqtt.json"))
        if self._memory.problem is not None:
            place.warn(
                f"{self._memory.path}: {self._memory.problem}; it begins anew, and sets states "
                "right by what the broker retains"
            )
        self._home = _discovery(settings, self._topics)
        self._session: Session | None = None
        self._ongoing: Ongoing | None = None
        """What the program said last of the actions that go on, until that is dealt with."""
        self._program: bytes | None = None
        """None: nothing is known of the program yet."""
        self._missing_ns: dict[str, int] = {}
        """Since when the running program doesn't name a camera that was announced."""
        self._present: frozenset[str] | None = None
        self._states: dict[str, bytes] = {}
        """What this session has published of actions, by topic."""
        self._hopeless: dict[str, str] = {}
        """Key of a record that the broker will never take, and why."""
        self._suspect = Suspect()
        self._is_unsure = False
        """Records were sent that aren't settled."""
        self._broken: str | None = None
        """Why a session was lost that had such records."""

    # What the bridge's loop calls.

    def send(self, record: Record) -> None:
        key = key_of(record)
        reason = self._hopeless.pop(key, None) or self._suspect.verdict(key)
        if reason is not None:
            raise Refused(reason)
        with self._connected() as session, self._suspect.alone(session, key):
            if isinstance(record, Event):
                self._send_event(session, record)
            else:
                self._send_evidence(session, record)

    def settle(self) -> None:
        if self._broken is not None:
            reason, self._broken = self._broken, None
            raise Away(reason)
        if self._session is not None:
            with self._connected() as session:
                session.settle()
        self._is_unsure = False
        self._save()

    def state(self, state: State) -> None:
        with self._connected() as session:
            if isinstance(state, ProgramState):
                self._send_program(session, state)
            elif isinstance(state, Ongoing):
                self._ongoing = state
            elif self._wants(state.camera):
                self._meet(session, state.camera)
                word = ONLINE if state.state == "online" else OFFLINE
                session.publish(self._topics.camera(state.camera), word, retain=True)
                details = self._topics.details(state.camera)
                session.publish(details, to_json(state), retain=True)

    def idle(self) -> None:
        with self._connected() as session:
            self._hear(session, session.attend())
            self._end_lost(session)
            self._remove_gone(session)
        self._save()

    def close(self) -> None:
        if self._session is not None:
            self._session.close((self._topics.program, OFFLINE))
            self._session = None

    # The connection.

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Session]:
        """The session, a new one if need be; it is thrown away when it is lost meanwhile."""
        try:
            if self._session is None:
                self._session = self._connect()
                self._begin(self._session)
            yield self._session
        except Away as away:
            if self._session is not None:
                self._suspect.note(self._session.culprit)
                self._session.abandon()
                self._session = None
            if self._is_unsure:
                self._broken, self._is_unsure = str(away), False
            raise

    def _connect(self) -> Session:
        def refused(key: str, reason: str) -> None:
            self._hopeless[key] = reason

        return Session(
            self._settings,
            self._client_id,
            Will(self._topics.program, OFFLINE),
            self._tls,
            self._place.stopping,
            refused,
        )

    def _begin(self, session: Session) -> None:
        """Bring all that is retained up to date: the broker may have lost or kept anything."""
        self._states.clear()
        wanted = [self._topics.program, self._topics.all_states]
        session.subscribe(wanted if self._home is None else [*wanted, self._home.birth])
        if self._program is not None:
            session.publish(self._topics.program, self._program, retain=True)
        for camera in list(self._memory.cameras):
            self._announce(session, camera)
            for label in self._labels(camera):
                self._send_state(session, camera, label)
            picture = self._memory.picture(camera)
            if picture is not None and self._settings.snapshots:
                self._restore_picture(session, camera, picture)

    def _hear(self, session: Session, messages: Iterable[Received]) -> None:
        for message in messages:
            topic, payload = message.topic, message.payload
            if topic == self._topics.program:
                is_old = message.retained  # from before this session, which has said its own
                if payload == OFFLINE and self._program == ONLINE and not is_old:
                    # The will of an earlier connection, which the broker held for dead only now.
                    session.publish(topic, ONLINE, retain=True)
            elif self._home is not None and topic == self._home.birth:
                # What is retained is from before this session, which has announced all.
                if payload == b"online" and not message.retained:
                    for camera in list(self._memory.cameras):
                        self._announce(session, camera)
            elif message.retained and payload == ON and self._states.get(topic) != ON:
                # Of an action that the bridge doesn't know any more; if it goes on, an update
                # will say so.
                session.publish(topic, OFF, retain=True)

    # Records.

    def _send_event(self, session: Session, event: Event) -> None:
        self._end(session, self._memory.other_logs(event.log))
        self._meet(session, event.camera, event.label)
        # Before the event, so that the state is right for whoever is woken by it.
        self._memory.take(event)
        self._is_unsure = True
        self._send_state(session, event.camera, event.label)
        if self._settings.sends(event):
            self._publish(session, self._topics.event(event.camera), event)

    def _send_evidence(self, session: Session, evidence: Evidence) -> None:
        self._is_unsure = True
        if self._settings.snapshots and evidence.kind == "snapshot":
            self._send_picture(session, evidence)
        self._publish(session, self._topics.evidence(evidence.camera), evidence)

    def _publish(self, session: Session, topic: str, record: Record) -> None:
        data = json_of(record)
        if _too_large(session, topic, data):
            raise Refused(f"it has {len(data)} bytes; the broker takes {session.largest}")
        session.publish(topic, data, retain=False, tag=key_of(record))

    def _send_state(self, session: Session, camera: str, label: str) -> None:
        """Publish whether the action goes on, if that is news."""
        topic = self._topics.state(camera, label)
        word = ON if self._memory.goes_on(camera, label) else OFF
        if self._states.get(topic) != word:
            session.publish(topic, word, retain=True)
            self._states[topic] = word

    def _end(self, session: Session, ended: Iterable[Open]) -> None:
        for action in list(ended):
            self._send_state(session, action.camera, action.label)

    def _end_lost(self, session: Session) -> None:
        """Switch off what goes on no more though its end never came.

        Only when all that is there has been sent: the end may be among it.
        """
        if self._ongoing is not None:
            log, seq, ids = self._ongoing
            self._end(session, self._memory.settle(log, seq, ids))
            self._ongoing = None

    # Pictures.

    def _send_picture(self, session: Session, evidence: Evidence) -> None:
        """Retain the snapshot, or take it back when its file was removed."""
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
        data, problem = self._read_picture(session, topic, picture)
        if data is None:
            self._place.warn(f"snapshot of {evidence.id}: {problem}; its bytes aren't sent")
            return
        session.publish(topic, data, retain=True)
        self._memory.keep_picture(evidence, evidence.path)

    def _restore_picture(self, session: Session, camera: str, picture: Picture) -> None:
        topic = self._topics.snapshot(camera)
        data, _ = self._read_picture(session, topic, picture)
        if data is not None:
            session.publish(topic, data, retain=True)

    def _read_picture(
        self, session: Session, topic: str, picture: Picture
    ) -> tuple[bytes | None, str]:
        """Its bytes, or why there are none."""
        most = self._settings.snapshot_max_kb * 1024
        try:
            with Path(picture.path).open("rb") as file:
                data = file.read(most + 1)
        except (OSError, ValueError) as error:
            return None, os_reason(error) if isinstance(error, OSError) else "no path"
        if len(data) > most or _too_large(session, topic, data):
            return None, f"it is larger than {min(most, session.largest or most)} bytes"
        if not data.startswith(_JPEG):
            return None, "it is no JPEG"
        if picture.sha256 and hashlib.sha256(data).hexdigest() != picture.sha256:
            return None, "its file isn't the one that was announced"
        return data, ""

    # Cameras.

    def _wants(self, camera: str) -> bool:
        return self._settings.cameras is None or camera in self._settings.cameras

    def _labels(self, camera: str) -> list[str]:
        """The actions of a camera: those of the settings, or those that were seen."""
        return self._settings.labels or self._memory.labels(camera)

    def _meet(self, session: Session, camera: str, label: str | None = None) -> None:
        """Announce a camera or label that is new, before anything of it is sent."""
        if self._memory.meet(camera, label):
            self._announce(session, camera)
            for known in self._labels(camera):
                self._send_state(session, camera, known)

    def _announce(self, session: Session, camera: str) -> None:
        if self._home is None:
            return
        labels = self._labels(camera)
        dropped = [label for label in self._memory.labels(camera) if label not in labels]
        self._retain(session, self._home.camera(camera, labels, dropped))

    def _retain(self, session: Session, message: Announcement) -> None:
        if _too_large(session, message.topic, message.payload):
            self._place.warn(
                f"the broker takes {session.largest} bytes, fewer than the message that announces "
                "a camera has; set `labels` to those that you need"
            )
            return
        session.publish(message.topic, message.payload, retain=True)

    def _send_program(self, session: Session, state: ProgramState) -> None:
        self._program = ONLINE if state.state == "online" else OFFLINE
        self._present = frozenset(state.cameras) if self._program == ONLINE else None
        for camera in filter(self._wants, state.cameras):
            self._meet(session, camera)
        session.publish(self._topics.program, self._program, retain=True)

    def _remove_gone(self, session: Session) -> None:
        """Take away cameras that aren't in the program's config any more."""
        now_ns = self._place.clock.monotonic_ns()
        for camera in list(self._memory.cameras):
            is_there = self._present is None or camera in self._present
            if is_there and self._wants(camera):
                self._missing_ns.pop(camera, None)
            # At the program's start cameras come one by one.
            elif now_ns - self._missing_ns.setdefault(camera, now_ns) >= GONE_S * NS_PER_S:
                del self._missing_ns[camera]
                self._remove(session, camera)

    def _remove(self, session: Session, camera: str) -> None:
        topics = self._topics
        if self._home is not None:
            self._retain(session, self._home.gone(camera))
        retained = [topics.camera(camera), topics.details(camera), topics.snapshot(camera)]
        for label in {*self._labels(camera), *self._memory.labels(camera)}:
            retained.append(topics.state(camera, label))
        for topic in retained:
            session.publish(topic, b"", retain=True)
            self._states.pop(topic, None)
        self._memory.forget(camera)

    def _save(self) -> None:
        try:
            self._memory.save()
        except OSError as error:
            raise Away(f"{self._memory.path}: {os_reason(error)}") from None


def client_id(place: Place) -> str:
    """The same at each start, and another for each bridge and machine.

    With the same id the broker ends what is left of the connection of a bridge that was killed.
    """
    where = f"{socket.gethostname()}\0{place.folder.resolve()}\0{place.name}"
    return f"two-stream-{place.name}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"


def tls_context(settings: MqttSettings) -> ssl.SSLContext | None:
    """None without TLS; raises :class:`ConfigError` for files that can't be used."""
    if settings.scheme != "mqtts":
        return None
    tls = settings.tls
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except OSError as error:  # SSLError is one
        raise ConfigError(f"tls.ca: {tls.ca}: {_tls_reason(error, 'certificates')}") from None
    if tls.certificate is not None:
        try:
            # Without the callback OpenSSL would ask for the key's password on the terminal.
            context.load_cert_chain(tls.certificate, tls.private_key, password=lambda: "")
        except OSError as error:
            files = " and ".join(str(f) for f in (tls.certificate, tls.private_key) if f)
            reason = _tls_reason(error, "a certificate and its key without a password")
            raise ConfigError(f"tls.certificate: {files}: {reason}") from None
    return context


def _tls_reason(error: OSError, wanted: str) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no {wanted.removeprefix('a ')} in PEM form" if error.reason else "not usable"
    return os_reason(error)


def _discovery(settings: MqttSettings, topics: Topics) -> Discovery | None:
    home = settings.home_assistant
    if home is None:
        return None
    return Discovery(topics, home.discovery, home.name, _version(), settings.snapshots)


def _version() -> str:
    try:
        return metadata.version("two-stream")
    except metadata.PackageNotFoundError:  # run from its folder, without having been installed
        return ""


def _too_large(session: Session, topic: str, data: bytes) -> bool:
    return session.largest is not None and len(topic) + len(data) + _ROOM > session.largest
