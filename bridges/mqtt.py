"""The receiver of the MQTT bridge: records, states and availability, at QoS 1."""

import contextlib
import hashlib
import socket
import ssl
from collections.abc import Iterable, Iterator
from importlib import metadata

from bridges.home_assistant import Discovery
from bridges.mqtt_board import Board
from bridges.mqtt_memory import Memory
from bridges.mqtt_pictures import Pictures
from bridges.mqtt_session import Received, Session, Will
from bridges.mqtt_settings import MqttSettings
from bridges.mqtt_suspect import Suspect
from bridges.mqtt_topics import OFFLINE, ONLINE, Topics
from bridges.receiver import Away, Place, Refused
from bridges.records import Ongoing, ProgramState, Record, State, json_of, key_of
from pipeline.errors import ConfigError, os_reason
from pipeline.public.records import Event, Evidence, to_json


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
        self._pictures = Pictures(settings, self._topics, self._memory, place)
        self._board = Board(settings, self._topics, self._memory, self._pictures, self._home, place)
        self._session: Session | None = None
        self._ongoing: Ongoing | None = None
        """What the program said last of the actions that go on, until that is dealt with."""
        self._program: bytes | None = None
        """None: nothing is known of the program yet."""
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
            elif self._board.wants(state.camera):
                self._board.meet(session, state.camera)
                word = ONLINE if state.state == "online" else OFFLINE
                session.publish(self._topics.camera(state.camera), word, retain=True)
                details = self._topics.details(state.camera)
                session.publish(details, to_json(state), retain=True)

    def idle(self) -> None:
        with self._connected() as session:
            self._hear(session, session.attend())
            self._end_lost(session)
            self._board.remove_gone(session)
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
        wanted = [self._topics.program, self._topics.all_states]
        session.subscribe(wanted if self._home is None else [*wanted, self._home.birth])
        if self._program is not None:
            session.publish(self._topics.program, self._program, retain=True)
        self._board.begin(session)

    def _hear(self, session: Session, messages: Iterable[Received]) -> None:
        """What is retained is from before this session, which has said its own since."""
        for message in messages:
            if message.topic == self._topics.program:
                is_wrong = message.payload == OFFLINE and self._program == ONLINE
                if is_wrong and not message.retained:
                    # The will of an earlier connection, which the broker held for dead only now.
                    session.publish(message.topic, ONLINE, retain=True)
            elif self._home is not None and message.topic == self._home.birth:
                if message.payload == ONLINE and not message.retained:
                    self._board.announce(session)
            elif message.retained:
                self._board.correct(session, message.topic, message.payload)

    # Records and states.

    def _send_event(self, session: Session, event: Event) -> None:
        self._board.show_all(session, self._memory.other_logs(event.log))
        self._board.meet(session, event.camera, event.label)
        # Before the event, so that the state is right for whoever is woken by it.
        self._memory.take(event)
        self._is_unsure = True
        self._board.show(session, event.camera, event.label)
        if self._settings.sends(event):
            self._publish(session, self._topics.event(event.camera), event)

    def _send_evidence(self, session: Session, evidence: Evidence) -> None:
        self._is_unsure = True
        self._pictures.send(session, evidence)
        self._publish(session, self._topics.evidence(evidence.camera), evidence)

    def _publish(self, session: Session, topic: str, record: Record) -> None:
        data = json_of(record)
        if not session.takes(topic, data):
            raise Refused(f"it has {len(data)} bytes; the broker takes {session.largest}")
        session.publish(topic, data, retain=False, tag=key_of(record))

    def _send_program(self, session: Session, state: ProgramState) -> None:
        self._program = ONLINE if state.state == "online" else OFFLINE
        self._board.expect(session, state.cameras if self._program == ONLINE else None)
        session.publish(self._topics.program, self._program, retain=True)

    def _end_lost(self, session: Session) -> None:
        """Switch off what goes on no more though its end never came.

        Only when all that is there has been sent: the end may be among it.
        """
        if self._ongoing is not None:
            log, seq, ids = self._ongoing
            self._board.show_all(session, self._memory.settle(log, seq, ids))
            self._ongoing = None

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
