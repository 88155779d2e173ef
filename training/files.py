"""Files that are written whole or not at all."""

import io
import os
from pathlib import Path
from typing import Any

import torch


def write_whole(path: Path, content: bytes) -> None:
    """Replace ``path``: a reader gets either what was there or all of ``content``.

    Raises OSError, on a full disk for example; then nothing has changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.partial")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def tensors(content: Any) -> bytes:
    """What ``torch.save`` writes. To a file that can't grow, it would write a damaged one."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
