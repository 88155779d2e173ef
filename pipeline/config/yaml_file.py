"""YAML files: plain data, and the line and column of each key.

YAML 1.2: ``no``, ``on`` and ``yes`` are text (where a key wants true or false, they mean that), and
``010`` is no octal number. Keys are always text. A key that stands twice is an error, as it would
silently replace the first. Errors name place and reason, and never repeat the file's text.
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config.paths import plain_key
from pipeline.errors import ConfigError

Node = Any
"""A node of ruamel.yaml, which is imported only where a file is read."""

MAX_BYTES = 1 << 18
MAX_VALUES = 20_000
"""Values of a file, those counted again that an alias repeats."""
MAX_DEPTH = 50

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
_TAG = "tag:yaml.org,2002:"
_TAGS = {"null", "bool", "int", "float", "str", "seq", "map", "merge", "value", "timestamp", "!"}

# What ruamel.yaml says, and what to do about it.
_REMEDIES = (
    (r"found character '\\t'", "a tab; indent with spaces"),
    (r"found character '(.)' that cannot start", "a value can't begin with {0}; put it in quotes"),
    (
        r"mapping values are not allowed here",
        "a ':' where none may stand; put a value that holds ': ' in quotes",
    ),
    (r"but found another document", "a second document begins ('---'); put everything into one"),
    (r"undefined alias", "an alias (*name) whose anchor (&name) doesn't stand before it"),
    (r"found unexpected end of stream", "a quote that is never closed"),
    (r"unknown escape character", "an unknown escape (\\) in double quotes; use single quotes"),
    (r"could not find expected ':'", "a key without ':'"),
    (r"expected '(.)' or '(.)'", "a '{0}' or '{1}' is missing"),
    (r"expected the node content", "a value is missing"),
    (r"expected <block end>", "the indentation doesn't fit the lines above"),
    (r"URI|undefined tag handle|expected the tag|tag", "a tag (!…) that isn't YAML"),
)


class Place(NamedTuple):
    """Where a key stands; both count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


KeyPath = tuple[str | int, ...]
"""The path of a key: ``("cameras", "door", "source")``."""


@dataclass(frozen=True)
class Document:
    """What a file holds: plain data, and the place of each key and item."""

    data: dict[str, Any]
    places: Mapping[KeyPath, Place] = field(default_factory=dict)


def read(path: Path, example: str = "cameras") -> Document:
    """Read a YAML file that holds keys; raises :class:`ConfigError`, one line per problem.

    ``example`` is a key that such a file has, for the message.
    """
    text = _text(path)
    node = _composed(path, text)
    if node is None:
        return Document({})
    builder = _Builder(path, text)
    data = builder.value(node, (), 0)
    if builder.errors:
        # An anchor's mistakes are found again at each of its aliases.
        raise ConfigError("\n".join(dict.fromkeys(builder.errors)))
    if data is None:
        return Document({})
    if not isinstance(data, dict):
        what = "a list" if isinstance(data, list) else "a single value"
        raise ConfigError(f"{path}: must hold keys such as '{example}:', not {what}")
    return Document(data, builder.places)


def _text(path: Path) -> str:
    """The file's text: UTF-8, or UTF-16 with its mark; either with Windows's line ends."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file can have this name"
        raise ConfigError(f"{path}: can't be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES >> 10} KiB, so it is no config")
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = "UTF-16" if wide else "UTF-8"
        raise ConfigError(f"{path}:{line}: it isn't {what}; save the file as UTF-8") from None
    if "\0" in text:
        raise ConfigError(f"{path}: it isn't text in UTF-8; save the file as UTF-8")
    return text


def _composed(path: Path, text: str) -> Node | None:
    """The file's tree of nodes, with their places; None for an empty file."""
    # Only here: the stages' processes get their config as JSON, and needn't wait for this import.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an anchor that is used again; YAML allows it
            _check_size(path, YAML(typ="safe", pure=True).parse(text))
            node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{Place(mark.line + 1, mark.column + 1)}" if mark else ""
        raise ConfigError(f"{path}{where}: not YAML: {_remedy(error.problem or '')}") from None
    except YAMLError as error:
        at = getattr(error, "position", None)
        line = f":{text.count(chr(10), 0, at) + 1}" if isinstance(at, int) else ""
        raise ConfigError(f"{path}{line}: not YAML: a control character") from None
    except (ValueError, OverflowError):  # from ruamel.yaml, for an escape in a tag
        raise ConfigError(f"{path}: not YAML: a tag (!…) that isn't YAML") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested deeper than {MAX_DEPTH} levels") from None
    return node


def _check_size(path: Path, events: Iterable[Any]) -> None:
    """Refuse what would take long to read: ruamel.yaml is slow with deep nesting."""
    depth = 0
    for count, event in enumerate(events):
        name = type(event).__name__
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        if count > 3 * MAX_VALUES:
            raise ConfigError(f"{path}: more than {MAX_VALUES} values, so it is no config")
        if depth > MAX_DEPTH:
            place = Place(event.start_mark.line + 1, event.start_mark.column + 1)
            raise ConfigError(f"{path}:{place}: nested deeper than {MAX_DEPTH} levels")


def _remedy(problem: str) -> str:
    for pattern, words in _REMEDIES:
        if match := re.search(pattern, problem):
            return words.format(*match.groups())
    # Whatever else it says: never what stands in the file.
    return re.sub(r"'[^']*'|\"[^\"]*\"", "…", problem)


class _Builder:
    """Plain data from nodes; collects all errors."""

    def __init__(self, path: Path, text: str) -> None:
        self.places: dict[KeyPath, Place] = {}
        self.errors: list[str] = []
        self._path = path
        self._lines = re.split(r"\r\n|[\r\n]", text)
        self._values = 0

    def value(self, node: Node, at: KeyPath, depth: int) -> object:
        """The data of a node whose key's path is ``at``."""
        self._values += 1
        if self._values > MAX_VALUES:
            raise ConfigError(f"{self._path}: more than {MAX_VALUES} values (by its aliases?)")
        if depth > MAX_DEPTH:
            raise ConfigError(f"{self._path}: nested deeper than {MAX_DEPTH} levels")
        tag = str(node.tag)
        name = tag.removeprefix(_TAG)
        if name not in _TAGS:
            self._error(
                _place(node), at, "tags (!…) aren't understood here; write the value itself"
            )
            return None
        if node.id == "mapping":
            return self._mapping(node, at, depth)
        if node.id == "sequence":
            items = []
            for index, item in enumerate(node.value):
                self.places[(*at, index)] = _place(item)
                items.append(self.value(item, (*at, index), depth + 1))
            return items
        if self._is_cut_by_comment(node):
            self._error(
                _place(node),
                at,
                "' #' begins a comment and cuts the address; put it in quotes, and in a user or "
                "password write ' ' as %20, '#' as %23",
            )
        return _scalar(name, str(node.value))

    def _is_cut_by_comment(self, node: Node) -> bool:
        """Whether a comment with an @ follows ``rtsp://user:…``: it is the end of the login."""
        mark = node.end_mark
        rest = self._lines[mark.line][mark.column :] if mark.line < len(self._lines) else ""
        after = rest.lstrip()
        is_cut = re.fullmatch(r"[A-Za-z]+://[^/?#@]*:[^/?#@]*", node.value) is not None
        return is_cut and after.startswith("#") and "@" in after

    def _mapping(self, node: Node, at: KeyPath, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        merged: dict[str, object] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            place = _place(key_node)
            if key_node.id != "scalar":
                self._error(place, at, "a key must be a single name")
                continue
            key = str(key_node.value)
            if key in lines:
                named = ".".join([*map(plain_key, at), plain_key(key)])
                self.errors.append(
                    f"{self._path}:{place}: {named}: the key stands in line {lines[key]} already; "
                    "keep one of the two"
                )
                continue
            lines[key] = place.line
            if str(key_node.tag) == f"{_TAG}merge":
                for part in self._merged(value_node):
                    merged = {**self._mapping(part, at, depth + 1), **merged}
                continue
            self.places[(*at, key)] = place
            found[key] = self.value(value_node, (*at, key), depth + 1)
        return {**merged, **found}

    def _merged(self, node: Node) -> Iterator[Node]:
        """The mappings that ``<<`` takes over, the first before the others."""
        parts = node.value if node.id == "sequence" else [node]
        for part in parts:
            if part.id == "mapping":
                yield part
            else:
                self._error(_place(node), (), "<< takes over keys, as in '<<: *name'")

    def _error(self, place: Place, at: KeyPath, what: str) -> None:
        named = ".".join(map(plain_key, at))
        self.errors.append(f"{self._path}:{place}: {named}{': ' if named else ''}{what}")


def _place(node: Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _scalar(tag: str, text: str) -> object:
    """A value by the tag that YAML 1.2 gives it; text where that is not certain."""
    if tag == "null":
        return None
    if tag == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if tag == "int":
        if _INTEGER.fullmatch(text) and len(text) < 4000:
            return int(text)
        if re.fullmatch(r"0[xo][0-9a-fA-F]{1,16}", text):
            return int(text, 0)
    if tag == "float":
        if text.lower() in _SPECIAL:
            return float(_SPECIAL[text.lower()])
        if _FLOAT.fullmatch(text):
            return float(text)
    return text
