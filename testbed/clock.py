"""A clock that only the test moves."""

from pipeline.clock import NS_PER_S


class HandClock:
    """A clock that moves only by :meth:`sleep` or when a test sets :attr:`now_ns`."""

    def __init__(self, start_s: float = 5.0) -> None:
        self.now_ns = round(start_s * NS_PER_S)
        self.slept_s: list[float] = []

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_ns += round(seconds * NS_PER_S)
