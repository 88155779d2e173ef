"""Client keys on the wire: CurveZMQ encrypts, ZAP says who may connect.

https://rfc.zeromq.org/spec/26 and https://rfc.zeromq.org/spec/27.
"""

import logging
from collections.abc import Callable

import zmq
from zmq.utils import z85

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.errors import BusError
from pipeline.transport.sockets import Socket, Wrapped, bind, multiparts

ENDPOINT = "inproc://zeromq.zap.01"
MAX_LOGGED_REFUSALS = 1000
"""Refused addresses that are remembered, so that each is logged once."""
REBIND_NS = 2 * NS_PER_S
FAILED_HANDSHAKES = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

log = logging.getLogger(__name__)


def new_key_pair() -> tuple[str, str]:
    """(public, secret) of a new Curve25519 pair, in Z85."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


class Authenticator(Wrapped):
    """Accepts clients that prove a key for which ``name_of`` has a name.

    ``pair`` is the server's (public, secret) in Z85. Each refusal is counted; each refused address
    is logged once.
    """

    def __init__(
        self, socket: Socket, pair: tuple[str, str], name_of: Callable[[str], str | None]
    ) -> None:
        super().__init__(socket)
        self._public, self._secret = (key.encode() for key in pair)
        self._name_of = name_of
        self._guarded: list[tuple[Socket, str]] = []
        self._logged: set[str] = set()
        self.refused = 0

    def guard(self, socket: Socket, endpoint: str) -> None:
        """Require keys on what ``socket`` binds from now on, which is ``endpoint``."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self._public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, b"public")
        self._guarded.append((socket, endpoint))

    def answer(self) -> None:
        """Accept or refuse each client that asks."""
        for parts in multiparts(self.socket, 100):
            version, request, _domain, address, _identity, mechanism, *credentials = parts
            name = None
            if mechanism == b"CURVE" and len(credentials) == 1 and len(credentials[0]) == 32:
                name = self._name_of(z85.encode(credentials[0]).decode())
            if name is None:
                self._refuse(address.decode(errors="replace"), "its key isn't known here")
            status = (b"200", b"OK") if name else (b"400", b"unknown key")
            user = (name or "").encode()
            self.socket.send_multipart([version, request, *status, user, b""])

    def see_failures(self, monitor: Socket) -> None:
        """Count the clients whose handshake failed before they showed a key."""
        # Only here: it imports asyncio, which no stage needs otherwise.
        from zmq.utils.monitor import parse_monitor_message

        for parts in multiparts(monitor, 100):
            if parse_monitor_message(list(parts))["event"] != zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._refuse("", "it has no key, or expects another server")

    def disconnect_all(self) -> None:
        """Close all connections. Clients that are still accepted reconnect within a moment."""
        for socket, endpoint in self._guarded:
            socket.unbind(endpoint)
            deadline = SYSTEM_CLOCK.monotonic_ns() + REBIND_NS
            while True:  # ZeroMQ releases an address in its own time
                try:
                    bind(socket, endpoint)
                    break
                except BusError:
                    if SYSTEM_CLOCK.monotonic_ns() > deadline:
                        raise
                    SYSTEM_CLOCK.sleep(0.01)

    def _refuse(self, address: str, why: str) -> None:
        self.refused += 1
        who = f"{address}: {why}"
        if who not in self._logged and len(self._logged) < MAX_LOGGED_REFUSALS:
            self._logged.add(who)
            # The reason first: lines with the same first value are summed up when they are many.
            log.warning("a client was refused: %s%s", why, f" (at {address})" if address else "")
