"""What somebody may have meant who mistyped a name."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean door?``, or nothing where no known name is like ``name``."""
    by_form = {one.casefold(): one for one in known}
    close = get_close_matches(name.casefold(), by_form, 1)
    return f"; did you mean {by_form[close[0]]}?" if close else ""
