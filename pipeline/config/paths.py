"""Paths and names as users write them, and how messages may show them."""

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator

from pipeline.sources.address import HIDDEN, problem

AnyPath = TypeVar("AnyPath", str, Path)

_PLAIN_KEY = re.compile(r"[\w .+-]{1,40}")
_VARIABLE = re.compile(r"\$\{?\w+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def plain_key(key: object) -> str:
    """A key for a message; hidden where it may be an address or a password in the wrong place."""
    text = str(key)
    return text if _PLAIN_KEY.fullmatch(text) else HIDDEN


def at_home(path: AnyPath) -> AnyPath:
    """``~/x`` and ``~user/x`` with the user's home; another path as it is."""
    return type(path)(os.path.expanduser(path))


def stray_address(arguments: Sequence[str], takes: Collection[str]) -> str | None:
    """What is wrong with a command line that has an address where none is taken.

    ``takes`` are the options that take one. The parser of the command line would repeat the
    address, and with it the password, when it says that it doesn't know what to do with it.
    """
    before = ""
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if not (option.startswith("-") and equals):
            option, value = before, argument
        is_address = "://" in value or (problem(value) is not None and "@" in value)
        if option not in takes and is_address:
            where = "; ".join(f"{name} ADDRESS" for name in sorted(takes))
            return "an address stands where none is expected" + (
                f"; write {where}" if where else ""
            )
        before = argument
    return None


def path_problem(text: str) -> str | None:
    """Why ``text`` can't be a path; it never repeats the text, which may be an address."""
    if not text.strip():
        return "it is empty; give a path"
    if "://" in text:
        return "it must be a path on this machine, not an address"
    if _CONTROL.search(text):
        return "it holds a line break or another control character"
    if re.match(r"\$\{?\w+\}?(/|$)", text) or re.search(r"\$\{\w+\}", text):
        return "environment variables aren't expanded; write the path itself (~ is the home)"
    return None


def _checked(value: object) -> object:
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str) and (reason := path_problem(value)):
        raise ValueError(reason)
    return value


LocalPath = Annotated[Path, BeforeValidator(_checked), AfterValidator(at_home)]
"""A path of this machine in a config; ``~`` is the home folder."""
