"""The only reader of time and of randomness in the node.

Whoever needs either is handed a `Clock`, so that a test can hand it another one.

- `monotonic_ms` is on the scale of the event loop's own clock: a timer is `loop.call_at(ms /
  1000)`.
- Wall time is told to other nodes and checked against theirs; it never measures a duration.
"""

import datetime
import secrets
import time


class Clock:
    """The machine's clocks and its source of randomness."""

    __slots__ = ()

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def utc(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)

    def random(self, size: int) -> bytes:
        """`size` bytes that nobody can guess."""
        return secrets.token_bytes(size)
