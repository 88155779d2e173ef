"""pydantic's findings in words: place, key, what is wrong, and the value if it holds no secret."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pipeline.config.paths import plain_key
from pipeline.config.yaml_file import KeyPath, Place

_NAME = (
    "a camera's name has 1 to 32 characters: letters (A to Z, a to z), digits, '_' and '-'; "
    "the first is a letter or a digit"
)


def lines(
    error: ValidationError,
    origin: str,
    config: type[BaseModel],
    places: Mapping[KeyPath, Place],
) -> list[str]:
    """One line per problem."""
    return [_line(dict(problem), origin, config, places) for problem in error.errors()]


def located(origin: str, at: KeyPath, places: Mapping[KeyPath, Place]) -> str:
    """``origin``, with line and column of the key at ``at`` or of the nearest one above it."""
    for length in range(len(at), 0, -1):
        if place := places.get(at[:length]):
            return f"{origin}:{place}"
    return origin


def _line(
    problem: dict[str, Any], origin: str, config: type[BaseModel], places: Mapping[KeyPath, Place]
) -> str:
    # pydantic ends the path with "[key]" when the key itself is bad.
    at: KeyPath = tuple(part for part in problem["loc"] if part != "[key]")
    value, kind = problem["input"], problem["type"]
    message = problem["msg"].removeprefix("Value error, ")
    shown = [plain_key(part) for part in at]
    if kind == "extra_forbidden":
        known = _known(at, config)
        message = "unknown key" + (f"; known here: {known}" if known else "")
        if value is None and at[:1] == ("cameras",):
            # In {source: rtsp://user:a,b@host} YAML takes the b of the password for a key.
            shown.pop()
            message = f"unknown key (a source with a comma or brace needs quotes){message[11:]}"
    elif kind == "string_pattern_mismatch" and len(at) == 2 and at[0] in ("cameras", "bridges"):
        message = _NAME.replace("camera", str(at[0])[:-1]) + _better(str(value))
    elif value is None and kind not in ("missing", "value_error"):
        message = "it is empty; give it a value, or leave the key out"
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        message = f"must hold keys, each with a value, not {_what(value)}"
    elif kind == "list_type":
        message = f"must be a list, not {_what(value)}"
    elif kind not in ("missing", "value_error") and _may_be_shown(at, value, kind):
        message += f" (got {value!r})"
    where = ".".join(shown)
    start = located(origin, at, places)
    return f"{start}: {where}: {message}" if where else f"{start}: {message}"


def _may_be_shown(at: KeyPath, value: object, kind: str) -> bool:
    """Whether a bad value holds no secret for certain."""
    # A text in a camera's place may be a part of its address, and in a bridge's a password, which
    # may look like a number.
    is_private = at[:1] in (("cameras",), ("bridges",))
    if isinstance(value, str):
        return not is_private and re.fullmatch(r"[\w .,+-]{1,40}", value) is not None
    return isinstance(value, int | float) and not (at[:1] == ("bridges",) and "string" in kind)


def _what(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, dict):
        return "keys"
    return "a list" if isinstance(value, list) else "a text"


def _better(name: str) -> str:
    """A name like ``name`` that is allowed."""
    if plain_key(name) != name:
        return ""
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore")
    good = re.sub(r"[^A-Za-z0-9-]+", "_", plain.decode()).strip("_-")[:32]
    return f", for example {good}" if good else ""


def _known(at: KeyPath, config: type[BaseModel]) -> str:
    """The keys that are known where ``at`` is an unknown one."""
    section: Any = config
    for part in at[:-1]:
        fields = getattr(section, "model_fields", None)
        # A part of the path is a section, or a mapping whose values are sections.
        section = fields[part].annotation if fields is not None else get_args(section)[-1]
    fields = getattr(section, "model_fields", {})
    return ", ".join(sorted(field.alias or name for name, field in fields.items()))
