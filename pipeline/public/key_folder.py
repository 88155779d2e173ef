"""The key folder: the server's keys, and the clients that may connect from other machines.

A folder holds the server's key pair and the public key of each client that may connect. Keys are
Curve25519 (CurveZMQ, https://rfc.zeromq.org/spec/26), written in Z85. One file holds what a client
needs; it is written once and then moved to the client's machine.
"""

import logging
import os
import re
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from pipeline.clock import SYSTEM_CLOCK, isoformat
from pipeline.errors import KeysError
from pipeline.program import command
from pipeline.transport.zap import new_key_pair

SERVER_FILE, CLIENTS, ISSUED = "server.json", "clients", "issued"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MAX_BYTES = 10_000

Z85Key = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}$")]


class ServerKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server's key pair."""

    public: Z85Key
    secret: Z85Key


class AllowedClient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the server stores of a client."""

    public: Z85Key
    since: str


class ClientKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client needs: its own key pair, and the server's public key."""

    name: str
    public: Z85Key
    secret: Z85Key
    server: Z85Key


log = logging.getLogger(__name__)

_Kind = TypeVar("_Kind", ServerKeys, AllowedClient, ClientKeys)


class KeyFolder:
    """The server's side: ``server.json``, ``clients/NAME.json``, ``issued/NAME.key``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def server(self) -> ServerKeys:
        """Read the server's pair; raises :class:`KeysError`, also when others may read the file."""
        path = self.path / SERVER_FILE
        if not path.exists():
            raise KeysError(
                f"{path}: it doesn't exist; make keys with "
                f"`{command('keys')} new NAME --folder {self.path}`"
            )
        return _read(path, ServerKeys)

    def allowed(self) -> dict[str, str]:
        """Public key → name of each client that may connect now; damaged files are skipped."""
        found = {}
        for path in sorted((self.path / CLIENTS).glob("*.json")):
            try:
                found[_read(path, AllowedClient, secret=False).public] = path.stem
            except KeysError as error:
                log.warning("%s; its client can't connect", error)
        return found

    def new(self, name: str) -> Path:
        """Make a client's keys, and the server's the first time; returns the client's key file."""
        if not _NAME.fullmatch(name):
            raise KeysError(f"{name!r} can't be a client's name: letters, digits, '_', '.' and '-'")
        for folder in (self.path, self.path / CLIENTS, self.path / ISSUED):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self.path / SERVER_FILE).exists():
            public, secret = new_key_pair()
            _write(self.path / SERVER_FILE, ServerKeys(public=public, secret=secret))
        server = self.server().public
        entry, issued = self._entry(name), self.path / ISSUED / f"{name}.key"
        if entry.exists() or issued.exists():
            raise KeysError(f"{name} has keys already; revoke them first, or choose another name")
        public, secret = new_key_pair()
        _write(issued, ClientKeys(name=name, public=public, secret=secret, server=server))
        # Last, because the client may connect as soon as this file exists.
        since = isoformat(SYSTEM_CLOCK.wall_ns())
        _write(entry, AllowedClient(public=public, since=since))
        return issued

    def revoke(self, name: str) -> None:
        """Delete a client's keys; a running pipeline notices within a second."""
        try:
            self._entry(name).unlink()
        except FileNotFoundError:
            known = ", ".join(sorted(p.stem for p in (self.path / CLIENTS).glob("*.json")))
            raise KeysError(
                f"{name} has no keys in {self.path}; clients with keys: {known or 'none'}"
            ) from None
        (self.path / ISSUED / f"{name}.key").unlink(missing_ok=True)

    def entries(self) -> list[tuple[str, AllowedClient]]:
        """The name and the stored entry of each client that may connect."""
        paths = sorted((self.path / CLIENTS).glob("*.json"))
        return [(path.stem, _read(path, AllowedClient, secret=False)) for path in paths]

    def _entry(self, name: str) -> Path:
        # .name keeps a given "../x" inside the folder.
        return self.path / CLIENTS / f"{Path(name).name}.json"


def read_client_keys(path: Path) -> ClientKeys:
    """Read a client's key file; raises :class:`KeysError`, also when others may read the file."""
    return _read(path, ClientKeys)


def _read(path: Path, kind: type[_Kind], *, secret: bool = True) -> _Kind:
    try:
        with path.open("rb") as file:
            # The mode of the open file: the path might be another file by now.
            mode = os.fstat(file.fileno()).st_mode & 0o777
            data = file.read(_MAX_BYTES)
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from None
    if secret and mode & 0o077:
        raise KeysError(f"{path}: others may read it (mode {mode:o}); run `chmod 600 {path}`")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Without the decoder's own message, which might repeat a part of a key.
        raise KeysError(f"{path}: it isn't a key file of this program") from None


def _write(path: Path, keys: ServerKeys | AllowedClient | ClientKeys) -> None:
    """Write a new file that nobody else may read; a failed write leaves no part of it."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(keys) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)
