"""The random identity of one run of the program."""

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Sixteen random bytes, in hexadecimal, that name one run of the program."""

    hex: str

    @classmethod
    def new(cls) -> "RunIdentity":
        return cls(os.urandom(16).hex())

    def words(self) -> npt.NDArray[np.int64]:
        """The identity as it stands in a ring's header, (2,) int64."""
        return np.frombuffer(bytes.fromhex(self.hex), np.int64)

    @property
    def prefix(self) -> str:
        """What the names of this run's segments and of its folder start with."""
        return f"two-stream-{self.hex[:12]}"
