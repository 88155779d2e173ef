"""What the supervisor sends to a new stage process."""

from typing import Literal

import msgspec


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """Sent over a pipe, so that ``ps`` shows nothing of it."""

    kind: str
    instance: str
    cameras: tuple[str, ...]
    config: str
    """The whole config as JSON."""
    run: str
    run_dir: str
    origin_ns: int
    """Start of the run, monotonic: step numbers and the demo camera's time count from it."""
    first_number: int
    """Of the segments of a capture, or of the names that people give."""
    first: bool
    """Whether the stage has not been ready in this run yet."""
    log_level: str
    log_form: Literal["text", "json"]
