"""Times as people type them on a command line."""

import re

from pipeline.clock import NS_PER_S, from_isoformat
from pipeline.errors import ConfigError

_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment_ns(text: str, option: str, now_ns: int) -> int:
    """``7d``, ``12h`` or ``30m`` ago, or a time such as ``2026-11-20T08:00:00Z``.

    Nanoseconds since 1970. Raises :class:`ConfigError`, which names the ``option``.
    """
    if ago := re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text):
        return now_ns - int(float(ago[1]) * _UNITS[ago[2]] * NS_PER_S)
    try:
        return from_isoformat(text)
    except ValueError:
        raise ConfigError(
            f"{option} {text}: must be a span such as 7d, 12h or 30m, or a time such as "
            "2026-11-20T08:00:00Z"
        ) from None
