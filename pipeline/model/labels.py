"""Labels: which words may name an action. One rule, for packs, recipes, lists of clips and configs.

A label is a part of a topic, ``action/<camera>/<label>/``, of file names and of metrics. So it is
letters and digits of any language, spaces and ``_ . + -``, at most 64 characters.
"""

import unicodedata
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

LONGEST = 64
_MARKS = frozenset("_.+- ")
_JOINERS = frozenset("\u200c\u200d")
"""Persian and Hindi need them within words; they aren't visible."""
_CATEGORIES = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Nl"})
_NO_FILE_NAMES = frozenset({".", ".."})
RULE = (
    "a label follows this pattern: letters, digits, spaces and _ . + -, "
    f"at most {LONGEST} characters, no space at its ends"
)


def normal(text: str) -> str:
    """The same text in the one form that labels are compared in (Unicode's NFC).

    An accented letter may be stored as one character or as two; macOS writes file names with two.
    """
    return unicodedata.normalize("NFC", text)


def problem_of(label: str) -> str | None:
    """What is wrong with a label in its normal form, in words; None if it may be used."""
    if not label:
        return "is empty"
    if len(label) > LONGEST:
        return f"has {len(label)} characters"
    if label in _NO_FILE_NAMES:
        return "is no name"
    if label.startswith(" "):
        return "begins with a space"
    if label.endswith(" "):
        return "ends with a space"
    if bad := sorted({x for x in label if not _may_stand(x)}):
        return "has " + " and ".join(map(_shown, bad))
    return None


def _may_stand(character: str) -> bool:
    return (
        character in _MARKS
        or character in _JOINERS
        or unicodedata.category(character) in _CATEGORIES
    )


def _shown(character: str) -> str:
    if character.isprintable() and not character.isspace():
        return repr(character)
    return f"the character U+{ord(character):04X}"


def checked(text: str) -> str:
    """The label in its normal form; raises ValueError that names it and the rule."""
    label = normal(text)
    if problem := problem_of(label):
        raise ValueError(f"label {_quoted(label)} {problem}; {RULE}")
    return label


def _quoted(label: str) -> str:
    short = label if len(label) <= LONGEST else f"{label[:LONGEST]}…"
    return ascii(short) if not short.isprintable() else repr(short)


def alike(label: str) -> str:
    """A form that labels share which people take for the same: case and joiners don't count."""
    text = "".join(x for x in normal(label) if x not in _JOINERS)
    return normal(normal(text).casefold())


def check_distinct(labels: Iterable[str]) -> None:
    """Raise ValueError that names two labels which are the same, or look the same."""
    seen: dict[str, str] = {}
    for label in labels:
        form = alike(label)
        if form not in seen:
            seen[form] = label
            continue
        other = seen[form]
        if other == label:
            raise ValueError(f"labels must differ: {_quoted(label)} is given more than once")
        raise ValueError(
            f"labels {_quoted(other)} and {_quoted(label)} look the same; use one of them"
        )


def _as_text(value: object) -> object:
    if isinstance(value, str):
        return value
    # YAML reads 10 as a number and true as a truth value.
    raise ValueError(f"label {value!r} isn't text; put it into quotes, as in '10' or 'true'")


Label = Annotated[str, BeforeValidator(_as_text), AfterValidator(checked)]
