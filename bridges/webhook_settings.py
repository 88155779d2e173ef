"""The settings of `webhook`: records by HTTP POST."""

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from bridges.settings import BridgeSettings, Secret
from pipeline.config.paths import LocalPath

SHORTEST_SECRET = 16
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VALUE = re.compile(r"[\x20-\x7e\xa0-\xff]*")
_OURS = ("content-type", "content-length", "transfer-encoding", "idempotency-key", "connection")


def address_of(url: str) -> str:
    """Scheme, host and port. The rest of an address may hold a login or a token."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


class WebhookSettings(BridgeSettings):
    """A bridge to an address that takes HTTP POST."""

    kind: Literal["webhook"]
    url: Secret = Field(description="http:// or https://; never shown")
    secret: Secret | None = Field(
        default=None, description="signs each request; at least 16 characters"
    )
    headers: dict[str, Secret] = Field(
        default_factory=dict, max_length=32, description="further headers, such as Authorization"
    )
    body: Literal["json", "multipart"] = Field(
        default="json", description="multipart: with the file of a snapshot or clip"
    )
    max_file_mb: float = Field(
        default=10.0, gt=0, le=200, description="larger files are left out of multipart"
    )
    timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="for the connection, and for each part of an answer"
    )
    ca_file: LocalPath | None = Field(
        default=None, description="certificates (PEM) that are trusted instead of the system's"
    )
    verify_tls: bool = Field(
        default=True, description="false: take any certificate; anybody between can then read along"
    )
    give_up_days: float = Field(
        default=3.0,
        ge=0,
        le=365,
        description="a record that is refused goes to the dead letters after this long",
    )
    set_aside_minutes: float = Field(
        default=10.0,
        ge=0,
        le=10_080,
        description="the same for one record alone, when the one before it was taken",
    )

    @field_validator("url")
    @classmethod
    def _address(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value().strip()
        try:
            parts = urlsplit(text)
            is_good = parts.scheme in ("http", "https") and bool(parts.hostname)
            is_good = is_good and parts.port != 0 and re.search(r"[\x00-\x20\x7f]", text) is None
        except ValueError:
            is_good = False
        if not is_good:
            raise ValueError("must look like https://host/path")
        if parts.fragment:
            raise ValueError("the part after # is never sent to a server; leave it out")
        return SecretStr(text)

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) < SHORTEST_SECRET:
            raise ValueError(
                f"it has fewer than {SHORTEST_SECRET} characters; make one: openssl rand -hex 32"
            )
        return secret

    @field_validator("headers")
    @classmethod
    def _good_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if not _HEADER.fullmatch(name):
                raise ValueError("one of the names can't be a header's: letters, digits and '-'")
            if name.lower() in _OURS or name.lower().startswith("two-stream-"):
                raise ValueError(f"{name}: the bridge sets this header itself")
            if not _VALUE.fullmatch(value.get_secret_value()):
                raise ValueError(f"{name}: its value holds a line break or a letter beyond Latin")
        return headers
